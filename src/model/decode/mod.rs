// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patch logits to masks: upsample, softmax over the queries, threshold, ids, regions.
//!
//! The order is that of the published code: cosines are upsampled (bilinear, pixel centres) *before* the softmax
//! over all queries; a class scores the best of its synonyms, so the winning class is that of the winning query.

mod regions;
#[cfg(test)]
mod tests;
mod winner;

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::vocabulary::Vocabulary;
use winner::Winner;

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

/// Decodes the logits of one picture.
///
/// `logits` are cosines, `[queries, h, w]` in any float kind on any device: one a patch, or one a pixel from
/// windows. `picture` and `network` are (height, width) of the frame and of the tower's input: what
/// [`MaskSize::Frame`] and [`MaskSize::Model`] mean.
pub fn decode(
    logits: &Tensor,
    vocabulary: &Vocabulary,
    options: &DecodeOptions,
    picture: (usize, usize),
    network: (usize, usize),
) -> Result<Segmentation> {
    let [queries, rows, columns] = logits.size()[..] else {
        bail!("logits of {} axes in place of 3", logits.dim());
    };
    if queries as usize != vocabulary.queries() || queries == 0 || rows == 0 || columns == 0 {
        bail!("logits of {queries} queries for a vocabulary of {}", vocabulary.queries());
    }
    let (height, width) = match options.mask_size {
        MaskSize::Grid => (rows as usize, columns as usize),
        MaskSize::Model => network,
        MaskSize::Frame => picture,
    };
    let size = [height as i64, width as i64];
    let logits = logits.f_to_kind(Kind::Float)?;
    let all = Winner::among(&logits, None, size, options.logit_scale)?;
    let mut pixels = regions::Pixels::copy_back(&all.query, &all.probability()?, vocabulary)?;
    if options.min_area > 0.0
        && let Some(kept) = pixels.queries_kept(options.min_area, vocabulary)
    {
        // Small classes lose their scores, and the best of the others wins; the softmax keeps its denominator.
        let best = Winner::among(&logits, Some(&kept), size, options.logit_scale)?;
        let probability = best.probability_within(&all.log_sum)?;
        pixels = regions::Pixels::copy_back(&best.query, &probability, vocabulary)?;
    }
    pixels.segmentation(options.threshold, vocabulary, height, width)
}

/// Probability of each class at each pixel, `[1 + classes, H, W]` f32: the softmax over all queries, then the best
/// of each class's queries; row 0 is the background's (zeros when there is none). Larger than what [`decode`]
/// needs, for evaluation and tests.
pub fn class_probabilities(
    logits: &Tensor,
    vocabulary: &Vocabulary,
    logit_scale: f64,
    (height, width): (usize, usize),
) -> Result<Tensor> {
    let logits = logits.f_to_kind(Kind::Float)?;
    let full = winner::upsample(&logits, [height as i64, width as i64])?; // [Q, h, w] -> [Q, H, W]
    let probabilities = full.f_mul_scalar(logit_scale)?.f_softmax(0, Kind::Float)?;
    let values = 0..=vocabulary.labels.len() as u32;
    let rows = values
        .map(|value| -> Result<Tensor> {
            let of_class = (0i64..).zip(&vocabulary.query_value).filter(|(_, v)| **v == value);
            let rows: Vec<i64> = of_class.map(|(query, _)| query).collect();
            if rows.is_empty() {
                return Ok(probabilities.f_select(0, 0)?.f_zeros_like()?);
            }
            let rows = Tensor::f_from_slice(&rows)?.f_to_device(probabilities.device())?;
            Ok(probabilities.f_index_select(0, &rows)?.f_amax([0i64].as_slice(), false)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_stack(&rows, 0)?)
}
