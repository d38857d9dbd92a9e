// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the source pad's task does next, and who wakes it up for that. Waking a thread costs more than all else that
//! the element does for a frame, so nobody wakes the task before there is something to do.

use std::sync::Arc;
use std::time::Instant;

use super::{Item, State, Stream};
use crate::batch::Waker;

/// What the task does next.
pub enum Turn {
    /// The head of the queue leaves. Whether the task was idle until it could: then the time since the frame's arrival
    /// is the model's, and not downstream's.
    Leave(Item, bool),
    /// Answers to frames that have left are there.
    Absorb,
}

/// When there is something to do.
#[derive(Debug, PartialEq, Eq)]
enum Ready {
    Now,
    /// At this time, if nobody wakes the task before.
    At(Instant),
    /// When somebody wakes the task.
    Later,
}

impl State {
    fn ready(&self) -> Ready {
        if self.flow.is_err() || self.late_is_answered() {
            return Ready::Now;
        }
        match self.queue.front() {
            None => Ready::Later,
            Some(head @ Item::Frame(frame)) if head.is_unanswered() => {
                frame.deadline.map_or(Ready::Later, Ready::At)
            }
            Some(_) => Ready::Now,
        }
    }

    fn late_is_answered(&self) -> bool {
        self.output.late.front().is_some_and(|late| late.ticket.is_answered())
    }
}

impl Stream {
    /// What the model's worker calls when it has answered frames of this stream.
    pub fn waker(self: &Arc<Self>) -> Waker {
        let stream = Arc::downgrade(self);
        Arc::new(move || {
            if let Some(stream) = stream.upgrade()
                && stream.state.lock().ready() == Ready::Now
            {
                stream.output_wake.notify_one();
            }
        })
    }

    /// Puts an item behind the others. The task need not hear of it unless it is the head, and there is something to do
    /// for it or a deadline to wait for.
    pub(super) fn enqueue(&self, state: &mut State, item: Item) {
        state.frames += usize::from(matches!(item, Item::Frame(_)));
        state.queue.push_back(item);
        if state.queue.len() == 1 && state.ready() != Ready::Later {
            self.output_wake.notify_one();
        }
    }

    /// Waits until there is something to do. `None`: the flow has ended.
    pub(super) fn next_turn(&self) -> Option<Turn> {
        let mut state = self.state.lock();
        let mut was_idle = false;
        loop {
            match state.ready() {
                Ready::Now => break,
                Ready::At(time) if time <= Instant::now() => break,
                Ready::At(time) => {
                    self.output_wake.wait_until(&mut state, time);
                }
                Ready::Later => self.output_wake.wait(&mut state),
            }
            was_idle = true;
        }
        state.flow.ok()?;
        state.busy = true;
        if state.late_is_answered() {
            return Some(Turn::Absorb);
        }
        state.queue.pop_front().map(|item| Turn::Leave(item, was_idle))
    }
}
