// SPDX-License-Identifier: MIT OR Apache-2.0
//! One loaded model at work: its batcher, its text encoder, and its entry in the registry of shared instances.
//!
//! Pictures go through the batcher to the model's own thread. Text is encoded on the thread that asks, under a
//! lock of its own: while one stream changes its prompts, the pictures of all others go on.

mod careful;
mod stats;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use parking_lot::Mutex;

pub use stats::EngineStats;

use crate::batch::{Batcher, Session, SessionOptions};
use crate::model::embeddings::{EmbeddingCache, Embeddings};
use crate::model::{Model, ModelInfo, ModelSpec, Prompts, Request, Segmentation, Templates, Vocabulary};
use crate::registry::{Registry, Spec};

use careful::Careful;
use stats::{Stages, TextCounters};

/// What tests may put in the place of a model: turns a batch into one answer per request.
pub type RunFn = dyn FnMut(Vec<Request>) -> Result<Vec<Result<Arc<Segmentation>>>> + Send;
/// Turns texts into `[texts, embed_dim]` row-major features of unit length.
pub type EncodeFn = dyn FnMut(&[String]) -> Result<Vec<f32>> + Send;

static SHARED: Registry<ModelSpec, Engine> = Registry::new();

/// A loaded model with its threads and counts. Dropping the last handle waits for the batch that runs.
pub struct Engine {
    pub info: ModelInfo,
    batcher: Batcher<Request, Arc<Segmentation>>,
    /// Text is encoded on the caller's thread, beside the vision worker, one caller at a time.
    text: Mutex<Box<EncodeFn>>,
    cache: Cache,
    text_counters: TextCounters,
    stages: Arc<Mutex<Stages>>,
}

/// Where encoded names are kept.
enum Cache {
    /// That of the process, on disk too: features of real weights, which their hash names.
    Process,
    /// In memory, and gone with the engine: what an injected function calls features is nobody else's business.
    Own(Box<EmbeddingCache>),
}

impl Engine {
    /// A model of this element's own.
    ///
    /// # Errors
    /// What [`Model::load`] says.
    pub fn private(spec: &ModelSpec) -> Result<Arc<Engine>> {
        Engine::load(spec).map(Arc::new)
    }

    /// The model that every element with this instance id shares. Blocks while another element loads it.
    ///
    /// # Errors
    /// What [`Model::load`] says; or that `owner`, the asking element, wants another model than the one loaded
    /// under this id.
    pub fn shared(id: &str, spec: &ModelSpec, owner: &str) -> Result<Arc<Engine>> {
        SHARED.get_or_load(id, spec, owner, || Engine::load(spec))
    }

    /// An engine around two functions instead of a model; elements reach it through `shared`
    /// with the same id and spec while the returned handle is alive.
    ///
    /// # Errors
    /// The id is in use with another spec.
    pub fn install(
        id: &str,
        spec: &ModelSpec,
        info: ModelInfo,
        run: Box<RunFn>,
        text: Box<EncodeFn>,
    ) -> Result<Arc<Engine>> {
        SHARED.get_or_load(id, spec, "an injected model", || {
            Engine::from_parts(
                info,
                run,
                text,
                Cache::Own(Box::new(EmbeddingCache::new(None))),
                Arc::default(),
            )
        })
    }

    fn load(spec: &ModelSpec) -> Result<Engine> {
        let Model { info, mut vision, mut text } = Model::load(spec)?;
        let stages = Arc::new(Mutex::new(Stages::default()));
        let of_worker = stages.clone();
        let mut careful = Careful::default();
        let run = move |requests: Vec<Request>| -> Result<Vec<Result<Arc<Segmentation>>>> {
            Ok(careful.run(&requests, &mut |part: &[Request]| {
                let (answers, times) = vision.infer(part)?;
                of_worker.lock().push(times);
                Ok(answers.into_iter().map(Arc::new).collect())
            }))
        };
        let name = spec.model.clone();
        let encode = move |texts: &[String]| match text.as_mut() {
            Some(encoder) => encoder.encode(texts),
            None => {
                bail!("the model {name} has no text tower: give an embeddings file made with its weights")
            }
        };
        Engine::from_parts(info, Box::new(run), Box::new(encode), Cache::Process, stages)
    }

    fn from_parts(
        info: ModelInfo,
        run: Box<RunFn>,
        text: Box<EncodeFn>,
        cache: Cache,
        stages: Arc<Mutex<Stages>>,
    ) -> Result<Engine> {
        let batcher = Batcher::spawn("gclip-model", run)?;
        let text_counters = TextCounters::default();
        Ok(Engine { info, batcher, text: Mutex::new(text), cache, text_counters, stages })
    }

    /// A stream's place among those that this model serves.
    pub fn session(&self, options: SessionOptions) -> Session<Request, Arc<Segmentation>> {
        self.batcher.session(options)
    }

    /// Encodes prompts on the calling thread; names seen before, by any engine of these weights, come from the
    /// cache. The vision worker goes on meanwhile.
    ///
    /// # Errors
    /// The model has no text tower, or it fails on a text.
    pub fn vocabulary(&self, prompts: &Prompts, templates: &Templates) -> Result<Arc<Vocabulary>> {
        let cache = match &self.cache {
            Cache::Process => EmbeddingCache::shared(),
            Cache::Own(cache) => cache,
        };
        let dim = self.info.embed_dim;
        let vocabulary = Vocabulary::from_names(prompts, dim, |names| {
            let mut texts_encoded = 0;
            let features = cache.features(&self.info.hash, templates, dim, names, &mut |texts| {
                texts_encoded += texts.len();
                (self.text.lock())(texts)
            });
            self.text_counters.count(names.len(), texts_encoded, templates.len());
            features
        })?;
        Ok(Arc::new(vocabulary))
    }

    /// The vocabulary of prompts whose features a file holds; needs no text tower.
    ///
    /// # Errors
    /// No such file, made with other weights, or without one of the names.
    pub fn vocabulary_from(&self, embeddings: &Path, prompts: &Prompts) -> Result<Arc<Vocabulary>> {
        let file = Embeddings::load(embeddings, &self.info.vision_hash, self.info.embed_dim)?;
        Ok(Arc::new(file.select(prompts)?))
    }

    /// What this model has done for all its streams together.
    pub fn stats(&self) -> EngineStats {
        // The windows are copied under the lock and sorted outside it.
        let stages = self.stages.lock().clone();
        stages.summary(self.batcher.stats(), &self.text_counters)
    }
}

impl Spec for ModelSpec {
    fn difference(&self, other: &Self) -> String {
        // Every field by name: a new one has to be told apart here too.
        let ModelSpec { model, method, device, precision, positions } = self;
        let pairs = [
            ("model", model.clone(), other.model.clone()),
            ("method", method.name.clone(), other.method.name.clone()),
            ("method-options", method.options.clone(), other.method.options.clone()),
            ("device", device.to_string(), other.device.to_string()),
            ("precision", precision.to_string(), other.precision.to_string()),
            ("positions", format!("{positions:?}"), format!("{:?}", other.positions)),
        ];
        let differing = pairs.into_iter().filter(|(_, mine, theirs)| mine != theirs);
        let differing: Vec<_> =
            differing.map(|(what, mine, theirs)| format!("{what}: \"{mine}\" vs \"{theirs}\"")).collect();
        differing.join(", ")
    }
}
