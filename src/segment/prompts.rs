// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that encodes prompts beside the stream, so that no frame waits for the text tower.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use parking_lot::{Condvar, Mutex};

use super::settings::Wish;
use crate::engine::{Engine, Weights};
use crate::model::Vocabulary;

/// Encodes wishes one after the other. A wish that waits is replaced by a newer one: only the newest matters.
pub struct PromptWorker {
    mailbox: Arc<Mailbox>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Mailbox {
    state: Mutex<State>,
    posted: Condvar,
}

struct State {
    /// Number of the newest wish; masks carry it as the generation of their prompts.
    generation: u64,
    wish: Option<(u64, Wish)>,
    stop: bool,
}

/// A wish that has been encoded, or not.
pub struct Outcome {
    pub generation: u64,
    pub wish: Wish,
    pub encoded: Result<Encoded>,
}

/// The features of prompts, with the weights that they belong to.
#[derive(Clone)]
pub struct Encoded {
    pub vocabulary: Arc<Vocabulary>,
    pub weights: Arc<Weights>,
}

impl PromptWorker {
    /// Starts the thread; it hands every outcome to `done`.
    pub fn start(engine: Arc<Engine>, done: impl Fn(Outcome) + Send + 'static) -> Result<Self> {
        let mailbox = Arc::new(Mailbox {
            state: Mutex::new(State { generation: 0, wish: None, stop: false }),
            posted: Condvar::new(),
        });
        let inbox = mailbox.clone();
        let thread = thread::Builder::new()
            .name("gclip-prompts".into())
            .spawn(move || {
                while let Some((generation, wish)) = inbox.next() {
                    let encoded = encode(&engine.weights(), &wish);
                    done(Outcome { generation, wish, encoded });
                }
            })
            .context("cannot start the prompt thread")?;
        Ok(PromptWorker { mailbox, thread: Mutex::new(Some(thread)) })
    }

    /// Numbers a wish that the caller encodes itself.
    pub fn next_generation(&self) -> u64 {
        let mut state = self.mailbox.state.lock();
        state.generation += 1;
        state.generation
    }

    /// Asks for a wish, and says which number it has.
    pub fn ask(&self, wish: Wish) -> u64 {
        let mut state = self.mailbox.state.lock();
        state.generation += 1;
        state.wish = Some((state.generation, wish));
        self.mailbox.posted.notify_one();
        state.generation
    }

    /// Asks for a wish once more, under the number it has, unless a newer one has come.
    pub fn ask_again(&self, generation: u64, wish: Wish) {
        let mut state = self.mailbox.state.lock();
        if state.generation == generation {
            state.wish = Some((generation, wish));
            self.mailbox.posted.notify_one();
        }
    }

    /// Ends the thread, after the encoding it is at.
    pub fn stop(&self) {
        self.mailbox.state.lock().stop = true;
        self.mailbox.posted.notify_one();
        let thread = self.thread.lock().take();
        // The thread itself may hold the last reference to the element, and cannot wait for itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            // It catches panics of the encoder; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

impl Drop for PromptWorker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Mailbox {
    /// Waits for the next wish; `None` at the end.
    fn next(&self) -> Option<(u64, Wish)> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            if let Some(wish) = state.wish.take() {
                return Some(wish);
            }
            self.posted.wait(&mut state);
        }
    }
}

/// Encodes a wish on the calling thread. A panic of the encoder is an error like any other.
pub fn encode(weights: &Arc<Weights>, wish: &Wish) -> Result<Encoded> {
    let vocabulary = || match &wish.embeddings {
        Some(file) => weights.vocabulary_from(file, &wish.prompts),
        None => weights.vocabulary(&wish.prompts, &wish.templates),
    };
    match catch_unwind(AssertUnwindSafe(vocabulary)) {
        Ok(vocabulary) => Ok(Encoded { vocabulary: vocabulary?, weights: weights.clone() }),
        Err(_) => bail!("the text encoder panicked"),
    }
}
