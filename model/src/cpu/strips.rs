// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attention of one head, a strip of a few query rows at a time: their scores against all keys fit into the cache.

use std::arch::x86_64::{
    __m256i, _mm256_storeu_si256, _mm512_cvtneps_pbh, _mm512_mul_ps, _mm512_set1_ps, _mm512_storeu_ps,
};
use std::ops::Range;

use super::amx::{self, Operands, Shapes, Sums};
use super::panels::{Head, Panels, padded, padded_pairs, pair};
use super::softmax::exponentials;
use super::tile::{LANES, ROWS, tile};

/// Told a query row's index, its exponentials, one a key, and their sum.
pub type OnMapped<'a> = &'a mut dyn FnMut(usize, &[f32], f32);

/// Query rows of a strip.
pub fn strip_rows() -> usize {
    if amx::is_available() { amx::BLOCK } else { ROWS }
}

/// What one thread needs while it works, kept from head to head.
pub struct Scratch {
    /// Where there are any, the thread's tiles.
    tiles: Option<Shapes>,
    /// Query rows of a strip: R.
    rows: usize,
    keys: usize,
    /// `[R, depth]` pairs, with zeros beyond the width.
    q: Vec<u32>,
    /// Scores, then their exponentials: `[R, keys]`.
    scores: Vec<f32>,
    /// The exponentials in bf16, `[R, keys / 2]` pairs.
    weights: Vec<u32>,
    /// `[R, width]`, the width in whole blocks of tiles.
    gathered: Vec<f32>,
}

impl Scratch {
    /// For `tokens` keys of heads `width` wide.
    pub fn new(tokens: usize, width: usize) -> Scratch {
        let tiles = Shapes::new();
        let (rows, keys) = (strip_rows(), padded(tokens));
        let room = if tiles.is_some() { width.next_multiple_of(amx::BLOCK) } else { width };
        Scratch {
            tiles,
            rows,
            keys,
            q: vec![0; rows * padded_pairs(width)],
            scores: vec![0.0; rows * keys],
            weights: vec![0; rows * keys / 2],
            gathered: vec![0.0; rows * room],
        }
    }

    /// Attention of the queries `rows` with what is packed, as many keys as this was made for. `gathered` gets each row's
    /// index and its result in bf16, if values were packed.
    #[target_feature(enable = "avx512f,avx512bf16,avx512vl")]
    pub fn attend(
        &mut self,
        q: Head,
        rows: Range<usize>,
        panels: &Panels,
        with_values: bool,
        gathered: &mut dyn FnMut(usize, &[u16]),
        mut mapped: Option<OnMapped>,
    ) {
        assert!((panels.keys, panels.depth) == (self.keys, padded_pairs(q.width)));
        let (depth, width) = (panels.depth, q.width);
        let scale = (width as f32).sqrt().recip();
        let mut short = vec![0u16; width];
        for first in rows.clone().step_by(self.rows) {
            let strip = self.rows.min(rows.end - first);
            // Rows beyond the last repeat it, and their results are not used.
            for (row, target) in self.q.chunks_exact_mut(depth).enumerate() {
                let source = q.row(first + row.min(strip - 1)).chunks_exact(2);
                target.iter_mut().zip(source).for_each(|(target, two)| *target = pair(two[0], two[1]));
            }
            multiply(self.tiles.as_ref(), &self.q, &panels.k, depth, &mut self.scores);
            let mut sums = [1.0; amx::BLOCK];
            let rows =
                self.scores.chunks_exact_mut(self.keys).zip(self.weights.chunks_exact_mut(self.keys / 2));
            for ((scores, weights), sum) in rows.zip(&mut sums).take(strip) {
                let (real, padding) = scores.split_at_mut(panels.tokens);
                let largest = largest(real);
                padding.fill(f32::MIN);
                *sum = exponentials(scores, largest, scale, weights);
            }
            if let Some(mapped) = &mut mapped {
                for (row, scores) in self.scores.chunks_exact(self.keys).enumerate().take(strip) {
                    mapped(first + row, &scores[..panels.tokens], sums[row]);
                }
            }
            if with_values {
                multiply(self.tiles.as_ref(), &self.weights, &panels.v, self.keys / 2, &mut self.gathered);
                let room = self.gathered.len() / self.rows;
                for (row, numbers) in self.gathered.chunks_exact(room).enumerate().take(strip) {
                    round(&numbers[..width], sums[row].recip(), &mut short);
                    gathered(first + row, &short);
                }
            }
        }
    }
}

/// A strip's `[R, depth]` pairs times all panels of `[panels, depth, LANES]` pairs: f32 `[R, panels LANES]`.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn multiply(tiles: Option<&Shapes>, a: &[u32], b: &[u32], depth: usize, product: &mut [f32]) {
    match tiles {
        Some(tiles) => multiply_tiles(tiles, a, b, depth, product),
        None => multiply_registers(a, b, depth, product),
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
fn multiply_registers(a: &[u32], b: &[u32], depth: usize, product: &mut [f32]) {
    let columns = product.len() / ROWS;
    let panels = columns / LANES;
    let mut panel = 0;
    while panel < panels {
        let rest = &b[panel * depth * LANES..];
        let at = panel * LANES;
        match panels - panel {
            1 => store(tile::<1>(a, rest, depth), product, columns, at),
            2 => store(tile::<2>(a, rest, depth), product, columns, at),
            3 => store(tile::<3>(a, rest, depth), product, columns, at),
            _ => store(tile::<4>(a, rest, depth), product, columns, at),
        }
        panel += 4.min(panels - panel);
    }
}

/// Strips of `BLOCK` rows; the product has whole blocks of columns. Where the last panel has no neighbour, its sums are there
/// twice.
#[inline]
fn multiply_tiles(_: &Shapes, a: &[u32], b: &[u32], depth: usize, product: &mut [f32]) {
    let columns = product.len() / amx::BLOCK;
    let panels = b.len() / (depth * LANES);
    assert!(depth.is_multiple_of(amx::SIDE) && a.len() >= amx::BLOCK * depth);
    assert!(columns.is_multiple_of(amx::BLOCK) && panels.next_multiple_of(2) * LANES <= columns);
    let rows = [0, amx::SIDE * depth].map(|first| a[first..].as_ptr().cast::<u16>());
    for panel in (0..panels).step_by(2) {
        let neighbour = (panel + 1).min(panels - 1);
        let of = Operands {
            rows,
            row_stride: 4 * depth,
            panels: [panel, neighbour].map(|panel| b[panel * depth * LANES..].as_ptr()),
            line_stride: 4 * LANES,
            steps: depth / amx::SIDE,
        };
        let into = Sums { first: product[panel * LANES..].as_mut_ptr(), row_stride: 4 * columns };
        // SAFETY: the thread's tiles are whole, as `Shapes` does not leave it. There are BLOCK rows of `depth` pairs and as
        // many lines in each panel, and two panels' columns in each of the product's BLOCK rows, as asserted.
        unsafe { amx::bf16(of, into) };
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store<const P: usize>(
    sums: [[std::arch::x86_64::__m512; P]; ROWS],
    product: &mut [f32],
    columns: usize,
    at: usize,
) {
    for (row, sums) in product.chunks_exact_mut(columns).zip(sums) {
        for (target, sum) in row[at..at + P * LANES].chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: `target` is LANES long.
            unsafe { _mm512_storeu_ps(target.as_mut_ptr(), sum) };
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn largest(scores: &[f32]) -> f32 {
    // In lanes, which the compiler turns into vector instructions.
    let mut lanes = [f32::MIN; 4 * LANES];
    let chunks = scores.chunks_exact(4 * LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::MIN, f32::max)
}

/// `factor x numbers` in bf16; a whole number of `LANES`.
#[target_feature(enable = "avx512f,avx512bf16,avx512vl")]
#[inline]
fn round(numbers: &[f32], factor: f32, short: &mut [u16]) {
    let factor = _mm512_set1_ps(factor);
    for (numbers, short) in numbers.chunks_exact(LANES).zip(short.chunks_exact_mut(LANES)) {
        // SAFETY: both are LANES long; the transmute is between 256-bit registers of plain numbers.
        unsafe {
            let product = _mm512_mul_ps(std::arch::x86_64::_mm512_loadu_ps(numbers.as_ptr()), factor);
            let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(product));
            _mm256_storeu_si256(short.as_mut_ptr().cast(), rounded);
        }
    }
}
