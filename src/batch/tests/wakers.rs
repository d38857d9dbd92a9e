// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;

use super::super::state::{Manner, State};
use super::super::ticket::Slot;
use super::super::{Batcher, Failure, Ticket, Waker};
use super::{NEVER, options};

#[test]
fn a_waker_is_called_once_a_batch_when_all_its_answers_are_there() {
    let batcher = Batcher::spawn("echo", |requests: Vec<u32>| {
        Ok(requests.into_iter().map(Ok).collect::<Vec<Result<u32>>>())
    })
    .unwrap();
    let (calls, called) = channel();
    let tickets = Arc::new(Mutex::new(Vec::<Ticket<u32>>::new()));
    let waker: Waker = {
        let tickets = tickets.clone();
        Arc::new(move || {
            let answered = tickets.lock().iter().filter(|ticket| ticket.is_answered()).count();
            calls.send(answered).unwrap();
        })
    };
    let session = batcher.session_with_waker(options(3, NEVER, 9), waker);
    let other = batcher.session(options(3, NEVER, 9));
    // The worker cannot come to the waker's question before all are in the list.
    let of_other = {
        let mut tickets = tickets.lock();
        tickets.push(session.submit(1));
        let of_other = other.submit(2);
        tickets.push(session.submit(3));
        of_other
    };
    assert_eq!(called.recv_timeout(Duration::from_secs(20)), Ok(2));
    assert!(of_other.is_answered());
    session.flush();
    drop((session, of_other, other, batcher));
    assert_eq!(called.try_iter().count(), 0, "one batch, one call, and none for a flush");
}

#[test]
fn the_end_of_the_worker_is_told_to_all() {
    let mut state = State::<u32, u32>::new();
    let (calls, called) = channel();
    for name in ["a", "b"] {
        let calls = calls.clone();
        state.join(options(1, NEVER, 1), Some(Arc::new(move || calls.send(name).unwrap())));
    }
    let silent = state.join(options(1, NEVER, 1), None);
    let slot = Arc::new(Slot::new());
    let _ = state.submit(silent, 7, slot.clone(), Manner::default(), std::time::Instant::now());
    let (wakers, queued) = state.end();
    assert_eq!(queued.len(), 1);
    assert!(!slot.answer(Err(Failure::Cancelled)), "it has been answered already");
    wakers.iter().for_each(|wake| wake());
    let mut names: Vec<_> = called.try_iter().collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
}
