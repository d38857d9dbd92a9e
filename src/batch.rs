// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many sessions -> batches -> one function on one worker thread.
//!
//! A batch closes when it is **full** (as large as the largest `batch_size` among the sessions), **due** (its
//! oldest request is its session's `batch_timeout` old), or when **nobody can add to it** (every session is at
//! `max_in_flight`, quiet, or at its end). Requests are served first come first served; the limit per session
//! is what makes that fair.
//!
//! A request is in flight from `submit` until its `Ticket` is dropped, which the owner does when the frame has
//! left the element: a stream that is blocked downstream counts as one that cannot add.

use std::time::{Duration, Instant};

use anyhow::Result;

/// What one session asks of the batches it takes part in.
#[derive(Clone, Copy, Debug)]
pub struct SessionOptions {
    pub batch_size: usize,
    pub batch_timeout: Duration,
    pub max_in_flight: usize,
}

/// Why a ticket has no result.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The session was flushed or dropped.
    Cancelled,
    /// The function failed or panicked on this batch; the text says why.
    Failed(String),
}

/// Handle to the worker. Clones share it; the worker ends with the last handle and session.
pub struct Batcher<Q, R> {
    _q: std::marker::PhantomData<fn() -> (Q, R)>,
}

impl<Q: Send + 'static, R: Clone + Send + 'static> Batcher<Q, R> {
    /// Starts the worker thread; `run` gets whole batches in submission order and answers in the same order,
    /// one result per request, so that one bad request does not fail its neighbours.
    pub fn spawn<F>(_name: &str, _run: F) -> Result<Self>
    where
        F: FnMut(Vec<Q>) -> Result<Vec<Result<R>>> + Send + 'static,
    {
        Ok(Batcher { _q: std::marker::PhantomData })
    }

    pub fn session(&self, _options: SessionOptions) -> Session<Q, R> {
        Session { _q: std::marker::PhantomData }
    }
}

/// One stream's place in the batcher.
pub struct Session<Q, R> {
    _q: std::marker::PhantomData<fn() -> (Q, R)>,
}

impl<Q: Send + 'static, R: Clone + Send + 'static> Session<Q, R> {
    /// Queues a request; never blocks. The caller keeps its own count below `max_in_flight`.
    pub fn submit(&self, _request: Q) -> Ticket<R> {
        Ticket { _r: std::marker::PhantomData }
    }
    /// Takes new limits over from the next batch on.
    pub fn set_options(&self, _options: SessionOptions) {}
    /// Says that no request will come for now (EOS, pause, gap): nobody waits for this session any more.
    /// The next `submit` takes it back.
    pub fn set_quiet(&self) {}
    /// Cancels every outstanding ticket at once, without waiting for the worker.
    pub fn flush(&self) {}
}

/// The promise of one result. Dropping it frees the request's place in flight.
pub struct Ticket<R> {
    _r: std::marker::PhantomData<fn() -> R>,
}

impl<R: Clone> Ticket<R> {
    /// Waits for the result, for a flush, or (with a deadline) until the deadline: `None`.
    pub fn wait(&self, _deadline: Option<Instant>) -> Option<Result<R, Failure>> {
        None
    }
    /// The result if it is there already.
    pub fn poll(&self) -> Option<Result<R, Failure>> {
        None
    }
}
