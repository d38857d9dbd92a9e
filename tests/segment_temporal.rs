// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one frame leaves for the next: `skip-static` and `temporal-smoothing`.

use gclip_testing::fake::*;
use gclip_testing::workshop;
use gclip_testing::workshop::{Workshop, rig};
use gst::prelude::*;
use gstgclip::meta::Masks;

const MS: fn(u64) -> gst::ClockTime = gst::ClockTime::from_mseconds;

/// The nth frame in time, all pixels of one shade.
fn shade(number: u64, shade: u8) -> gst::Buffer {
    let mut buffer = frame(number);
    buffer.get_mut().unwrap().map_writable().unwrap().fill(shade);
    buffer
}

/// Which shade the frame's mask was made from, and its age.
fn seen(rig: &mut Rig, buffer: gst::Buffer) -> (u8, gst::ClockTime) {
    rig.harness.push(buffer).unwrap();
    let masks = Masks::from_buffer(&rig.pull()).unwrap();
    (mask_values(&masks)[0], masks.age)
}

#[test]
fn a_frame_that_repeats_the_last_one_takes_its_mask_and_its_age() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property("skip-static", true));
    assert_eq!(seen(&mut rig, shade(0, 50)), (50, MS(0)));
    for number in 1..5 {
        assert_eq!(seen(&mut rig, shade(number, 51)), (50, MS(40 * number)), "noise is no change");
    }
    assert_eq!(seen(&mut rig, shade(5, 60)), (60, MS(0)));
    assert_eq!(seen(&mut rig, shade(6, 60)), (60, MS(40)));
    assert_eq!(fake.control.set(|b| b.entered), 2);
    let counts = ["frames", "inferred", "reused", "skipped-static", "skipped-late"];
    assert_eq!(counts.map(|name| rig.stat::<u64>(name)), [7, 2, 5, 5, 0]);
    assert!(rig.messages(gst::MessageType::Qos).is_empty(), "nothing was late");
}

#[test]
fn the_same_picture_is_looked_at_again_when_something_else_has_changed() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property("skip-static", true));
    let mut number = 0;
    let mut looks = |rig: &mut Rig| {
        let before = fake.control.set(|b| b.entered);
        for _ in 0..3 {
            rig.push(50).unwrap();
            rig.pull();
            number += 1;
        }
        fake.control.set(|b| b.entered) - before
    };
    assert_eq!(looks(&mut rig), 1, "the first");
    assert_eq!(looks(&mut rig), 0);
    rig.element.set_property("prompts", "x; y");
    rig.until_stat("prompt-generation", 2);
    assert_eq!(looks(&mut rig), 1, "prompts");
    rig.element.set_property("threshold", 0.3);
    assert_eq!(looks(&mut rig), 1, "how it is looked at");
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
    rig.harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    assert_eq!(looks(&mut rig), 1, "a flush");
    rig.element.set_property("skip-static", false);
    assert_eq!(looks(&mut rig), 3, "turned off");
}

#[test]
fn a_failed_look_is_not_repeated_by_the_frames_behind_it() {
    let fake = Fake::install();
    fake.control.set(|b| b.fail_on = Some(50));
    let mut rig = fake.rig_with(|e| {
        e.set_property("skip-static", true);
        e.set_property_from_str("on-error", "passthrough");
    });
    rig.push(50).unwrap();
    assert!(Masks::from_buffer(&rig.pull()).is_none());
    rig.until_empty();
    fake.control.set(|b| b.fail_on = None);
    assert_eq!(seen(&mut rig, shade(51, 50)), (50, MS(0)));
}

#[test]
fn a_picture_that_stays_counts_as_evidence() {
    let fake = Fake::install();
    fake.control.set(|b| b.true_regions = true);
    let mut rig = fake.rig_with(|e| {
        e.set_property("skip-static", true);
        e.set_property_from_str("messages", "changes");
        e.set_property("enter-frames", 3u32);
    });
    for number in 0..3 {
        assert!(rig.messages(gst::MessageType::Element).is_empty());
        seen(&mut rig, shade(number, 1));
    }
    assert_eq!(rig.messages(gst::MessageType::Element).len(), 1);
    assert_eq!(fake.control.set(|b| b.entered), 1);
}

/// A picture of the checkpoint's tests, or another one, with the noise of a camera.
fn noisy(number: u64, other: bool) -> gst::Buffer {
    let mut buffer = workshop::picture(number);
    let fresh = buffer.get_mut().unwrap();
    let mut state = number + 1;
    for pixel in fresh.map_writable().unwrap().iter_mut() {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let value = if other { 255 - *pixel } else { *pixel };
        *pixel = (i32::from(value) + (state >> 40) as i32 % 9 - 4).clamp(0, 255) as u8;
    }
    buffer
}

/// Score of each label, 0 where it is absent.
fn scores(buffer: &gst::Buffer) -> [f64; 4] {
    let masks = Masks::from_buffer(buffer).unwrap();
    ["cat", "dog", "sky", "road"].map(|label| {
        masks.regions.iter().find(|region| region.label == label).map_or(0.0, |region| region.score)
    })
}

fn scores_of(rig: &mut Rig, frames: impl Iterator<Item = gst::Buffer>) -> Vec<[f64; 4]> {
    let one = |buffer| {
        rig.harness.push(buffer).unwrap();
        scores(&rig.pull())
    };
    frames.map(one).collect()
}

/// Mean absolute step from frame to frame.
fn flicker(scores: &[[f64; 4]]) -> f64 {
    let step = |pair: &[[f64; 4]]| pair[0].iter().zip(pair[1]).map(|(a, b)| (a - b).abs()).sum::<f64>();
    scores.windows(2).map(step).sum::<f64>() / (scores.len() - 1) as f64
}

fn apart(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum()
}

#[test]
fn smoothing_steadies_what_stays_and_follows_a_cut_at_once() {
    let workshop = Workshop::new();
    let model = workshop.model(1);
    // 10 frames of noise to settle, 20 to measure, then another picture.
    let frames = || (0..30).map(|n| noisy(n, false)).chain((30..33).map(|n| noisy(n, true)));
    let plain = scores_of(&mut rig(&model, None), frames());
    let mut smooth = rig(&model, None);
    smooth.element.set_property("temporal-smoothing", 0.9);
    let smoothed = scores_of(&mut smooth, frames());
    assert_eq!(plain[0], smoothed[0], "the first frame has no past");
    let (restless, steady) = (flicker(&plain[10..30]), flicker(&smoothed[10..30]));
    assert!(restless > 0.0 && steady < restless / 2.0, "{steady} after {restless}");
    assert!(apart(&plain[29], &plain[30]) > 0.0);
    assert!(apart(&plain[30], &smoothed[30]) < 1e-6, "{:?} at the cut, not {:?}", smoothed[30], plain[30]);
    assert_ne!(plain[31], smoothed[31], "from there on it averages again");
}

#[test]
fn several_frames_in_a_batch_and_several_streams_average_each_in_their_order() {
    let workshop = Workshop::new();
    let model = workshop.model(1);
    let smooth = |e: &gst::Element| e.set_property("temporal-smoothing", 0.7);
    let expected = |other| {
        let mut alone = rig(&model, None);
        smooth(&alone.element);
        scores_of(&mut alone, (0..8).map(|number| noisy(number, other)))
    };
    let (one, two) = (expected(false), expected(true));
    let id = Some("averages");
    let (mut first, mut second) = (rig(&model, id), rig(&model, id));
    for rig in [&first, &second] {
        smooth(&rig.element);
        rig.element.set_property("batch-size", 8u32);
        rig.element.set_property("max-in-flight", 4u32);
        rig.element.set_property("batch-timeout", 10_000_000_000u64);
    }
    for start in [0, 4] {
        for number in start..start + 4 {
            first.harness.push(noisy(number, false)).unwrap();
            second.harness.push(noisy(number, true)).unwrap();
        }
        for number in start as usize..start as usize + 4 {
            // Batches of other sizes may round otherwise.
            for (rig, expected) in [(&mut first, &one), (&mut second, &two)] {
                let difference = apart(&scores(&rig.pull()), &expected[number]);
                assert!(difference < 1e-3, "frame {number}: {difference}");
            }
        }
        first.until_empty();
        second.until_empty();
    }
    assert_eq!(first.stat::<u64>("batches"), 2, "eight frames of two streams at a time");
}
