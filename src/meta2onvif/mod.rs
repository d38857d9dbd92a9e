// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element `gclipmeta2onvif`: turns the masks on a stream into ONVIF metadata, one `tt:MetadataStream` document for
//! each frame, as `application/x-onvif-metadata` for the ONVIF elements of gst-plugins-rs.
//!
//! The sink pad takes anything that carries `GclipSegmentationMeta`: raw video, or what an encoder made of it. What a
//! document holds is described in `meta::onvif`. PTS and duration are kept, and a frame without masks becomes a GAP
//! event.
//!
//! ```text
//! gst-launch-1.0 rtspsrc location=rtsp://camera ! decodebin ! videoconvert \
//!   ! gclipsegment model=openai/clip-vit-base-patch16 prompts="car; person" ! gclipmeta2onvif \
//!   ! rtponvifmetadatapay ! udpsink host=recorder port=5000
//! ```
//!
//! # Times
//!
//! Each frame says its UTC time. If the buffer carries a `GstReferenceTimestampMeta` in UNIX or NTP time (as from
//! `rtspsrc add-reference-timestamp-meta=true`), that is it; else it is worked out from the running time as the
//! property `time-source` says. The output carries it as such a meta in UNIX time too.

mod clock;
mod imp;

use gst::prelude::*;

/// Where UTC times come from, for frames that do not bring their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipTimeSource")]
pub enum TimeSource {
    #[default]
    #[enum_value(name = "The system's clock, at the running time of the frame", nick = "clock")]
    Clock,
    #[enum_value(name = "Running time is UTC", nick = "running-time")]
    RunningTime,
    #[enum_value(name = "The pipeline's clock is UTC", nick = "clock-time")]
    ClockTime,
}

glib::wrapper! {
    pub struct GclipMeta2Onvif(ObjectSubclass<imp::GclipMeta2Onvif>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    TimeSource::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    gst::Element::register(Some(plugin), "gclipmeta2onvif", gst::Rank::NONE, GclipMeta2Onvif::static_type())
}
