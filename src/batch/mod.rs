// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many sessions -> batches -> one function on one worker thread.
//!
//! A batch closes when it is **full** (as large as the largest `batch_size` among the sessions that take part),
//! **due** (a request in it is its session's `batch_timeout` old), or when **nobody can add to it** (every
//! session is at `max_in_flight`, quiet, or at its end). When there are more requests than a batch holds, sessions take
//! turns, by start-time fair queueing (Goyal, Vin and Cheng 1996): a session's request waits for those before it of
//! its own, and for one each of the others. So a file that always has a full queue takes what slow cameras leave, and
//! they do not wait for its queue. Requests of one session run in their order.
//!
//! A request is in flight from `submit` until its `Ticket` is dropped, which the owner does when the frame has
//! left the element: a stream that is blocked downstream counts as one that cannot add.
//!
//! An owner who cannot use old results submits with `submit_newest`: at its turn the newest of its requests run, and those
//! before them are cancelled.
//!
//! A session that could have added to a batch but let it become due is not waited for again until it submits:
//! a silent camera costs the others one timeout, once.
//!
//! # Invariants
//!
//! * Everything that decides whether a batch may run is in [`state::State`], under one lock. Whoever changes it
//!   calls `Shared::unlock`, which wakes the worker if a batch may run now, if one becomes due before the worker's
//!   alarm, or if the worker is to end. The worker asks the same questions under the same lock before it sleeps.
//!   So no wake-up can be lost, and a worker with nothing queued sleeps without a timeout.
//! * Every ticket is answered: by the worker, by a flush, by the end of its session, or by the end of the worker.
//!   The first answer stays; a result that comes after a flush finds the ticket answered and is discarded.
//! * A request is in the queue, or in a batch that runs (one, or two on a device), or nowhere; never in two of these.
//! * Lock order: state -> slot of one ticket. Neither is held while the function runs, while anybody waits for
//!   a result, while a waker is called, or while requests and results are dropped (dropping may take long and may
//!   come back in here).
//! * A waker is called after all tickets of its batch are answered, once a batch: whoever sleeps until it is called
//!   wakes up once for all of them.

mod state;
mod stats;
#[cfg(test)]
mod tests;
mod ticket;
mod worker;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;

pub use stats::{BatchStats, Quantiles, Window};
pub use ticket::Ticket;

pub(crate) use worker::panic_text;
pub use worker::{Answers, Begun};

use state::Manner;
use worker::Shared;

/// What one session asks of the batches it takes part in. Sizes below 1 count as 1.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    /// Requests a batch may hold; of all sessions that take part, the largest counts.
    pub batch_size: usize,
    /// How long a request of this session may wait for others.
    pub batch_timeout: Duration,
    /// Tickets the owner will hold at most; at this number nobody waits for this session.
    /// Less than two batches' worth over all sessions leaves the worker idle while results travel on.
    pub max_in_flight: usize,
}

/// Called on the worker's thread when it has answered tickets of a session. It must not wait or panic.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Why a ticket has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The session was flushed or dropped.
    Cancelled,
    /// The function failed or panicked on this batch; the text says why.
    Failed(String),
    /// As `Failed`, and no batch will go well any more.
    Fatal(String),
}

/// The error of a function that has no use any more: whatever it is asked from now on, this is its answer.
#[derive(Clone, Debug)]
pub struct Fatal(pub String);

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}

impl Failure {
    fn from_error(error: anyhow::Error) -> Failure {
        match error.downcast_ref::<Fatal>() {
            Some(Fatal(text)) => Failure::Fatal(text.clone()),
            None => Failure::Failed(format!("{error:#}")),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Cancelled => f.write_str("cancelled"),
            Failure::Failed(why) | Failure::Fatal(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

/// Handle to the worker. Clones share it; the worker ends with the last handle and session.
///
/// Dropping the last handle after the last session waits until the worker has finished its batch and has dropped
/// the function; dropping the last session after the last handle does not wait.
pub struct Batcher<Q: Send + 'static, R: Send + 'static> {
    shared: Arc<Shared<Q, R>>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl<Q: Send + 'static, R: Clone + Send + 'static> Batcher<Q, R> {
    /// Starts the worker thread; `run` gets whole batches in submission order and answers in the same order,
    /// one result per request, so that one bad request does not fail its neighbours.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn<F>(name: &str, mut run: F) -> Result<Self>
    where
        F: FnMut(Vec<Q>) -> Answers<R> + Send + 'static,
    {
        Self::spawn_ahead(name, move |requests| Begun::Done(run(requests)))
    }

    /// As `spawn`, for a function that may leave a batch to a device: then it is given the next one, if that is complete,
    /// before its answers are waited for. Answers come in the order of the batches.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn_ahead<F>(name: &str, begin: F) -> Result<Self>
    where
        F: FnMut(Vec<Q>) -> Begun<R> + Send + 'static,
    {
        let shared = Arc::new(Shared::new());
        let of_worker = shared.clone();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || worker::work(of_worker, begin))
            .with_context(|| format!("cannot start the thread {name}"))?;
        Ok(Batcher { shared, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// A new stream's place. It is waited for from now on, once, until it submits.
    pub fn session(&self, options: SessionOptions) -> Session<Q, R> {
        self.join(options, None)
    }

    /// As `session`, for an owner who does not wait for one ticket at a time: `waker` is called when the worker has
    /// answered some, or has ended. Not when the owner itself cancels them with a flush.
    pub fn session_with_waker(&self, options: SessionOptions, waker: Waker) -> Session<Q, R> {
        self.join(options, Some(waker))
    }

    fn join(&self, options: SessionOptions, waker: Option<Waker>) -> Session<Q, R> {
        let mut state = self.shared.lock();
        let id = state.join(options, waker);
        self.shared.unlock(state);
        Session { shared: self.shared.clone(), id }
    }

    /// Counts since the start and times of the latest batches.
    pub fn stats(&self) -> BatchStats {
        self.shared.counters().summary()
    }
}

impl<Q: Send + 'static, R: Send + 'static> Clone for Batcher<Q, R> {
    fn clone(&self) -> Self {
        self.shared.lock().handles += 1;
        Batcher { shared: self.shared.clone(), thread: self.thread.clone() }
    }
}

impl<Q: Send + 'static, R: Send + 'static> Drop for Batcher<Q, R> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.handles -= 1;
        let deserted = state.deserted();
        self.shared.unlock(state);
        if deserted && let Some(thread) = self.thread.lock().take() {
            // A request or result that owns the last handle is dropped on the worker, which cannot join itself.
            if thread.thread().id() != thread::current().id() {
                // The worker's own panic has been answered to its tickets already.
                let _ = thread.join();
            }
        }
    }
}

/// One stream's place in the batcher. Dropping it cancels what it has outstanding, as `flush` does.
pub struct Session<Q: Send + 'static, R: Send + 'static> {
    shared: Arc<Shared<Q, R>>,
    id: u64,
}

impl<Q: Send + 'static, R: Clone + Send + 'static> Session<Q, R> {
    /// Queues a request; never blocks. The caller keeps its own count below `max_in_flight`.
    pub fn submit(&self, request: Q) -> Ticket<R> {
        self.submit_in(Manner::default(), request).0
    }

    /// As `submit`, but the batch that this request is in waits for nobody.
    pub fn submit_at_once(&self, request: Q) -> Ticket<R> {
        self.submit_in(Manner { at_once: true, ..Manner::default() }, request).0
    }

    /// As `submit`, for an owner who would rather know of the newest: of this session's requests no more than `newest`
    /// wait from now on. Older ones are cancelled, and those that stay move up to their turns. Returns the numbers of the
    /// tickets that were cancelled, too.
    pub fn submit_newest(&self, request: Q, newest: usize) -> (Ticket<R>, Vec<u64>) {
        self.submit_in(Manner { newest: Some(newest), ..Manner::default() }, request)
    }

    fn submit_in(&self, manner: Manner, request: Q) -> (Ticket<R>, Vec<u64>) {
        let slot = Arc::new(ticket::Slot::new());
        let mut state = self.shared.lock();
        let (number, replaced) = state.submit(self.id, request, slot.clone(), manner, Instant::now());
        self.shared.unlock(state);
        let numbers = replaced.iter().map(|replaced| replaced.number()).collect();
        (Ticket::new(slot, self.shared.clone(), self.id, number), numbers)
    }

    /// Takes new limits over from the next batch on, for what is queued already too.
    pub fn set_options(&self, options: SessionOptions) {
        let mut state = self.shared.lock();
        state.set_options(self.id, options);
        self.shared.unlock(state);
    }

    /// Says that no request will come for now (EOS, pause, gap): nobody waits for this session any more.
    /// The next `submit` takes it back.
    pub fn set_quiet(&self) {
        let mut state = self.shared.lock();
        state.set_quiet(self.id);
        self.shared.unlock(state);
    }

    /// Cancels every outstanding ticket at once, without waiting for the worker. Nobody waits for this session
    /// until it submits again.
    pub fn flush(&self) {
        let mut state = self.shared.lock();
        let removed = state.flush(self.id);
        self.shared.unlock(state);
        drop(removed);
    }

    /// Tickets of this session that have not been dropped.
    pub fn in_flight(&self) -> usize {
        self.shared.lock().in_flight(self.id)
    }
}

impl<Q: Send + 'static, R: Send + 'static> Drop for Session<Q, R> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let removed = state.leave(self.id);
        self.shared.unlock(state);
        drop(removed);
    }
}
