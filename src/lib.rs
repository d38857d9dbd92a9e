// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open-vocabulary video segmentation for GStreamer: frames go in, text prompts say what to look for,
//! masks come out. The model is GCLIP (arXiv 2502.06818), training-free segmentation on CLIP, run by libtorch.
//!
//! # Map of the modules
//!
//! ```text
//! model       the crate gclip-model (folder model/). Pure tch: checkpoints, both towers, last-block methods,
//!             preprocessing, decoding
//! batch       many sessions -> batches -> one function. No GStreamer, no torch
//! registry    instance id -> the one shared value under that id. No GStreamer, no torch
//! presence    zones of the picture; who enters and leaves them. No GStreamer, no torch
//! engine      one loaded model: its batcher, its text encoder, its entry in the registry
//! picture/    PNG and JPEG files -> pictures for the model. No GStreamer
//! gallery     pictures that a user names as examples -> exemplars
//! frame/      video frame -> model picture, in the host's memory or a GPU's; mask -> buffer: the one module with both
//!             GStreamer and torch types
//! meta/       GclipSegmentationMeta: the masks on a buffer, as every consumer reads them; the standard analytics metadata
//! segment/    element gclipsegment    batches frames through the model, attaches masks
//! overlay/    element gclipoverlay    draws the masks
//! mask/       element gclipmask       turns the masks into a video
//! pads        the two pads that every element has
//! sidecar     what the elements share that turn the metadata into a data stream
//! meta2json/  element gclipmeta2json  turns the metadata into JSON, one object a frame
//! meta2onvif/ element gclipmeta2onvif turns the metadata into ONVIF metadata, one document a frame
//! ```
//!
//! Who may import whom is checked by `tests/layering.rs`.

pub mod batch;
pub mod engine;
pub mod frame;
pub mod gallery;
pub mod meta;
pub mod overlay;
pub mod picture;
pub mod presence;
pub mod registry;

/// The model: pictures and prompts to masks. A crate of its own, which knows neither GStreamer nor threads.
pub use gclip_model as model;

mod mask;
mod meta2json;
mod meta2onvif;
mod pads;
mod segment;
mod sidecar;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    meta::register();
    segment::register(plugin)?;
    mask::register(plugin)?;
    meta2json::register(plugin)?;
    meta2onvif::register(plugin)?;
    overlay::register(plugin)?;
    Ok(())
}

gst::plugin_define!(
    gclip,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY")
);
