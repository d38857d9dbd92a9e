// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element `gclipoverlay`: draws the masks that `gclipsegment` attached, in place.
//!
//! ```sh
//! gst-launch-1.0 filesrc location=models/demo/demo.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto \
//!   ! gclipsegment model=models/demo prompts="car; tree; road; sky" \
//!   ! gclipoverlay opacity=0.5 ! videoconvert ! autovideosink
//! ```
//!
//! Frames without masks pass untouched and uncopied.
//!
//! For privacy, `mode=blur`, `pixelate` or `fill` hide what the prompts name, and `invert=true` hides everything else.
//! They hide what the model found: a frame that carries no masks shows everything.
//!
//! ```text
//! imp          GObject side: properties, caps, the way of a buffer
//! settings     what the user set
//! draw         one frame: the order of the steps, and what is kept between frames
//! composition  the same drawing as an overlay composition beside the frame
//! look         which class looks how in which mode
//! layout       GStreamer's frame description -> planes
//! captions     legend and labels: kept until their content changes
//! text         their pictures (pango, cairo)
//! field        mask -> distance to the border, so that edges are smooth at any size   (pure)
//! rows         the field seen from the samples of a plane: runs and edges             (pure)
//! paint        colours over runs and edges                                            (pure)
//! effect       an altered picture over runs and edges: blur, pixelate, grey           (pure)
//! mosaic       block means, sharp or interpolated                                     (pure)
//! place        where in its region a label stands                                     (pure)
//! stamp        a small picture over a frame                                           (pure)
//! colour       palette, parsing, RGB -> the frame's components                        (pure)
//! ```

mod captions;
mod colour;
mod composition;
mod draw;
mod effect;
mod field;
mod imp;
mod layout;
mod look;
mod mosaic;
mod paint;
mod place;
mod rows;
mod settings;
mod stamp;
mod text;

pub use colour::{Rgb, palette};

use glib::prelude::*;

/// What is done to the regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipOverlayMode")]
pub enum Mode {
    #[default]
    #[enum_value(name = "Tint: the colour of the class over the picture, with a thin contour", nick = "tint")]
    Tint,
    #[enum_value(name = "Contour: a line along the border", nick = "contour")]
    Contour,
    #[enum_value(name = "Blur: nothing but rough colours can be made out", nick = "blur")]
    Blur,
    #[enum_value(name = "Pixelate: coarse blocks", nick = "pixelate")]
    Pixelate,
    #[enum_value(name = "Fill: the colour of the class in place of the picture", nick = "fill")]
    Fill,
    #[enum_value(
        name = "Invert: the regions stay as they are, everything else turns dark and grey",
        nick = "invert"
    )]
    Invert,
}

/// Where the legend stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipOverlayPosition")]
pub enum Position {
    #[default]
    #[enum_value(name = "Top left", nick = "top-left")]
    TopLeft,
    #[enum_value(name = "Top right", nick = "top-right")]
    TopRight,
    #[enum_value(name = "Bottom left", nick = "bottom-left")]
    BottomLeft,
    #[enum_value(name = "Bottom right", nick = "bottom-right")]
    BottomRight,
}

glib::wrapper! {
    pub struct GclipOverlay(ObjectSubclass<imp::GclipOverlay>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "gclipoverlay", gst::Rank::NONE, GclipOverlay::static_type())
}
