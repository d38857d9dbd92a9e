// SPDX-License-Identifier: MIT OR Apache-2.0
//! One stream of a pipeline: frames in, at full speed or by the clock, and when each arrives behind the element.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::AppSrc;
use parking_lot::Mutex;

use crate::{PROMPTS, Result};

/// What is asked of the element.
#[derive(Clone)]
pub struct Settings {
    pub model: String,
    pub device: String,
    /// Streams under one name share a model.
    pub instance: String,
    pub short_side: usize,
    pub batch: usize,
    pub in_flight: usize,
}

/// When the next frame goes in.
#[derive(Clone, Copy)]
pub enum Pace {
    /// As soon as it is taken.
    Full,
    /// When the one before has come out.
    OneAtATime,
    /// Every `period`, from `phase` on.
    Clock { phase: Duration, period: Duration },
}

/// When a frame went in, and when it came out; by its number.
#[derive(Default)]
pub struct Times {
    pub sent: Vec<Instant>,
    pub arrived: Vec<Instant>,
}

pub struct Stream {
    source: AppSrc,
    pub segment: gst::Element,
    pub times: Arc<Mutex<Times>>,
}

impl Stream {
    pub fn add(
        pipeline: &gst::Pipeline,
        caps: &gst::Caps,
        live: bool,
        settings: &Settings,
    ) -> Result<Stream> {
        let source = AppSrc::builder()
            .caps(caps)
            .format(gst::Format::Time)
            .is_live(live)
            .block(true)
            .max_bytes(0)
            .build();
        source.set_property("max-buffers", 2u64);
        let segment = gst::ElementFactory::make("gclipsegment")
            .property("model", &settings.model)
            .property("device", &settings.device)
            .property("model-instance-id", &settings.instance)
            .property("prompts", PROMPTS)
            .property("prompt-template", "none")
            .property("input-size", settings.short_side.to_string())
            .property("batch-size", settings.batch as u32)
            .property("max-in-flight", settings.in_flight as u32)
            .property_from_str("late-policy", "wait")
            .build()?;
        let sink =
            gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build()?;
        pipeline.add_many([source.upcast_ref(), &segment, &sink])?;
        gst::Element::link_many([source.upcast_ref(), &segment, &sink])?;
        let times = Arc::new(Mutex::new(Times::default()));
        let of_probe = times.clone();
        let pad = sink.static_pad("sink").ok_or("a sink has a pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            of_probe.lock().arrived.push(Instant::now());
            gst::PadProbeReturn::Ok
        });
        Ok(Stream { source, segment, times })
    }

    /// Pushes frames until told to stop, then the end.
    pub fn feed(&self, buffers: &[gst::Buffer], pace: Pace, stop: &AtomicBool) {
        let start = Instant::now();
        for number in 0usize.. {
            match pace {
                Pace::Full => (),
                Pace::OneAtATime => {
                    while self.times.lock().arrived.len() < number && !stop.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
                Pace::Clock { phase, period } => {
                    let due = start + phase + period * number as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            // The pixels are shared: only times are set.
            let mut buffer = buffers[number % buffers.len()].copy();
            buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(40 * number as u64));
            self.times.lock().sent.push(Instant::now());
            if self.source.push_buffer(buffer).is_err() {
                return;
            }
        }
        // Refused only when the pipeline has stopped, which its bus tells.
        let _ = self.source.end_of_stream();
    }

    /// A number of the element's `stats`.
    pub fn stat(&self, name: &str) -> u64 {
        self.segment.property::<gst::Structure>("stats").get::<u64>(name).unwrap_or(0)
    }
}
