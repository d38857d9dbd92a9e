// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables of `docs/live.md`, line by line.

use std::time::Duration;

use super::super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

type Stream = Machine<u64, u64, u64>;

fn rules(late: Late) -> Rules {
    Rules {
        late,
        interval: 1,
        batch_size: 1,
        batch_timeout: MS(20),
        max_in_flight: 3,
        latency: None,
        failure_ends: false,
    }
}

fn stream(rules: Rules, live: bool) -> Stream {
    let mut stream = Machine::new(rules);
    assert!(matches!(stream.restart(End::Flushing, &[]), Restart::Start));
    stream.set_live(live);
    stream
}

/// A frame enters and is with the model. Returns its number.
fn enter(stream: &mut Stream, now: Time) -> u64 {
    let time = Some(now.as_nanos() as u64);
    let arrival = Arrival { cargo: 0, arrived: now, pts: time, running_time: time, damaged: false };
    let number = stream.enter(arrival, now).number;
    if let Some((ask, _)) = stream.next_ask() {
        stream.asked(ask.number, Asked::Waits { instead_of: Vec::new() });
    }
    number
}

/// What a frame meets at a stream whose frames are all with the model, and at one that downstream holds.
fn full(late: Late, live: bool, downstream: bool) -> Knock {
    let mut stream = stream(rules(late), live);
    let numbers: Vec<u64> = (0..3).map(|_| enter(&mut stream, MS(0))).collect();
    if downstream {
        for &number in &numbers {
            stream.answered(number, Ok(number), MS(1));
        }
        assert!(matches!(stream.step(MS(1)), Step::Push { .. }), "downstream has one");
    }
    stream.knock(MS(2), MS(2))
}

#[test]
fn who_is_held_up_by_whom() {
    use Late::{Auto, Drop, Reuse, Wait};
    for (late, live) in [(Auto, false), (Wait, false), (Wait, true)] {
        assert_eq!(
            [full(late, live, false), full(late, live, true)],
            [Knock::Wait(None); 2],
            "{late:?} {live}"
        );
    }
    for late in [Auto, Reuse] {
        assert!(matches!(full(late, true, true), Knock::Wait(Some(_))), "no longer than the latency");
    }
    assert_eq!(full(Reuse, false, true), Knock::Wait(None), "a file waits for its sink");
    assert_eq!([full(Drop, true, false), full(Drop, true, true)], [Knock::TurnedAway; 2]);
    assert_eq!([full(Drop, false, false), full(Drop, false, true)], [Knock::TurnedAway, Knock::Wait(None)]);
}

#[test]
fn the_head_makes_room_when_it_is_the_model_that_it_waits_for() {
    let mut stream = stream(rules(Late::Reuse), true);
    for number in 0..3 {
        enter(&mut stream, MS(10 * number));
    }
    assert!(matches!(stream.step(MS(0)), Step::Wait(Some(_))));
    assert!(matches!(stream.knock(MS(2), MS(2)), Knock::Wait(Some(_))));
    assert!(stream.fx.wake_task);
    assert!(matches!(stream.step(MS(2)), Step::Push { carries: Carries::Nothing, late: Some(_), .. }));
    stream.left(None);
    assert_eq!(stream.knock(MS(2), MS(2)), Knock::Enter);
}

#[test]
fn what_is_reported() {
    let promise = |late, latency, hint, measured: Option<u64>| {
        let mut stream = stream(Rules { latency, ..rules(late) }, true);
        stream.hint(hint);
        if let Some(time) = measured {
            let number = enter(&mut stream, MS(0));
            stream.answered(number, Ok(number), MS(time));
        }
        stream.promise()
    };
    let camera = Some(MS(40));
    for late in [Late::Wait, Late::Reuse, Late::Drop] {
        assert_eq!(promise(late, Some(MS(30)), camera, Some(500)), MS(50), "as set");
    }
    assert_eq!(promise(Late::Wait, None, camera, Some(400)), MS(500), "a quarter above");
    assert_eq!(promise(Late::Reuse, None, camera, Some(40)), MS(50));
    assert_eq!(promise(Late::Reuse, None, camera, Some(400)), MS(80), "no more than fits in");
    assert_eq!(promise(Late::Reuse, None, None, Some(400)), MS(500), "nothing says how much that is");
    assert_eq!(promise(Late::Reuse, None, camera, None), MS(80), "nothing is measured");
    assert_eq!(promise(Late::Wait, None, camera, None), MS(20));
    let absurd = Some(Duration::from_secs(1) / 90_000);
    assert_eq!(promise(Late::Reuse, None, absurd, None), MS(20), "a rate that nobody believes");
}

#[test]
fn what_the_caps_say_is_checked() {
    let interval = |hint: Option<Duration>, apart: Duration, frames: u32| {
        let mut rhythm = Rhythm { hint, ..Rhythm::default() };
        (0..frames).for_each(|number| rhythm.arrived(apart * number, None));
        rhythm.interval()
    };
    assert_eq!(interval(Some(MS(40)), MS(200), 1), Some(MS(40)), "nothing else is known");
    assert_eq!(interval(Some(MS(40)), MS(200), 9), Some(MS(200)), "it is wrong");
    assert_eq!(interval(Some(MS(40)), MS(43), 9), Some(MS(40)), "it is right");
    assert_eq!(interval(None, MS(66), 9), Some(MS(66)));
    assert_eq!(interval(Some(Duration::from_micros(11)), MS(200), 1), None);
}

#[test]
fn a_late_branch_says_nothing_about_one_that_is_in_time() {
    let mut stream = stream(Rules { batch_size: 4, ..rules(Late::Reuse) }, true);
    let mut room = |reports: &[(u64, i64)]| {
        reports.iter().for_each(|&(time, jitter)| stream.qos(Some(time), jitter));
        stream.qos_thins_out(Some(1000));
        stream.pace.room(4)
    };
    assert_eq!(room(&[(500, 9000)]), 1, "one at a time, never none");
    assert_eq!(room(&[(500, -1)]), 4, "it has caught up");
    assert_eq!(room(&[(100, 9000), (800, -1), (200, 9000)]), 4, "another branch is further, and in time");
    assert_eq!(room(&[(900, 9000)]), 1);
}

#[test]
fn the_first_frame_after_a_flush_goes_alone() {
    let mut stream = stream(rules(Late::Wait), false);
    drop(stream.stop());
    stream.flushed();
    assert!(matches!(stream.restart(End::Flushing, &[]), Restart::Start));
    stream.set_live(false);
    let arrival = |now| Arrival { cargo: 0, arrived: now, pts: None, running_time: None, damaged: false };
    let first = stream.enter(arrival(MS(0)), MS(0)).number;
    assert_eq!(
        stream.next_ask().map(|(ask, _)| ask),
        Some(Ask { number: first, newest: None, at_once: true })
    );
    stream.asked(first, Asked::Waits { instead_of: Vec::new() });
    let second = stream.enter(arrival(MS(1)), MS(1)).number;
    assert_eq!(stream.next_ask().map(|(ask, _)| ask), None, "it waits for the first");
    stream.answered(first, Ok(first), MS(2));
    assert!(matches!(stream.step(MS(2)), Step::Push { .. }));
    assert_eq!(stream.next_ask().map(|(ask, _)| ask), None, "which is on its way");
    stream.left(None);
    let ask = Ask { number: second, newest: None, at_once: false };
    assert_eq!(stream.next_ask().map(|(ask, _)| ask), Some(ask));
}

#[test]
fn the_age_of_a_mask_is_the_time_between_the_frames_and_never_zero() {
    let origin = |pts: Option<u64>, arrived| Origin { number: 0, pts: pts.map(|ms| ms * 1_000_000), arrived };
    let (mask, frame) = (origin(Some(100), MS(0)), origin(Some(140), MS(70)));
    assert_eq!(age(&mask, &frame), MS(40));
    assert_eq!(age(&mask, &mask), Duration::from_nanos(1));
    assert_eq!(age(&origin(None, MS(0)), &origin(None, MS(70))), MS(70));
    // Time stamps that run backwards say nothing.
    assert_eq!(age(&frame, &origin(Some(100), MS(70))), Duration::from_nanos(1));
}

#[test]
fn an_older_mask_does_not_replace_a_newer_one() {
    let mut stream = stream(Rules { latency: Some(MS(30)), ..rules(Late::Reuse) }, true);
    let [older, newer, third] = [0, 10, 60].map(|time| enter(&mut stream, MS(time)));
    for _ in 0..2 {
        assert!(matches!(stream.step(MS(60)), Step::Push { carries: Carries::Nothing, .. }));
        stream.left(None);
    }
    stream.answered(newer, Ok(newer), MS(70));
    stream.answered(older, Ok(older), MS(75));
    match stream.step(MS(200)) {
        Step::Push { origin, carries: Carries::Earlier { answer, .. }, .. } => {
            assert_eq!((origin.number, answer), (third, newer));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failure_that_comes_after_its_frame_has_left_is_told() {
    let mut stream = stream(Rules { latency: Some(MS(30)), ..rules(Late::Reuse) }, true);
    let number = enter(&mut stream, MS(0));
    assert!(matches!(stream.step(MS(100)), Step::Push { late: Some(_), .. }));
    stream.left(None);
    stream.answered(number, Err("it failed".into()), MS(110));
    assert!(matches!(stream.step(MS(110)), Step::Fail(Failed { first: true, ends: false, .. })));
    assert_eq!(stream.counts.errors, 1);
}

#[test]
fn a_batch_does_not_wait_for_a_frame_that_the_interval_leaves_out() {
    let mut stream = stream(Rules { interval: 2, batch_size: 4, ..rules(Late::Wait) }, false);
    enter(&mut stream, MS(0));
    assert!(!std::mem::take(&mut stream.fx).quiet, "the next may join it");
    enter(&mut stream, MS(1));
    assert!(stream.fx.quiet);
}

#[test]
fn a_batch_does_not_wait_for_more_frames_than_upstream_has_buffers() {
    let timeout = MS(100);
    let rules = Rules { batch_size: 8, batch_timeout: timeout, max_in_flight: 16, ..rules(Late::Wait) };
    let mut stream = stream(rules, false);
    let mut now = MS(0);
    for round in 0..3 {
        // Two buffers come at once; the next when these have left.
        let numbers = [enter(&mut stream, now), enter(&mut stream, now)];
        let is_known = std::mem::take(&mut stream.fx).quiet;
        assert_eq!(is_known, round > 0, "round {round}");
        now += if is_known { MS(10) } else { timeout + MS(10) };
        for number in numbers {
            stream.answered(number, Ok(number), now);
            assert!(matches!(stream.step(now), Step::Push { .. }));
            stream.left(None);
        }
        now += MS(1);
    }
}
