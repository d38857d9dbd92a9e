// SPDX-License-Identifier: MIT OR Apache-2.0
//! From winning queries, row by row, to mask values and the score, area, box and histogram of each class.

use anyhow::{Result, bail};

use super::{Doubt, Histogram, Ids, NOT_NUMBERS, Region, Segmentation};
use crate::vocabulary::Vocabulary;

/// Values up to this fit one byte a pixel.
const BYTE_CLASSES: usize = 255;

/// One row of pixels: the winning query of each, and its share of the softmax.
pub struct Row<'a> {
    pub y: usize,
    pub query: &'a [u32],
    pub probability: &'a [f32],
    /// Its cosine times the scale.
    pub best: &'a [f32],
    /// How far that is above the best of another mask value; empty where nobody asked.
    pub margin: &'a [f32],
}

/// Pixels each mask value wins; index 0 is the background.
pub struct Counts<'a> {
    vocabulary: &'a Vocabulary,
    pixels: Vec<u64>,
}

impl<'a> Counts<'a> {
    pub fn new(vocabulary: &'a Vocabulary) -> Self {
        Counts { vocabulary, pixels: vec![0; vocabulary.labels.len() + 1] }
    }

    pub fn add(&mut self, row: &Row) {
        for &query in row.query {
            self.pixels[self.vocabulary.query_value[query as usize] as usize] += 1;
        }
    }

    pub fn merge(mut self, below: Self) -> Self {
        for (pixels, more) in self.pixels.iter_mut().zip(below.pixels) {
            *pixels += more;
        }
        self
    }

    /// Queries of the background and of the classes that win more than `min_area` of all foreground pixels; `None`
    /// if no class that is present falls below.
    pub fn queries_kept(&self, min_area: f64) -> Option<Vec<i64>> {
        let foreground: u64 = self.pixels[1..].iter().sum();
        let least = min_area * foreground as f64;
        if self.pixels[1..].iter().all(|&pixels| pixels == 0 || pixels as f64 > least) {
            return None;
        }
        let kept = |value: u32| value == 0 || self.pixels[value as usize] as f64 > least;
        let queries = (0i64..).zip(&self.vocabulary.query_value);
        Some(queries.filter(|(_, value)| kept(**value)).map(|(query, _)| query).collect())
    }
}

/// The mask and its regions, as they grow row by row.
pub struct Tally<'a> {
    vocabulary: &'a Vocabulary,
    doubt: &'a Doubt,
    ids: Ids,
    found: Vec<Extent>,
    /// By mask value; empty where nobody asked.
    bins: Vec<Bins>,
    /// Mask values of the row at hand.
    values: Vec<u32>,
}

/// Pixels of one mask value by their probability.
pub type Bins = [u32; Histogram::BINS];

impl<'a> Tally<'a> {
    /// Pixels that are in doubt become 0.
    pub fn new(vocabulary: &'a Vocabulary, doubt: &'a Doubt, histograms: bool) -> Self {
        let classes = vocabulary.labels.len();
        let values = if histograms { classes + 1 } else { 0 };
        Tally {
            vocabulary,
            doubt,
            ids: ids_of(classes),
            found: vec![Extent::default(); classes + 1],
            bins: vec![[0; Histogram::BINS]; values],
            values: Vec::new(),
        }
    }

    /// Adds the row below those before.
    pub fn add(&mut self, row: &Row) {
        self.values.clear();
        self.values.extend(row.query.iter().map(|&query| self.vocabulary.query_value[query as usize]));
        if !self.bins.is_empty() {
            for (&value, &probability) in self.values.iter().zip(row.probability) {
                self.bins[value as usize][Histogram::bin(probability)] += 1;
            }
        }
        self.doubt.take_away(row.probability, row.best, row.margin, &mut self.values);
        match &mut self.ids {
            Ids::U8(ids) => ids.extend(self.values.iter().map(|&value| value as u8)),
            Ids::U16(ids) => ids.extend(self.values.iter().map(|&value| value as u16)),
        }
        let mut start = 0;
        for run in self.values.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            let score = row.probability[start..end].iter().map(|&probability| f64::from(probability)).sum();
            self.found[run[0] as usize].add(row.y, start, end, score);
            start = end;
        }
    }

    /// Joins the rows above with the rows below.
    pub fn merge(mut self, below: Self) -> Self {
        match (&mut self.ids, below.ids) {
            (Ids::U8(ids), Ids::U8(mut more)) => ids.append(&mut more),
            (Ids::U16(ids), Ids::U16(mut more)) => ids.append(&mut more),
            // both were made for the same vocabulary
            (Ids::U8(_), Ids::U16(_)) | (Ids::U16(_), Ids::U8(_)) => {}
        }
        for (extent, more) in self.found.iter_mut().zip(below.found) {
            extent.merge(&more);
        }
        for (bins, more) in self.bins.iter_mut().zip(below.bins) {
            bins.iter_mut().zip(more).for_each(|(pixels, more)| *pixels += more);
        }
        self
    }

    pub fn segmentation(self, height: usize, width: usize) -> Result<Segmentation> {
        let histograms = histograms(self.vocabulary, &self.bins);
        let answer = segmentation(self.vocabulary, self.ids, &self.found, height, width)?;
        Ok(Segmentation { histograms, ..answer })
    }
}

/// No mask values yet, in the width that so many classes need.
pub fn ids_of(classes: usize) -> Ids {
    if classes <= BYTE_CLASSES { Ids::U8(Vec::new()) } else { Ids::U16(Vec::new()) }
}

/// Of the classes that win a pixel, by mask value from 0, that of the background.
pub fn histograms(vocabulary: &Vocabulary, bins: &[Bins]) -> Vec<Histogram> {
    let all = (1u32..).zip(&vocabulary.labels).zip(bins.iter().skip(1));
    let some = all.filter(|(_, pixels)| pixels.iter().any(|&pixels| pixels > 0));
    some.map(|((value, label), &pixels)| Histogram { value, label: label.clone(), pixels }).collect()
}

/// A mask and the extents of its values, from 0, with the names of the classes.
pub fn segmentation(
    vocabulary: &Vocabulary,
    ids: Ids,
    found: &[Extent],
    height: usize,
    width: usize,
) -> Result<Segmentation> {
    if found.iter().any(|extent| !extent.score.is_finite()) {
        bail!(NOT_NUMBERS);
    }
    let (w, h) = (width as f64, height as f64);
    let labels = vocabulary.labels.iter();
    let present = (1u32..).zip(labels).zip(found.iter().skip(1)).filter(|(_, extent)| extent.pixels > 0);
    let mut regions: Vec<Region> = present
        .map(|((value, label), extent)| Region {
            value,
            label: label.clone(),
            score: extent.score / extent.pixels as f64,
            area: extent.pixels as f64 / (w * h),
            x: extent.left as f64 / w,
            y: extent.top as f64 / h,
            w: (extent.right - extent.left) as f64 / w,
            h: (extent.bottom - extent.top) as f64 / h,
        })
        .collect();
    regions.sort_by(|a, b| b.area.total_cmp(&a.area).then(a.value.cmp(&b.value)));
    Ok(Segmentation::new(width, height, ids, regions))
}

/// What is known of one class.
#[derive(Clone)]
pub struct Extent {
    pub pixels: u64,
    /// Sum of probabilities.
    pub score: f64,
    pub left: usize,
    pub top: usize,
    /// One past the last column and row.
    pub right: usize,
    pub bottom: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Extent { pixels: 0, score: 0.0, left: usize::MAX, top: usize::MAX, right: 0, bottom: 0 }
    }
}

impl Extent {
    /// Adds pixels `start..end` of row `y`.
    fn add(&mut self, y: usize, start: usize, end: usize, score: f64) {
        let pixels = (end - start) as u64;
        self.merge(&Extent { pixels, score, left: start, top: y, right: end, bottom: y + 1 });
    }

    fn merge(&mut self, other: &Extent) {
        self.pixels += other.pixels;
        self.score += other.score;
        self.left = self.left.min(other.left);
        self.top = self.top.min(other.top);
        self.right = self.right.max(other.right);
        self.bottom = self.bottom.max(other.bottom);
    }
}
