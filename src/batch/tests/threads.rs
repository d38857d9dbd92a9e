// SPDX-License-Identifier: MIT OR Apache-2.0

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::super::{Batcher, Failure, Ticket};
use super::{NEVER, options};

/// Longer than anything here takes on a loaded machine: waiting this long is a hang.
const HANG: Duration = Duration::from_secs(20);

/// A batcher whose function reports each batch and then waits to be let through. It answers 100 more than asked.
struct Rig {
    go: Sender<()>,
    started: Receiver<Vec<u32>>,
    batcher: Batcher<u32, u32>,
}

impl Rig {
    fn new() -> Self {
        let (go, gate) = channel();
        let (report, started) = channel();
        let batcher = Batcher::spawn("rig", move |requests: Vec<u32>| {
            let _ = report.send(requests.clone());
            let _ = gate.recv();
            Ok(requests.into_iter().map(|request| Ok(request + 100)).collect())
        });
        Rig { go, started, batcher: batcher.unwrap() }
    }

    /// The batch that has just closed and now waits at the gate.
    fn running(&self) -> Vec<u32> {
        self.started.recv_timeout(HANG).expect("no batch closed")
    }

    fn let_through(&self) {
        self.go.send(()).unwrap();
    }
}

fn answer(ticket: &Ticket<u32>) -> Result<u32, Failure> {
    ticket.wait(Some(Instant::now() + HANG)).expect("no answer")
}

fn failed<T>(why: &str) -> Result<T, Failure> {
    Err(Failure::Failed(why.into()))
}

#[test]
fn answers_come_back_to_the_ticket_that_asked() {
    let rig = Rig::new();
    let (a, b) = (rig.batcher.session(options(2, NEVER, 9)), rig.batcher.session(options(3, NEVER, 9)));
    let tickets = [a.submit(1), b.submit(2), a.submit(3)];
    assert_eq!(rig.running(), [1, 2, 3]);
    assert_eq!(tickets[0].poll(), None);
    assert_eq!(tickets[0].wait(Some(Instant::now() + Duration::from_millis(5))), None);
    rig.let_through();
    assert_eq!(tickets.each_ref().map(answer), [Ok(101), Ok(102), Ok(103)]);
    assert_eq!(tickets[2].poll(), Some(Ok(103)));
    assert_eq!((a.in_flight(), b.in_flight()), (2, 1));
    drop(tickets);
    assert_eq!((a.in_flight(), b.in_flight()), (0, 0));
}

#[test]
fn a_lone_request_runs_when_its_timeout_is_over() {
    let rig = Rig::new();
    let session = rig.batcher.session(options(8, Duration::from_millis(30), 9));
    let asked = Instant::now();
    let _ticket = session.submit(1);
    assert_eq!(rig.running(), [1]);
    assert!(asked.elapsed() >= Duration::from_millis(30));
    rig.let_through();
}

#[test]
fn a_sleeping_worker_hears_of_quiet_of_departure_and_of_new_options() {
    let rig = Rig::new();
    let [a, b] = [1, 1].map(|limit| rig.batcher.session(options(8, NEVER, limit)));
    let first = a.submit(1);
    b.set_quiet();
    assert_eq!(rig.running(), [1]);
    rig.let_through();

    let c = rig.batcher.session(options(8, NEVER, 1));
    drop(first);
    let _second = a.submit(2);
    drop(c);
    assert_eq!(rig.running(), [2]);
    rig.let_through();

    let d = rig.batcher.session(options(8, NEVER, 2));
    let _third = d.submit(3);
    d.set_options(options(8, NEVER, 1));
    assert_eq!(rig.running(), [3]);
    rig.let_through();
}

#[test]
fn options_that_change_under_a_running_batch_hold_from_the_next_on() {
    let rig = Rig::new();
    let session = rig.batcher.session(options(1, NEVER, 9));
    let _first = session.submit(0);
    assert_eq!(rig.running(), [0]);
    session.set_options(options(3, NEVER, 9));
    let _rest = [1, 2, 3, 4].map(|request| session.submit(request));
    rig.let_through();
    assert_eq!(rig.running(), [1, 2, 3]);
    rig.let_through();
}

#[test]
fn a_flush_does_not_wait_for_a_slow_run_and_late_results_are_discarded() {
    let rig = Rig::new();
    let [flushed, other] = [2, 2].map(|limit| rig.batcher.session(options(2, NEVER, limit)));
    let ran = [flushed.submit(1), other.submit(2)];
    assert_eq!(rig.running(), [1, 2]);
    let queued = [flushed.submit(3), other.submit(4)];
    let waiter = thread::scope(|scope| {
        let waiter = scope.spawn(|| answer(&ran[0]));
        let before = Instant::now();
        flushed.flush();
        assert_eq!(answer(&queued[0]), Err(Failure::Cancelled));
        let waiter = waiter.join().unwrap();
        assert!(before.elapsed() < Duration::from_millis(200));
        waiter
    });
    assert_eq!(waiter, Err(Failure::Cancelled));
    rig.let_through();
    assert_eq!(answer(&ran[1]), Ok(102), "the neighbour in the same batch keeps its result");
    assert_eq!(ran[0].poll(), Some(Err(Failure::Cancelled)));
    // The flushed session is not waited for; the neighbour is at its limit.
    assert_eq!(rig.running(), [4]);
    rig.let_through();
    assert_eq!(answer(&queued[1]), Ok(104));

    drop((ran, queued));
    let again = [flushed.submit(5), other.submit(6)];
    assert_eq!(rig.running(), [5, 6], "a flushed session works on");
    rig.let_through();
    assert_eq!(again.each_ref().map(answer), [Ok(105), Ok(106)]);
}

#[test]
fn dropping_a_session_cancels_its_tickets_and_does_not_wait() {
    let rig = Rig::new();
    let session = rig.batcher.session(options(1, NEVER, 9));
    let tickets = [session.submit(1), session.submit(2)];
    assert_eq!(rig.running(), [1]);
    drop(session);
    assert_eq!(tickets.each_ref().map(Ticket::poll), [(); 2].map(|()| Some(Err(Failure::Cancelled))));
    rig.let_through();
    let _late = tickets; // outlives its session, and the batcher too
    drop(rig);
}

#[test]
fn a_failure_stays_with_its_batch() {
    let batcher = Batcher::spawn("fails", |requests: Vec<u32>| match requests[0] {
        1 => panic!("out of luck"),
        2 => bail!("no memory"),
        3 => Ok(vec![Ok(0), Ok(0)]),
        4 => Ok(vec![Err(anyhow!("bad picture")), Ok(5)]),
        _ => Ok(requests.into_iter().map(Ok).collect()),
    })
    .unwrap();
    let session = batcher.session(options(1, NEVER, 1));
    let ask = |request| answer(&session.submit(request));
    assert_eq!(ask(1), failed("panic: out of luck"));
    assert_eq!(ask(2), failed("no memory"));
    assert_eq!(ask(3), failed("2 answers for a batch of 1 requests"));
    assert_eq!(ask(7), Ok(7), "later batches run");

    session.set_options(options(2, NEVER, 2));
    let pair = [session.submit(4), session.submit(4)];
    assert_eq!(pair.each_ref().map(answer), [failed("bad picture"), Ok(5)]);

    let stats = batcher.stats();
    assert_eq!((stats.batches, stats.requests, stats.failed), (5, 6, 4));
    assert_eq!(stats.mean_fill, 1.2);
}

/// Says when the worker has dropped its function, which is its last act.
struct Ended(Sender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn the_worker_ends_with_the_last_handle_or_session() {
    for session_last in [false, true] {
        let (ended, has_ended) = channel();
        let ended = Ended(ended);
        let batcher = Batcher::spawn("ends", move |requests: Vec<u32>| {
            let _ = &ended;
            Ok(requests.into_iter().map(Ok).collect())
        })
        .unwrap();
        let second = batcher.clone();
        let session = batcher.session(options(1, NEVER, 1));
        drop(batcher);
        assert_eq!(answer(&session.submit(1)), Ok(1), "another handle is left");
        if session_last {
            drop(second);
            assert_eq!(answer(&session.submit(2)), Ok(2), "a session is left");
            drop(session);
            has_ended.recv_timeout(HANG).expect("the worker has not ended");
        } else {
            drop(session);
            drop(second);
            has_ended.try_recv().expect("the last handle has not waited for the worker");
        }
    }
}

#[test]
fn the_last_handle_may_be_dropped_on_the_worker() {
    let (go, gate) = channel::<()>();
    let (ended, has_ended) = channel();
    let ended = Ended(ended);
    let batcher = Batcher::spawn("own end", move |requests: Vec<Box<dyn Any + Send>>| {
        let _ = &ended;
        let _ = gate.recv();
        Ok(requests.into_iter().map(|_| Ok(())).collect())
    })
    .unwrap();
    let session = batcher.session(options(1, NEVER, 1));
    let ticket = session.submit(Box::new(batcher.clone()));
    // Once the request runs, a flush no longer takes it back.
    while batcher.stats().batches == 0 {
        thread::yield_now();
    }
    drop((session, batcher));
    go.send(()).unwrap();
    has_ended.recv_timeout(HANG).expect("the worker waits for itself");
    assert!(ticket.poll().is_some());
}

#[test]
fn an_idle_worker_sleeps_without_waking() {
    let rig = Rig::new();
    let session = rig.batcher.session(options(1, Duration::from_millis(1), 1));
    let ticket = session.submit(1);
    rig.running();
    rig.let_through();
    assert_eq!(answer(&ticket), Ok(101));
    let mut sleeps = 0;
    // The worker is on its way to sleep; from then on the count must stand.
    let stands = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        let before = std::mem::replace(&mut sleeps, rig.batcher.shared.counters().sleeps);
        before == sleeps
    });
    assert!(stands, "the idle worker keeps waking up");
}

#[test]
fn sessions_come_and_go_from_many_threads() {
    let batcher = Batcher::spawn("stress", |requests: Vec<u32>| {
        Ok(requests.into_iter().map(|request| Ok(request + 100)).collect())
    })
    .unwrap();
    let (right, cancelled) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for worker in 0..8u32 {
            let (batcher, right, cancelled) = (batcher.clone(), &right, &cancelled);
            scope.spawn(move || {
                for round in 0..150u32 {
                    let limit = 1 + (worker + round) as usize % 4;
                    let size = 1 + worker as usize;
                    let session = batcher.session(options(size, Duration::from_millis(1), limit));
                    let tickets: Vec<_> = (0..limit as u32).map(|i| (i, session.submit(i))).collect();
                    match round % 5 {
                        0 => session.flush(),
                        1 => session.set_quiet(),
                        2 => session.set_options(options(1, NEVER, limit)),
                        _ => (),
                    }
                    let session = (round % 5 != 3).then_some(session);
                    for (request, ticket) in tickets {
                        match answer(&ticket) {
                            Ok(result) => {
                                assert_eq!(result, request + 100);
                                right.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(Failure::Cancelled) => {
                                assert!([0, 3].contains(&(round % 5)));
                                cancelled.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(failure) => panic!("{failure}"),
                        }
                    }
                    drop(session);
                }
            });
        }
    });
    // Not `into_inner`: ThreadSanitizer does not see how std's scopes end.
    let [right, cancelled] = [&right, &cancelled].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(right + cancelled, 8 * 150 / 4 * (1 + 2 + 3 + 4));
    assert!(right > 0 && cancelled > 0);
}

#[test]
fn a_ticket_that_is_dropped_while_others_wait_blocks_nobody() {
    let rig = Rig::new();
    let session = Arc::new(rig.batcher.session(options(4, Duration::from_millis(1), 4)));
    let stop = Arc::new(AtomicBool::new(false));
    let dropper = thread::spawn({
        let (session, stop) = (session.clone(), stop.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                drop(session.submit(0));
            }
        }
    });
    let ticket = session.submit(1);
    loop {
        let batch = rig.running();
        rig.let_through();
        if batch.contains(&1) {
            break;
        }
    }
    assert_eq!(answer(&ticket), Ok(101));
    stop.store(true, Ordering::Relaxed);
    dropper.join().unwrap();
    drop(rig.go);
}
