// SPDX-License-Identifier: MIT OR Apache-2.0
//! A function that leaves its batches to a device: two are under way, answers keep their order, and every way to end one
//! ends it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::anyhow;
use parking_lot::Mutex;

use super::super::{Batcher, Begun, Failure, Fatal, SessionOptions};

const HANG: Duration = Duration::from_secs(20);

/// What the device was told, and what it answered.
#[derive(Debug, PartialEq)]
enum Step {
    Begun(u32),
    Waited(u32),
}

/// Whoever holds it keeps the device from beginning anything.
type Brake = Arc<Mutex<()>>;

/// A device that doubles, one number a batch; what it has to wait for comes from `gates`.
fn device(
    steps: Sender<Step>,
    gates: Receiver<()>,
    brake: Brake,
) -> impl FnMut(Vec<u32>) -> Begun<u32> + Send {
    let gates = Arc::new(Mutex::new(gates));
    move |numbers: Vec<u32>| {
        drop(brake.lock());
        let (steps, gates, first) = (steps.clone(), gates.clone(), numbers[0]);
        steps.send(Step::Begun(first)).unwrap();
        Begun::UnderWay(Box::new(move || {
            gates.lock().recv_timeout(HANG)?;
            steps.send(Step::Waited(first))?;
            match first {
                13 => panic!("out of luck"),
                99 => Err(Fatal("gone".into()).into()),
                _ => Ok(numbers.into_iter().map(|number| Ok(2 * number)).collect()),
            }
        }))
    }
}

fn one_by_one() -> SessionOptions {
    SessionOptions { batch_size: 1, batch_timeout: Duration::ZERO, max_in_flight: 8 }
}

#[test]
fn the_next_batch_is_begun_before_the_one_before_is_waited_for() {
    let ((say, steps), (open, gates)) = (channel(), channel());
    // Both are asked for before the first is begun, or it would be waited for alone.
    let brake = Brake::default();
    let held = brake.lock();
    let batcher = Batcher::spawn_ahead("ahead", device(say, gates, brake.clone())).unwrap();
    let session = batcher.session(one_by_one());
    let tickets: Vec<_> = [1, 2, 3].map(|number| session.submit(number)).into();
    drop(held);
    let next = || steps.recv_timeout(HANG).unwrap();
    assert_eq!((next(), next()), (Step::Begun(1), Step::Begun(2)));
    assert!(steps.recv_timeout(Duration::from_millis(50)).is_err(), "two are under way, and no more");
    open.send(()).unwrap();
    assert_eq!((next(), next()), (Step::Waited(1), Step::Begun(3)));
    assert_eq!(tickets[0].wait(None), Some(Ok(2)));
    open.send(()).unwrap();
    open.send(()).unwrap();
    assert_eq!((next(), next()), (Step::Waited(2), Step::Waited(3)));
    assert_eq!((tickets[1].wait(None), tickets[2].wait(None)), (Some(Ok(4)), Some(Ok(6))));
    assert_eq!(batcher.stats().requests, 3);
}

#[test]
fn the_answer_to_the_only_batch_is_not_waited_with() {
    let ((say, _steps), (open, gates)) = (channel(), channel());
    let batcher = Batcher::spawn_ahead("ahead", device(say, gates, Brake::default())).unwrap();
    let session = batcher.session(one_by_one());
    for number in 1..4 {
        open.send(()).unwrap();
        assert_eq!(session.submit(number).wait(None), Some(Ok(2 * number)));
    }
}

#[test]
fn a_flush_finds_both_batches_and_later_ones_go_on() {
    let ((say, steps), (open, gates)) = (channel(), channel());
    // Both are asked for before the first is begun, or it would be waited for alone.
    let brake = Brake::default();
    let held = brake.lock();
    let batcher = Batcher::spawn_ahead("ahead", device(say, gates, brake.clone())).unwrap();
    let session = batcher.session(one_by_one());
    let tickets = [1, 2].map(|number| session.submit(number));
    drop(held);
    for _ in 0..2 {
        steps.recv_timeout(HANG).unwrap();
    }
    session.flush();
    for ticket in &tickets {
        assert_eq!(ticket.wait(None), Some(Err(Failure::Cancelled)));
    }
    let later = session.submit(5);
    (0..3).for_each(|_| open.send(()).unwrap());
    assert_eq!(later.wait(None), Some(Ok(10)));
}

#[test]
fn failures_stay_with_their_batch() {
    let ((say, _steps), (open, gates)) = (channel(), channel());
    let batcher = Batcher::spawn_ahead("ahead", device(say, gates, Brake::default())).unwrap();
    let session = batcher.session(one_by_one());
    let tickets = [13, 1, 99, 2].map(|number| session.submit(number));
    (0..4).for_each(|_| open.send(()).unwrap());
    let answers = tickets.each_ref().map(|ticket| ticket.wait(None).unwrap());
    assert_eq!(answers[0], Err(Failure::Failed("panic: out of luck".into())));
    assert_eq!((&answers[1], &answers[3]), (&Ok(2), &Ok(4)));
    assert_eq!(answers[2], Err(Failure::Fatal("gone".into())));
}

#[test]
fn the_end_waits_for_what_is_under_way() {
    let ((say, steps), (open, gates)) = (channel(), channel());
    let batcher = Batcher::spawn_ahead("ahead", device(say, gates, Brake::default())).unwrap();
    let session = batcher.session(one_by_one());
    let ticket = session.submit(4);
    assert_eq!(steps.recv_timeout(HANG).unwrap(), Step::Begun(4));
    open.send(()).unwrap();
    drop(session);
    drop(batcher); // joins the worker
    assert_eq!(steps.recv_timeout(HANG).unwrap(), Step::Waited(4));
    drop(ticket);
}

#[test]
fn an_error_that_is_not_fatal_stays_one() {
    assert_eq!(Failure::from_error(anyhow!("a")), Failure::Failed("a".into()));
    assert_eq!(Failure::from_error(Fatal("b".into()).into()), Failure::Fatal("b".into()));
}
