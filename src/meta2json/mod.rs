// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element `gclipmeta2json`: turns the masks on a stream into JSON, one object and a newline for each frame.
//!
//! The sink pad takes anything that carries `GclipSegmentationMeta`: raw video, or what an encoder made of it.
//! Each object has the frame's times (nanoseconds), its size, and the regions with label, score, area and box, all
//! as in `schema.json`; `mask` adds their shapes. PTS and duration are kept, and a frame without masks becomes a
//! GAP event.
//!
//! ```text
//! gst-launch-1.0 filesrc location=street.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto \
//!   ! gclipsegment model=models/demo prompts="car; person" ! gclipmeta2json mask=rle ! filesink location=street.jsonl
//! ```

mod imp;

use gst::prelude::*;

glib::wrapper! {
    pub struct GclipMeta2Json(ObjectSubclass<imp::GclipMeta2Json>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "gclipmeta2json", gst::Rank::NONE, GclipMeta2Json::static_type())
}
