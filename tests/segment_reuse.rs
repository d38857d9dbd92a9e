// SPDX-License-Identifier: MIT OR Apache-2.0
//! `token-reuse`: what a frame leaves in the model for the next, when it is forgotten, and that the memory is given back.

use gclip_testing::fake::*;
use gclip_testing::workshop::{Workshop, answer, answer_of, picture, rig};
use gst::prelude::*;

/// The nth frame, all of it darker.
fn darker(number: u64) -> gst::Buffer {
    let mut buffer = picture(number);
    buffer.get_mut().unwrap().map_writable().unwrap().iter_mut().for_each(|pixel| *pixel /= 3);
    buffer
}

fn looks(rig: &Rig) -> [u64; 2] {
    ["whole-looks", "partial-looks"].map(|name| rig.stat::<u64>(name))
}

#[test]
fn a_still_picture_is_computed_once_and_looks_as_ever() {
    let workshop = Workshop::new();
    let model = workshop.model(1);
    let mut plain = rig(&model, None);
    let expected = answer_of(&mut plain, 0);
    assert_eq!(looks(&plain), [0, 0], "off by default");
    let mut reusing = rig(&model, None);
    reusing.element.set_property("token-reuse", 0.05);
    for number in 0..5 {
        assert_eq!(answer_of(&mut reusing, number), expected);
    }
    assert_eq!(looks(&reusing), [1, 4]);
    assert_eq!(reusing.stat::<f64>("token-share"), 0.2);
    assert!(reusing.stat::<u64>("token-memory") > 0);
    // Turned off, the model lets go of what it kept.
    reusing.element.set_property("token-reuse", 0.0);
    assert_eq!(answer_of(&mut reusing, 5), expected);
    assert_eq!(looks(&reusing), [1, 4]);
    assert_eq!(reusing.stat::<u64>("token-memory"), 0);
}

#[test]
fn a_cut_a_flush_and_new_prompts_give_what_a_fresh_stream_gives() {
    let workshop = Workshop::new();
    let model = workshop.model(1);
    let fresh = |buffer: gst::Buffer, prompts: &str| {
        let mut alone = rig(&model, None);
        alone.element.set_property("prompts", prompts);
        alone.until_stat("prompt-generation", 2);
        alone.harness.push(buffer).unwrap();
        answer(&alone.pull())
    };
    let mut rig = rig(&model, None);
    rig.element.set_property("token-reuse", 0.05);
    answer_of(&mut rig, 0);
    rig.harness.push(darker(1)).unwrap();
    assert_eq!(answer(&rig.pull()), fresh(darker(1), "cat; dog; sky; road"), "a cut");
    assert_eq!(looks(&rig), [2, 0]);
    rig.element.set_property("prompts", "dog; cat");
    rig.until_stat("prompt-generation", 2);
    rig.harness.push(darker(2)).unwrap();
    assert_eq!(answer(&rig.pull()), fresh(darker(2), "dog; cat"), "prompts");
    assert_eq!(looks(&rig), [3, 0]);
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
    rig.harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    rig.harness.push(darker(3)).unwrap();
    assert_eq!(answer(&rig.pull()), fresh(darker(3), "dog; cat"), "a flush");
    assert_eq!(looks(&rig), [4, 0], "the counts go on");
    rig.harness.push(darker(4)).unwrap();
    rig.pull();
    assert_eq!(looks(&rig), [4, 1]);
}

#[test]
fn the_refresh_goes_by_the_times_of_the_frames() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    rig.element.set_property("token-reuse", 0.05);
    // Frames are 40 ms apart: every third is due.
    rig.element.set_property("token-refresh", 120_000_000u64);
    for number in 0..7 {
        answer_of(&mut rig, number);
    }
    assert_eq!(looks(&rig), [3, 4]);
}

#[test]
fn several_frames_in_a_batch_and_several_streams_are_compared_each_in_their_order() {
    let workshop = Workshop::new();
    let model = workshop.model(1);
    let mut streams = [rig(&model, Some("reuses")), rig(&model, Some("reuses"))];
    for stream in &streams {
        stream.element.set_property("token-reuse", 0.05);
        stream.element.set_property("batch-size", 8u32);
        stream.element.set_property("max-in-flight", 4u32);
        stream.element.set_property("batch-timeout", 10_000_000_000u64);
    }
    for number in 0..4 {
        streams[0].harness.push(picture(number)).unwrap();
        streams[1].harness.push(darker(number)).unwrap();
    }
    for stream in &mut streams {
        let first = answer(&stream.pull());
        for _ in 1..4 {
            assert_eq!(answer(&stream.pull()), first);
        }
        assert_eq!(looks(stream), [1, 3]);
    }
}

#[test]
fn a_stop_gives_the_memory_back() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    rig.element.set_property("token-reuse", 0.05);
    answer_of(&mut rig, 0);
    assert!(rig.stat::<u64>("token-memory") > 0);
    rig.element.set_state(gst::State::Ready).unwrap();
    assert_eq!(rig.stat::<u64>("token-memory"), 0);
}
