// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other weights for an engine at work.
//!
//! Every request carries the weights that its vocabulary was encoded with, so there is no moment at which all
//! streams must change together and nothing has to stop: frames that are queued run on the weights they came with,
//! frames that come later on the new ones, and the old ones are freed when the last of their frames has left.
//! Until then both are in memory.
//!
//! Order: load, encode the prompts of every stream, try out; nobody has noticed anything yet, and a failure in any
//! of these steps ends it there. Then the streams change over, each at its next frame; that cannot fail.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use anyhow::{Context, Result, bail};

use super::{Engine, Weights};
use crate::model::{ModelSpec, Vocabulary};

/// Somebody who uses an engine and has prompts encoded with its weights.
pub trait Client: Send + Sync {
    /// Encodes its prompts for other weights, without using them yet; `None` if it has no prompts yet.
    ///
    /// # Errors
    /// The prompts cannot be encoded. The error says whose.
    fn prepare(&self, weights: &Arc<Weights>) -> Result<Option<Prepared>>;

    /// The engine's model is now another one, and the prompts that were prepared are in use.
    fn changed(&self, spec: &ModelSpec);
}

/// Prompts encoded for weights that are not in use yet.
pub struct Prepared {
    pub vocabulary: Arc<Vocabulary>,
    /// Takes the vocabulary and its weights over, from the client's next frame on.
    pub adopt: Box<dyn FnOnce()>,
}

impl Engine {
    /// Tells a client of every reload from now on, for as long as it lives.
    pub fn join(&self, client: &Arc<dyn Client>) {
        let mut clients = self.clients.lock();
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }

    /// Loads the checkpoint `model`, in the place of the one in use, for every client of this engine. Method, device
    /// and precision stay. Blocks until it is done; frames go on meanwhile.
    ///
    /// # Errors
    /// It cannot be loaded, a client's prompts cannot be encoded, or it fails on a picture. Nothing has changed then.
    pub fn reload(&self, model: &str) -> Result<()> {
        // One at a time, and on a thread of its own: libtorch's helper threads belong to the thread that asks, and
        // the application's would keep them for ever.
        let _one = self.reloading.lock();
        let thread = std::thread::Builder::new().name("gclip-reload".into());
        std::thread::scope(|scope| {
            let thread = thread.spawn_scoped(scope, || self.swap(model)).context("cannot start a thread")?;
            thread.join().unwrap_or_else(|panic| bail!("panic: {}", crate::batch::panic_text(panic.as_ref())))
        })
    }

    fn swap(&self, model: &str) -> Result<()> {
        let spec = ModelSpec { model: model.to_owned(), ..self.spec.lock().clone() };
        let weights = Arc::new(Weights::load(&spec, &self.counters)?);
        let clients: Vec<_> = self.clients.lock().iter().filter_map(Weak::upgrade).collect();
        let mut prepared = Vec::new();
        for client in &clients {
            prepared.extend(client.prepare(&weights)?);
        }
        let vocabularies: Vec<_> = prepared.iter().map(|prepared| prepared.vocabulary.clone()).collect();
        weights.try_out(&vocabularies).context("the new model fails on a test picture")?;

        *self.current.lock() = weights;
        self.counters.reloads.fetch_add(1, Ordering::Relaxed);
        *self.spec.lock() = spec.clone();
        if let Some(id) = &self.id {
            super::SHARED.respecify(id, self, &spec);
        }
        prepared.into_iter().for_each(|prepared| (prepared.adopt)());
        // Also those that have joined meanwhile.
        let clients: Vec<_> = self.clients.lock().iter().filter_map(Weak::upgrade).collect();
        clients.iter().for_each(|client| client.changed(&spec));
        Ok(())
    }
}
