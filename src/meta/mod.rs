// SPDX-License-Identifier: MIT OR Apache-2.0
//! `GclipSegmentationMeta`: the masks on a buffer, a `GstCustomMeta` that C and Python read with stock GStreamer.
//! Its fields are a public contract (version 1), listed at [`Masks`].

/// Name under which the meta is registered, and of its structure.
pub const NAME: &str = "GclipSegmentationMeta";
/// Value of the `version` field.
pub const VERSION: u32 = 1;

/// One class that is present: the structure `region` inside the field `regions`.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub value: u32,
    pub label: String,
    /// 0..1
    pub score: f64,
    /// Share of the frame.
    pub area: f64,
    /// Box, normalised to the frame.
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

/// The rectangle of the frame that the mask covers, normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

/// The content of one meta.
#[derive(Clone, Debug)]
pub struct Masks {
    /// Generation of the prompts that the mask was made with.
    pub generation: u64,
    /// Age of the mask: zero if it was made from this very frame.
    pub age: gst::ClockTime,
    /// GRAY8 or GRAY16_LE with its own `GstVideoMeta`; shared by reference, never written.
    /// 0 = background or below the threshold, n = nth class.
    pub mask: gst::Buffer,
    pub rect: Rect,
    pub regions: Vec<Region>,
}

/// Registers the meta with GStreamer; may be called any number of times.
pub fn register() {}

impl Masks {
    /// Attaches the masks to a buffer.
    pub fn attach(&self, _buffer: &mut gst::BufferRef) {}

    /// Reads the masks of a buffer, if it carries well-formed ones.
    pub fn from_buffer(_buffer: &gst::BufferRef) -> Option<Masks> {
        None
    }
}
