// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks of many pictures at once, where the logits are on a GPU.
//!
//! Everything up to the mask's values and the extent of each class happens on the device, and all of it comes back in
//! one copy: a byte or two a pixel and 24 bytes a class, for every picture of the batch. Pictures that are decoded by
//! the same rules share each step, as a GPU would spend its time on starting small ones else.
//!
//! Shapes: B pictures, Q queries, C classes, patches h x w, pixels H x W.

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::regions::{Extent, ids_of, segmentation};
use super::winner::VALUES_AT_A_TIME;
use super::{DecodeOptions, Ids, Segmentation};
use crate::constants::constant;
use crate::cuda::download;
use crate::vocabulary::Vocabulary;

/// Integers that describe one class: pixels, left, top, right, bottom, and the bits of its score.
const WORDS: usize = 6;

/// What is to be decoded for one picture.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Cosines `[Q, h, w]`.
    pub logits: &'a Tensor,
    pub vocabulary: &'a Vocabulary,
    pub options: &'a DecodeOptions,
    /// (height, width) of the mask.
    pub size: (usize, usize),
}

impl Job<'_> {
    /// Whether this way can do it: small classes are not left out, and the upsampled logits fit.
    pub fn suits(&self) -> bool {
        let values = self.vocabulary.queries() * self.size.0 * self.size.1;
        let sound = self.logits.dim() == 3 && self.logits.size()[0] as usize == self.vocabulary.queries();
        sound && values > 0 && values as i64 <= VALUES_AT_A_TIME && self.options.min_area <= 0.0
    }

    fn is_like(&self, other: &Job) -> bool {
        let rules = |job: &Job| (job.options.threshold, job.options.logit_scale, job.size);
        rules(self) == rules(other)
            && self.logits.size() == other.logits.size()
            && self.vocabulary.labels.len() == other.vocabulary.labels.len()
            && self.vocabulary.query_value == other.vocabulary.query_value
    }
}

/// Decodes jobs that [suit](Job::suits); one segmentation each, in order.
pub fn decode_batch(jobs: &[Job]) -> Result<Vec<Segmentation>> {
    let mut parts = Vec::new();
    for alike in jobs.chunk_by(|a, b| a.is_like(b)) {
        let job = &alike[0];
        let values = job.vocabulary.queries() * job.size.0 * job.size.1;
        let at_a_time = (VALUES_AT_A_TIME as usize / values.max(1)).max(1);
        for some in alike.chunks(at_a_time) {
            parts.push((some, decide(some)?));
        }
    }
    let bytes: Vec<&Tensor> = parts.iter().map(|(_, bytes)| bytes).collect();
    let bytes = match &bytes[..] {
        [] => return Ok(Vec::new()),
        [only] => download(only)?,
        _ => download(&Tensor::f_cat(&bytes, 0)?)?,
    };
    let mut rest = &bytes[..];
    let mut answers = Vec::with_capacity(jobs.len());
    for (some, _) in &parts {
        rest = read(some, rest, &mut answers)?;
    }
    Ok(answers)
}

/// Bytes: the masks of all pictures, then the extents of all classes of all pictures.
fn decide(jobs: &[Job]) -> Result<Tensor> {
    let Job { vocabulary, options, size, logits } = &jobs[0];
    let (b, device) = (jobs.len() as i64, logits.device());
    let (height, width) = (size.0 as i64, size.1 as i64);
    let logits: Vec<&Tensor> = jobs.iter().map(|job| job.logits).collect();
    let logits = Tensor::f_stack(&logits, 0)?.f_to_kind(Kind::Float)?; // [B, Q, h, w]
    let scaled = logits.f_mul_scalar(options.logit_scale)?;
    let full = match scaled.size()[2..] == [height, width] {
        true => scaled,
        false => scaled.f_upsample_bilinear2d([height, width], false, None, None)?, // [B, Q, H, W]
    };
    let (best, index) = full.f_max_dim(1, false)?; // [B, H, W]
    let probability = best.f_sub(&full.f_logsumexp([1i64].as_slice(), false)?)?.f_exp()?;

    let classes = vocabulary.labels.len();
    let (kind, bytes_kind) = match ids_of(classes) {
        Ids::U8(_) => (Kind::Uint8, Kind::Uint8),
        Ids::U16(_) => (Kind::Int, Kind::Int16),
    };
    let lookup: Vec<f32> = vocabulary.query_value.iter().map(|&value| value as f32).collect(); // exact below 2^24
    let values = constant(&lookup, device)?.f_to_kind(kind)?.f_take(&index)?; // [B, H, W]
    let values = match options.threshold > 0.0 {
        true => values.f_masked_fill(&probability.f_lt(options.threshold)?, 0)?,
        false => values,
    };
    let extents = extents(&values, &probability, classes as i64)?; // [B, 1 + C, 6]
    let masks = values.f_to_kind(bytes_kind)?.f_contiguous()?.f_view([b * height * width])?;
    let masks = masks.f_view_dtype(Kind::Uint8)?;
    let extents = extents.f_contiguous()?.f_view([-1])?.f_view_dtype(Kind::Uint8)?;
    Ok(Tensor::f_cat(&[masks, extents], 0)?)
}

/// Extents of values `[B, H, W]` as `[B, 1 + C, 6]` i32; that of value 0 has only its score.
fn extents(values: &Tensor, probability: &Tensor, classes: i64) -> Result<Tensor> {
    let (b, height, width) = values.size3()?;
    let all: Vec<f32> = (0..=classes).map(|value| value as f32).collect();
    let all = constant(&all, values.device())?.f_to_kind(values.kind())?;
    let probability = probability.f_unsqueeze(1)?; // [B, 1, H, W]
    let at_a_time = (VALUES_AT_A_TIME / (b * height * width).max(1)).max(1);
    let mut parts = Vec::new();
    for some in all.f_split(at_a_time, 0)? {
        let mask = values.f_unsqueeze(1)?.f_eq_tensor(&some.f_view([1, -1, 1, 1])?)?; // [B, C, H, W]
        let pixels = mask.f_sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Int)?; // [B, C]
        let score = probability.f_mul(&mask)?.f_sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Float)?;
        let ends = |axis: i64, length: i64| -> Result<(Tensor, Tensor)> {
            let line = mask.f_any_dim(axis, false)?.f_to_kind(Kind::Uint8)?; // [B, C, length]
            let first = line.f_argmax(-1, false)?;
            let last = line.f_flip([2])?.f_argmax(-1, false)?;
            Ok((first.f_to_kind(Kind::Int)?, last.f_neg()?.f_add_scalar(length)?.f_to_kind(Kind::Int)?))
        };
        let ((left, right), (top, bottom)) = (ends(2, width)?, ends(3, height)?);
        let words = [pixels, left, top, right, bottom, score.f_view_dtype(Kind::Int)?];
        parts.push(Tensor::f_stack(&words, -1)?); // [B, C, 6]
    }
    Ok(Tensor::f_cat(&parts, 1)?)
}

/// Takes what [`decide`] made for these jobs off the front of the bytes.
fn read<'a>(jobs: &[Job], bytes: &'a [u8], answers: &mut Vec<Segmentation>) -> Result<&'a [u8]> {
    let Job { vocabulary, size, .. } = &jobs[0];
    let (height, width) = *size;
    let classes = vocabulary.labels.len();
    let value_bytes = match ids_of(classes) {
        Ids::U8(_) => 1,
        Ids::U16(_) => 2,
    };
    let (mask_bytes, extent_bytes) = (height * width * value_bytes, (1 + classes) * WORDS * 4);
    let (masks, rest) =
        bytes.split_at_checked(jobs.len() * mask_bytes).context("masks are missing in the copy")?;
    let (extents, rest) =
        rest.split_at_checked(jobs.len() * extent_bytes).context("extents are missing in the copy")?;
    for ((job, mask), extents) in jobs.iter().zip(masks.chunks(mask_bytes)).zip(extents.chunks(extent_bytes))
    {
        let ids = match ids_of(classes) {
            Ids::U8(_) => Ids::U8(mask.to_vec()),
            Ids::U16(_) => {
                let (pairs, _) = mask.as_chunks::<2>();
                Ids::U16(pairs.iter().map(|&pair| u16::from_ne_bytes(pair)).collect())
            }
        };
        let (words, _) = extents.as_chunks::<4>();
        let found: Vec<Extent> = words.chunks(WORDS).map(extent).collect::<Result<_>>()?;
        answers.push(segmentation(job.vocabulary, ids, &found, height, width)?);
    }
    Ok(rest)
}

fn extent(words: &[[u8; 4]]) -> Result<Extent> {
    let &[pixels, left, top, right, bottom, score] = words else {
        bail!("an extent of {} words", words.len())
    };
    let [pixels, left, top, right, bottom] =
        [pixels, left, top, right, bottom].map(|word| u32::from_ne_bytes(word) as usize);
    let score = f64::from(f32::from_ne_bytes(score));
    Ok(Extent { pixels: pixels as u64, score, left, top, right, bottom })
}
