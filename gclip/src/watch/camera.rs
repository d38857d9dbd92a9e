// SPDX-License-Identifier: MIT OR Apache-2.0
//! One camera for months: connect, watch until it breaks, wait, again. Runs on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;
use parking_lot::{Condvar, Mutex, RwLock};

use super::config::{Camera, Source};
use super::heap;
use super::line::{Anomaly, Presence};
use super::local;
use super::pipeline::{self, Connection};
use super::report::Reporter;
use super::retry::Retry;
use super::state::{Count, Phase};
use super::stop::Stop;
use crate::redact;
use crate::rtsp::Talk;
use crate::trouble::{Refused, first_error};

/// A camera that stays away is told about again after this long.
const REMIND: Duration = Duration::from_secs(600);
/// How often a thread that waits for messages looks at the clock.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// A camera is given this long to be left in peace; then its connection ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// A camera's settings, which may change while it is watched.
#[derive(Clone)]
pub struct Settings(Arc<RwLock<Arc<Camera>>>);

impl Settings {
    pub fn new(camera: Camera) -> Settings {
        Settings(Arc::new(RwLock::new(Arc::new(camera))))
    }

    pub fn get(&self) -> Arc<Camera> {
        self.0.read().clone()
    }

    pub fn set(&self, camera: Camera) {
        *self.0.write() = Arc::new(camera);
    }
}

pub struct Watcher {
    pub settings: Settings,
    pub model: String,
    pub reporter: Arc<Reporter>,
    pub stop: Stop,
    /// The running connection's gclipsegment, for its statistics.
    pub segment: Arc<Mutex<Option<gst::Element>>>,
}

impl Watcher {
    pub fn run(self) {
        let state = &self.reporter.state;
        let camera = self.settings.get();
        let mut retry = Retry::new(camera.retry_min, camera.retry_max);
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
            let camera = self.settings.get();
            if was_up && started.elapsed() > camera.timeout {
                retry.reset();
            }
            let mut wait = retry.next_wait();
            // Cameras lock out who is wrong too often, and then the operator too.
            if error.downcast_ref::<Refused>().is_some() {
                wait = wait.max(camera.retry_login);
            }
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
        if state.is_up() {
            self.reporter.connection("lost", Some("stopped"));
        }
        state.enter(Phase::Stopped);
    }

    /// One connection. Returns when the program stops; everything else is an error that says why it is over.
    fn watch(&self) -> Result<()> {
        let camera = self.settings.get();
        let connection = pipeline::build(&camera, &self.model, &self.reporter)?;
        let segment = &connection.segment;
        *self.segment.lock() = Some(segment.clone());
        // They may have changed before there was an element to tell.
        let now = self.settings.get();
        let told = if camera.differs_in_words(&now) { pipeline::set_words(segment, &now) } else { Ok(()) };
        let outcome = told.and_then(|()| self.play(&connection));
        self.segment.lock().take();
        leave(&connection.pipeline, connection.talk.as_deref());
        self.reporter.forget_pictures();
        outcome
    }

    fn play(&self, connection: &Connection) -> Result<()> {
        let Connection { pipeline, segment, talk } = connection;
        let bus = pipeline.bus().context("the pipeline has no bus")?;
        let camera = self.settings.get();
        let address = &camera.source;
        let mut shown_before = 0;
        if pipeline.set_state(gst::State::Playing).is_err() {
            let why = format!("{:#}", first_error(&bus));
            bail!("{}", self.reporter.console.hide(&why));
        }
        while !self.stop.is_requested() {
            let wanted = [
                gst::MessageType::Eos,
                gst::MessageType::Error,
                gst::MessageType::Element,
                gst::MessageType::Qos,
                gst::MessageType::Latency,
            ];
            let message = bus.timed_pop_filtered(LOOK, &wanted);
            if let Some(why) = pipeline::given_up(&camera, talk.as_deref(), self.reporter.state.silence()) {
                return Err(why);
            }
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Eos(_)) if matches!(address, Source::Video(_)) => {
                    let shown = self.reporter.state.frames();
                    ensure!(shown > shown_before, "{address} holds no picture");
                    shown_before = shown;
                    local::rewind(pipeline)?;
                }
                Some(gst::MessageView::Eos(_)) => bail!("the camera has ended the stream"),
                Some(gst::MessageView::Error(error)) => {
                    return Err(pipeline::explain(error, &camera, talk.as_deref(), &self.reporter.console));
                }
                Some(gst::MessageView::Element(element)) => self.take(element.structure())?,
                // Decoders post them too, for frames that they leave out.
                Some(gst::MessageView::Qos(qos)) if qos.src().is_some_and(|src| src == segment) => {
                    self.reporter.state.count(Count::Skipped);
                }
                Some(gst::MessageView::Latency(_)) => pipeline.recalculate_latency().unwrap_or_default(),
                _ => {}
            }
        }
        Ok(())
    }

    fn take(&self, structure: Option<&gst::StructureRef>) -> Result<()> {
        let Some(structure) = structure else { return Ok(()) };
        if structure.name() == "gclip-presence"
            && let Some(change) = Presence::from_structure(structure)
        {
            self.reporter.change(&change);
        }
        if structure.name() == "gclip-anomaly"
            && let Some(change) = Anomaly::from_structure(structure)
        {
            self.reporter.anomaly(&change);
        }
        match crate::trouble::missing_decoder(structure) {
            Some(what) => Err(anyhow!("{what}")),
            None => Ok(()),
        }
    }
}

/// Takes the pipeline down. A camera that goes on talking in the middle of something cannot keep this thread.
fn leave(pipeline: &gst::Pipeline, talk: Option<&Talk>) {
    if let Some(talk) = talk {
        talk.leave();
    }
    let (gone, changed) = (Mutex::new(false), Condvar::new());
    std::thread::scope(|scope| {
        let cut = || {
            let mut gone = gone.lock();
            while !*gone {
                if changed.wait_for(&mut gone, FAREWELL).timed_out()
                    && let Some(talk) = talk
                {
                    talk.cut();
                }
            }
        };
        // Without the helper the camera may keep this thread as long as it likes, but no longer than it did before.
        let helper = std::thread::Builder::new().name("farewell".into()).spawn_scoped(scope, cut);
        // A state change to NULL cannot fail.
        let _ = pipeline.set_state(gst::State::Null);
        *gone.lock() = true;
        changed.notify_all();
        drop(helper);
    });
}
