// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one camera tells: to its outputs, to its state and to the log.

use std::sync::Arc;

use gstgclip::meta::Masks;
use parking_lot::{Mutex, RwLock};

use super::config::What;
use super::console::Console;
use super::history::{History, Moments, Tally};
use super::line::{Anomaly, Connection, Maker, Presence, Run, now};
use super::queue::{About, Line, Queue};
use super::state::{CameraState, Count};
use super::view::Viewfinder;
use crate::fleet::Claim;

/// An output's queue, and what it gets.
#[derive(Clone)]
pub struct Route {
    pub what: What,
    pub queue: Arc<Queue>,
}

pub struct Reporter {
    pub state: Arc<CameraState>,
    /// For who looks.
    pub view: Viewfinder,
    history: Arc<History>,
    tally: Option<Arc<Tally>>,
    moments: Moments,
    pub console: Arc<Console>,
    camera: Arc<str>,
    run: Arc<Run>,
    routes: RwLock<Vec<Route>>,
    /// Where several could say what this one says.
    claim: RwLock<Option<Arc<Claim>>>,
    /// A time of the stream, and the camera's clock at it in nanoseconds since 1970.
    clock: Mutex<Option<(gst::ClockTime, u64)>>,
}

impl Reporter {
    pub fn new(
        state: Arc<CameraState>,
        console: Arc<Console>,
        run: Arc<Run>,
        routes: Vec<Route>,
        history: Arc<History>,
    ) -> Reporter {
        let camera = state.name.clone();
        Reporter {
            tally: history.tally(&camera),
            state,
            view: Viewfinder::default(),
            history,
            moments: Moments::default(),
            console,
            camera,
            run,
            routes: RwLock::new(routes),
            claim: RwLock::default(),
            clock: Mutex::new(None),
        }
    }

    /// Lines go here from now on.
    pub fn set_routes(&self, routes: Vec<Route>) {
        *self.routes.write() = routes;
    }

    /// What is said from now on is said by this claim to the camera.
    pub fn set_claim(&self, claim: Option<Arc<Claim>>) {
        *self.claim.write() = claim;
    }

    /// Whether any output takes a line for every frame.
    pub fn wants_frames(&self) -> bool {
        self.routes.read().iter().any(|route| route.what == What::All)
    }

    pub fn log(&self, text: &str) {
        self.console.log(&self.camera, text);
    }

    /// A packet of the camera tells what its clock shows at a time of the stream; `None`: a new connection, which
    /// has not told anything yet.
    pub fn set_clock(&self, clock: Option<(gst::ClockTime, u64)>) {
        *self.clock.lock() = clock;
    }

    /// A frame with its masks, on its streaming thread.
    pub fn frame(&self, size: (u32, u32), pts: Option<gst::ClockTime>, masks: Option<&Masks>) {
        if self.state.frame(size, pts, masks) {
            self.log(&format!("connected, {}x{}", size.0, size.1));
            self.connection("connected", None);
        }
    }

    /// The same frame, for what is kept of it.
    pub fn keep(&self, caps: Option<&gst::Caps>, buffer: &gst::Buffer, masks: Option<Masks>) {
        let Some(masks) = masks else { return };
        if let Some(tally) = &self.tally {
            tally.look(&masks);
        }
        if self.history.takes_snapshots() {
            let sample = gst::Sample::builder().buffer(buffer).caps_if_some(caps).build();
            let (moment, events) = self.moments.came(buffer.pts(), sample, masks);
            self.history.picture(moment, events);
        }
    }

    /// The connection has ended.
    pub fn forget_pictures(&self) {
        self.history.lose_snapshots(self.moments.clear());
    }

    /// A line of gclipmeta2json, on its streaming thread.
    pub fn line(&self, json: &[u8], pts: Option<gst::ClockTime>) {
        let claim = self.claim.read().clone();
        let maker = self.maker(pts, claim.as_deref());
        self.put(maker.frame(json), &About::Frame, maker.time, claim.as_ref());
    }

    pub fn change(&self, change: &Presence) {
        self.state.count(Count::Changes);
        let pts = change.pts.map(gst::ClockTime::from_nseconds);
        let claim = self.claim.read().clone();
        let maker = self.maker(pts, claim.as_deref());
        let entered = change.state == "entered";
        let about = About::Presence { label: change.label.clone(), zone: change.zone.clone(), entered };
        let number = self.put(maker.presence(change), &about, maker.time, claim.as_ref());
        if let Some(number) = number.filter(|_| entered && self.history.takes_snapshots())
            && let Some(moment) = self.moments.want(number, pts)
        {
            self.history.picture(moment, vec![number]);
        }
    }

    /// A thing is damaged, or sound again.
    pub fn anomaly(&self, change: &Anomaly) {
        let claim = self.claim.read().clone();
        let maker = self.maker(change.pts.map(gst::ClockTime::from_nseconds), claim.as_deref());
        let about = About::Anomaly { label: change.label.clone(), damaged: change.state == "damaged" };
        self.put(maker.anomaly(change), &about, maker.time, claim.as_ref());
    }

    /// The camera has come or gone.
    pub fn connection(&self, state: &str, reason: Option<&str>) {
        let claim = self.claim.read().clone();
        let maker = self.maker(None, claim.as_deref());
        let line = maker.connection(&Connection { state, reason });
        self.put(line, &About::Camera { up: state == "connected" }, maker.time, claim.as_ref());
    }

    fn maker<'a>(&'a self, pts: Option<gst::ClockTime>, claim: Option<&'a Claim>) -> Maker<'a> {
        let captured = (*self.clock.lock()).zip(pts).and_then(|((at, shown), pts)| {
            let (at, pts) = (i128::from(at.nseconds()), i128::from(pts.nseconds()));
            u64::try_from(i128::from(shown) + pts - at).ok()
        });
        Maker { run: &self.run, camera: &self.camera, claim, time: now(), captured }
    }

    /// Returns the number of what has happened, if it is to be kept.
    fn put(
        &self,
        line: Option<Vec<u8>>,
        about: &About,
        time: u64,
        claim: Option<&Arc<Claim>>,
    ) -> Option<u64> {
        let line = line?;
        let bytes: Arc<[u8]> = line.into();
        let everything = *about == About::Frame;
        let micros = i64::try_from(time / 1000).unwrap_or(i64::MAX);
        let number = (!everything).then(|| self.history.put(&self.camera, about, micros, &bytes));
        for route in self.routes.read().iter().filter(|route| !everything || route.what == What::All) {
            let line = Line {
                camera: self.camera.clone(),
                bytes: bytes.clone(),
                about: about.clone(),
                claim: claim.cloned(),
            };
            route.queue.put(line);
        }
        number
    }
}
