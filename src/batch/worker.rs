// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker thread: waits for a batch, runs the function, hands the answers out. A function that only hands its work to a
//! device may have two batches under way: the next one is begun, if it is complete, before the answers of the one before
//! are waited for.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::Failure;
use super::state::State;
use super::stats::Counters;
use super::ticket::{Release, Slot};

pub(super) struct Shared<Q, R> {
    state: Mutex<State<Q, R>>,
    /// Only the worker waits here.
    work: Condvar,
}

impl<Q, R> Shared<Q, R> {
    pub fn new() -> Self {
        Shared { state: Mutex::new(State::new()), work: Condvar::new() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State<Q, R>> {
        self.state.lock()
    }

    /// Unlocks after a change and wakes the worker if the change concerns it.
    pub fn unlock(&self, state: MutexGuard<'_, State<Q, R>>) {
        let call = state.calls_worker();
        drop(state);
        // After the unlock, so that the worker does not wake up only to wait for the lock. It cannot miss this:
        // either it has not asked for a batch since the change, or it waits already.
        if call {
            self.work.notify_one();
        }
    }

    pub fn counters(&self) -> Counters {
        self.lock().counters.clone()
    }
}

impl<Q: Send, R: Send> Release for Shared<Q, R> {
    fn release(&self, session: u64, number: u64) {
        let mut state = self.lock();
        let removed = state.release(session, number);
        self.unlock(state);
        drop(removed);
    }
}

/// Fails what is outstanding when the worker ends, however it ends.
struct End<Q, R>(Arc<Shared<Q, R>>);

impl<Q, R> Drop for End<Q, R> {
    fn drop(&mut self) {
        let (wakers, removed) = self.0.lock().end();
        wakers.iter().for_each(|wake| wake());
        drop(removed);
    }
}

/// One answer a request, or why there are none.
pub type Answers<R> = Result<Vec<Result<R>>>;

/// What a function has done about a batch when it comes back.
pub enum Begun<R> {
    /// All of it.
    Done(Answers<R>),
    /// A device works on it; whoever calls this waits for the answers.
    UnderWay(Box<dyn FnOnce() -> Answers<R>>),
}

/// A batch that a device works on.
struct UnderWay<R> {
    slots: Vec<Arc<Slot<R>>>,
    started: Instant,
    wait: Box<dyn FnOnce() -> Answers<R>>,
}

/// The worker's life: batches until the last handle and session are gone.
pub(super) fn work<Q, R, F>(shared: Arc<Shared<Q, R>>, mut begin: F)
where
    F: FnMut(Vec<Q>) -> Begun<R>,
{
    let end = End(shared);
    let mut before: Option<UnderWay<R>> = None;
    loop {
        let batch = match before {
            // Nobody sleeps while there are answers to wait for.
            Some(_) => end.0.lock().take(Instant::now()),
            None => next_batch(&end.0),
        };
        let Some(batch) = batch else {
            match before.take() {
                Some(batch) => finish(&end.0, batch.slots, batch.started, batch.wait),
                None => return,
            }
            continue;
        };
        let (requests, slots): (Vec<_>, Vec<_>) = batch.into_iter().map(|q| (q.request, q.slot)).unzip();
        let started = Instant::now();
        let begun = catch_unwind(AssertUnwindSafe(|| begin(requests)))
            .unwrap_or_else(|panic| Begun::Done(Err(anyhow!("panic: {}", panic_text(panic.as_ref())))));
        // In the order in which they were begun.
        if let Some(batch) = before.take() {
            finish(&end.0, batch.slots, batch.started, batch.wait);
        }
        match begun {
            Begun::Done(answers) => finish(&end.0, slots, started, || answers),
            Begun::UnderWay(wait) => before = Some(UnderWay { slots, started, wait }),
        }
    }
}

/// Waits for the answers of the oldest batch and hands them out.
fn finish<Q, R>(
    shared: &Shared<Q, R>,
    slots: Vec<Arc<Slot<R>>>,
    started: Instant,
    wait: impl FnOnce() -> Answers<R>,
) {
    let answers = answers(wait, slots.len());
    let took = started.elapsed();
    // Counted before the answers are out: whoever has an answer finds it in the counts.
    let failed = answers.iter().filter(|answer| answer.is_err()).count();
    shared.lock().counters.ran(took, failed as u64);
    for (slot, answer) in slots.iter().zip(answers) {
        slot.answer(answer);
    }
    // Only now: until all are answered, a flush has to find them.
    let (wakers, finished) = shared.lock().finished(slots.len());
    wakers.iter().for_each(|wake| wake());
    drop(finished);
}

/// Sleeps until a batch may run. `None`: nobody is left.
fn next_batch<Q, R>(shared: &Shared<Q, R>) -> Option<Vec<super::state::Queued<Q, R>>> {
    let mut state = shared.lock();
    loop {
        if let Some(batch) = state.take(Instant::now()) {
            return Some(batch);
        }
        if state.deserted() {
            return None;
        }
        state.alarm = state.next_due();
        state.counters.sleeps += 1;
        match state.alarm {
            Some(alarm) => {
                shared.work.wait_until(&mut state, alarm);
            }
            None => shared.work.wait(&mut state),
        }
    }
}

/// What comes of a batch; a panic, or a wrong number of answers, fails it as a whole. One answer per request.
fn answers<R>(wait: impl FnOnce() -> Answers<R>, expected: usize) -> Vec<Result<R, Failure>> {
    let error = match catch_unwind(AssertUnwindSafe(wait)) {
        Ok(Ok(answers)) if answers.len() == expected => {
            return answers.into_iter().map(|answer| answer.map_err(Failure::from_error)).collect();
        }
        Ok(Ok(answers)) => anyhow!("{} answers for a batch of {expected} requests", answers.len()),
        Ok(Err(error)) => error,
        Err(panic) => anyhow!("panic: {}", panic_text(panic.as_ref())),
    };
    let failure = Failure::from_error(error);
    (0..expected).map(|_| Err(failure.clone())).collect()
}

/// What a caught panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
