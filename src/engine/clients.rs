// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who uses an engine, and what each looks for.
//!
//! The engine owns what its clients wish and what it was encoded to. A client is registered before anything is encoded
//! for it and gone when its handle is dropped; what is encoded comes into force only if the weights are still those in
//! use. So a reload finds everybody, whenever they came, and touches nobody who has left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;

use super::{Engine, Weights};
use crate::gallery::Wanted;
use crate::model::anomaly::States;
use crate::model::{Descriptions, Prompts, Templates, Vocabulary};

/// Prompts as they go to the text encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    pub prompts: Prompts,
    pub templates: Templates,
    /// A file that holds the features of all names, in the place of a text encoder.
    pub embeddings: Option<PathBuf>,
    /// Classes by pictures, beside the words or in their place.
    pub exemplars: Option<Wanted>,
    /// What enriches the classes, if anything does.
    pub descriptions: Option<Arc<Descriptions>>,
    /// Names of things that are looked at for damage, and what they are called then.
    pub anomalies: Vec<String>,
    pub states: States,
    /// Label of the class that they are looked for in; `None`: everywhere.
    pub within: Option<String>,
}

/// What a client's frames are scored with now.
pub struct Active {
    pub wish: Wish,
    /// The client's number of the wish.
    pub generation: u64,
    pub vocabulary: Arc<Vocabulary>,
    /// That the vocabulary was encoded with.
    pub weights: Arc<Weights>,
}

/// A place among those that an engine serves; dropping it gives it up.
pub struct Client {
    engine: Arc<Engine>,
    record: Arc<Record>,
}

/// A client, as its engine knows it.
pub(super) struct Record {
    /// For error messages.
    name: String,
    active: Mutex<Option<Arc<Active>>>,
    /// Told when the engine's model is another one, without any lock of the engine.
    reloaded: Box<dyn Fn() + Send + Sync>,
}

impl Client {
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// What frames are scored with from now on; `None` before the first prompts.
    pub fn active(&self) -> Option<Arc<Active>> {
        self.record.active.lock().clone()
    }

    /// Encodes a wish on the calling thread and puts it in force, with the weights that are in use then. A wish with a
    /// larger number that has come into force meanwhile stays.
    ///
    /// # Errors
    /// The prompts cannot be encoded; those before stay in force.
    pub fn look_for(&self, generation: u64, wish: &Wish) -> Result<()> {
        loop {
            let weights = self.engine.weights();
            let vocabulary = encode(&weights, wish)?;
            // Nobody swaps the weights while this is held.
            let _clients = self.engine.clients.lock();
            if self.engine.weights().revision != weights.revision {
                continue;
            }
            let mut active = self.record.active.lock();
            if active.as_ref().is_none_or(|active| active.generation <= generation) {
                let wish = wish.clone();
                *active = Some(Arc::new(Active { wish, generation, vocabulary, weights }));
            }
            return Ok(());
        }
    }
}

impl Record {
    pub fn active(&self) -> Option<Arc<Active>> {
        self.active.lock().clone()
    }

    pub fn set(&self, active: Arc<Active>) {
        *self.active.lock() = Some(active);
    }

    pub fn tell_of_reload(&self) {
        (self.reloaded)();
    }

    /// The same wish with other weights.
    ///
    /// # Errors
    /// It cannot be encoded with them. The error says whose it is.
    pub fn encode_anew(&self, active: &Active, weights: &Arc<Weights>) -> Result<Arc<Active>> {
        let vocabulary = encode(weights, &active.wish)
            .with_context(|| format!("cannot encode the prompts of {} with it", self.name))?;
        let Active { wish, generation, .. } = active;
        let (wish, weights) = (wish.clone(), weights.clone());
        Ok(Arc::new(Active { wish, generation: *generation, vocabulary, weights }))
    }
}

impl Engine {
    /// Registers a client of this name. `reloaded` is called after each reload for as long as the client is there.
    pub fn join(self: &Arc<Self>, name: &str, reloaded: impl Fn() + Send + Sync + 'static) -> Client {
        let record = Arc::new(Record {
            name: name.to_owned(),
            active: Mutex::default(),
            reloaded: Box::new(reloaded),
        });
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(&record));
        drop(clients);
        Client { engine: self.clone(), record }
    }
}

/// Those of the clients that are still there.
pub(super) fn present(clients: &[Weak<Record>]) -> Vec<Arc<Record>> {
    clients.iter().filter_map(Weak::upgrade).collect()
}

/// Encodes a wish on the calling thread. A panic of the encoder is an error like any other.
fn encode(weights: &Arc<Weights>, wish: &Wish) -> Result<Arc<Vocabulary>> {
    let words = || match (&wish.embeddings, &wish.descriptions) {
        _ if wish.prompts.names_nothing() => Ok(Arc::new(weights.no_words())),
        (Some(_), Some(_)) => {
            bail!("descriptions go through the text tower: leave out either them or the embeddings file")
        }
        (Some(file), None) => weights.vocabulary_from(file, &wish.prompts),
        (None, descriptions) => weights.vocabulary(&wish.prompts, &wish.templates, descriptions.as_deref()),
    };
    let classes = || {
        let words = words()?;
        match &wish.exemplars {
            Some(wanted) => weights.with_pictures(&words, &wish.prompts.thresholds, wanted),
            None => Ok(words),
        }
    };
    let vocabulary = || {
        let classes: Arc<Vocabulary> = classes()?;
        match wish.anomalies.is_empty() {
            true => Ok(classes),
            false => weights.with_suspects(&classes, &wish.anomalies, &wish.states, wish.within.as_deref()),
        }
    };
    match catch_unwind(AssertUnwindSafe(vocabulary)) {
        Ok(vocabulary) => vocabulary,
        Err(_) => bail!("the text encoder panicked"),
    }
}
