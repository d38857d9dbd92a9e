// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in the memory of a GPU: whether the model takes them, and the CUDA context that it shares with its neighbours.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::imp::{CAT, Segment};
use crate::frame::{self, Importer};

impl Segment {
    /// Whether frames may come in the memory of a GPU; before a model is loaded, whether they may on this machine.
    pub fn takes_device_memory(&self) -> bool {
        let loaded = self.loaded.lock();
        loaded.as_ref().is_none_or(|loaded| loaded.importer.takes_device_memory())
    }

    /// The caps that the sink takes with the model that is loaded.
    pub fn acceptable(&self) -> gst::Caps {
        let all = self.sinkpad.pad_template_caps();
        if self.takes_device_memory() { all } else { frame::host_caps(&all) }
    }

    /// Offers the model's CUDA context to every element around: what they allocate in it, the model reads in place.
    pub fn share_context(&self, importer: &Importer) {
        if let Some(why) = importer.why_no_device_memory() {
            gst::info!(CAT, imp = self, "every frame will pass through the host's memory: {why}");
        }
        if let Some(context) = importer.context() {
            gst::debug!(CAT, imp = self, "sharing {context:?}");
            let element = self.obj();
            element.set_context(context);
            let message = gst::message::HaveContext::builder(context.clone()).src(&*element).build();
            // Refused only when there is no bus: then nobody needs to know.
            let _ = element.post_message(message);
        }
    }

    /// Tells a neighbour that asks for a CUDA context the model's. Whether this was such a question, and was answered.
    pub fn answer_context(&self, query: &mut gst::QueryRef) -> bool {
        let gst::QueryViewMut::Context(query) = query.view_mut() else { return false };
        let loaded = self.loaded.lock();
        let Some(context) = loaded.as_ref().and_then(|loaded| loaded.importer.context()) else {
            return false;
        };
        let wanted = query.context_type() == context.context_type();
        if wanted {
            query.set_context(context);
        }
        wanted
    }
}
