// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the flow of data starts, ends and starts again.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::imp::{CAT, Segment};

impl Segment {
    pub fn activate_sink(&self, active: bool) {
        if active {
            self.stream.state.lock().flow = Ok(gst::FlowSuccess::Ok);
        } else {
            self.end_flow(gst::FlowError::Flushing);
            // Waits for no frame to come: what they left in the model is tens of megabytes.
            self.stream.state.lock().input.forget_pictures();
        }
    }

    pub fn activate_src(&self, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            self.stream.state.lock().flow = Ok(gst::FlowSuccess::Ok);
            Ok(self.start_task()?)
        } else {
            self.end_flow(gst::FlowError::Flushing);
            Ok(self.srcpad.stop_task()?)
        }
    }

    /// Lets data flow again if `why` is what stopped it.
    pub(super) fn retry_after(&self, why: gst::FlowError) {
        let mut state = self.stream.state.lock();
        if state.flow != Err(why) {
            return;
        }
        state.flow = Ok(gst::FlowSuccess::Ok);
        drop(state);
        self.restart(&[gst::EventType::Eos]);
    }

    /// Hands the pad the sticky events that never got there, but for those of types that are over, and starts
    /// the task again.
    pub(super) fn restart(&self, over: &[gst::EventType]) -> bool {
        let kept = std::mem::take(&mut self.stream.state.lock().kept);
        for event in kept.iter().filter(|event| !over.contains(&event.type_())) {
            if let Err(error) = self.srcpad.store_sticky_event(event) {
                gst::warning!(CAT, imp = self, "{event:?} is lost: {error}");
            }
        }
        let started = self.start_task();
        if let Err(error) = &started {
            gst::error!(CAT, imp = self, "cannot start the task again: {error}");
        }
        started.is_ok()
    }

    fn start_task(&self) -> Result<(), glib::BoolError> {
        // A weak reference: the task belongs to the pad, the pad to the element.
        let element = self.obj().downgrade();
        self.srcpad.start_task(move || {
            if let Some(element) = element.upgrade() {
                element.imp().run_once();
            }
        })
    }

    /// Stops both threads and gives up what is in flight, without waiting for the model.
    pub(super) fn end_flow(&self, why: gst::FlowError) {
        let mut state = self.stream.state.lock();
        let items = state.end(why);
        let late = std::mem::take(&mut state.output.late);
        self.stream.wake_all();
        drop(state);
        // Nothing of this stream is waited for, and no batch begins with what it has asked.
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.flush();
        }
        drop((items, late));
    }
}
