// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patch logits to masks: upsample, softmax over the queries, threshold, ids, regions.

/// Size of the mask that comes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaskSize {
    /// One value per patch.
    Grid,
    /// The size the tower saw.
    #[default]
    Model,
    /// The size of the picture.
    Frame,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DecodeOptions {
    /// Pixels whose winning probability is below this become 0.
    pub threshold: f64,
    /// Cosines are multiplied by this before the softmax.
    pub logit_scale: f64,
    /// Classes that win less than this share of all foreground pixels are left out.
    pub min_area: f64,
    pub mask_size: MaskSize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions { threshold: 0.0, logit_scale: 40.0, min_area: 0.0, mask_size: MaskSize::Model }
    }
}

/// Mask values, row-major `[height, width]`; 0 is background or below the threshold, n the nth class.
#[derive(Clone, Debug, PartialEq)]
pub enum Ids {
    /// Up to 255 classes.
    U8(Vec<u8>),
    U16(Vec<u16>),
}

/// One class that is present in the mask.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub value: u32,
    pub label: String,
    /// Mean winning probability over the region, 0..1.
    pub score: f64,
    /// Share of the picture, 0..1.
    pub area: f64,
    /// Bounding box, normalised to the picture: left, top, width, height.
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

/// The answer for one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmentation {
    pub width: usize,
    pub height: usize,
    pub ids: Ids,
    /// Present classes, by falling area.
    pub regions: Vec<Region>,
}
