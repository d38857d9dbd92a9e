// SPDX-License-Identifier: MIT OR Apache-2.0
//! The common case in one pass over the pixels: a whole picture's patch logits on the CPU.
//!
//! Upsampling a grid of patches to every pixel for every query, then running a softmax over that, moves far more
//! memory than it computes: at full HD and 8 queries, libtorch's passes over 64 MB each. Here one output row at a
//! time is interpolated, compared and summed in the cache, and interpolated a second time for the sum, which is
//! cheaper than keeping it. The compiler vectorises the inner loops, for the widest vectors that the machine has; bands of
//! rows run on as many threads as libtorch uses.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use multiversion::multiversion;
use tch::{Kind, Tensor};

use super::regions::Row;

/// Work below this many query-pixels is not worth another thread. Tests see several threads in small pictures.
const WORK_PER_THREAD: usize = if cfg!(test) { 1 << 14 } else { 1 << 20 };

/// Shows each row of winners to `add`: in bands, each with its own state from `new`, given back from the top.
///
/// `logits` are cosines `[Q, h, w]` on the CPU, interpolated between pixel centres to `height` x `width`; `kept` are
/// the rows that may win, rising; the softmax is over all.
/// With `margins`, the mask value of each query, rows also say how far the winner is above the next mask value.
pub fn bands<S: Send>(
    logits: &Tensor,
    kept: &[i64],
    scale: f64,
    [height, width]: [usize; 2],
    margins: Option<&[u32]>,
    new: impl Fn() -> S + Sync,
    add: impl Fn(&mut S, &Row) + Sync,
) -> Result<Vec<S>> {
    let [queries, rows, columns] = logits.size()[..] else { bail!("logits of {} axes", logits.dim()) };
    let (queries, rows, columns) = (queries as usize, rows as usize, columns as usize);
    let scaled = logits.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?.f_contiguous()?;
    let mut values = vec![0f32; queries * rows * columns];
    let count = values.len();
    scaled.f_copy_data(&mut values, count)?;
    if kept.is_empty() || values.iter().any(|value| !value.is_finite()) {
        bail!(super::NOT_NUMBERS);
    }
    let grid = Grid {
        values,
        rows,
        columns,
        kept,
        margins,
        down: Axis::new(rows, height),
        across: Axis::new(columns, width),
    };
    let threads =
        (queries * height * width / WORK_PER_THREAD).clamp(1, tch::get_num_threads().max(1) as usize);
    let tall = height.div_ceil(threads);
    let starts: Vec<usize> = (0..height).step_by(tall).collect();
    let mut states: Vec<Option<S>> = starts.iter().map(|_| None).collect();
    std::thread::scope(|scope| -> Result<()> {
        for (&start, state) in starts.iter().zip(&mut states) {
            let (grid, new, add) = (&grid, &new, &add);
            let rows = start..(start + tall).min(height);
            let last = rows.end == height;
            let work = move || *state = Some(grid.band(rows, new(), add));
            if last {
                work(); // on this thread, which would only wait
            } else {
                std::thread::Builder::new().spawn_scoped(scope, work).context("cannot start a thread")?;
            }
        }
        Ok(())
    })?;
    states.into_iter().collect::<Option<Vec<S>>>().context("a band without an answer")
}

struct Grid<'a> {
    /// Logits times the scale, `[Q, h, w]`.
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    kept: &'a [i64],
    margins: Option<&'a [u32]>,
    down: Axis,
    across: Axis,
}

impl Grid<'_> {
    fn band<S>(&self, rows: Range<usize>, mut state: S, add: impl Fn(&mut S, &Row)) -> S {
        let width = self.across.fraction.len();
        let mut lines = vec![0f32; self.values.len() / self.rows]; // [Q, w]: the grid between two of its rows
        let mut pixels = vec![0f32; width];
        let mut best = vec![0f32; width];
        let mut query = vec![0u32; width];
        let mut probability = vec![0f32; width];
        let mut margin = vec![0f32; if self.margins.is_some() { width } else { 0 }];
        for y in rows {
            let (above, below, fraction) = self.down.at(y);
            let planes = self.values.chunks(self.rows * self.columns);
            for (line, plane) in lines.chunks_mut(self.columns).zip(planes) {
                let (above, below) = (&plane[above * self.columns..], &plane[below * self.columns..]);
                for ((out, a), b) in line.iter_mut().zip(above).zip(below) {
                    *out = a + (b - a) * fraction;
                }
            }
            winners(&self.across, self.kept, &lines, &mut pixels, &mut best, &mut query);
            probabilities(&self.across, &lines, &mut pixels, &best, &mut probability);
            if let Some(values) = self.margins {
                margins(&self.across, self.kept, values, &lines, &mut pixels, (&best, &query), &mut margin);
            }
            let row = Row { y, query: &query, probability: &probability, best: &best, margin: &margin };
            add(&mut state, &row);
        }
        state
    }
}

/// The best query of each pixel of one row, and its value. `lines` are the samples of each query, `pixels` is scratch.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn winners(
    across: &Axis,
    kept: &[i64],
    lines: &[f32],
    pixels: &mut [f32],
    best: &mut [f32],
    query: &mut [u32],
) {
    best.fill(f32::NEG_INFINITY);
    for &q in kept {
        across.stretch(&lines[q as usize * across.samples..][..across.samples], pixels);
        challenge(pixels, q as u32, best, query);
    }
}

/// The probability of each pixel's `best` value among those of all queries.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn probabilities(across: &Axis, lines: &[f32], pixels: &mut [f32], best: &[f32], probability: &mut [f32]) {
    probability.fill(0.0);
    for line in lines.chunks(across.samples) {
        across.stretch(line, pixels);
        for ((sum, value), best) in probability.iter_mut().zip(&*pixels).zip(best) {
            *sum += exp(value - best);
        }
    }
    for sum in probability {
        *sum = 1.0 / *sum;
    }
}

/// How far each pixel's `best` value, of its `query`, is above that of the best kept query of another mask value.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512vl+avx512dq", "x86_64+avx2"))]
fn margins(
    across: &Axis,
    kept: &[i64],
    values: &[u32],
    lines: &[f32],
    pixels: &mut [f32],
    (best, query): (&[f32], &[u32]),
    margin: &mut [f32],
) {
    margin.fill(f32::INFINITY);
    for &q in kept {
        across.stretch(&lines[q as usize * across.samples..][..across.samples], pixels);
        let value = values[q as usize];
        for (((margin, pixel), best), query) in margin.iter_mut().zip(&*pixels).zip(best).zip(query) {
            let behind = if values[*query as usize] == value { f32::INFINITY } else { best - pixel };
            *margin = margin.min(behind);
        }
    }
}

/// Where a row beats the best so far, it becomes the best; equal values leave the earlier query in place.
#[inline(always)]
fn challenge(row: &[f32], q: u32, best: &mut [f32], query: &mut [u32]) {
    for ((value, best), query) in row.iter().zip(best).zip(query) {
        let better = *value > *best;
        *best = if better { *value } else { *best };
        *query = if better { q } else { *query };
    }
}

/// Output pixels along one axis, each between two samples.
struct Axis {
    fraction: Vec<f32>,
    /// Pixels between the same two samples lie side by side: their range, and the samples.
    runs: Vec<(Range<usize>, usize, usize)>,
    low: Vec<usize>,
    samples: usize,
}

impl Axis {
    /// Pixel centres (`align_corners = false`): pixel x is at sample (x + 0.5) * samples / pixels - 0.5.
    fn new(samples: usize, pixels: usize) -> Axis {
        let scale = samples as f32 / pixels as f32;
        let position = |pixel: usize| ((pixel as f32 + 0.5) * scale - 0.5).max(0.0);
        let low: Vec<usize> = (0..pixels).map(|pixel| (position(pixel) as usize).min(samples - 1)).collect();
        let fraction = (0..pixels).map(|pixel| position(pixel) - low[pixel] as f32).collect();
        let mut runs: Vec<(Range<usize>, usize, usize)> = Vec::new();
        for (pixel, &low) in low.iter().enumerate() {
            match runs.last_mut() {
                Some((range, sample, _)) if *sample == low => range.end = pixel + 1,
                _ => runs.push((pixel..pixel + 1, low, (low + 1).min(samples - 1))),
            }
        }
        Axis { fraction, runs, low, samples }
    }

    /// The two samples around a pixel, and how far it is from the first to the second.
    fn at(&self, pixel: usize) -> (usize, usize, f32) {
        let low = self.low[pixel];
        (low, (low + 1).min(self.samples - 1), self.fraction[pixel])
    }

    /// Interpolates one row of samples to pixels.
    #[inline(always)]
    fn stretch(&self, samples: &[f32], pixels: &mut [f32]) {
        for (range, low, high) in &self.runs {
            let (start, step) = (samples[*low], samples[*high] - samples[*low]);
            for (pixel, fraction) in pixels[range.clone()].iter_mut().zip(&self.fraction[range.clone()]) {
                *pixel = start + step * fraction;
            }
        }
    }
}

/// e to the x, within 3e-6 of the value, in a form the compiler vectorises: 2 to the whole part through the exponent
/// bits, times a polynomial for the rest. Clamped to what f32 can hold; below that it gives 1e-38, not 0.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding this rounds to whole numbers: f32 has no bits for a fraction up there.
    const ROUND: f32 = 12_582_912.0;
    let t = x * std::f32::consts::LOG2_E;
    let t = if t < -126.0 { -126.0 } else { t };
    let t = if t > 127.0 { 127.0 } else { t };
    let rounded = t + ROUND;
    let r = t - (rounded - ROUND); // -0.5 ..= 0.5
    let whole = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(whole.wrapping_add(127) << 23);
    // Taylor series of 2^r
    let series = 1.0
        + r * (std::f32::consts::LN_2
            + r * (0.240_226_5 + r * (0.055_504_11 + r * (0.009_618_129 + r * 0.001_333_355_8))));
    series * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Logits;

    #[test]
    fn exp_is_close() {
        for step in -860..860 {
            let x = step as f32 * 0.1;
            let relative = f64::from(exp(x)) / f64::from(x).exp() - 1.0;
            assert!(relative.abs() < 1e-5, "{x}: {relative}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-37 && exp(1e9).is_finite());
    }

    fn winners_of(logits: &Tensor, kept: &[i64], scale: f64, size: [usize; 2]) -> (Vec<i64>, Vec<f32>) {
        let new = || (Vec::new(), Vec::new());
        let bands = bands(logits, kept, scale, size, None, new, |(query, probability), row| {
            assert_eq!(row.query.len(), size[1]);
            query.extend(row.query.iter().map(|&query| i64::from(query)));
            probability.extend_from_slice(row.probability);
        });
        let (query, probability): (Vec<_>, Vec<_>) = bands.unwrap().into_iter().unzip();
        (query.concat(), probability.concat())
    }

    /// Against libtorch's upsampling and softmax, upwards and downwards, on one thread and several.
    #[test]
    fn equal_to_the_plain_way() {
        tch::manual_seed(3);
        for (queries, grid, size) in
            [(5, [3, 4], [48, 64]), (2, [1, 1], [7, 5]), (7, [40, 30], [11, 9]), (9, [21, 37], [160, 140])]
        {
            let logits = Tensor::rand([queries, grid[0], grid[1]], (Kind::Float, tch::Device::Cpu));
            let every: Vec<i64> = (0..queries).collect();
            let full = logits.upsampled(&every, [size[0] as i64, size[1] as i64]).unwrap() * 40.0;
            let softmax = full.softmax(0, Kind::Float);
            let (query, probability) = winners_of(&logits, &every, 40.0, size);
            let query = Tensor::from_slice(&query).view([1, size[0] as i64, size[1] as i64]);
            let probability = Tensor::from_slice(&probability).view([1, size[0] as i64, size[1] as i64]);
            // the winner found scores as much as the best, and its probability is that of the softmax
            let lost = (full.max_dim(0, true).0 - full.gather(0, &query, false)).max().double_value(&[]);
            let off = (softmax.gather(0, &query, false) - probability).abs().max().double_value(&[]);
            assert!(lost < 1e-4 && off < 1e-4, "{queries} {grid:?} {size:?}: {lost} {off}");
        }
    }

    #[test]
    fn only_kept_queries_win_but_all_count() {
        let logits = Tensor::from_slice(&[0.9f32, 0.8, 0.1]).view([3, 1, 1]);
        let (query, probability) = winners_of(&logits, &[1, 2], 10.0, [1, 1]);
        let expected = (8f32).exp() / ((9f32).exp() + (8f32).exp() + (1f32).exp());
        assert_eq!(query, [1]);
        assert!((probability[0] - expected).abs() < 1e-5);
    }
}
