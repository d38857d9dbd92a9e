// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several `gclipsegment` on one model, and a model that fails.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

#[test]
fn two_streams_of_different_sizes_and_prompts_share_a_batch_and_get_their_own_masks() {
    let fake = Fake::install();
    let share = |e: &gst::Element| {
        e.set_property("batch-size", 2u32);
        e.set_property("batch-timeout", 10_000_000_000u64);
    };
    let mut first = fake.rig_with(share);
    let mut second = fake.rig_with(|e| {
        share(e);
        e.set_property("prompts", "cat; dog; cow");
    });
    second.harness.set_src_caps(caps(16, 12));
    for number in 0..10 {
        first.harness.push(frame(number)).unwrap();
        second.harness.push(frame_of(100 + number, (16, 12))).unwrap();
        let (one, two) = (first.pull(), second.pull());
        assert_eq!(labels(&one), ["a", "b"]);
        assert_eq!(labels(&two), ["cat", "dog", "cow"]);
        assert_eq!(mask_values(&Masks::from_buffer(&one).unwrap()), vec![number as u8; 32]);
        assert_eq!(mask_values(&Masks::from_buffer(&two).unwrap()), vec![100 + number as u8; 192]);
    }
    assert_eq!(fake.control.set(|b| b.batches.clone()), [2; 10]);
}

#[test]
fn a_stream_that_is_blocked_downstream_does_not_hold_its_neighbour() {
    let fake = Fake::install();
    let slow = |e: &gst::Element| {
        e.set_property("batch-timeout", 1_000_000_000u64);
        e.set_property("batch-size", 2u32);
        e.set_property("max-in-flight", 1u32);
    };
    let (mut blocked, mut neighbour) = (fake.rig_with(slow), fake.rig_with(slow));
    let pad = blocked.element.static_pad("src").unwrap();
    let probe =
        pad.add_probe(gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Ok);
    // It is at max-in-flight as long as its frame has not left.
    blocked.push(1).unwrap();
    blocked.until_stat("inferred", 1);
    let start = Instant::now();
    for number in 0..20 {
        neighbour.push(number).unwrap();
        assert_eq!(number_of(&neighbour.pull()), number);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "20 frames took {:?}", start.elapsed());
    pad.remove_probe(probe.unwrap());
    assert_eq!(number_of(&blocked.pull()), 1);
}

#[test]
fn a_stream_at_its_end_does_not_hold_its_neighbour() {
    let fake = Fake::install();
    let slow = |e: &gst::Element| {
        e.set_property("batch-timeout", 5_000_000_000u64);
        e.set_property("batch-size", 2u32);
        e.set_property("max-in-flight", 1u32);
    };
    let (mut ended, mut neighbour) = (fake.rig_with(slow), fake.rig_with(slow));
    ended.harness.push_event(gst::event::Eos::new());
    ended.event(gst::EventType::Eos);
    let start = Instant::now();
    for number in 0..5 {
        neighbour.push(number).unwrap();
        neighbour.pull();
    }
    assert!(start.elapsed() < Duration::from_secs(5), "5 frames took {:?}", start.elapsed());
}

#[test]
fn a_failure_ends_its_own_stream_and_no_other() {
    for panics in [false, true] {
        let fake = Fake::install();
        fake.control.set(|b| if panics { b.panic_on = Some(66) } else { b.fail_on = Some(66) });
        let (mut bad, mut good) = (fake.rig(), fake.rig());
        bad.push(1).unwrap();
        bad.pull();
        bad.push(66).unwrap();
        let text = bad.error_text();
        assert!(text.contains("the model failed") || text.contains("The model failed"), "{text}");
        if !panics {
            assert!(text.contains("the fake fails on this frame"), "{text}");
        }
        let start = Instant::now();
        while bad.push(1).is_ok() {
            assert!(start.elapsed() < PATIENCE, "the error never comes upstream");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(bad.push(1), Err(gst::FlowError::Error));
        for number in 0..10 {
            good.push(number).unwrap();
            assert_eq!(number_of(&good.pull()), number);
        }
        assert!(good.messages(gst::MessageType::Error).is_empty());
        // The stream that failed may start again.
        bad.element.set_state(gst::State::Null).unwrap();
        bad.element.set_state(gst::State::Playing).unwrap();
    }
}

#[test]
fn passthrough_lets_frames_pass_without_a_mask_and_counts_them() {
    let fake = Fake::install();
    fake.control.set(|b| b.fail_on = Some(66));
    let mut rig = fake.rig_with(|e| e.set_property_from_str("on-error", "passthrough"));
    for number in [1, 66, 66, 2, 66, 3] {
        rig.push(number).unwrap();
        let buffer = rig.pull();
        assert_eq!(number_of(&buffer), number);
        assert_eq!(Masks::from_buffer(&buffer).is_some(), number != 66);
    }
    assert_eq!(
        (rig.stat::<u64>("frames"), rig.stat::<u64>("inferred"), rig.stat::<u64>("errors")),
        (6, 3, 3)
    );
    assert_eq!(rig.messages(gst::MessageType::Warning).len(), 2, "one for each run of failures");
}

#[test]
fn a_buffer_that_is_too_small_is_a_failure_like_any_other() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property_from_str("on-error", "passthrough"));
    rig.harness.push(frame_of(1, (4, 1))).unwrap();
    assert!(Masks::from_buffer(&rig.pull()).is_none());
    assert!(rig.warning_text().contains("4 bytes"));
    rig.push(2).unwrap();
    assert!(Masks::from_buffer(&rig.pull()).is_some());
}

#[test]
fn another_model_under_the_same_id_is_refused() {
    let fake = Fake::install();
    let element = fake.element();
    element.set_property("name", "other-camera");
    element.set_property("method", "clearclip");
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Ready).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error message");
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    let text = error.error().to_string();
    assert!(text.contains("other-camera") && text.contains("clearclip"), "{text}");
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn streams_join_and_leave_while_others_play() {
    let fake = Fake::install();
    let mut steady = fake.rig();
    thread::scope(|scope| {
        let passing = scope.spawn(|| {
            for _ in 0..20 {
                let mut rig = fake.rig();
                rig.push(7).unwrap();
                assert_eq!(number_of(&rig.pull()), 7);
                // Leaves with a frame inside.
                rig.push(8).unwrap();
            }
        });
        let mut number = 0;
        while !passing.is_finished() {
            steady.push(number % 250).unwrap();
            assert_eq!(number_of(&steady.pull()), number % 250);
            number += 1;
        }
        passing.join().unwrap();
    });
}
