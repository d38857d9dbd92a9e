// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test server itself: without it, tests of cameras that fail would show nothing.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::rtsp_guard;
use gclip_testing::rtsp::{Server, videos};

const PATIENCE: Duration = Duration::from_secs(30);

/// A stock client of one camera.
struct Client {
    pipeline: gst::Pipeline,
    sizes: mpsc::Receiver<(i32, i32)>,
}

impl Client {
    fn play(url: &str) -> Client {
        gst::init().unwrap();
        let launch = "rtspsrc name=source protocols=tcp latency=50 ! rtph264depay ! h264parse ! avdec_h264 \
                      ! fakesink name=sink sync=false";
        let pipeline = gst::parse::launch(launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let source = pipeline.by_name("source").unwrap();
        source.set_property("location", url);
        rtsp_guard::guard(&source, rtsp_guard::Counter::default());
        let (frame, sizes) = mpsc::channel();
        let pad = pipeline.by_name("sink").unwrap().static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
            let caps = pad.current_caps().unwrap();
            let structure = caps.structure(0).unwrap();
            let size = (structure.get("width").unwrap(), structure.get("height").unwrap());
            let _ = frame.send(size);
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        Client { pipeline, sizes }
    }

    /// Waits for this many frames and returns the size of the last.
    fn frames(&self, count: usize) -> (i32, i32) {
        let mut size = (0, 0);
        for _ in 0..count {
            size = self.sizes.recv_timeout(PATIENCE).expect("a frame");
        }
        size
    }

    /// Waits until the stream has ended, by an error or properly.
    fn end(&self) -> String {
        let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
        let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
        let message = self.pipeline.bus().unwrap().timed_pop_filtered(patience, &kinds).expect("an end");
        match message.view() {
            gst::MessageView::Error(error) => error.error().to_string(),
            _ => "end of stream".to_string(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[test]
fn cameras_play_stall_and_close() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let client = Client::play(&server.url("gate"));
    assert_eq!(client.frames(5), (160, 90));
    assert_eq!(server.say("clients gate"), "1");

    server.say("stall gate");
    while client.sizes.recv_timeout(Duration::from_secs(1)).is_ok() {} // what was on its way
    server.say("resume gate");
    client.frames(5);

    server.serve("gate", (320, 180), 20);
    assert_eq!(client.frames(25), (160, 90), "who plays keeps the picture");
    server.say("drop gate");
    client.end();
    drop(client);
    assert_eq!(Client::play(&server.url("gate")).frames(1), (320, 180));

    server.say("remove gate");
    let refused = Client::play(&server.url("gate")).end();
    assert!(refused.contains("Not") && refused.contains("ound"), "{refused}");
}

#[test]
fn packets_are_damaged_on_demand() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    server.say("damage gate 1");
    let client = Client::play(&server.url("gate"));
    // A third of the packets is lost; of the others a decoder makes errors and the odd grey picture.
    let deadline = Instant::now() + Duration::from_secs(3);
    let left = || deadline.saturating_duration_since(Instant::now());
    let pictures = std::iter::from_fn(|| client.sizes.recv_timeout(left()).ok()).count();
    assert!(pictures < 40, "{pictures} of 60 pictures came through");
    drop(client);
    server.say("damage gate 0");
    Client::play(&server.url("gate")).frames(1);
}

#[test]
fn a_password_is_asked_for() {
    let Some(mut server) = Server::start_on(0, Some("me:secret")) else { return };
    server.serve("gate", (160, 90), 20);
    let refused = Client::play(&server.url("gate")).end();
    assert!(refused.contains("nauthorized"), "{refused}");
    Client::play(&server.url("gate").replace("//", "//me:secret@")).frames(1);
}

#[test]
fn every_video_can_be_served() {
    let Some(mut server) = Server::start() else { return };
    for (index, video) in videos().iter().enumerate() {
        let name = format!("camera{index}");
        server.serve_file(&name, (160, 90), 10, video);
        Client::play(&server.url(&name)).frames(3);
    }
}
