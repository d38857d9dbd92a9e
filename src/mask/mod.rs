// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element `gclipmask`: turns the masks on a stream into a video of their own.
//!
//! ```sh
//! gst-launch-1.0 filesrc location=models/demo/demo.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto \
//!   ! gclipsegment model=models/demo prompts="car; tree; road; sky" \
//!   ! gclipmask mode=matte only=car size=frame ! videoconvert ! autovideosink
//! ```
//!
//! `mode=ids` gives the values of the mask (GRAY8, or GRAY16_LE above 255 classes), `mode=matte` 255 where the labels
//! in `only` are, `mode=cutout` the frame in RGBA with the matte as its alpha (always at the size of the frame).
//! Mattes and cut-outs have soft edges, that run from 0 to 255 over neighbouring pixels of the mask, or with
//! `edges=hard` only 0 and 255. Ids are enlarged by nearest neighbour. Time stamps are those of the frames, so the
//! branches of a `tee` stay together; a frame without masks becomes a GAP event. The masks stay attached.
//!
//! ```text
//! imp       GObject side: properties, pads
//! settings  what the user set
//! stream    data side: caps, pending events, one frame
//! render    masks and frame -> output frame
//! cutout    frame and matte -> RGBA
//! resample  mask values at other sizes            (pure)
//! ```

mod cutout;
mod imp;
mod render;
mod resample;
mod settings;
mod stream;

use gst::prelude::*;

/// What the output shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipMaskMode")]
pub enum Mode {
    #[default]
    #[enum_value(name = "Values of the mask: 0 = background, n = nth class", nick = "ids")]
    Ids,
    #[enum_value(name = "255 where the chosen labels are, 0 elsewhere", nick = "matte")]
    Matte,
    #[enum_value(name = "The frame, transparent but for the chosen labels", nick = "cutout")]
    Cutout,
}

/// Edges of mattes and cut-outs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipMaskEdges")]
pub enum Edges {
    #[default]
    #[enum_value(name = "From 0 to 255 over neighbouring pixels of the mask", nick = "soft")]
    Soft,
    #[enum_value(name = "Only 0 and 255", nick = "hard")]
    Hard,
}

/// Size of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipMaskOutputSize")]
pub enum Size {
    #[default]
    #[enum_value(name = "As the mask", nick = "mask")]
    Mask,
    #[enum_value(name = "As the frame", nick = "frame")]
    Frame,
}

glib::wrapper! {
    pub struct GclipMask(ObjectSubclass<imp::GclipMask>) @extends gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "gclipmask", gst::Rank::NONE, GclipMask::static_type())
}
