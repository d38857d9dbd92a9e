// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Failure;
use super::super::state::{Manner, State};
use super::super::ticket::Slot;
use super::{NEVER, options};

const NOTHING: [u32; 0] = [];
const TIMEOUT: Duration = Duration::from_millis(10);

/// The batcher's state with a clock that only the test moves.
struct Desk {
    state: State<u32, u32>,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        Desk { state: State::new(), now: Instant::now() }
    }

    fn join(&mut self, batch_size: usize, timeout: Duration, max_in_flight: usize) -> u64 {
        self.state.join(options(batch_size, timeout, max_in_flight), None)
    }

    /// Returns the request's number.
    fn submit(&mut self, session: u64, request: u32) -> u64 {
        self.submit_as(session, request, Manner::default()).0
    }

    /// Returns the request's number, and the requests that it has taken the places of.
    fn submit_as(&mut self, session: u64, request: u32, manner: Manner) -> (u64, Vec<u32>) {
        let (number, replaced) = self.state.submit(session, request, Arc::new(Slot::new()), manner, self.now);
        (number, replaced.iter().map(|queued| queued.request).collect())
    }

    fn release(&mut self, session: u64, number: u64) -> Option<u32> {
        self.state.release(session, number).map(|queued| queued.request)
    }

    /// The requests of the batch that closes now; an empty list: none does.
    fn take(&mut self) -> Vec<u32> {
        let batch = self.state.take(self.now).unwrap_or_default();
        drop(self.state.finished(usize::MAX));
        batch.iter().map(|queued| queued.request).collect()
    }
}

#[test]
fn a_full_batch_closes_at_once_and_holds_no_more_than_the_largest_size() {
    let mut desk = Desk::new();
    let (a, b) = (desk.join(2, NEVER, 9), desk.join(4, NEVER, 9));
    for request in [1, 2, 3] {
        desk.submit(a, request);
        assert_eq!(desk.take(), NOTHING);
    }
    desk.submit(b, 4);
    desk.submit(b, 5);
    assert_eq!(desk.take(), [1, 2, 4, 5]);
    assert_eq!(desk.take(), NOTHING);
}

/// A file always has a full queue; a camera has a frame now and then.
#[test]
fn a_long_queue_of_one_session_does_not_keep_the_others_waiting() {
    let mut desk = Desk::new();
    let (file, camera) = (desk.join(1, NEVER, 99), desk.join(1, NEVER, 99));
    for request in 0..50 {
        desk.submit(file, request);
    }
    let (mut next, mut waits) = (0, Vec::new());
    for round in 0..10 {
        desk.submit(camera, 1000 + round);
        let mut wait = 0;
        loop {
            wait += 1;
            match desk.take()[..] {
                [request] if request == 1000 + round => break,
                [request] => assert_eq!(request, std::mem::replace(&mut next, request + 1), "in its order"),
                ref other => panic!("{other:?}"),
            }
        }
        waits.push(wait);
    }
    assert!(waits.iter().all(|&wait| wait <= 2), "batches until the camera's frame: {waits:?}");
    // Two with full queues share evenly, and batches of several too.
    for request in 2000..2050 {
        desk.submit(camera, request);
    }
    let taken: Vec<u32> = (0..20).flat_map(|_| desk.take()).collect();
    let of_camera = taken.iter().filter(|&&request| request >= 2000).count();
    assert!((9..=11).contains(&of_camera), "{taken:?}");
}

#[test]
fn requests_that_were_given_up_cost_no_turns() {
    let mut desk = Desk::new();
    let (file, camera) = (desk.join(1, NEVER, 99), desk.join(1, NEVER, 99));
    for round in 0..20 {
        let number = desk.submit(camera, round);
        desk.release(camera, number);
        desk.submit(camera, round);
        drop(desk.state.flush(camera));
    }
    desk.submit(file, 1);
    desk.submit(file, 2);
    desk.submit(camera, 3);
    let taken: Vec<u32> = (0..3).flat_map(|_| desk.take()).collect();
    assert_eq!(taken, [1, 3, 2]);
}

#[test]
fn the_size_of_a_session_that_takes_no_part_does_not_count() {
    let mut desk = Desk::new();
    let (a, big) = (desk.join(2, NEVER, 9), desk.join(8, NEVER, 9));
    desk.submit(a, 1);
    desk.submit(a, 2);
    assert_eq!(desk.take(), NOTHING);
    desk.state.set_quiet(big);
    assert_eq!(desk.take(), [1, 2]);
}

#[test]
fn a_due_request_closes_the_batch_by_its_own_sessions_timeout() {
    let mut desk = Desk::new();
    let (patient, hurried) = (desk.join(8, NEVER, 9), desk.join(8, TIMEOUT, 9));
    desk.submit(patient, 1);
    desk.now += TIMEOUT * 5;
    desk.submit(hurried, 2);
    desk.now += TIMEOUT - Duration::from_nanos(1);
    assert_eq!(desk.take(), NOTHING);
    desk.now += Duration::from_nanos(1);
    assert_eq!(desk.take(), [1, 2]);
}

#[test]
fn a_timeout_beyond_the_clock_is_never_due() {
    let mut desk = Desk::new();
    let a = desk.join(8, Duration::MAX, 9);
    desk.submit(a, 1);
    desk.now += NEVER;
    assert_eq!(desk.take(), NOTHING);
    assert_eq!(desk.state.next_due(), None);
}

#[test]
fn a_batch_closes_when_nobody_can_add() {
    let mut desk = Desk::new();
    let (a, b) = (desk.join(8, NEVER, 1), desk.join(8, NEVER, 2));
    desk.submit(a, 1);
    desk.submit(b, 2);
    assert_eq!(desk.take(), NOTHING);
    desk.submit(b, 3);
    assert_eq!(desk.take(), [1, 2, 3]);
}

#[test]
fn a_silent_camera_costs_one_timeout_once() {
    let mut desk = Desk::new();
    let (lively, silent) = (desk.join(8, TIMEOUT, 1), desk.join(8, TIMEOUT, 1));
    let mut number = desk.submit(lively, 0);
    assert_eq!(desk.take(), NOTHING);
    desk.now += TIMEOUT;
    assert_eq!(desk.take(), [0]);
    for request in 1..50 {
        desk.release(lively, number);
        number = desk.submit(lively, request);
        assert_eq!(desk.take(), [request]);
    }

    // It comes back, is part of the batch, and is waited for again: one more timeout when it falls silent.
    desk.release(lively, number);
    let of_silent = desk.submit(silent, 100);
    assert_eq!(desk.take(), NOTHING);
    number = desk.submit(lively, 101);
    assert_eq!(desk.take(), [100, 101]);
    desk.release(silent, of_silent);
    desk.release(lively, number);
    number = desk.submit(lively, 102);
    assert_eq!(desk.take(), NOTHING);
    desk.now += TIMEOUT;
    assert_eq!(desk.take(), [102]);
    desk.release(lively, number);
    desk.submit(lively, 103);
    assert_eq!(desk.take(), [103]);
}

#[test]
fn who_contributed_to_a_due_batch_is_still_waited_for() {
    let mut desk = Desk::new();
    let a = desk.join(8, TIMEOUT, 4);
    desk.submit(a, 1);
    desk.now += TIMEOUT;
    assert_eq!(desk.take(), [1]);
    desk.submit(a, 2);
    assert_eq!(desk.take(), NOTHING);
}

#[test]
fn a_session_whose_frames_are_stuck_downstream_is_not_waited_for() {
    let mut desk = Desk::new();
    let (stuck, lively) = (desk.join(8, NEVER, 2), desk.join(8, NEVER, 1));
    let first = desk.submit(stuck, 1);
    desk.submit(stuck, 2);
    let mut number = desk.submit(lively, 3);
    assert_eq!(desk.take(), [1, 2, 3]);
    for request in 4..10 {
        desk.release(lively, number);
        number = desk.submit(lively, request);
        assert_eq!(desk.take(), [request]);
    }
    // One frame of it leaves: it can add again.
    desk.release(stuck, first);
    desk.release(lively, number);
    desk.submit(lively, 10);
    assert_eq!(desk.take(), NOTHING);
    desk.submit(stuck, 11);
    assert_eq!(desk.take(), [10, 11]);
}

#[test]
fn a_quiet_or_departed_session_is_not_waited_for() {
    let mut desk = Desk::new();
    let (a, at_end, leaving) = (desk.join(8, NEVER, 1), desk.join(8, NEVER, 1), desk.join(8, NEVER, 1));
    desk.submit(a, 1);
    desk.state.set_quiet(at_end);
    assert_eq!(desk.take(), NOTHING);
    drop(desk.state.leave(leaving));
    assert_eq!(desk.take(), [1]);
}

#[test]
fn a_fast_session_cannot_starve_a_slow_one() {
    let mut desk = Desk::new();
    let (fast, slow) = (desk.join(2, NEVER, 4), desk.join(2, NEVER, 1));
    for request in 1..=4 {
        desk.submit(fast, request);
    }
    desk.submit(slow, 100);
    // Though all of the fast one's were there before.
    assert_eq!(desk.take(), [1, 100]);
    assert_eq!([desk.take(), desk.take()], [vec![2, 3], vec![4]]);
}

#[test]
fn a_dropped_ticket_takes_its_request_back_unless_it_ran() {
    let mut desk = Desk::new();
    let a = desk.join(2, TIMEOUT, 9);
    let first = desk.submit(a, 1);
    assert_eq!(desk.release(a, first), Some(1));
    assert_eq!(desk.state.next_due(), None);
    let second = desk.submit(a, 2);
    desk.submit(a, 3);
    assert_eq!(desk.take(), [2, 3]);
    assert_eq!(desk.release(a, second), None);
    assert_eq!(desk.state.in_flight(a), 1);
}

#[test]
fn a_flush_takes_only_its_own_requests_and_lets_the_rest_go() {
    let mut desk = Desk::new();
    let (a, b) = (desk.join(8, NEVER, 2), desk.join(8, NEVER, 1));
    let slot = Arc::new(Slot::new());
    let _ = desk.state.submit(a, 1, slot.clone(), Manner::default(), desk.now);
    desk.submit(b, 2);
    assert_eq!(desk.take(), NOTHING);
    assert_eq!(desk.state.flush(a).len(), 1);
    assert!(!slot.answer(Ok(1)), "the flush has answered already");
    assert_eq!(desk.take(), [2]);
}

#[test]
fn new_options_count_for_what_is_queued() {
    let mut desk = Desk::new();
    let a = desk.join(8, NEVER, 9);
    desk.submit(a, 1);
    desk.state.set_options(a, options(8, TIMEOUT, 9));
    desk.now += TIMEOUT;
    assert_eq!(desk.take(), [1]);
    desk.submit(a, 2);
    desk.state.set_options(a, options(1, NEVER, 9));
    assert_eq!(desk.take(), [2]);
    desk.submit(a, 3);
    desk.state.set_options(a, options(8, NEVER, 9));
    desk.submit(a, 4);
    assert_eq!(desk.take(), NOTHING);
}

#[test]
fn the_worker_is_called_when_and_only_when_it_matters() {
    let mut desk = Desk::new();
    let a = desk.join(3, TIMEOUT, 9);
    assert!(!desk.state.calls_worker(), "nothing to do");
    desk.submit(a, 1);
    assert!(desk.state.calls_worker(), "asleep without an alarm");
    desk.state.alarm = desk.state.next_due();
    desk.now += TIMEOUT / 2;
    desk.submit(a, 2);
    assert!(!desk.state.calls_worker(), "the alarm is early enough");
    desk.state.set_options(a, options(3, TIMEOUT / 2, 9));
    assert!(desk.state.calls_worker(), "the alarm is too late now");
    desk.state.alarm = desk.state.next_due();
    desk.submit(a, 3);
    assert!(desk.state.calls_worker(), "full");
    drop(desk.state.leave(a));
    desk.state.handles = 0;
    assert!(desk.state.calls_worker(), "it is to end");
}

#[test]
fn a_request_after_the_worker_is_refused() {
    let mut desk = Desk::new();
    let a = desk.join(1, NEVER, 1);
    drop(desk.state.end());
    let slot: Arc<Slot<u32>> = Arc::new(Slot::new());
    let _ = desk.state.submit(a, 1, slot.clone(), Manner::default(), desk.now);
    assert!(!slot.answer(Err(Failure::Cancelled)), "it has an answer");
    assert_eq!(desk.take(), NOTHING);
}

fn newest(count: usize) -> Manner {
    Manner { newest: Some(count), at_once: false }
}

#[test]
fn a_newer_request_takes_the_turn_and_the_time_of_an_older_one() {
    let mut desk = Desk::new();
    let (a, b) = (desk.join(1, TIMEOUT, 9), desk.join(1, TIMEOUT, 9));
    desk.submit(b, 100);
    desk.submit(b, 101);
    assert_eq!(desk.submit_as(a, 1, newest(1)).1, NOTHING);
    desk.now += TIMEOUT;
    // Its place is the first's: before the second of the other session.
    assert_eq!(desk.submit_as(a, 2, newest(1)).1, [1]);
    assert_eq!(desk.submit_as(a, 3, newest(1)).1, [2]);
    assert_eq!([desk.take(), desk.take(), desk.take()], [vec![100], vec![3], vec![101]]);
    // What runs is replaced by nothing.
    assert_eq!(desk.submit_as(a, 4, newest(1)).1, NOTHING);
}

#[test]
fn newer_requests_do_not_put_off_the_batch_that_older_ones_waited_for() {
    let mut desk = Desk::new();
    let a = desk.join(4, TIMEOUT, 9);
    assert_eq!(desk.submit_as(a, 1, newest(1)).1, NOTHING);
    desk.now += TIMEOUT / 2;
    assert_eq!(desk.submit_as(a, 2, newest(1)).1, [1]);
    assert_eq!(desk.take(), NOTHING);
    desk.now += TIMEOUT / 2;
    assert_eq!(desk.submit_as(a, 3, newest(1)).1, [2]);
    assert_eq!(desk.take(), [3], "due when the first of them was");
}

#[test]
fn of_what_waits_the_newest_ones_stay_in_their_order() {
    let mut desk = Desk::new();
    let a = desk.join(8, NEVER, 99);
    for request in 1..=6 {
        let replaced = desk.submit_as(a, request, newest(3)).1;
        assert_eq!(replaced, if request > 3 { vec![request - 3] } else { vec![] });
    }
    desk.state.set_quiet(a);
    assert_eq!(desk.take(), [4, 5, 6]);
}

#[test]
fn a_request_that_goes_at_once_waits_for_nobody_and_blames_nobody() {
    let mut desk = Desk::new();
    let (a, b) = (desk.join(4, NEVER, 9), desk.join(4, NEVER, 9));
    assert_eq!(desk.submit_as(a, 1, Manner { newest: None, at_once: true }).1, NOTHING);
    assert_eq!(desk.take(), [1]);
    // The other session is waited for as before.
    desk.submit(a, 2);
    assert_eq!(desk.take(), NOTHING);
    desk.submit(b, 3);
    desk.submit(b, 4);
    desk.submit(b, 5);
    assert_eq!(desk.take(), [2, 3, 4, 5]);
}
