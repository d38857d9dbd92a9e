// SPDX-License-Identifier: MIT OR Apache-2.0
//! One camera for months: connect, watch until it breaks, wait, again. Runs on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use parking_lot::Mutex;

use super::config::Camera;
use super::heap;
use super::line::Presence;
use super::pipeline;
use super::report::Reporter;
use super::retry::Retry;
use super::state::{Count, Phase};
use super::stop::Stop;
use super::trouble::explain;
use crate::redact;
use crate::video::first_error;

/// A camera that stays away is told about again after this long.
const REMIND: Duration = Duration::from_secs(600);
/// How often a thread that waits for messages looks at the clock.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(100);

pub struct Watcher {
    pub camera: Camera,
    pub model: String,
    pub reporter: Arc<Reporter>,
    pub stop: Stop,
    /// The running connection's gclipsegment, for its statistics.
    pub segment: Arc<Mutex<Option<gst::Element>>>,
}

impl Watcher {
    pub fn run(self) {
        let state = &self.reporter.state;
        let mut retry = Retry::new(self.camera.retry_min, self.camera.retry_max);
        // What has been told about the outage so far, and when.
        let mut told: Option<(String, Instant)> = None;
        while !self.stop.is_requested() {
            state.enter(Phase::Connecting);
            let started = Instant::now();
            let Err(error) = self.watch() else { break };
            heap::tidy();
            let why = redact::urls(&format!("{error:#}"));
            let was_up = state.is_up();
            // A camera that breaks off again and again is left in peace for longer and longer.
            if was_up && started.elapsed() > self.camera.timeout {
                retry.reset();
            }
            let wait = retry.next_wait();
            state.count(Count::Failures);
            state.enter(Phase::Waiting { until: Instant::now() + wait, why: why.clone() });
            if was_up || told.is_none() {
                self.reporter.connection("lost", Some(&why));
            }
            let again = |(last, at): &(String, Instant)| *last == why && at.elapsed() < REMIND;
            if was_up || !told.as_ref().is_some_and(again) {
                self.reporter.log(&format!("{why}; next try in {:.1} s", wait.as_secs_f64()));
                told = Some((why, Instant::now()));
            }
            self.stop.wait(wait);
        }
        state.enter(Phase::Stopped);
    }

    /// One connection. Returns when the program stops; everything else is an error that says why it is over.
    fn watch(&self) -> Result<()> {
        let pipeline = pipeline::build(&self.camera, &self.model, &self.reporter)?;
        *self.segment.lock() = pipeline.by_name(&pipeline::segment_name(&self.camera));
        let outcome = self.play(&pipeline);
        self.segment.lock().take();
        // A state change to NULL cannot fail.
        let _ = pipeline.set_state(gst::State::Null);
        outcome
    }

    fn play(&self, pipeline: &gst::Pipeline) -> Result<()> {
        let bus = pipeline.bus().context("the pipeline has no bus")?;
        if pipeline.set_state(gst::State::Playing).is_err() {
            let why = format!("{:#}", first_error(&bus));
            bail!("{}", self.reporter.console.hide(&why));
        }
        let segment = pipeline::segment_name(&self.camera);
        while !self.stop.is_requested() {
            let wanted = [
                gst::MessageType::Eos,
                gst::MessageType::Error,
                gst::MessageType::Element,
                gst::MessageType::Qos,
                gst::MessageType::Latency,
            ];
            let message = bus.timed_pop_filtered(LOOK, &wanted);
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Eos(_)) => bail!("the camera has ended the stream"),
                Some(gst::MessageView::Error(error)) => {
                    return Err(anyhow!("{}", explain(error, &self.camera.address, &self.reporter.console)));
                }
                Some(gst::MessageView::Element(element)) => self.take(element.structure()),
                // Decoders post them too, for frames that they leave out.
                Some(gst::MessageView::Qos(qos)) if qos.src().is_some_and(|src| src.name() == segment) => {
                    self.reporter.state.count(Count::Skipped);
                }
                Some(gst::MessageView::Latency(_)) => pipeline.recalculate_latency().unwrap_or_default(),
                _ => {}
            }
            if self.reporter.state.now().alive.elapsed() > self.camera.timeout {
                bail!("no picture for {}", seconds(self.camera.timeout));
            }
        }
        Ok(())
    }

    fn take(&self, structure: Option<&gst::StructureRef>) {
        let structure = structure.filter(|structure| structure.name() == "gclip-presence");
        if let Some(change) = structure.and_then(Presence::from_structure) {
            self.reporter.change(&change);
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}
