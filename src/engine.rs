// SPDX-License-Identifier: MIT OR Apache-2.0
//! One loaded model at work: its batcher, its text encoder, and its entry in the registry of shared instances.
//!
//! * `weights`: a loaded checkpoint: pictures to masks, prompts to features
//! * `clients`: who uses it, and what each looks for
//! * `reload`: other weights while streams play
//! * `careful`: batches that fail, for lack of memory or otherwise
//!
//! Pictures go through the batcher to the model's own thread. Text is encoded on the thread that asks, under a
//! lock of its own: while one stream changes its prompts, the pictures of all others go on.

mod careful;
mod clients;
mod reload;
mod stats;
#[cfg(test)]
mod tests;
mod weights;

use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::{Result, anyhow};
use parking_lot::Mutex;

pub use careful::gpu_fault;
pub use clients::{Active, Client, Wish};
pub use stats::EngineStats;
pub use weights::Weights;

use crate::batch::{Batcher, Begun, Session, SessionOptions, Waker};
use crate::model::{InferOptions, ModelInfo, ModelSpec, Picture, Request, Segmentation, Vocabulary};
use crate::registry::{Registry, Spec};

use clients::Record;
use stats::Counters;

/// What tests may put in the place of a model: turns a batch into one answer per request.
pub type RunFn = dyn FnMut(Vec<Request>) -> Result<Vec<Result<Arc<Segmentation>>>> + Send;
/// Turns texts into `[texts, embed_dim]` row-major features of unit length.
pub type EncodeFn = dyn FnMut(&[String]) -> Result<Vec<f32>> + Send;

static SHARED: Registry<ModelSpec, Engine> = Registry::new();

/// Batches that are run when a model is loaded onto a GPU, which brings each kernel there at its first use, and gives each
/// thread its own handles: tenths of a second that the first frames would wait.
const WARM_UP: [usize; 2] = [1, 8];

/// A picture on its way to the model, with the weights that its vocabulary was encoded with.
pub struct Job {
    request: Request,
    weights: Arc<Weights>,
}

impl Job {
    pub fn new(request: Request, weights: Arc<Weights>) -> Job {
        Job { request, weights }
    }
}

/// A loaded model with its threads and counts. Dropping the last handle waits for the batch that runs.
pub struct Engine {
    /// Under which others find it; `None` for a private one.
    id: Option<String>,
    /// What is loaded now; locked only to copy it.
    spec: Mutex<ModelSpec>,
    /// The weights for prompts that are encoded from now on; locked only to copy the handle.
    current: Mutex<Arc<Weights>>,
    batcher: Batcher<Job, Arc<Segmentation>>,
    counters: Counters,
    /// Held while anybody's prompts, or the weights, change over.
    clients: Mutex<Vec<Weak<Record>>>,
    /// Held while other weights are loaded.
    reloading: Mutex<()>,
}

impl Engine {
    /// A model of this element's own.
    ///
    /// # Errors
    /// What [`Model::load`](crate::model::Model::load) says.
    pub fn private(spec: &ModelSpec) -> Result<Arc<Engine>> {
        Engine::load(None, spec).map(Arc::new)
    }

    /// The model that every element with this instance id shares. Blocks while another element loads it.
    ///
    /// # Errors
    /// What [`Model::load`](crate::model::Model::load) says; or that `owner`, the asking element, wants another
    /// model than the one loaded under this id.
    pub fn shared(id: &str, spec: &ModelSpec, owner: &str) -> Result<Arc<Engine>> {
        SHARED.get_or_load(id, spec, owner, || Engine::load(Some(id), spec))
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
            let counters = Counters::default();
            let weights = Weights::injected(info, run, text, &counters);
            Engine::around(Some(id), spec, weights, counters)
        })
    }

    fn load(id: Option<&str>, spec: &ModelSpec) -> Result<Engine> {
        let counters = Counters::default();
        let engine = Engine::around(id, spec, Weights::load(spec, &counters)?, counters)?;
        if engine.weights().info.device.starts_with("cuda") {
            engine.warm_up(&WARM_UP)?;
        }
        Ok(engine)
    }

    /// Looks at grey pictures, so many at a time, on the thread that runs the model. What fails says so again with the first
    /// frame.
    fn warm_up(&self, batches: &[usize]) -> Result<()> {
        let weights = self.weights();
        let (side, dim) = (weights.info.image_size.max(1), weights.info.embed_dim);
        let vocabulary = Arc::new(Vocabulary {
            labels: vec!["grey".into()],
            query_value: vec![1],
            features: vec![1.0 / (dim.max(1) as f32).sqrt(); dim],
            dim,
            ..Vocabulary::default()
        });
        for &size in batches {
            let options = SessionOptions {
                batch_size: size,
                batch_timeout: Duration::from_secs(1),
                max_in_flight: size,
            };
            let session = self.session(options, Arc::new(|| ()));
            let submit = |_| -> Result<_> {
                let picture = Picture::grey(side, 128)?;
                let (vocabulary, options) = (vocabulary.clone(), InferOptions::default());
                Ok(session.submit(Job::new(Request { picture, vocabulary, options }, weights.clone())))
            };
            let tickets = (0..size).map(submit).collect::<Result<Vec<_>>>()?;
            tickets.iter().for_each(|ticket| drop(ticket.wait(None)));
        }
        Ok(())
    }

    fn around(id: Option<&str>, spec: &ModelSpec, weights: Weights, counters: Counters) -> Result<Engine> {
        Ok(Engine {
            id: id.map(str::to_owned),
            spec: Mutex::new(spec.clone()),
            current: Mutex::new(Arc::new(weights)),
            batcher: Batcher::spawn_ahead("gclip-model", begin)?,
            counters,
            clients: Mutex::default(),
            reloading: Mutex::default(),
        })
    }

    /// A stream's place among those that this model serves.
    /// `waker` is called when answers have come.
    pub fn session(&self, options: SessionOptions, waker: Waker) -> Session<Job, Arc<Segmentation>> {
        self.batcher.session_with_waker(options, waker)
    }

    /// The weights in use: prompts are encoded with them, and frames scored with those prompts carry them.
    pub fn weights(&self) -> Arc<Weights> {
        self.current.lock().clone()
    }

    /// What is loaded now.
    pub fn spec(&self) -> ModelSpec {
        self.spec.lock().clone()
    }

    /// What this model has done for all its streams together.
    pub fn stats(&self) -> EngineStats {
        // The windows are copied under the lock and sorted outside it.
        let stages = self.counters.stages.lock().clone();
        stages.summary(self.batcher.stats(), &self.counters)
    }
}

/// Hands a batch to its weights; one that a reload lies in is run, part by part.
fn begin(jobs: Vec<Job>) -> Begun<Arc<Segmentation>> {
    let one = jobs.first().map(|first| first.weights.clone());
    match one.filter(|weights| jobs.iter().all(|job| Arc::ptr_eq(&job.weights, weights))) {
        Some(weights) => weights.begin(jobs.into_iter().map(|job| job.request).collect()),
        None => Begun::Done(run(jobs)),
    }
}

/// Runs a batch: all of it at once, unless a reload lies between its requests.
fn run(mut jobs: Vec<Job>) -> Result<Vec<Result<Arc<Segmentation>>>> {
    let mut answers = Vec::with_capacity(jobs.len());
    while let Some(first) = jobs.first() {
        let weights = first.weights.clone();
        let same = jobs.iter().take_while(|job| Arc::ptr_eq(&job.weights, &weights)).count();
        let part: Vec<Request> = jobs.drain(..same).map(|job| job.request).collect();
        match weights.run(part) {
            Ok(part) if part.len() == same => answers.extend(part),
            Ok(part) => answers.extend(
                (0..same).map(|_| Err(anyhow!("{} answers for a batch of {same} requests", part.len()))),
            ),
            Err(error) => answers.extend((0..same).map(|_| Err(anyhow!("{error:#}")))),
        }
    }
    Ok(answers)
}

impl Spec for ModelSpec {
    fn difference(&self, other: &Self) -> String {
        // Every field by name: a new one has to be told apart here too.
        let ModelSpec { model, method, helper, device, precision, positions } = self;
        let pairs = [
            ("model", model.clone(), other.model.clone()),
            ("method", method.name.clone(), other.method.name.clone()),
            ("method-options", method.options.clone(), other.method.options.clone()),
            ("helper-model", helper.clone().unwrap_or_default(), other.helper.clone().unwrap_or_default()),
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
