// SPDX-License-Identifier: MIT OR Apache-2.0
//! What players do to a pipeline: seeking, scrubbing, playing backward, changing states. Every element of ours is held to
//! the rules that GStreamer's validation holds elements to, and may break none that `identity` in its place keeps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gclip_testing::fake::{Fake, PATIENCE};
use gst::prelude::*;
use parking_lot::Mutex;

const FLUSH: gst::SeekFlags = gst::SeekFlags::FLUSH;
const ACCURATE: gst::SeekFlags = gst::SeekFlags::FLUSH.union(gst::SeekFlags::ACCURATE);

/// Where most scenarios stop: the rest of the video shows nothing new.
const END: gst::ClockTime = gst::ClockTime::from_mseconds(2000);

fn milliseconds(time: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(time)
}

/// What passes the last pad, held to the rules.
#[derive(Default)]
struct Monitor {
    issues: Vec<String>,
    /// Frames since the last flush or start.
    frames: Vec<gst::ClockTime>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    has_caps: bool,
    has_stream: bool,
    flushing: bool,
    ended: bool,
    /// Of the seek that is under way.
    seqnum: Option<gst::Seqnum>,
}

impl Monitor {
    fn issue(&mut self, what: impl Into<String>) {
        let what = what.into();
        // Once is enough to fail, and a list of all frames helps nobody.
        if !self.issues.contains(&what) {
            self.issues.push(what);
        }
    }

    fn event(&mut self, event: &gst::EventRef) {
        use gst::EventView::{Caps, Eos, FlushStart, FlushStop, Segment, StreamStart};
        let of_the_seek = self.seqnum.is_none_or(|seqnum| event.seqnum() == seqnum);
        if event.is_serialized() && self.flushing && !matches!(event.view(), FlushStop(_)) {
            self.issue("a serialized event between the two events of a flush");
        }
        match event.view() {
            FlushStart(_) => {
                self.flushing = true;
                if !of_the_seek {
                    self.issue("the flush has another number than the seek");
                }
            }
            FlushStop(_) => {
                if !self.flushing {
                    self.issue("a flush stops that has not started");
                }
                (self.flushing, self.ended) = (false, false);
                self.segment = None;
                self.frames.clear();
            }
            StreamStart(_) => (self.has_stream, self.ended) = (true, false),
            Caps(_) => {
                if !self.has_stream {
                    self.issue("caps before the stream's start");
                }
                self.has_caps = true;
            }
            Segment(segment) => {
                if !self.has_stream {
                    self.issue("a segment before the stream's start");
                }
                if !of_the_seek {
                    self.issue("the segment has another number than the seek");
                }
                self.segment = segment.segment().downcast_ref::<gst::ClockTime>().cloned();
            }
            Eos(_) => {
                if self.ended {
                    self.issue("the end comes twice");
                }
                if !of_the_seek {
                    self.issue("the end has another number than the seek");
                }
                self.ended = true;
            }
            _ => {}
        }
    }

    fn frame(&mut self, buffer: &gst::BufferRef) {
        for (wrong, what) in [
            (self.flushing, "a frame between the two events of a flush"),
            (self.ended, "a frame after the end"),
            (!self.has_caps, "a frame before its caps"),
        ] {
            if wrong {
                self.issue(what);
            }
        }
        let Some(segment) = self.segment.clone() else { return self.issue("a frame without a segment") };
        let Some(pts) = buffer.pts() else { return self.issue("a frame without a time") };
        let end = pts + buffer.duration().unwrap_or(gst::ClockTime::ZERO);
        if segment.clip(pts, end).is_none() {
            self.issue("a frame outside of the segment");
        }
        let first = self.frames.is_empty();
        if first && !buffer.flags().contains(gst::BufferFlags::DISCONT) {
            self.issue("the first frame is not marked as a break");
        }
        if segment.rate() > 0.0 && self.frames.last().is_some_and(|last| pts <= *last) {
            self.issue("time goes backward in a stream that plays forward");
        }
        self.frames.push(pts);
    }
}

/// A file that plays through the elements that are tried.
struct Player {
    pipeline: gst::Pipeline,
    monitor: Arc<Mutex<Monitor>>,
}

impl Player {
    fn new(elements: &str) -> Player {
        let video = std::fs::canonicalize(gclip_testing::DEMO).unwrap().join("demo.mp4");
        let description = format!(
            "filesrc location={} ! qtdemux name=demux  h264parse name=parse ! avdec_h264 ! videoconvertscale \
             ! video/x-raw,format=I420,width=64,height=36 ! {elements} ! fakesink name=out sync=false",
            video.display()
        );
        let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        // Not by the description: that links once, and each way through READY makes the pad anew.
        let parse = pipeline.by_name("parse").unwrap().static_pad("sink").unwrap().downgrade();
        pipeline.by_name("demux").unwrap().connect_pad_added(move |_, pad| {
            pad.link(&parse.upgrade().unwrap()).unwrap();
        });
        let monitor: Arc<Mutex<Monitor>> = Arc::default();
        let pad = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
        let kinds =
            gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH;
        let seen = monitor.clone();
        pad.add_probe(kinds, move |_, info| {
            match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => seen.lock().frame(buffer),
                Some(gst::PadProbeData::Event(event)) => seen.lock().event(event),
                _ => {}
            }
            gst::PadProbeReturn::Ok
        });
        Player { pipeline, monitor }
    }

    fn issue(&self, what: impl Into<String>) {
        self.monitor.lock().issue(what);
    }

    fn set(&self, state: gst::State) {
        if self.pipeline.set_state(state).is_err() {
            self.issue(format!("it does not go to {state:?}"));
        }
        let (reached, now, _) = self.pipeline.state(gst::ClockTime::try_from(PATIENCE).unwrap());
        if reached.is_err() || now != state {
            self.issue(format!("it does not arrive in {state:?}"));
        }
        if state <= gst::State::Ready {
            self.stopped();
        }
    }

    /// Nothing flows any more: what flowed until then is of a stream that is over.
    fn stopped(&self) {
        let bus = self.pipeline.bus().unwrap();
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
            // GStreamer's decoder fails on its own frames where it is stopped while one is made ("Unable to allocate
            // memory"), with any element after it.
            let decoder = message.src().is_some_and(|src| src.name().starts_with("avdec"));
            if !decoder && let gst::MessageView::Error(error) = message.view() {
                self.issue(format!("an error at a stop: {}", error.error()));
            }
        }
        let mut monitor = self.monitor.lock();
        *monitor = Monitor { issues: std::mem::take(&mut monitor.issues), ..Monitor::default() };
    }

    /// Seeks, and waits until the first frame is there.
    fn seek(&self, rate: f64, flags: gst::SeekFlags, start: gst::ClockTime, stop: Option<gst::ClockTime>) {
        let event = gst::event::Seek::new(rate, flags, gst::SeekType::Set, start, gst::SeekType::Set, stop);
        self.monitor.lock().seqnum = Some(event.seqnum());
        if !self.pipeline.send_event(event) {
            return self.issue("a seek is refused");
        }
        // The flush has emptied the monitor, or does so before anything else passes.
        let arrived = || {
            let monitor = self.monitor.lock();
            !monitor.flushing && (!monitor.frames.is_empty() || monitor.ended)
        };
        let begun = Instant::now();
        while !arrived() {
            if begun.elapsed() > PATIENCE {
                return self.issue("a seek does not end");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.pipeline.state(gst::ClockTime::try_from(PATIENCE).unwrap()).0.is_err() {
            self.issue("a seek ends in an error");
        }
    }

    fn bus(&self, wait: gst::ClockTime, kinds: &[gst::MessageType]) -> Option<gst::Message> {
        let with_errors: Vec<_> = kinds.iter().copied().chain([gst::MessageType::Error]).collect();
        let message = self.pipeline.bus().unwrap().timed_pop_filtered(Some(wait), &with_errors)?;
        if let gst::MessageView::Error(error) = message.view() {
            self.issue(format!("an error: {}", error.error()));
            return None;
        }
        Some(message)
    }

    /// Plays to the end; the times of the frames since the last flush.
    fn to_the_end(&self) -> Vec<gst::ClockTime> {
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            self.issue("it does not play");
        }
        if self.bus(gst::ClockTime::try_from(PATIENCE).unwrap(), &[gst::MessageType::Eos]).is_none() {
            self.issue("the end does not come");
        }
        self.monitor.lock().frames.clone()
    }

    fn position(&self) -> Option<gst::ClockTime> {
        self.pipeline.query_position()
    }
}

/// What a scenario brings forth: the rules that were broken, and what can be counted.
#[derive(Debug, PartialEq)]
struct Outcome {
    issues: Vec<String>,
    frames: Vec<Vec<gst::ClockTime>>,
}

type Scenario = (&'static str, fn(&Player) -> Vec<Vec<gst::ClockTime>>);

const SCENARIOS: [Scenario; 11] = [
    ("play to the end, and again", |player| {
        let first = player.to_the_end();
        player.seek(1.0, FLUSH, gst::ClockTime::ZERO, None);
        vec![first, player.to_the_end()]
    }),
    ("pause and resume", |player| {
        for _ in 0..5 {
            player.set(gst::State::Playing);
            player.set(gst::State::Paused);
        }
        player.seek(1.0, ACCURATE, milliseconds(300), Some(END));
        vec![player.to_the_end()]
    }),
    ("seek forward", |player| {
        player.set(gst::State::Playing);
        for time in [200, 400, 800, 1200] {
            player.seek(1.0, ACCURATE, milliseconds(time), Some(END));
        }
        vec![player.to_the_end()]
    }),
    ("seek backward", |player| {
        player.set(gst::State::Playing);
        for time in [1200, 800, 400, 0] {
            player.seek(1.0, ACCURATE, milliseconds(time), Some(END));
        }
        vec![player.to_the_end()]
    }),
    ("scrub", |player| {
        let times = (0..12).chain((0..12).rev()).map(|step| milliseconds(step * 100));
        times
            .map(|time| {
                player.seek(1.0, ACCURATE, time, None);
                if player.position().is_none_or(|position| position.absdiff(time) > milliseconds(100)) {
                    player.issue("the position is not where it was sought");
                }
                player.monitor.lock().frames.first().copied().into_iter().collect()
            })
            .collect()
    }),
    ("seek with a stop", |player| {
        player.seek(1.0, ACCURATE, milliseconds(400), Some(milliseconds(800)));
        vec![player.to_the_end()]
    }),
    ("fast forward", |player| {
        [2.0, 4.0, 16.0]
            .map(|rate| {
                player.set(gst::State::Paused);
                player.seek(rate, ACCURATE, gst::ClockTime::ZERO, Some(END));
                player.to_the_end()
            })
            .into()
    }),
    ("backward", |player| {
        [-1.0, -2.0]
            .map(|rate| {
                player.set(gst::State::Paused);
                player.seek(rate, ACCURATE, gst::ClockTime::ZERO, Some(milliseconds(1000)));
                player.to_the_end()
            })
            .into()
    }),
    ("many seeks at once", |player| {
        player.set(gst::State::Playing);
        for step in 0..30 {
            let start = milliseconds(step * 37 % 1200);
            let event = gst::event::Seek::new(
                1.0,
                ACCURATE,
                gst::SeekType::Set,
                start,
                gst::SeekType::None,
                gst::ClockTime::NONE,
            );
            player.monitor.lock().seqnum = None;
            if !player.pipeline.send_event(event) {
                player.issue("a seek is refused");
            }
        }
        player.seek(1.0, ACCURATE, milliseconds(200), Some(END));
        vec![player.to_the_end()]
    }),
    ("all states, many times", |player| {
        for _ in 0..10 {
            for state in [
                gst::State::Ready,
                gst::State::Paused,
                gst::State::Playing,
                gst::State::Paused,
                gst::State::Null,
            ] {
                player.set(state);
            }
        }
        player.set(gst::State::Paused);
        player.seek(1.0, ACCURATE, gst::ClockTime::ZERO, Some(END));
        vec![player.to_the_end()]
    }),
    ("stop while seeking", |player| {
        for step in 0..10 {
            player.set(gst::State::Playing);
            let event = gst::event::Seek::new(
                1.0,
                ACCURATE,
                gst::SeekType::Set,
                milliseconds(step * 100),
                gst::SeekType::None,
                gst::ClockTime::NONE,
            );
            player.monitor.lock().seqnum = None;
            player.pipeline.send_event(event);
            player.set(gst::State::Ready);
        }
        player.set(gst::State::Paused);
        player.seek(1.0, ACCURATE, gst::ClockTime::ZERO, Some(END));
        vec![player.to_the_end()]
    }),
];

fn outcome(elements: &str, (name, run): &Scenario) -> Outcome {
    let player = Player::new(elements);
    player.set(gst::State::Paused);
    let frames = run(&player);
    player.set(gst::State::Null);
    let issues = player.monitor.lock().issues.clone();
    println!("{name}, {elements}: {} frames, {issues:?}", frames.iter().map(Vec::len).sum::<usize>());
    Outcome { issues, frames }
}

#[test]
fn no_element_breaks_a_rule_that_identity_keeps() {
    gclip_testing::fake::init();
    let fake = Fake::install();
    let segment = fake.description();
    let tried = [
        segment.clone(),
        format!("{segment} batch-size=4 batch-timeout=40000000"),
        format!("{segment} ! gclipoverlay"),
        format!("{segment} ! gclipmask"),
        format!("{segment} ! gclipmeta2json"),
        format!("{segment} ! gclipmeta2onvif"),
    ];
    for scenario in &SCENARIOS {
        let expected = outcome("identity", scenario);
        assert_eq!(expected.issues, Vec::<String>::new(), "{}: the rules are wrong", scenario.0);
        for elements in &tried {
            assert_eq!(outcome(elements, scenario), expected, "{}: {elements}", scenario.0);
        }
    }
}

/// The rules themselves: what they are there to find.
#[test]
fn a_broken_element_is_found() {
    gclip_testing::fake::init();
    let mut monitor = Monitor::default();
    let mut frame = gst::Buffer::new();
    frame.make_mut().set_pts(gst::ClockTime::ZERO);
    monitor.frame(&frame);
    monitor.event(&gst::event::StreamStart::new("s"));
    monitor.event(&gst::event::FlushStop::new(true));
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_seconds(1));
    monitor.event(&gst::event::Segment::new(&segment));
    monitor.frame(&frame);
    monitor.event(&gst::event::FlushStart::new());
    monitor.event(&gst::event::Eos::new());
    monitor.event(&gst::event::Eos::new());
    monitor.frame(&frame);
    assert_eq!(
        monitor.issues,
        [
            "a frame before its caps",
            "a frame without a segment",
            "a flush stops that has not started",
            "a frame outside of the segment",
            "the first frame is not marked as a break",
            "a serialized event between the two events of a flush",
            "the end comes twice",
            "a frame between the two events of a flush",
            "a frame after the end",
            "time goes backward in a stream that plays forward",
        ]
    );
}
