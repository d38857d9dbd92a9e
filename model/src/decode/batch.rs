// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks of many pictures at once, where the logits are on a GPU.
//!
//! Everything up to the mask's values and the extent of each class happens on the device, and all of it comes back in
//! one copy: a byte or two a pixel, 24 bytes a class and where asked for its histogram, for every picture of the batch. Pictures that are decoded by
//! the same rules share each step, as a GPU would spend its time on starting small ones else. Queries are upsampled some at
//! a time, so that thousands of them, or masks of any size, take no more memory than a few.
//!
//! Shapes: B pictures, Q queries, C classes, patches h x w, pixels H x W.

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::doubt::{least_cosine, least_margin, least_probabilities};
use super::regions::{Bins, Extent, histograms, ids_of, segmentation};
use super::winner::VALUES_AT_A_TIME;
use super::{DecodeOptions, Histogram, Ids, Segmentation};
use crate::constants::constant;
use crate::cuda::Download;
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
    /// Whether there is something to decode, and its logits are those of its vocabulary.
    pub fn suits(&self) -> bool {
        let queries = self.vocabulary.queries();
        let sound = self.logits.dim() == 3 && self.logits.size()[0] as usize == queries;
        sound && queries > 0 && self.size.0 > 0 && self.size.1 > 0
    }

    fn is_like(&self, other: &Job) -> bool {
        let rules = |job: &Job| {
            let DecodeOptions {
                threshold,
                unknown_cosine,
                unknown_margin,
                logit_scale,
                min_area,
                histograms,
                mask_size: _,
            } = *job.options;
            ((threshold, unknown_cosine, unknown_margin), logit_scale, min_area, histograms, job.size)
        };
        rules(self) == rules(other)
            && self.logits.size() == other.logits.size()
            && self.vocabulary.labels.len() == other.vocabulary.labels.len()
            && self.vocabulary.query_value == other.vocabulary.query_value
            && self.vocabulary.thresholds == other.vocabulary.thresholds
    }
}

/// Masks of a batch on their way to the host.
pub struct Coming {
    /// Jobs that were decoded together, in order: how many.
    groups: Vec<usize>,
    bytes: Option<Download>,
}

/// Begins to decode jobs that [suit](Job::suits).
pub fn begin_batch(jobs: &[Job]) -> Result<Coming> {
    let (mut groups, mut parts) = (Vec::new(), Vec::new());
    for alike in jobs.chunk_by(|a, b| a.is_like(b)) {
        let job = &alike[0];
        let values = job.vocabulary.queries() * job.size.0 * job.size.1;
        let at_a_time = (VALUES_AT_A_TIME as usize / values.max(1)).max(1);
        for some in alike.chunks(at_a_time) {
            groups.push(some.len());
            parts.push(decide(some)?);
        }
    }
    let bytes = match &parts[..] {
        [] => None,
        [only] => Some(Download::begin(only)?),
        _ => Some(Download::begin(&Tensor::f_cat(&parts, 0)?)?),
    };
    Ok(Coming { groups, bytes })
}

impl Coming {
    /// Waits for the masks of `jobs`, with which they were begun; one segmentation each, in order.
    pub fn finish(self, jobs: &[Job]) -> Result<Vec<Segmentation>> {
        let Coming { groups, bytes } = self;
        let Some(bytes) = bytes else { return Ok(Vec::new()) };
        bytes.read(|bytes| {
            let (mut bytes, mut jobs) = (bytes, jobs);
            let mut answers = Vec::with_capacity(jobs.len());
            for count in groups {
                let (some, others) = jobs.split_at_checked(count).context("other jobs than were begun")?;
                bytes = read(some, bytes, &mut answers)?;
                jobs = others;
            }
            Ok(answers)
        })
    }
}

/// Decodes jobs that [suit](Job::suits); one segmentation each, in order.
#[cfg(test)]
pub fn decode_batch(jobs: &[Job]) -> Result<Vec<Segmentation>> {
    begin_batch(jobs)?.finish(jobs)
}

/// The best query of each pixel among those looked at so far.
struct Best {
    /// `[B, H, W]` f32, its cosine times the scale; minus infinity where none may win.
    value: Tensor,
    /// `[B, H, W]` i64; of equal ones the first.
    query: Tensor,
    /// `[B, H, W]` f32, the sum over the queries of `exp(theirs - best)`; `None` where nobody asked.
    sum: Option<Tensor>,
}

impl Best {
    /// Among all queries of `scaled`, `[B, Q, h, w]`, at `size`; `handicap`, `[B, Q, 1, 1]`, is added to each.
    fn among(scaled: &Tensor, size: [i64; 2], handicap: Option<&Tensor>, with_sum: bool) -> Result<Best> {
        let [b, queries, ..] = scaled.size()[..] else { bail!("logits of {} axes", scaled.dim()) };
        let at_a_time = (VALUES_AT_A_TIME / (b * size[0] * size[1]).max(1)).clamp(1, queries);
        let mut best: Option<Best> = None;
        for first in (0..queries).step_by(at_a_time as usize) {
            let count = at_a_time.min(queries - first);
            let full = upsampled(&scaled.f_narrow(1, first, count)?, size)?; // [B, C, H, W]
            let full = match handicap {
                Some(handicap) => full.f_add(&handicap.f_narrow(1, first, count)?)?,
                None => full,
            };
            let (value, query) = full.f_max_dim(1, false)?; // [B, H, W]
            let query = if first > 0 { query.f_add_scalar(first)? } else { query };
            let sum = match with_sum {
                true => Some(full.f_sub(&value.f_unsqueeze(1)?)?.f_exp_()?.f_sum_dim_intlist(
                    [1i64].as_slice(),
                    false,
                    Kind::Float,
                )?),
                false => None,
            };
            let part = Best { value, query, sum };
            best = Some(match best {
                None => part,
                Some(before) => before.or_later(&part)?,
            });
        }
        best.context("no query to decode")
    }

    /// With later queries: equal values stay with the earlier one.
    fn or_later(&self, later: &Best) -> Result<Best> {
        let better = later.value.f_gt_tensor(&self.value)?;
        let value = self.value.f_maximum(&later.value)?;
        let in_terms_of = |best: &Best, sum: &Tensor| -> Result<Tensor> {
            Ok(sum.f_mul(&best.value.f_sub(&value)?.f_exp_()?)?)
        };
        let sum = match (&self.sum, &later.sum) {
            (Some(mine), Some(theirs)) => {
                Some(in_terms_of(self, mine)?.f_add_(&in_terms_of(later, theirs)?)?)
            }
            _ => None,
        };
        Ok(Best { query: later.query.f_where_self(&better, &self.query)?, value, sum })
    }
}

/// The best value of queries of another mask value than that in `values`, `[B, H, W]`; arguments as of [`Best::among`].
fn runner_up(
    scaled: &Tensor,
    size: [i64; 2],
    handicap: Option<&Tensor>,
    lookup: &Tensor,
    values: &Tensor,
) -> Result<Tensor> {
    let (b, queries) = (scaled.size()[0], scaled.size()[1]);
    let at_a_time = (VALUES_AT_A_TIME / (b * size[0] * size[1]).max(1)).clamp(1, queries);
    let lookup = lookup.f_to_kind(values.kind())?.f_view([1, -1, 1, 1])?;
    let values = values.f_unsqueeze(1)?; // [B, 1, H, W]
    let mut best: Option<Tensor> = None;
    for first in (0..queries).step_by(at_a_time as usize) {
        let count = at_a_time.min(queries - first);
        let full = upsampled(&scaled.f_narrow(1, first, count)?, size)?;
        let full = match handicap {
            Some(handicap) => full.f_add(&handicap.f_narrow(1, first, count)?)?,
            None => full,
        };
        let own = lookup.f_narrow(1, first, count)?.f_eq_tensor(&values)?;
        let part = full.f_masked_fill(&own, f64::NEG_INFINITY)?.f_amax([1i64].as_slice(), false)?;
        best = Some(match best {
            None => part,
            Some(before) => before.f_maximum(&part)?,
        });
    }
    best.context("no query to decode")
}

/// `[B, C, h, w]` at `size`.
fn upsampled(some: &Tensor, size: [i64; 2]) -> Result<Tensor> {
    match some.size()[2..] == size {
        true => Ok(some.shallow_clone()),
        false => Ok(some.f_upsample_bilinear2d(size, false, None, None)?),
    }
}

/// Bytes: the masks of all pictures, then the extents of all classes of all pictures, then their histograms, where asked for.
fn decide(jobs: &[Job]) -> Result<Tensor> {
    let Job { vocabulary, options, size, logits } = &jobs[0];
    let (b, device) = (jobs.len() as i64, logits.device());
    let (height, width) = (size.0 as i64, size.1 as i64);
    let logits: Vec<&Tensor> = jobs.iter().map(|job| job.logits).collect();
    let logits = Tensor::f_stack(&logits, 0)?.f_to_kind(Kind::Float)?; // [B, Q, h, w]
    let scaled = logits.f_mul_scalar(options.logit_scale)?;

    let classes = vocabulary.labels.len();
    let (kind, bytes_kind) = match ids_of(classes) {
        Ids::U8(_) => (Kind::Uint8, Kind::Uint8),
        Ids::U16(_) => (Kind::Int, Kind::Int16),
    };
    let lookup: Vec<f32> = vocabulary.query_value.iter().map(|&value| value as f32).collect(); // exact below 2^24
    let lookup = constant(&lookup, device)?;
    let values_of = |best: &Best| -> Result<Tensor> { Ok(lookup.f_to_kind(kind)?.f_take(&best.query)?) }; // [B, H, W]

    let mut best = Best::among(&scaled, [height, width], None, true)?;
    let sum = best.sum.take().context("a softmax without its sum")?;
    let mut values = values_of(&best)?;
    let mut probability = sum.f_reciprocal()?;
    let mut without = None;
    if options.min_area > 0.0 {
        // Small classes lose their scores, and the best of the others wins; the softmax keeps its denominator.
        let small = handicap(&values, &lookup, classes as i64, options.min_area)?;
        let kept = Best::among(&scaled, [height, width], Some(&small), false)?;
        probability = probability.f_mul(&kept.value.f_sub(&best.value)?.f_exp_()?)?;
        values = values_of(&kept)?.f_masked_fill(&kept.value.f_eq(f64::NEG_INFINITY)?, 0)?;
        (best, without) = (kept, Some(small));
    }
    let bins = match options.histograms {
        true => Some(bins(&values, &probability, classes as i64)?), // [B, 1 + C, BINS]
        false => None,
    };
    // What each limit takes is found before any has taken something.
    let mut unsure = Vec::new();
    if vocabulary.thresholds.iter().any(Option::is_some) {
        let least = least_probabilities(vocabulary, options.threshold);
        let least: Vec<f32> = least.into_iter().map(|least| least as f32).collect();
        let least = constant(&least, device)?.f_take(&values.f_to_kind(Kind::Int64)?)?;
        unsure.push(probability.f_lt_tensor(&least)?);
    } else if options.threshold > 0.0 {
        unsure.push(probability.f_lt(options.threshold)?);
    }
    if let Some(least) = least_cosine(options) {
        unsure.push(best.value.f_lt(least)?);
    }
    if let Some(least) = least_margin(options) {
        let next = runner_up(&scaled, [height, width], without.as_ref(), &lookup, &values)?;
        unsure.push(best.value.f_sub(&next)?.f_lt(least)?);
    }
    let mut values = values;
    for unsure in unsure {
        values = values.f_masked_fill(&unsure, 0)?;
    }
    let extents = extents(&values, &probability, classes as i64)?; // [B, 1 + C, 6]
    let masks = values.f_to_kind(bytes_kind)?.f_contiguous()?.f_view([b * height * width])?;
    let masks = masks.f_view_dtype(Kind::Uint8)?;
    let mut parts = vec![masks];
    for words in [Some(extents), bins].into_iter().flatten() {
        parts.push(words.f_contiguous()?.f_view([-1])?.f_view_dtype(Kind::Uint8)?);
    }
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// Zero for each query of the background and of classes that win more than `min_area` of the foreground in `values`,
/// `[B, H, W]`; minus infinity for the others: `[B, Q, 1, 1]`. `lookup` is the value of each query, f32 `[Q]`.
fn handicap(values: &Tensor, lookup: &Tensor, classes: i64, min_area: f64) -> Result<Tensor> {
    let (b, height, width) = values.size3()?;
    let index = values.f_view([b, height * width])?.f_to_kind(Kind::Int64)?;
    let one = Tensor::f_ones_like(&index)?;
    let options = (Kind::Int64, values.device());
    let pixels = Tensor::f_zeros([b, 1 + classes], options)?.f_scatter_add_(1, &index, &one)?; // [B, 1 + C]
    let foreground =
        pixels.f_narrow(1, 1, classes)?.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Double)?;
    let small = pixels.f_to_kind(Kind::Double)?.f_le_tensor(&foreground.f_mul_scalar(min_area)?)?;
    let _background = small.f_select(1, 0)?.f_fill_(0)?;
    let small = small.f_index_select(1, &lookup.f_to_kind(Kind::Int64)?)?; // [B, Q]
    let free = Tensor::f_zeros(small.size(), (Kind::Float, values.device()))?;
    Ok(free.f_masked_fill(&small, f64::NEG_INFINITY)?.f_view([b, -1, 1, 1])?)
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

/// Pixels by their value in `values` and their probability, both `[B, H, W]`, as `[B, 1 + C, BINS]` i32.
fn bins(values: &Tensor, probability: &Tensor, classes: i64) -> Result<Tensor> {
    let (b, height, width) = values.size3()?;
    let bins = Histogram::BINS as i64;
    let bin = probability.f_mul_scalar(bins)?.f_to_kind(Kind::Int64)?.f_clamp(0, bins - 1)?; // a NaN too
    let index =
        values.f_to_kind(Kind::Int64)?.f_mul_scalar(bins)?.f_add(&bin)?.f_view([b, height * width])?;
    let one = Tensor::f_ones(index.size(), (Kind::Int, values.device()))?;
    let none = Tensor::f_zeros([b, (1 + classes) * bins], (Kind::Int, values.device()))?;
    Ok(none.f_scatter_add(1, &index, &one)?.f_view([b, 1 + classes, bins])?)
}

/// Takes what [`decide`] made for these jobs off the front of the bytes.
fn read<'a>(jobs: &[Job], bytes: &'a [u8], answers: &mut Vec<Segmentation>) -> Result<&'a [u8]> {
    let Job { vocabulary, size, options, .. } = &jobs[0];
    let (height, width) = *size;
    let classes = vocabulary.labels.len();
    let value_bytes = match ids_of(classes) {
        Ids::U8(_) => 1,
        Ids::U16(_) => 2,
    };
    let (mask_bytes, extent_bytes) = (height * width * value_bytes, (1 + classes) * WORDS * 4);
    let bin_bytes = if options.histograms { (1 + classes) * Histogram::BINS * 4 } else { 0 };
    let (masks, rest) =
        bytes.split_at_checked(jobs.len() * mask_bytes).context("masks are missing in the copy")?;
    let (extents, rest) =
        rest.split_at_checked(jobs.len() * extent_bytes).context("extents are missing in the copy")?;
    let (mut bins, rest) =
        rest.split_at_checked(jobs.len() * bin_bytes).context("histograms are missing in the copy")?;
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
        let (own, others) = bins.split_at_checked(bin_bytes).context("histograms are missing in the copy")?;
        bins = others;
        let (words, _) = own.as_chunks::<4>();
        let (words, _) = words.as_chunks::<{ Histogram::BINS }>();
        let own: Vec<Bins> = words.iter().map(|words| words.map(u32::from_ne_bytes)).collect();
        let answer = segmentation(job.vocabulary, ids, &found, height, width)?;
        answers.push(Segmentation { histograms: histograms(job.vocabulary, &own), ..answer });
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
