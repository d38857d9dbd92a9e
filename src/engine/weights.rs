// SPDX-License-Identifier: MIT OR Apache-2.0
//! One set of weights: what turns its pictures into masks and its prompts into features.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;

use super::careful::Careful;
use super::stats::{Counters, Stages, TextCounters};
use super::{EncodeFn, RunFn};
use crate::batch::{Answers, Begun};
use crate::gallery::{Gallery, Wanted};
use crate::model::anomaly::{Pair, States};
use crate::model::embeddings::{EmbeddingCache, Embeddings};
use crate::model::exemplars::Looked;
use crate::model::{
    Begun as BegunLook, Descriptions, InferOptions, InputSize, Model, ModelInfo, ModelSpec, Picture, Prompts,
    Request, Segmentation, Segmenter, Suspect, Templates, Thresholds, Vocabulary,
};

/// A loaded checkpoint. Streams hold it for as long as they have frames that are scored with it.
pub struct Weights {
    pub info: ModelInfo,
    /// Counts the weights that this process has loaded: the larger one is the newer.
    pub revision: u64,
    /// Only the batch worker takes it, and a reload before the worker knows these weights.
    run: Mutex<Box<BeginFn>>,
    /// Text is encoded on the caller's thread, beside the vision worker, one caller at a time.
    text: Mutex<Box<EncodeFn>>,
    cache: Cache,
    text_counters: Arc<TextCounters>,
    /// Looks at pictures one by one, between the batches, on the caller's thread.
    look: Mutex<Box<LookFn>>,
    gallery: Mutex<Gallery>,
}

type LookFn = dyn FnMut(&Picture, InputSize) -> Result<Looked> + Send;

/// Runs a batch, or leaves it to a device.
type BeginFn = dyn FnMut(Vec<Request>) -> Begun<Arc<Segmentation>> + Send;

/// Where encoded names are kept.
enum Cache {
    /// That of the process, on disk too: features of real weights, which their hash names.
    Process,
    /// In memory, and gone with the weights: what an injected function calls features is nobody else's business.
    Own(Box<EmbeddingCache>),
}

/// The vision half with what it does about failures.
struct Sight {
    vision: Segmenter,
    careful: Careful,
    stages: Arc<Mutex<Stages>>,
}

impl Sight {
    /// Hands a batch to the device, if the device is a GPU and can take it; else runs it.
    fn begin(sight: &Arc<Mutex<Sight>>, requests: Vec<Request>) -> Begun<Arc<Segmentation>> {
        let mut here = sight.lock();
        let ahead = here.vision.works_ahead() && here.careful.takes(requests.len());
        // What fails is run again with care.
        if let Some(begun) = ahead.then(|| here.vision.begin(&requests).ok()).flatten()
            && begun.is_under_way()
        {
            let sight = sight.clone();
            return Begun::UnderWay(Box::new(move || sight.lock().finish(&requests, begun)));
        }
        Begun::Done(Ok(here.run(&requests)))
    }

    fn finish(&mut self, requests: &[Request], begun: BegunLook) -> Answers<Arc<Segmentation>> {
        match self.vision.finish(requests, begun) {
            Ok((answers, times)) => {
                self.stages.lock().push(times);
                self.careful.succeeded();
                Ok(answers.into_iter().map(|answer| Ok(Arc::new(answer))).collect())
            }
            Err(_) => Ok(self.run(requests)),
        }
    }

    fn run(&mut self, requests: &[Request]) -> Vec<Result<Arc<Segmentation>>> {
        let Sight { vision, careful, stages } = self;
        careful.run(requests, &mut |part: &[Request]| {
            let (answers, times) = vision.infer(part)?;
            stages.lock().push(times);
            Ok(answers.into_iter().map(Arc::new).collect())
        })
    }
}

fn next_revision() -> u64 {
    static REVISIONS: AtomicU64 = AtomicU64::new(0);
    REVISIONS.fetch_add(1, Ordering::Relaxed) + 1
}

impl Weights {
    /// # Errors
    /// What [`Model::load`] says.
    pub(super) fn load(spec: &ModelSpec, counters: &Counters) -> Result<Weights> {
        let Model { info, vision, mut text } = Model::load(spec)?;
        let sight = Arc::new(Mutex::new(Sight {
            vision,
            careful: Careful::default(),
            stages: counters.stages.clone(),
        }));
        let looking = sight.clone();
        let look = move |picture: &Picture, size| looking.lock().vision.describe(picture, size);
        let begin = move |requests: Vec<Request>| Sight::begin(&sight, requests);
        let name = spec.model.clone();
        let encode = move |texts: &[String]| match text.as_mut() {
            Some(encoder) => encoder.encode(texts),
            None => {
                bail!("the model {name} has no text tower: give an embeddings file made with its weights")
            }
        };
        Ok(Weights {
            info,
            revision: next_revision(),
            run: Mutex::new(Box::new(begin)),
            text: Mutex::new(Box::new(encode)),
            cache: Cache::Process,
            text_counters: counters.text.clone(),
            look: Mutex::new(Box::new(look)),
            gallery: Mutex::default(),
        })
    }

    /// Two functions in the place of a model.
    pub(super) fn injected(
        info: ModelInfo,
        mut run: Box<RunFn>,
        text: Box<EncodeFn>,
        counters: &Counters,
    ) -> Weights {
        let begin = move |requests: Vec<Request>| Begun::Done(run(requests));
        Weights {
            info,
            revision: next_revision(),
            run: Mutex::new(Box::new(begin)),
            text: Mutex::new(text),
            cache: Cache::Own(Box::new(EmbeddingCache::new(None))),
            text_counters: counters.text.clone(),
            look: Mutex::new(Box::new(|_: &Picture, _| bail!("this model looks at no examples"))),
            gallery: Mutex::default(),
        }
    }

    /// Encodes prompts on the calling thread; names seen before, by any engine of these weights, come from the
    /// cache. The vision worker goes on meanwhile.
    ///
    /// # Errors
    /// The model has no text tower, or it fails on a text.
    pub fn vocabulary(
        &self,
        prompts: &Prompts,
        templates: &Templates,
        descriptions: Option<&Descriptions>,
    ) -> Result<Arc<Vocabulary>> {
        let dim = self.info.embed_dim;
        let mut vocabulary = Vocabulary::from_names(prompts, dim, |names| self.features(names, templates))?;
        if let Some(descriptions) = descriptions {
            let sentences = |sentences: &[String]| self.features(sentences, &Templates::None);
            descriptions.enrich(&mut vocabulary, prompts, sentences)?;
        }
        Ok(Arc::new(vocabulary))
    }

    /// Of names in templates, each of unit length, from the cache where they are there; counted.
    fn features(&self, names: &[String], templates: &Templates) -> Result<Vec<f32>> {
        let cache = match &self.cache {
            Cache::Process => EmbeddingCache::shared(),
            Cache::Own(cache) => cache,
        };
        let mut texts_encoded = 0;
        let features = cache.features(&self.info.hash, templates, self.info.embed_dim, names, &mut |texts| {
            texts_encoded += texts.len();
            (self.text.lock())(texts)
        });
        self.text_counters.count(names.len(), texts_encoded, templates.len());
        features
    }

    /// The vocabulary of prompts whose features a file holds; needs no text tower.
    ///
    /// # Errors
    /// No such file, made with other weights, or without one of the names.
    pub fn vocabulary_from(&self, embeddings: &Path, prompts: &Prompts) -> Result<Arc<Vocabulary>> {
        let file = Embeddings::load(embeddings, &self.info.vision_hash, self.info.embed_dim)?;
        Ok(Arc::new(file.select(prompts)?))
    }

    /// A vocabulary to which only pictures will be added.
    pub fn no_words(&self) -> Vocabulary {
        Vocabulary { dim: self.info.embed_dim, ..Vocabulary::default() }
    }

    /// The words' vocabulary with the classes by pictures. Pictures are looked at on the calling thread; one that was looked
    /// at lately is not looked at again.
    ///
    /// # Errors
    /// What [`Gallery::exemplars`] says.
    pub fn with_pictures(
        &self,
        words: &Vocabulary,
        thresholds: &Thresholds,
        wanted: &Wanted,
    ) -> Result<Arc<Vocabulary>> {
        let mut look = self.look.lock();
        let exemplars =
            self.gallery.lock().exemplars(wanted, &self.info, &mut |picture, size| look(picture, size))?;
        Ok(Arc::new(exemplars.join(words, thresholds, wanted.options)?))
    }

    /// The vocabulary with things that are looked at for damage, everywhere or within one of its classes.
    ///
    /// # Errors
    /// There is no such class, the model has no text tower, or it fails on a text.
    pub fn with_suspects(
        &self,
        classes: &Vocabulary,
        names: &[String],
        states: &States,
        within: Option<&str>,
    ) -> Result<Arc<Vocabulary>> {
        let value = |label: &str| {
            let value = (1..).zip(&classes.labels).find(|(_, known)| *known == label);
            value.map(|(value, _)| value).with_context(|| {
                format!(
                    "\"anomaly-within\" is \"{label}\", which is the first name of no class of the prompts"
                )
            })
        };
        let within = within.map(value).transpose()?;
        let suspect = |label: &String| {
            let name = std::slice::from_ref(label);
            let pair = Pair::new(states, |templates| self.features(name, templates))?;
            Ok(Suspect { label: label.clone(), pair })
        };
        let suspects = names.iter().map(suspect).collect::<Result<_>>()?;
        Ok(Arc::new(Vocabulary { suspects, within, ..classes.clone() }))
    }

    pub(super) fn begin(&self, requests: Vec<Request>) -> Begun<Arc<Segmentation>> {
        (self.run.lock())(requests)
    }

    pub(super) fn run(&self, requests: Vec<Request>) -> Answers<Arc<Segmentation>> {
        match self.begin(requests) {
            Begun::Done(answers) => answers,
            Begun::UnderWay(wait) => wait(),
        }
    }

    /// Looks at a grey picture with each vocabulary: weights that load may still be broken.
    ///
    /// # Errors
    /// The model fails, or gives values that are not numbers.
    pub(super) fn try_out(&self, vocabularies: &[Arc<Vocabulary>]) -> Result<()> {
        let side = self.info.image_size.max(self.info.patch_size).max(1);
        let request = |vocabulary: &Arc<Vocabulary>| -> Result<Request> {
            Ok(Request {
                picture: Picture::grey(side, 128)?,
                vocabulary: vocabulary.clone(),
                options: InferOptions::default(),
            })
        };
        // One at a time: a reload beside sixty-four cameras must not need the memory of a batch of them.
        for vocabulary in vocabularies {
            let answers = self.run(vec![request(vocabulary)?])?;
            ensure!(answers.len() == 1, "the model gave {} answers for one picture", answers.len());
            for answer in answers {
                answer?;
            }
        }
        Ok(())
    }
}
