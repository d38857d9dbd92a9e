// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one camera tells: to its outputs, to its state and to the log.

use std::sync::Arc;

use gstgclip::meta::Masks;
use parking_lot::{Mutex, RwLock};

use super::config::What;
use super::console::Console;
use super::feed::Feed;
use super::line::{Connection, Maker, Presence, Run};
use super::queue::{About, Line, Queue};
use super::state::{CameraState, Count};
use super::view::Viewfinder;

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
    feed: Arc<Feed>,
    pub console: Arc<Console>,
    camera: Arc<str>,
    run: Arc<Run>,
    routes: RwLock<Vec<Route>>,
    /// A time of the stream, and the camera's clock at it in nanoseconds since 1970.
    clock: Mutex<Option<(gst::ClockTime, u64)>>,
}

impl Reporter {
    pub fn new(
        state: Arc<CameraState>,
        console: Arc<Console>,
        run: Arc<Run>,
        routes: Vec<Route>,
        feed: Arc<Feed>,
    ) -> Reporter {
        let camera = state.name.clone();
        let (routes, clock) = (RwLock::new(routes), Mutex::new(None));
        Reporter { state, view: Viewfinder::default(), feed, console, camera, run, routes, clock }
    }

    /// Lines go here from now on.
    pub fn set_routes(&self, routes: Vec<Route>) {
        *self.routes.write() = routes;
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

    /// A line of gclipmeta2json, on its streaming thread.
    pub fn line(&self, json: &[u8], pts: Option<gst::ClockTime>) {
        self.put(self.maker(pts).frame(json), &About::Frame);
    }

    pub fn change(&self, change: &Presence) {
        self.state.count(Count::Changes);
        let line = self.maker(change.pts.map(gst::ClockTime::from_nseconds)).presence(change);
        let entered = change.state == "entered";
        let about = About::Presence { label: change.label.clone(), zone: change.zone.clone(), entered };
        self.put(line, &about);
    }

    /// The camera has come or gone.
    pub fn connection(&self, state: &str, reason: Option<&str>) {
        let line = self.maker(None).connection(&Connection { state, reason });
        self.put(line, &About::Camera { up: state == "connected" });
    }

    fn maker(&self, pts: Option<gst::ClockTime>) -> Maker<'_> {
        let captured = (*self.clock.lock()).zip(pts).and_then(|((at, shown), pts)| {
            let (at, pts) = (i128::from(at.nseconds()), i128::from(pts.nseconds()));
            u64::try_from(i128::from(shown) + pts - at).ok()
        });
        Maker { run: &self.run, camera: &self.camera, captured }
    }

    fn put(&self, line: Option<Vec<u8>>, about: &About) {
        let Some(line) = line else { return };
        let bytes: Arc<[u8]> = line.into();
        let everything = *about == About::Frame;
        if !everything {
            self.feed.put(&self.camera, &bytes);
        }
        for route in self.routes.read().iter().filter(|route| !everything || route.what == What::All) {
            let line = Line { camera: self.camera.clone(), bytes: bytes.clone(), about: about.clone() };
            route.queue.put(line);
        }
    }
}
