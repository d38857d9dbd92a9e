// SPDX-License-Identifier: MIT OR Apache-2.0
//! A thread on which connections live, for who waits on other threads.

use std::future::Future;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

pub struct Reactor {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Reactor {
    /// # Errors
    /// The machine has no thread left.
    pub fn start() -> Result<Reactor> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let live = move || {
            // Whoever has the other end says it or drops it: both end this.
            let _ = runtime.block_on(stopped);
        };
        let thread =
            std::thread::Builder::new().name("jobs".into()).spawn(live).context("no thread is left")?;
        Ok(Reactor { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits for something that lives there. Not to be called on that thread.
    pub fn wait<T>(&self, something: impl Future<Output = T>) -> T {
        self.handle.block_on(something)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}
