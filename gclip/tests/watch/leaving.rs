// SPDX-License-Identifier: MIT OR Apache-2.0
//! A camera that is left while it is about to play: GStreamer must have no complaint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::harness::PATIENCE;
use super::rtsp_guard;
use gclip_testing::rtsp::Server;

/// Plays until the camera has agreed to, leaves before its first packet, and returns how many requests that took.
fn leave_early(url: &str, protocols: &str) -> usize {
    let source = gst::ElementFactory::make("rtspsrc").property("location", url);
    let source = source.property_from_str("protocols", protocols).build().unwrap();
    rtsp_guard::guard(&source, rtsp_guard::Counter::default());
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    // Called for those that the guard lets pass.
    source.connect("before-send", false, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Some(true.to_value())
    });
    let pipeline = gst::Pipeline::new();
    pipeline.add(&source).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
    let kinds = [gst::MessageType::Progress, gst::MessageType::Error];
    loop {
        let message = bus.timed_pop_filtered(patience, &kinds).expect("progress");
        let gst::MessageView::Progress(progress) = message.view() else { panic!("{message:?}") };
        let (kind, code, _) = progress.get();
        if kind == gst::ProgressType::Complete && code == "request" {
            break;
        }
    }
    let before = requests.load(Ordering::Relaxed);
    pipeline.set_state(gst::State::Null).unwrap();
    requests.load(Ordering::Relaxed) - before
}

#[test]
fn a_camera_is_left_before_its_first_packet_without_a_complaint() {
    let Some(mut server) = Server::start() else { return };
    gst::init().unwrap();
    let complaints = Arc::new(AtomicUsize::new(0));
    let count = complaints.clone();
    let wrong = glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_WARNING;
    glib::log_set_handler(Some("GStreamer"), wrong, false, false, move |_, _, what| {
        eprintln!("GStreamer: {what}");
        count.fetch_add(1, Ordering::Relaxed);
    });
    server.serve("gate", (160, 90), 20);
    let start = Instant::now();
    // Sometimes the packet is faster.
    let mut silent = 0;
    while silent < 5 {
        silent += usize::from(leave_early(&server.url("gate"), "tcp") == 0);
        assert_eq!(complaints.load(Ordering::Relaxed), 0);
        assert!(start.elapsed() < PATIENCE, "left without a word {silent} times only");
    }
    while server.say("clients gate") != "0" {
        assert!(start.elapsed() < PATIENCE, "a session stays");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Over UDP packets would go on coming.
    assert!(leave_early(&server.url("gate"), "udp") > 0);
    assert_eq!(complaints.load(Ordering::Relaxed), 0);
}

/// It would start a stream on a source that has forgotten its numbers.
#[test]
fn what_leaves_the_jitter_buffer_later_starts_no_stream() {
    let Some(mut server) = Server::start() else { return };
    gst::init().unwrap();
    server.serve("gate", (160, 90), 20);
    let streams = |leaves: bool| {
        let source = gst::ElementFactory::make("rtspsrc").property("location", server.url("gate"));
        let source = source.property_from_str("protocols", "tcp").build().unwrap();
        let talk = rtsp_guard::guard(&source, rtsp_guard::Counter::default()).unwrap();
        let (came, packets) = std::sync::mpsc::channel();
        source.connect("new-manager", false, move |arguments| {
            let (came, talk) = (came.clone(), talk.clone());
            let manager = arguments[1].get::<gst::Element>().unwrap();
            manager.connect("new-jitterbuffer", false, move |arguments| {
                let (came, talk) = (came.clone(), talk.clone());
                let pad = arguments[1].get::<gst::Element>().unwrap().static_pad("sink").unwrap();
                pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
                    // As the first packet goes in.
                    if leaves {
                        talk.leave();
                    }
                    let _ = came.send(());
                    gst::PadProbeReturn::Ok
                });
                None
            });
            None
        });
        let pipeline = gst::Pipeline::new();
        pipeline.add(&source).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let start = Instant::now();
        // Many more than it takes.
        let mut seen = 0;
        while source.src_pads().is_empty() && seen < 40 && start.elapsed() < PATIENCE {
            seen += usize::from(packets.recv_timeout(Duration::from_millis(20)).is_ok());
        }
        let streams = source.src_pads().len();
        pipeline.set_state(gst::State::Null).unwrap();
        (streams, seen == 40)
    };
    assert_eq!(streams(false).0, 1);
    assert_eq!(streams(true), (0, true));
}
