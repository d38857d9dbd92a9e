// SPDX-License-Identifier: MIT OR Apache-2.0
//! One loaded model at work: its batcher, its text encoder, and its entry in the registry of shared instances.

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;

use crate::batch::{Batcher, Session, SessionOptions};
use crate::model::{Model, ModelInfo, ModelSpec, Prompts, Request, Segmentation, Templates, Vocabulary};
use crate::registry::{Registry, Spec};

/// What tests may put in the place of a model: turns a batch into one answer per request.
pub type RunFn = dyn FnMut(Vec<Request>) -> Result<Vec<Result<Arc<Segmentation>>>> + Send;
/// Turns names into `[names, embed_dim]` features.
pub type EncodeFn = dyn FnMut(&[String]) -> Result<Vec<f32>> + Send;

static SHARED: Registry<ModelSpec, Engine> = Registry::new();

pub struct Engine {
    pub info: ModelInfo,
    batcher: Batcher<Request, Arc<Segmentation>>,
    /// Text is encoded on the caller's thread, beside the vision worker, one caller at a time.
    text: Mutex<Box<EncodeFn>>,
}

impl Engine {
    /// A model of this element's own.
    pub fn private(spec: &ModelSpec) -> Result<Arc<Engine>> {
        Engine::load(spec).map(Arc::new)
    }

    /// The model that every element with this instance id shares.
    pub fn shared(id: &str, spec: &ModelSpec, owner: &str) -> Result<Arc<Engine>> {
        SHARED.get_or_load(id, spec, owner, || Engine::load(spec))
    }

    /// An engine around two functions instead of a model; elements reach it through `shared`
    /// with the same id and spec while the returned handle is alive.
    pub fn install(
        id: &str,
        spec: &ModelSpec,
        info: ModelInfo,
        run: Box<RunFn>,
        text: Box<EncodeFn>,
    ) -> Result<Arc<Engine>> {
        SHARED.get_or_load(id, spec, "an injected model", || Engine::from_parts(info, run, text))
    }

    fn load(spec: &ModelSpec) -> Result<Engine> {
        let Model { info, mut vision, text } = Model::load(spec)?;
        let run = move |requests: Vec<Request>| -> Result<Vec<Result<Arc<Segmentation>>>> {
            let (answers, _times) = vision.infer(&requests)?;
            Ok(answers.into_iter().map(|answer| Ok(Arc::new(answer))).collect())
        };
        let mut text = text;
        let encode = move |names: &[String]| match text.as_mut() {
            Some(encoder) => encoder.encode(names),
            None => anyhow::bail!("the model has no text tower; give an embeddings file"),
        };
        Engine::from_parts(info, Box::new(run), Box::new(encode))
    }

    fn from_parts(info: ModelInfo, run: Box<RunFn>, text: Box<EncodeFn>) -> Result<Engine> {
        let batcher = Batcher::spawn("gclip-model", run)?;
        Ok(Engine { info, batcher, text: Mutex::new(text) })
    }

    pub fn session(&self, options: SessionOptions) -> Session<Request, Arc<Segmentation>> {
        self.batcher.session(options)
    }

    /// Encodes prompts on the calling thread; names seen before come from the cache.
    pub fn vocabulary(&self, prompts: &Prompts, templates: &Templates) -> Result<Arc<Vocabulary>> {
        let _ = (prompts, templates, &self.text);
        anyhow::bail!("no text encoder yet")
    }
}

impl Spec for ModelSpec {
    fn difference(&self, other: &Self) -> String {
        let pairs = [
            ("model", self.model.clone(), other.model.clone()),
            ("method", self.method.name.clone(), other.method.name.clone()),
            ("method-options", self.method.options.clone(), other.method.options.clone()),
            ("device", format!("{:?}", self.device), format!("{:?}", other.device)),
            ("precision", format!("{:?}", self.precision), format!("{:?}", other.precision)),
        ];
        let differing = pairs.into_iter().filter(|(_, mine, theirs)| mine != theirs);
        let sentences: Vec<_> =
            differing.map(|(what, mine, theirs)| format!("{what}: {mine} vs {theirs}")).collect();
        sentences.join(", ")
    }
}
