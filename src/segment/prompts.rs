// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that encodes prompts beside the stream, so that no frame waits for the text tower.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use parking_lot::{Condvar, Mutex};

use crate::engine::{Client, Wish};

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

impl PromptWorker {
    /// Starts the thread; it tells `done` the number of every wish that is in force, or why it is not.
    pub fn start(client: Arc<Client>, done: impl Fn(u64, Result<()>) + Send + 'static) -> Result<Self> {
        let mailbox = Arc::new(Mailbox {
            state: Mutex::new(State { generation: 0, wish: None, stop: false }),
            posted: Condvar::new(),
        });
        let inbox = mailbox.clone();
        let thread = thread::Builder::new()
            .name("gclip-prompts".into())
            .spawn(move || {
                while let Some((generation, wish)) = inbox.next() {
                    done(generation, client.look_for(generation, &wish));
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
