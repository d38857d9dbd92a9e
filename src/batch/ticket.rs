// SPDX-License-Identifier: MIT OR Apache-2.0
//! The promise of one result: a slot that is answered once, and the ticket that waits for it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::Failure;

/// Where one answer lands. The first answer stays.
pub(super) struct Slot<R> {
    answer: Mutex<Option<Result<R, Failure>>>,
    answered: Condvar,
}

impl<R> Slot<R> {
    pub fn new() -> Self {
        Slot { answer: Mutex::new(None), answered: Condvar::new() }
    }

    /// Returns whether this answer was the first.
    pub fn answer(&self, answer: Result<R, Failure>) -> bool {
        let mut slot = self.answer.lock();
        if slot.is_some() {
            return false;
        }
        *slot = Some(answer);
        self.answered.notify_all();
        true
    }
}

/// Takes a ticket's place in flight back; hides the request type from the ticket.
pub(super) trait Release: Send + Sync {
    fn release(&self, session: u64, number: u64);
}

/// The promise of one result. Dropping it frees the request's place in flight; a request that has not run by
/// then never will.
pub struct Ticket<R> {
    slot: Arc<Slot<R>>,
    batcher: Arc<dyn Release>,
    session: u64,
    number: u64,
}

impl<R> Ticket<R> {
    pub(super) fn new(slot: Arc<Slot<R>>, batcher: Arc<dyn Release>, session: u64, number: u64) -> Self {
        Ticket { slot, batcher, session, number }
    }
}

impl<R> Ticket<R> {
    /// Which request of the batcher this is.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl<R: Clone> Ticket<R> {
    /// Waits for the result, for a flush, or (with a deadline) until the deadline: `None`.
    pub fn wait(&self, deadline: Option<Instant>) -> Option<Result<R, Failure>> {
        let mut answer = self.slot.answer.lock();
        while answer.is_none() {
            match deadline {
                None => self.slot.answered.wait(&mut answer),
                Some(deadline) => {
                    if self.slot.answered.wait_until(&mut answer, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        answer.clone()
    }

    /// Whether the result is there.
    pub fn is_answered(&self) -> bool {
        self.slot.answer.lock().is_some()
    }

    /// The result if it is there already.
    pub fn poll(&self) -> Option<Result<R, Failure>> {
        self.slot.answer.lock().clone()
    }
}

impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        self.batcher.release(self.session, self.number);
    }
}
