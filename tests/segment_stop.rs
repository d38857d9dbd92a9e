// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipsegment` that is stopped while frames and events come: upstream is told to stop, too, and nobody of a failure.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gclip_testing::fake::*;
use gst::prelude::*;

fn title(number: usize) -> gst::Event {
    let mut tags = gst::TagList::new();
    tags.get_mut().unwrap().add::<gst::tags::Title>(&format!("{number}").as_str(), gst::TagMergeMode::Append);
    gst::event::Tag::new(tags)
}

#[test]
fn an_event_that_comes_while_the_element_stops_makes_no_error_of_it() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    rig.pull();
    // On the way down the source pad stops first.
    rig.element.static_pad("src").unwrap().set_active(false).unwrap();
    let upstream = rig.upstream();
    upstream.push_event(title(1));
    // The tags have not arrived, and would have to go before the frame.
    assert_eq!(upstream.push(frame(2)), Err(gst::FlowError::Flushing));
    assert!(rig.messages(gst::MessageType::Error).is_empty());
}

#[test]
fn stopping_while_frames_and_tags_flow_is_no_failure_and_nothing_to_warn_of() {
    let fake = Fake::install();
    let said = Arc::new(Mutex::new(Vec::new()));
    let lines = said.clone();
    gst::log::set_threshold_for_name("gclipsegment", gst::DebugLevel::Warning);
    gst::log::add_log_function(move |category, level, _, _, _, _, message| {
        if category.name() == "gclipsegment" && level <= gst::DebugLevel::Warning {
            lines.lock().unwrap().push(message.get().unwrap_or_default().to_string());
        }
    });
    let pipeline = gst::Pipeline::new();
    let make = gst::ElementFactory::make;
    let source = make("videotestsrc").build().unwrap();
    let filter = make("capsfilter").property("caps", caps(8, 4)).build().unwrap();
    let segment = fake.element();
    let sink = make("fakesink").property("sync", false).property("async", false).build().unwrap();
    pipeline.add_many([&source, &filter, &segment, &sink]).unwrap();
    gst::Element::link_many([&source, &filter, &segment, &sink]).unwrap();
    let (frames, passed) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let pad = filter.static_pad("src").unwrap();
    filter.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        pad.push_event(title(frames.fetch_add(1, Ordering::Relaxed)));
        gst::PadProbeReturn::Ok
    });
    let count = passed.clone();
    sink.static_pad("sink").unwrap().add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    let bus = pipeline.bus().unwrap();
    for round in 0..150 {
        pipeline.set_state(gst::State::Playing).unwrap();
        let before = passed.load(Ordering::Relaxed);
        let start = std::time::Instant::now();
        while passed.load(Ordering::Relaxed) < before + 1 + round % 7 {
            assert!(start.elapsed() < PATIENCE, "round {round}: no frames");
            std::thread::yield_now();
        }
        pipeline.set_state(gst::State::Ready).unwrap();
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "round {round}: {error:?}");
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(*said.lock().unwrap(), [""; 0]);
}
