// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several `gclipsegment` on one model, and a model that fails.

use std::thread;
use std::time::{Duration, Instant};

use gclip_testing::fake::*;
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

/// The model answers 50 times a second, one frame at a time. A file would take all of that; a camera wants 5 of it.
#[test]
fn a_file_cannot_starve_a_camera() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(20));
    let one_by_one = |e: &gst::Element| e.set_property("batch-size", 1u32);
    let file = fake.rig_with(|e| {
        one_by_one(e);
        e.set_property("max-in-flight", 64u32);
    });
    let mut camera = fake.rig_with(one_by_one);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let upstream = file.upstream();
    thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && upstream.push(frame(number)).is_ok() {
                number = (number + 1) % 250;
            }
        });
        let start = Instant::now();
        while file.stat::<u64>("queue-level") < 60 {
            assert!(start.elapsed() < PATIENCE, "the file never fills its queue");
            thread::sleep(Duration::from_millis(1));
        }
        let mut waits = Vec::new();
        let before = file.stat::<u64>("inferred");
        let started = Instant::now();
        for number in 0..10 {
            thread::sleep(Duration::from_millis(200));
            let pushed = Instant::now();
            camera.push(number).unwrap();
            let masks = Masks::from_buffer(&camera.pull()).unwrap();
            assert_eq!(mask_values(&masks)[0], number as u8);
            waits.push(pushed.elapsed());
        }
        // At its place in the file's queue it would wait for 60 frames. The time of a frame is measured, too: the
        // machine may be busy.
        let passed = file.stat::<u64>("inferred") - before;
        let per_frame = started.elapsed() / u32::try_from(passed).unwrap().max(1);
        waits.sort();
        assert!(waits[5] < per_frame * 10, "{waits:?}, where a frame takes {per_frame:?}");
        assert!(passed >= 20, "the file goes on: {passed}");
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        file.element.set_state(gst::State::Null).unwrap();
        feeder.join().unwrap();
    });
}

#[test]
fn pipelines_of_different_formats_sizes_rates_and_prompts_share_the_forwards() {
    let fake = Fake::install();
    let camera = |format: &str, size: (i32, i32), rate: i32, prompts: &str| {
        let pipeline = gst::Pipeline::new();
        let source = gst::ElementFactory::make("videotestsrc").property("is-live", true).build().unwrap();
        source.set_property_from_str("pattern", "black");
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", format)
            .field("width", size.0)
            .field("height", size.1)
            .field("framerate", gst::Fraction::new(rate, 1))
            .build();
        let filter = gst::ElementFactory::make("capsfilter").property("caps", caps).build().unwrap();
        let segment = fake.element();
        segment.set_property("prompts", prompts);
        segment.set_property("batch-size", 4u32);
        segment.set_property_from_str("late-policy", "wait");
        let sink = gst_app::AppSink::builder().sync(true).build();
        pipeline.add_many([&source, &filter, &segment, sink.upcast_ref()]).unwrap();
        gst::Element::link_many([&source, &filter, &segment, sink.upcast_ref()]).unwrap();
        (pipeline, sink, segment)
    };
    let cameras = [
        (camera("GRAY8", (32, 16), 60, "cat"), (32, 16), vec!["cat"], 30),
        (camera("I420", (48, 32), 25, "dog; cow"), (48, 32), vec!["dog", "cow"], 12),
        (camera("NV12", (16, 48), 5, "a; b; c"), (16, 48), vec!["a", "b", "c"], 3),
    ];
    for ((pipeline, ..), ..) in &cameras {
        pipeline.set_state(gst::State::Playing).unwrap();
    }
    for ((_, sink, _), (width, height), expected, frames) in &cameras {
        for _ in 0..*frames {
            let sample = sink.try_pull_sample(gst::ClockTime::from_seconds(20)).expect("a frame");
            let buffer = sample.buffer_owned().unwrap();
            assert_eq!(labels(&buffer), *expected);
            let masks = Masks::from_buffer(&buffer).unwrap();
            let view = masks.view().unwrap();
            assert_eq!((view.width(), view.height()), (*width, *height));
            assert_eq!(masks.age, gst::ClockTime::ZERO);
        }
    }
    // One after the other: those that still play do not notice.
    let stats = cameras[0].0.2.property::<gst::Structure>("stats");
    for ((pipeline, ..), ..) in &cameras {
        pipeline.set_state(gst::State::Null).unwrap();
    }
    let (batches, frames) =
        (stats.get::<u64>("batches").unwrap(), stats.get::<u64>("batched-frames").unwrap());
    assert!(frames >= 45 && batches < frames, "{frames} frames in {batches} forwards");
    assert!(fake.control.set(|b| b.batches.iter().any(|&size| size > 1)));
}
