// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipsegment` in live pipelines: latency, late frames, allocation.

use std::thread;
use std::time::{Duration, Instant};

use gclip_testing::fake::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

const MS: fn(u64) -> gst::ClockTime = gst::ClockTime::from_mseconds;

fn latency(rig: &Rig) -> (bool, gst::ClockTime, Option<gst::ClockTime>) {
    let mut query = gst::query::Latency::new();
    assert!(rig.element.static_pad("src").unwrap().query(&mut query));
    query.result()
}

/// A live stream: the source says so, and has a latency of its own.
fn live_rig(fake: &Fake, set: impl FnOnce(&gst::Element)) -> Rig {
    let mut rig = fake.rig_with(set);
    rig.harness.set_live(true);
    rig.harness.set_upstream_latency(MS(10));
    rig
}

/// Each frame is asked about alone and at once.
fn one_by_one(element: &gst::Element) {
    element.set_property("batch-size", 1u32);
    element.set_property("batch-timeout", 0u64);
}

#[test]
fn a_live_stream_reports_batch_timeout_and_latency() {
    let fake = Fake::install();
    let mut rig = live_rig(&fake, |e| {
        e.set_property("batch-timeout", 30_000_000u64);
        e.set_property("latency", 50_000_000i64);
    });
    rig.push(1).unwrap();
    rig.pull();
    let (live, min, max) = latency(&rig);
    assert!(live);
    assert_eq!(min, MS(10 + 30 + 50));
    // 8 frames at 25 frames a second.
    assert!(max.is_none_or(|max| max == MS(10 + 320)), "{max:?}");
    rig.messages(gst::MessageType::Latency);
    rig.element.set_property("latency", 60_000_000i64);
    assert!(rig.message(gst::MessageType::Latency).is_some(), "the pipeline is told to ask again");
    assert_eq!(latency(&rig).1, MS(10 + 30 + 60));
}

#[test]
fn a_stream_that_is_not_live_reports_no_waiting() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.harness.set_live(false);
    rig.push(1).unwrap();
    rig.pull();
    let (live, min, _) = latency(&rig);
    assert_eq!((live, min), (false, gst::ClockTime::ZERO));
}

#[test]
fn the_measured_latency_covers_the_wait_by_at_most_half() {
    let fake = Fake::install();
    let mut rig = live_rig(&fake, |e| {
        one_by_one(e);
        e.set_property_from_str("late-policy", "wait");
    });
    let mut longest = Duration::ZERO;
    for number in 0..5 {
        // Slower each time, and each time after the task has gone to sleep: the last frame has to count, too.
        fake.control.set(|b| b.delay = Duration::from_millis(20 + 20 * number));
        thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        rig.push(number).unwrap();
        rig.pull();
        longest = longest.max(start.elapsed());
    }
    assert!(rig.message(gst::MessageType::Latency).is_some(), "the pipeline is told to ask again");
    let own = Duration::from(latency(&rig).1 - MS(10));
    assert!(own >= Duration::from_millis(100), "{own:?}");
    assert!(own <= longest.mul_f64(1.5), "{own:?} is more than half above {longest:?}");
}

#[test]
fn late_frames_pass_with_the_newest_mask_and_its_age() {
    let fake = Fake::install();
    // Four times too slow for 25 frames a second, however large the batches.
    fake.control.set(|b| b.delay = Duration::from_millis(160));
    let mut rig = live_rig(&fake, |e| {
        one_by_one(e);
        e.set_property("latency", 100_000_000i64);
    });
    let feeder = rig.feed(50, Duration::from_millis(40));
    let (mut with_mask, mut newest) = (0, 0);
    for number in 0..50 {
        let buffer = rig.pull();
        assert_eq!(number_of(&buffer), number, "no frame is lost");
        if let Some(masks) = Masks::from_buffer(&buffer) {
            let origin = u64::from(mask_values(&masks)[0]);
            assert!(origin >= newest, "masks never run backwards");
            newest = origin;
            let expected = MS(40 * (number - origin));
            assert!(number > origin, "none is in time");
            assert_eq!(masks.age, expected);
            with_mask += 1;
        }
    }
    let longest_push = feeder.join().unwrap();
    assert!(longest_push < Duration::from_millis(150), "the camera was held up for {longest_push:?}");
    assert!(with_mask > 30, "{with_mask} of 50 frames carry a mask");
    assert_eq!((rig.stat::<u64>("frames"), rig.stat::<u64>("dropped")), (50, 0));
    let skipped = rig.stat::<u64>("skipped-late");
    assert!(skipped > 30 && skipped == rig.stat::<u64>("reused"), "{skipped} skipped");
    let messages = rig.messages(gst::MessageType::Qos);
    assert_eq!(messages.len() as u64, skipped, "every skipped inference is posted");
    let gst::MessageView::Qos(last) = messages.last().unwrap().view() else { unreachable!() };
    let (processed, dropped) = last.stats();
    assert_eq!(dropped, gst::format::Buffers::from_u64(skipped).into());
    assert!(processed.value() > 0);
}

#[test]
fn a_late_answer_counts_when_it_comes_and_not_with_the_next_frame() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(400));
    let mut rig = live_rig(&fake, |e| {
        one_by_one(e);
        e.set_property("latency", 50_000_000i64);
    });
    rig.push(3).unwrap();
    let overdue = rig.pull();
    assert!(Masks::from_buffer(&overdue).is_none(), "it left before its answer");
    // No frame follows that could bring it.
    rig.until_stat("inferred", 1);
    rig.push(4).unwrap();
    let masks = Masks::from_buffer(&rig.pull()).expect("the first frame's mask");
    assert_eq!((u64::from(mask_values(&masks)[0]), masks.age), (3, MS(40)));
}

#[test]
fn the_drop_policy_drops_late_frames_and_marks_the_gap() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(160));
    let mut rig = live_rig(&fake, |e| {
        one_by_one(e);
        e.set_property("latency", 200_000_000i64);
        e.set_property_from_str("late-policy", "drop");
    });
    let feeder = rig.feed(40, Duration::from_millis(40));
    feeder.join().unwrap();
    rig.harness.push_event(gst::event::Eos::new());
    rig.event(gst::EventType::Eos);
    let (frames, dropped) = (rig.stat::<u64>("frames"), rig.stat::<u64>("dropped"));
    assert_eq!(frames + dropped, 40);
    assert!(frames > 2 && dropped > 2, "{frames} passed, {dropped} were dropped");
    let (mut last, mut seen) = (None, None);
    while let Some(buffer) = rig.harness.try_pull() {
        let masks = Masks::from_buffer(&buffer).expect("what passes has a mask");
        let number = number_of(&buffer);
        // Its own; or, where that came too late for the frame before, that one's.
        let of = u64::from(mask_values(&masks)[0]);
        assert!(seen < Some(of) && of <= number, "a mask that no frame has carried");
        assert_eq!(masks.age.is_zero(), of == number);
        seen = Some(of);
        let gap = last.is_some_and(|last| number > last + 1);
        assert_eq!(buffer.flags().contains(gst::BufferFlags::DISCONT), gap || last.is_none() && number > 0);
        last = Some(number);
    }
}

#[test]
fn waiting_loses_nothing_even_when_live() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(30));
    let mut rig = live_rig(&fake, |e| {
        e.set_property("batch-size", 1u32);
        e.set_property_from_str("late-policy", "wait");
        e.set_property("latency", 1_000_000i64);
    });
    let feeder = rig.feed(20, Duration::from_millis(10));
    for number in 0..20 {
        let buffer = rig.pull();
        assert_eq!(number_of(&buffer), number);
        assert_eq!(u64::from(mask_values(&Masks::from_buffer(&buffer).unwrap())[0]), number);
    }
    feeder.join().unwrap();
    assert_eq!(rig.stat::<u64>("inferred"), 20);
}

#[test]
fn every_nth_frame_is_looked_at_and_the_others_carry_its_mask() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property("inference-interval", 4u32));
    for number in 0..12 {
        rig.push(number).unwrap();
        let masks = Masks::from_buffer(&rig.pull()).unwrap();
        let origin = number / 4 * 4;
        assert_eq!(mask_values(&masks)[0] as u64, origin);
        assert_eq!(masks.age, MS(40 * (number - origin)));
    }
    assert_eq!((rig.stat::<u64>("inferred"), rig.stat::<u64>("reused")), (3, 9));
    assert_eq!(fake.control.set(|b| b.entered), 3);
    assert!(rig.messages(gst::MessageType::Qos).is_empty(), "nothing was late");
}

#[test]
fn a_late_sink_spares_the_model_but_never_stops_it() {
    let fake = Fake::install();
    // Only the sink is late here: the model has all the time.
    let mut rig = fake.rig_with(|e| {
        one_by_one(e);
        e.set_property("batch-size", 4u32);
        e.set_property_from_str("late-policy", "reuse");
        e.set_property("latency", 10_000_000_000i64);
        e.set_property("max-in-flight", 250u32);
    });
    rig.push(1).unwrap();
    rig.pull();
    rig.until_empty();
    // The frame of 40 ms came 9 s late: those before that will too.
    let qos = gst::event::Qos::new(gst::QOSType::Underflow, 2.0, 9_000_000_000, MS(40));
    assert!(rig.harness.push_upstream_event(qos));
    let upstream = std::iter::from_fn(|| rig.harness.try_pull_upstream_event());
    let told = upstream.filter(|event| event.type_() == gst::EventType::Qos).count();
    assert_eq!(told, 1, "it goes on upstream");
    // One is with the model, and of those behind it the newest is next.
    fake.control.set(|b| b.gate_closed = true);
    rig.push(2).unwrap();
    fake.control.until("the model has the second", |b| b.entered == 2);
    for number in 3..7 {
        rig.push(number).unwrap();
    }
    fake.control.set(|b| b.gate_closed = false);
    let carried: Vec<u64> =
        (2..7).map(|_| u64::from(mask_values(&Masks::from_buffer(&rig.pull()).unwrap())[0])).collect();
    assert_eq!(carried, [2, 2, 2, 2, 6]);
    assert_eq!(rig.stat::<u64>("skipped-late"), 3);
    // When there is time, each is looked at, however late the sink is.
    for number in 7..12 {
        rig.push(number).unwrap();
        assert_eq!(u64::from(mask_values(&Masks::from_buffer(&rig.pull()).unwrap())[0]), number);
        rig.until_empty();
    }
    assert_eq!(rig.stat::<u64>("inferred"), 8);
}

#[test]
fn upstream_is_asked_for_as_many_more_buffers_as_are_held() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property("max-in-flight", 5u32));
    rig.push(1).unwrap();
    rig.pull();
    let mut query = gst::query::Allocation::new(Some(&caps(8, 4)), true);
    assert!(rig.upstream().peer_query(&mut query));
    let (_, _, min, max) = query.allocation_pools().next().expect("a pool");
    assert!(min >= 5, "{min}");
    assert!(max == 0 || max >= min, "{max}");
}

#[test]
fn a_serialized_query_waits_for_the_frames_before_it() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = fake.rig_with(|e| e.set_property("batch-timeout", 60_000_000_000u64));
    rig.push(1).unwrap();
    let upstream = rig.upstream();
    let asking = thread::spawn(move || upstream.peer_query(&mut gst::query::Drain::new()));
    fake.control.until("the batch was closed for the query", |b| b.entered == 1);
    thread::sleep(Duration::from_millis(20));
    assert!(!asking.is_finished());
    fake.control.set(|b| b.gate_closed = false);
    asking.join().unwrap();
    assert_eq!(number_of(&rig.pull()), 1);
}

#[test]
fn what_is_drawn_on_a_late_frame_does_not_reach_the_model() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = live_rig(&fake, |e| {
        one_by_one(e);
        e.set_property("latency", 20_000_000i64);
    });
    rig.push(3).unwrap();
    fake.control.until("the model has the frame", |b| b.entered == 1);
    let mut late = rig.pull();
    assert!(Masks::from_buffer(&late).is_none(), "it left before its mask was there");
    late.make_mut().map_writable().unwrap().fill(99);
    assert_eq!(late.map_readable().unwrap()[0], 99);
    fake.control.set(|b| b.gate_closed = false);
    fake.control.until("the model has looked", |b| !b.seen.is_empty());
    assert_eq!(fake.control.set(|b| b.seen.clone()), [3], "the frame as it came");
}
