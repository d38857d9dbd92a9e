// SPDX-License-Identifier: MIT OR Apache-2.0
//! Video frame -> model picture (one copy), mask -> buffer. The only file that knows both GStreamer and torch
//! types, and the only one of the crate's own code with `unsafe`; each use says why it is sound.

use anyhow::{Result, bail};
use gst_video::prelude::*;

use crate::model::{Picture, Segmentation};

/// Raw video formats that the model reads without a converter in front.
pub const FORMATS: [gst_video::VideoFormat; 10] = [
    gst_video::VideoFormat::Rgb,
    gst_video::VideoFormat::Bgr,
    gst_video::VideoFormat::Rgba,
    gst_video::VideoFormat::Bgra,
    gst_video::VideoFormat::Rgbx,
    gst_video::VideoFormat::Bgrx,
    gst_video::VideoFormat::Gray8,
    gst_video::VideoFormat::I420,
    gst_video::VideoFormat::Nv12,
    gst_video::VideoFormat::Yuy2,
];

/// Copies a mapped frame into a picture, once, whatever its strides.
pub fn picture(frame: &gst_video::VideoFrameRef<&gst::BufferRef>) -> Result<Picture> {
    bail!("no reader for {:?} yet", frame.format())
}

/// The mask of a segmentation as a GRAY8 (up to 255 classes) or GRAY16_LE buffer with its `GstVideoMeta`.
pub fn mask_buffer(segmentation: &Segmentation) -> Result<gst::Buffer> {
    bail!("no mask writer for {}x{} yet", segmentation.width, segmentation.height)
}
