// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames and events through `gclipsegment`: order, flush, end, restart.

use std::thread;
use std::time::{Duration, Instant};

use gclip_testing::fake::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

#[test]
fn frames_leave_in_order_with_their_own_masks_and_everything_they_came_with() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    let reference = gst::Caps::builder("timestamp/x-test").build();
    let upstream = rig.upstream();
    let feeder = thread::spawn(move || {
        for number in 0..20 {
            let mut buffer = frame(number);
            let fresh = buffer.get_mut().unwrap();
            fresh.set_flags(gst::BufferFlags::MARKER);
            let stamp = gst::ClockTime::from_seconds(number);
            gst::ReferenceTimestampMeta::add(fresh, &reference, stamp, gst::ClockTime::NONE);
            upstream.push(buffer).unwrap();
        }
    });
    for number in 0..20 {
        let buffer = rig.pull();
        assert_eq!(number_of(&buffer), number);
        assert_eq!(buffer.pts(), Some(gst::ClockTime::from_mseconds(40 * number)));
        assert_eq!(buffer.dts(), buffer.pts());
        assert_eq!(buffer.duration(), Some(gst::ClockTime::from_mseconds(40)));
        assert_eq!(buffer.offset(), number);
        assert!(buffer.flags().contains(gst::BufferFlags::MARKER));
        let stamp = buffer.meta::<gst::ReferenceTimestampMeta>().unwrap();
        assert_eq!(stamp.timestamp(), gst::ClockTime::from_seconds(number));
        let masks = Masks::from_buffer(&buffer).unwrap();
        assert_eq!(mask_values(&masks), vec![number as u8; 32]);
        assert_eq!((masks.age, masks.generation), (gst::ClockTime::ZERO, 1));
        assert_eq!(labels(&buffer), ["a", "b"]);
    }
    feeder.join().unwrap();
    assert!(fake.control.set(|b| b.batches.iter().any(|&size| size > 1)), "several frames share a forward");
    assert_eq!((rig.stat::<u64>("frames"), rig.stat::<u64>("inferred")), (20, 20));
    let ways = ["host-frames", "host-copies", "device-frames"].map(|way| rig.stat::<u64>(way));
    assert_eq!(ways, [20, 0, 0], "frames are read where they lie");
}

#[test]
fn one_picture_may_wait_for_the_model_any_number_of_times() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = fake.rig_with(|e| e.set_property("max-in-flight", 400u32));
    // As from imagefreeze: buffers of one memory. GStreamer can map it 255 times.
    let picture = frame(7);
    for number in 0..300 {
        let mut buffer = picture.copy();
        buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(40 * number));
        rig.harness.push(buffer).unwrap();
    }
    fake.control.set(|b| b.gate_closed = false);
    for _ in 0..300 {
        assert_eq!(mask_values(&Masks::from_buffer(&rig.pull()).unwrap()), vec![7; 32]);
    }
    let (lent, copied) = (rig.stat::<u64>("host-frames"), rig.stat::<u64>("host-copies"));
    assert_eq!(lent + copied, 300);
    assert!((1..255).contains(&lent), "{lent} frames were read where they lie");
    let mut picture = picture;
    let memory = picture.map_readable().unwrap().as_ptr();
    assert_eq!(picture.make_mut().map_writable().unwrap().as_ptr(), memory, "nobody holds it any more");
}

#[test]
fn pixels_are_not_copied_on_their_way_out() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    let buffer = frame(3);
    let memory = buffer.map_readable().unwrap().as_ptr();
    rig.harness.push(buffer).unwrap();
    let mut left = rig.pull();
    assert_eq!(left.map_readable().unwrap().as_ptr(), memory);
    // Nor are they when somebody downstream draws on them: the model has let go of the frame.
    assert_eq!(left.get_mut().unwrap().map_writable().unwrap().as_ptr(), memory);
}

#[test]
fn eos_waits_for_everything_in_flight() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(30));
    // No batch is due by itself: it is the end that closes the last one.
    let mut rig = fake.rig_with(|e| {
        e.set_property("batch-timeout", 60_000_000_000u64);
        e.set_property("batch-size", 4u32);
    });
    for number in 0..6 {
        rig.push(number).unwrap();
    }
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    rig.event(gst::EventType::Eos);
    assert_eq!(rig.harness.buffers_in_queue(), 6);
    for number in 0..6 {
        assert_eq!(number_of(&rig.pull()), number);
    }
}

#[test]
fn eos_with_nothing_before_it_passes() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    rig.event(gst::EventType::Eos);
    assert_eq!(rig.stat::<u64>("frames"), 0);
}

#[test]
fn no_more_than_max_in_flight_frames_are_inside() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = fake.rig_with(|e| e.set_property("max-in-flight", 3u32));
    let upstream = rig.upstream();
    let feeder = thread::spawn(move || {
        (0..5).for_each(|number| {
            upstream.push(frame(number)).unwrap();
        })
    });
    rig.until_stat("queue-level", 3);
    thread::sleep(Duration::from_millis(50));
    assert_eq!(rig.stat::<u64>("queue-level"), 3);
    assert!(!feeder.is_finished());
    fake.control.set(|b| b.gate_closed = false);
    (0..5).for_each(|number| assert_eq!(number_of(&rig.pull()), number));
    feeder.join().unwrap();
}

#[test]
fn a_flush_does_not_wait_for_the_model() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = fake.rig_with(|e| e.set_property("max-in-flight", 2u32));
    rig.push(1).unwrap();
    rig.push(2).unwrap();
    // One more waits for room.
    let upstream = rig.upstream();
    let blocked = thread::spawn(move || upstream.push(frame(3)));
    fake.control.until("the model is at work", |b| b.entered > 0);
    thread::sleep(Duration::from_millis(20));

    let start = Instant::now();
    assert!(rig.harness.push_event(gst::event::FlushStart::new()));
    assert_eq!(blocked.join().unwrap(), Err(gst::FlowError::Flushing));
    assert_eq!(rig.push(4), Err(gst::FlowError::Flushing));
    assert!(rig.harness.push_event(gst::event::FlushStop::new(true)));
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());

    // Results of frames from before the flush go nowhere.
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
    rig.push(5).unwrap();
    fake.control.set(|b| b.gate_closed = false);
    assert_eq!(number_of(&rig.pull()), 5);
    assert_eq!(rig.harness.try_pull().map(|buffer| number_of(&buffer)), None);
    rig.until_empty();
}

#[test]
fn many_seeks_while_frames_come() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(2));
    let mut rig = fake.rig();
    for round in 0..50 {
        let upstream = rig.upstream();
        let feeder = thread::spawn(move || while upstream.push(frame(round)).is_ok() {});
        thread::sleep(Duration::from_millis(round % 7));
        assert!(rig.harness.push_event(gst::event::FlushStart::new()));
        feeder.join().unwrap();
        while rig.harness.try_pull().is_some() {}
        assert!(rig.harness.push_event(gst::event::FlushStop::new(true)));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
        rig.push(200).unwrap();
        assert_eq!(number_of(&rig.pull()), 200, "a frame from before the flush came out after it");
    }
}

/// Whoever scrubs waits for one frame: no batch is waited for, and none is made of more than that.
#[test]
fn the_first_frame_after_a_flush_goes_to_the_model_at_once_and_alone() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| {
        e.set_property("batch-size", 4u32);
        e.set_property("batch-timeout", 60_000_000_000u64);
    });
    for seek in 1..4 {
        assert!(rig.harness.push_event(gst::event::FlushStart::new()));
        assert!(rig.harness.push_event(gst::event::FlushStop::new(true)));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
        fake.control.set(|b| b.gate_closed = true);
        (0..5).for_each(|number| {
            rig.push(number).unwrap();
        });
        fake.control.until("the model looks at a frame", |b| b.batches.len() == 2 * seek - 1);
        fake.control.set(|b| b.gate_closed = false);
        (0..5).for_each(|number| assert_eq!(number_of(&rig.pull()), number));
        assert_eq!(fake.control.set(|b| b.batches.clone()), [1, 4].repeat(seek));
    }
}

#[test]
fn caps_change_between_frames_in_flight() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    assert!(rig.harness.push_event(gst::event::Caps::new(&caps(16, 2))));
    rig.harness.push(frame_of(2, (16, 2))).unwrap();
    fake.control.set(|b| b.gate_closed = false);
    for (number, width, height) in [(1, 8, 4), (2, 16, 2)] {
        let buffer = rig.pull();
        assert_eq!(number_of(&buffer), number);
        let masks = Masks::from_buffer(&buffer).unwrap();
        let meta = masks.mask.meta::<gst_video::VideoMeta>().unwrap();
        assert_eq!((meta.width(), meta.height()), (width, height));
    }
    let seen: Vec<i32> = rig
        .events()
        .iter()
        .filter_map(|event| match event.view() {
            gst::EventView::Caps(caps) => caps.caps().structure(0)?.get("width").ok(),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [8, 16]);
}

/// Everything that came out of a pad, in order: frame numbers, and names of events.
fn record(pad: &gst::Pad) -> std::sync::Arc<parking_lot::Mutex<Vec<String>>> {
    let seen = std::sync::Arc::<parking_lot::Mutex<Vec<String>>>::default();
    let written = seen.clone();
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(mask, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                written.lock().push(number_of(buffer).to_string());
            }
            Some(gst::PadProbeData::Event(event)) => {
                written.lock().push(format!("{:?}", event.type_()));
            }
            _ => (),
        }
        gst::PadProbeReturn::Ok
    });
    seen
}

#[test]
fn segments_gaps_tags_and_custom_events_keep_their_places() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    rig.pull();
    let seen = record(&rig.element.static_pad("src").unwrap());
    fake.control.set(|b| b.gate_closed = true);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_base(gst::ClockTime::from_seconds(1));
    let tags = {
        let mut tags = gst::TagList::new();
        tags.get_mut().unwrap().add::<gst::tags::Title>(&"t", gst::TagMergeMode::Append);
        tags
    };
    rig.push(2).unwrap();
    assert!(rig.harness.push_event(gst::event::Tag::new(tags)));
    rig.push(3).unwrap();
    assert!(rig.harness.push_event(gst::event::Gap::new(gst::ClockTime::from_mseconds(160), None)));
    assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
    rig.push(4).unwrap();
    let custom = gst::event::CustomDownstream::new(gst::Structure::new_empty("x-test"));
    assert!(rig.harness.push_event(custom));
    rig.push(5).unwrap();
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    fake.control.set(|b| b.gate_closed = false);
    rig.event(gst::EventType::Eos);
    let expected = ["2", "Tag", "3", "Gap", "Segment", "4", "CustomDownstream", "5", "Eos"];
    assert_eq!(*seen.lock(), expected);
}

#[test]
fn a_stream_may_follow_another_after_eos() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    rig.event(gst::EventType::Eos);
    rig.pull();
    assert!(rig.harness.push_event(gst::event::StreamStart::new("second")));
    assert!(rig.harness.push_event(gst::event::Caps::new(&caps(8, 4))));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
    rig.push(2).unwrap();
    assert_eq!(number_of(&rig.pull()), 2);
}

#[test]
fn unsupported_caps_and_frames_without_caps_are_refused() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    let ten_bit = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Argb64Le)
        .width(8)
        .height(4)
        .framerate(gst::Fraction::new(25, 1))
        .build();
    let pad = rig.element.static_pad("sink").unwrap();
    assert!(!pad.query_accept_caps(&ten_bit));
    assert!(pad.query_accept_caps(&caps(1, 1)));
    rig.harness.push_event(gst::event::Caps::new(&ten_bit));
    assert_eq!(rig.push(1), Err(gst::FlowError::NotNegotiated));
    rig.harness.set_src_caps(caps(4, 4));
    rig.harness.push(frame_of(1, (4, 4))).unwrap();
    assert_eq!(number_of(&rig.pull()), 1);

    let element = fake.element();
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    harness.push_event(gst::event::StreamStart::new("s"));
    harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    assert_eq!(harness.push(frame(1)), Err(gst::FlowError::NotNegotiated));
}

#[test]
fn a_hundred_starts_and_stops_while_frames_come() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(1));
    let pipeline = gst::Pipeline::new();
    let make = gst::ElementFactory::make;
    let source = make("videotestsrc").build().unwrap();
    let filter = make("capsfilter").property("caps", caps(8, 4)).build().unwrap();
    let segment = fake.element();
    let sink = make("fakesink").property("sync", false).build().unwrap();
    pipeline.add_many([&source, &filter, &segment, &sink]).unwrap();
    gst::Element::link_many([&source, &filter, &segment, &sink]).unwrap();
    for round in 0..100 {
        pipeline.set_state(gst::State::Playing).unwrap();
        if round % 3 > 0 {
            // Sometimes it has started when it is stopped, sometimes not.
            let (result, _, _) = pipeline.state(gst::ClockTime::from_seconds(10));
            result.unwrap();
        }
        let stop = if round % 2 == 0 { gst::State::Null } else { gst::State::Ready };
        pipeline.set_state(stop).unwrap();
    }
    assert_eq!(segment.property::<String>("prompts"), "a; b");
    pipeline.set_state(gst::State::Null).unwrap();
    let error = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");
}
