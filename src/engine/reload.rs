// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other weights for an engine at work.
//!
//! Every request carries the weights that its vocabulary was encoded with, so there is no moment at which all
//! streams must change together and nothing has to stop: frames that are queued run on the weights they came with,
//! frames that come later on the new ones, and the old ones are freed when the last of their frames has left.
//! Until then both are in memory.
//!
//! Order: load, encode what every client looks for, try out; nobody has noticed anything yet, and a failure in any of
//! these steps ends it there. Then, under the lock that every client's change of prompts takes too, the weights and
//! everybody's encoding change at once; that cannot fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};

use super::clients::{Active, Record, present};
use super::{Engine, Weights};
use crate::model::ModelSpec;

/// Times that changed prompts are encoded while others may change theirs; then they wait for the reload.
const ROUNDS: usize = 4;

/// What a client looked for, and the same with the new weights.
type Pair = (Arc<Active>, Arc<Active>);

impl Engine {
    /// Loads the checkpoint `model`, in the place of the one in use, for every client of this engine. Method, device
    /// and precision stay. Blocks until it is done; frames go on meanwhile.
    ///
    /// # Errors
    /// It cannot be loaded, a client's prompts cannot be encoded, or it fails on a picture. Nothing has changed then.
    pub fn reload(&self, model: &str) -> Result<()> {
        let changed = {
            // One at a time, and on a thread of its own: libtorch's helper threads belong to the thread that asks, and
            // the application's would keep them for ever.
            let _one = self.reloading.lock();
            let thread = std::thread::Builder::new().name("gclip-reload".into());
            std::thread::scope(|scope| {
                let thread =
                    thread.spawn_scoped(scope, || self.swap(model)).context("cannot start a thread")?;
                thread
                    .join()
                    .unwrap_or_else(|panic| bail!("panic: {}", crate::batch::panic_text(panic.as_ref())))
            })?
        };
        // Without a lock: what they do may come back in here.
        changed.iter().for_each(|client| client.tell_of_reload());
        Ok(())
    }

    /// Returns whom to tell.
    fn swap(&self, model: &str) -> Result<Vec<Arc<Record>>> {
        let spec = ModelSpec { model: model.to_owned(), ..self.spec() };
        let weights = Arc::new(Weights::load(&spec, &self.counters)?);
        let mut pairs: Vec<Pair> = Vec::new();
        for _ in 0..ROUNDS {
            let clients = present(&self.clients.lock());
            if !encode_all(&clients, &weights, &mut pairs)? {
                break;
            }
        }
        let clients = self.clients.lock();
        let all = present(&clients);
        encode_all(&all, &weights, &mut pairs)?;
        *self.current.lock() = weights;
        *self.spec.lock() = spec.clone();
        for client in &all {
            if let Some(new) = client.active().and_then(|active| partner(&pairs, &active)) {
                client.set(new);
            }
        }
        drop(clients);
        self.counters.reloads.fetch_add(1, Ordering::Relaxed);
        if let Some(id) = &self.id {
            super::SHARED.respecify(id, self, &spec);
        }
        Ok(all)
    }
}

fn partner(pairs: &[Pair], active: &Arc<Active>) -> Option<Arc<Active>> {
    pairs.iter().find(|(old, _)| Arc::ptr_eq(old, active)).map(|(_, new)| new.clone())
}

/// Encodes what is not encoded yet, and tries it out. Whether there was anything.
fn encode_all(clients: &[Arc<Record>], weights: &Arc<Weights>, pairs: &mut Vec<Pair>) -> Result<bool> {
    let mut any = false;
    for client in clients {
        let Some(active) = client.active().filter(|active| partner(pairs, active).is_none()) else {
            continue;
        };
        let new = client.encode_anew(&active, weights)?;
        weights
            .try_out(std::slice::from_ref(&new.vocabulary))
            .context("the new model fails on a test picture")?;
        pairs.push((active, new));
        any = true;
    }
    Ok(any)
}
