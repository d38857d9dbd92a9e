// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patch logits to masks: upsample, softmax over the queries, threshold, ids, regions.
//!
//! The order is that of the published code: cosines are upsampled (bilinear, pixel centres) *before* the softmax
//! over all queries; a class scores the best of its synonyms, so the winning class is that of the winning query.

mod batch;
mod doubt;
mod fused;
mod patches;
mod regions;
#[cfg(test)]
mod tests;
mod winner;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::anomaly::AnomalyMap;
use super::vocabulary::Vocabulary;

#[cfg(test)]
use batch::decode_batch;
pub(super) use batch::{Coming, Job, begin_batch};
use doubt::Doubt;
pub use patches::PatchLogits;
use regions::{Counts, Row, Tally};
use winner::Winner;

/// Said of logits that are NaN or infinite.
const NOT_NUMBERS: &str =
    "the model gives values that are not numbers; try precision f32, or check the checkpoint";

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
    /// Pixels whose winning probability is below this become 0, but for classes with a [threshold of their
    /// own](Vocabulary::thresholds).
    pub threshold: f64,
    /// Pixels whose best cosine is below this become 0, as nothing that was asked for; -1, where no cosine is, takes none.
    pub unknown_cosine: f64,
    /// Pixels whose best cosine is less than this above that of the next class (or of the background) become 0; 0 takes none.
    pub unknown_margin: f64,
    /// Cosines are multiplied by this before the softmax.
    pub logit_scale: f64,
    /// Classes that win less than this share of all foreground pixels are left out.
    pub min_area: f64,
    /// Also says how the scores of the pixels that each class wins are distributed.
    pub histograms: bool,
    pub mask_size: MaskSize,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        DecodeOptions {
            threshold: 0.0,
            unknown_cosine: -1.0,
            unknown_margin: 0.0,
            logit_scale: 40.0,
            min_area: 0.0,
            histograms: false,
            mask_size: MaskSize::Model,
        }
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

/// Pixels that a class wins by their winning probability: those too that a limit takes from it afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub value: u32,
    pub label: String,
    /// Bin n counts probabilities from n to n + 1 twenty-fifths; the last one 1 too.
    pub pixels: [u32; Histogram::BINS],
}

impl Histogram {
    pub const BINS: usize = 25;

    fn bin(probability: f32) -> usize {
        ((probability * Self::BINS as f32) as usize).min(Self::BINS - 1)
    }
}

/// How sure it is that a class is in a picture at all, whether or not it wins a pixel.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    pub label: String,
    /// 0 to 1.
    pub score: f64,
}

/// The answer for one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmentation {
    pub width: usize,
    pub height: usize,
    pub ids: Ids,
    /// Present classes, by falling area.
    pub regions: Vec<Region>,
    /// All classes in the order of the prompts; empty unless [`InferOptions::tags`](super::InferOptions) asked for them.
    pub tags: Vec<Tag>,
    /// Of the classes that win a pixel, in the order of the prompts; empty unless [`DecodeOptions::histograms`] asked for them.
    pub histograms: Vec<Histogram>,
    /// Of each thing that is looked at for damage.
    pub anomalies: Vec<Anomaly>,
}

/// How damaged a thing looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    pub label: String,
    pub map: AnomalyMap,
}

impl Segmentation {
    /// Without what has to be asked for.
    pub fn new(width: usize, height: usize, ids: Ids, regions: Vec<Region>) -> Segmentation {
        let (tags, histograms, anomalies) = (Vec::new(), Vec::new(), Vec::new());
        Segmentation { width, height, ids, regions, tags, histograms, anomalies }
    }

    /// Pixels of these mask values become 0.
    pub fn leave_out(&mut self, values: &[u32]) {
        if !self.regions.iter().any(|region| values.contains(&region.value)) {
            return;
        }
        self.regions.retain(|region| !values.contains(&region.value));
        let most = values.iter().copied().max().unwrap_or(0) as usize;
        let mut goes = vec![false; most + 1];
        values.iter().for_each(|&value| goes[value as usize] = true);
        let goes = |value: usize| goes.get(value).copied().unwrap_or(false);
        match &mut self.ids {
            Ids::U8(ids) => ids.iter_mut().filter(|id| goes(usize::from(**id))).for_each(|id| *id = 0),
            Ids::U16(ids) => ids.iter_mut().filter(|id| goes(usize::from(**id))).for_each(|id| *id = 0),
        }
    }
}

/// Where logits of any size come from, some queries at a time: a thousand classes at full HD never exist at once.
pub trait Logits {
    fn queries(&self) -> usize;

    /// Cosines of the queries in `rows`, `[rows, H, W]` f32 at `size` (height, width).
    fn upsampled(&self, rows: &[i64], size: [i64; 2]) -> Result<Tensor>;

    /// The one grid `[queries, h, w]` that `upsampled` interpolates, where it does nothing else.
    fn grid(&self) -> Option<&Tensor> {
        None
    }
}

/// Logits of a whole picture, `[queries, h, w]`: bilinear between pixel centres.
impl Logits for Tensor {
    fn queries(&self) -> usize {
        self.size().first().map_or(0, |&queries| queries as usize)
    }

    fn upsampled(&self, rows: &[i64], [height, width]: [i64; 2]) -> Result<Tensor> {
        let chosen = select_rows(self, rows)?.f_to_kind(Kind::Float)?; // [Q, h, w] -> [rows, h, w]
        if chosen.size()[1..] == [height, width] {
            return Ok(chosen);
        }
        let full = chosen.f_unsqueeze(0)?.f_upsample_bilinear2d([height, width], false, None, None)?;
        Ok(full.f_squeeze_dim(0)?) // [1, rows, H, W] -> [rows, H, W]
    }

    fn grid(&self) -> Option<&Tensor> {
        Some(self)
    }
}

/// `[Q, ...] -> [rows, ...]`, without a copy where the rows follow each other.
pub fn select_rows(tensor: &Tensor, rows: &[i64]) -> Result<Tensor> {
    match rows {
        [first, .., last] if last - first + 1 == rows.len() as i64 => {
            Ok(tensor.f_narrow(0, *first, rows.len() as i64)?)
        }
        [only] => Ok(tensor.f_narrow(0, *only, 1)?),
        _ => Ok(tensor.f_index_select(0, &Tensor::f_from_slice(rows)?.f_to_device(tensor.device())?)?),
    }
}

/// The sizes a mask may have, each (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskSizes {
    /// The patch grid.
    pub grid: (usize, usize),
    /// The picture as it was resized for the tower or its windows.
    pub model: (usize, usize),
    /// The frame.
    pub frame: (usize, usize),
}

impl MaskSizes {
    pub fn of(&self, choice: MaskSize) -> (usize, usize) {
        match choice {
            MaskSize::Grid => self.grid,
            MaskSize::Model => self.model,
            MaskSize::Frame => self.frame,
        }
    }
}

/// Decodes the logits of one picture that was looked at whole.
///
/// `logits` are cosines, `[queries, h, w]` in any float kind on any device. `picture` and `network` are (height,
/// width) of the frame and of the tower's input: what [`MaskSize::Frame`] and [`MaskSize::Model`] mean.
pub fn decode(
    logits: &Tensor,
    vocabulary: &Vocabulary,
    options: &DecodeOptions,
    picture: (usize, usize),
    network: (usize, usize),
) -> Result<Segmentation> {
    let [_, rows, columns] = logits.size()[..] else {
        bail!("logits of {} axes in place of 3", logits.dim());
    };
    let sizes = MaskSizes { grid: (rows as usize, columns as usize), model: network, frame: picture };
    decode_at(logits, vocabulary, options, sizes.of(options.mask_size))
}

/// Decodes logits from any source to a mask of `size` (height, width); `options.mask_size` is not looked at.
pub fn decode_at(
    logits: &dyn Logits,
    vocabulary: &Vocabulary,
    options: &DecodeOptions,
    (height, width): (usize, usize),
) -> Result<Segmentation> {
    let queries = logits.queries();
    if queries != vocabulary.queries() || queries == 0 || height == 0 || width == 0 {
        bail!("{queries} logits for {} queries at {width}x{height} pixels", vocabulary.queries());
    }
    let every: Vec<i64> = (0..queries as i64).collect();
    let scale = options.logit_scale;
    let size = [height as i64, width as i64];
    let mut contest = Contest { logits, scale, size, log_sum: None, margins: None };
    let (mut rows, mut doubt) = (every.clone(), Doubt::new(vocabulary, options));
    if options.min_area > 0.0 {
        let counts = contest.rows(&every, || Counts::new(vocabulary), Counts::add, Counts::merge)?;
        // Small classes lose their scores, and the best of the others wins; the softmax keeps its denominator.
        match counts.queries_kept(options.min_area) {
            Some(kept) if kept.is_empty() => doubt = Doubt::OfAll,
            Some(kept) => rows = kept,
            None => {}
        }
    }
    contest.margins = doubt.asks_for_margins().then_some(&vocabulary.query_value);
    let new = || Tally::new(vocabulary, &doubt, options.histograms);
    let tally = contest.rows(&rows, new, Tally::add, Tally::merge)?;
    tally.segmentation(height, width)
}

/// The logits of one picture: for all queries first, then perhaps for some.
struct Contest<'a> {
    logits: &'a dyn Logits,
    scale: f64,
    size: [i64; 2],
    /// The softmax's denominator over all queries, kept from the first time.
    log_sum: Option<Tensor>,
    /// With the mask value of each query, rows also say how far the winner is above the next class.
    margins: Option<&'a [u32]>,
}

impl Contest<'_> {
    /// Shows every row of winners among `kept` queries to `add`, from the top; rows may be split into bands, each
    /// with a state of its own from `new`, merged from the top in the end.
    fn rows<S: Send>(
        &mut self,
        kept: &[i64],
        new: impl Fn() -> S + Sync,
        add: impl Fn(&mut S, &Row) + Sync,
        merge: impl Fn(S, S) -> S,
    ) -> Result<S> {
        let size = self.size.map(|side| side as usize);
        if let Some(grid) = self.logits.grid().filter(|grid| grid.device() == Device::Cpu) {
            let bands = fused::bands(grid, kept, self.scale, size, self.margins, new, add)?;
            return bands.into_iter().reduce(merge).context("a mask without rows");
        }
        let winner = Winner::among(self.logits, kept, self.size, self.scale)?;
        let log_sum = self.log_sum.get_or_insert_with(|| winner.log_sum.shallow_clone());
        let margin = match self.margins {
            Some(values) => Some(winner.margin(self.logits, kept, values, self.size, self.scale)?),
            None => None,
        };
        let found = winner.copy_back(log_sum, margin.as_ref())?;
        let mut state = new();
        for y in 0..size[0] {
            let pixels = y * size[1]..(y + 1) * size[1];
            add(
                &mut state,
                &Row {
                    y,
                    query: &found.query[pixels.clone()],
                    probability: &found.probability[pixels.clone()],
                    best: &found.best[pixels.clone()],
                    margin: found.margin.get(pixels).unwrap_or_default(),
                },
            );
        }
        Ok(state)
    }
}

/// Probability of each class at each pixel, `[1 + classes, H, W]` f32: the softmax over all queries, then the best
/// of each class's queries; row 0 is the background's (zeros when there is none). Larger than what [`decode`]
/// needs, for evaluation and tests.
pub fn class_probabilities(
    logits: &dyn Logits,
    vocabulary: &Vocabulary,
    logit_scale: f64,
    (height, width): (usize, usize),
) -> Result<Tensor> {
    let every: Vec<i64> = (0..logits.queries() as i64).collect();
    let full = logits.upsampled(&every, [height as i64, width as i64])?; // [Q, H, W]
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
