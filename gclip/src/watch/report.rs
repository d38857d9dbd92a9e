// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one camera tells: to its outputs, to its state and to the log.

use std::sync::Arc;

use gstgclip::meta::Masks;

use super::config::What;
use super::console::Console;
use super::line::{self, Connection, Presence};
use super::queue::{Line, Queue};
use super::state::{CameraState, Count};

pub struct Reporter {
    pub state: Arc<CameraState>,
    pub console: Arc<Console>,
    camera: Arc<str>,
    outputs: Vec<(What, Arc<Queue>)>,
}

impl Reporter {
    pub fn new(state: Arc<CameraState>, console: Arc<Console>, outputs: Vec<(What, Arc<Queue>)>) -> Reporter {
        let camera = state.name.as_str().into();
        Reporter { state, console, camera, outputs }
    }

    /// Whether any output takes a line for every frame.
    pub fn wants_frames(&self) -> bool {
        self.outputs.iter().any(|(what, _)| *what == What::All)
    }

    pub fn log(&self, text: &str) {
        self.console.log(&self.camera, text);
    }

    /// A frame with its masks, on its streaming thread.
    pub fn frame(&self, size: (u32, u32), pts: Option<gst::ClockTime>, masks: Option<&Masks>) {
        if self.state.frame(size, pts, masks) {
            self.log(&format!("connected, {}x{}", size.0, size.1));
            self.connection("connected", None);
        }
    }

    /// A line of gclipmeta2json, on its streaming thread.
    pub fn line(&self, json: &[u8]) {
        self.put(line::frame(&self.camera, json), |what| what == What::All);
    }

    pub fn change(&self, change: &Presence) {
        self.state.count(Count::Changes);
        self.put(line::presence(&self.camera, change), |_| true);
    }

    /// The camera has come or gone.
    pub fn connection(&self, state: &str, reason: Option<&str>) {
        self.put(line::connection(&self.camera, &Connection { state, reason }), |_| true);
    }

    fn put(&self, line: Option<Vec<u8>>, wanted: impl Fn(What) -> bool) {
        let Some(line) = line else { return };
        let bytes: Arc<[u8]> = line.into();
        for (_, queue) in self.outputs.iter().filter(|(what, _)| wanted(*what)) {
            queue.put(Line { camera: self.camera.clone(), bytes: bytes.clone() });
        }
    }
}
