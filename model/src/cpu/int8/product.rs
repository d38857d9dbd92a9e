// SPDX-License-Identifier: MIT OR Apache-2.0
//! The product of tokens and weights in 8 bits, with all that follows it done before it is written; on AMX, or AVX512-VNNI.
//!
//! Four numbers that are neighbours along the summed dimension travel as one i32: that is what `vpdpbusd` and
//! `tdpbsud` take, four without a sign and four with. They multiply and sum exactly in 32 bits, so results are the same. Weights have `OFFSET` added so that they need
//! no sign; what that adds to a sum is `OFFSET` times the sum of the token's values, and is taken off again.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _CMP_UNORD_Q, _MM_HINT_T1, _mm_prefetch, _mm512_add_epi32, _mm512_and_si512,
    _mm512_castps_si512, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_cvtepi32_storeu_epi16, _mm512_mask_mov_epi32,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_si512, _mm512_srli_epi32, _mm512_sub_epi32,
};

use super::curve::Curve;
use super::layout::{DEEP, LANES, Line, OFFSET, PANELS, QUAD, ROWS, rows as rows_at_a_time};
use super::matrix::Matrix;
use super::rows::{Rows, lanes};
use crate::cpu::amx::{self, Operands, Shapes, Sums};

/// What a product, with its scales and bias, becomes; all are `[rows, columns]`.
pub enum Target<'a> {
    /// Rounded to bf16.
    Short(&'a mut [u16]),
    Whole(&'a mut [f32]),
    /// An activation of it.
    Curved(&'a mut [f32], Curve),
    /// Added, times a factor of each column.
    Added(&'a mut [f32], &'a [f32]),
}

impl Target<'_> {
    fn length(&self) -> usize {
        match self {
            Target::Short(numbers) => numbers.len(),
            Target::Whole(numbers) | Target::Curved(numbers, _) | Target::Added(numbers, _) => numbers.len(),
        }
    }

    /// Takes the lanes in the mask of a row's columns from `column` on; `at` is their place.
    ///
    /// # Safety
    /// The lanes in the mask lie within the numbers, and their columns within the factors.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn put(&mut self, at: usize, column: usize, mask: __mmask16, value: __m512) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                Target::Short(numbers) => {
                    let place = numbers.as_mut_ptr().add(at).cast();
                    _mm512_mask_cvtepi32_storeu_epi16(place, mask, rounded_to_bf16(value));
                }
                Target::Whole(numbers) => _mm512_mask_storeu_ps(numbers.as_mut_ptr().add(at), mask, value),
                Target::Curved(numbers, curve) => {
                    _mm512_mask_storeu_ps(numbers.as_mut_ptr().add(at), mask, curve.of(value));
                }
                Target::Added(numbers, factors) => {
                    let place = numbers.as_mut_ptr().add(at);
                    let factor = _mm512_maskz_loadu_ps(mask, factors.as_ptr().add(column));
                    let sum = _mm512_fmadd_ps(value, factor, _mm512_maskz_loadu_ps(mask, place));
                    _mm512_mask_storeu_ps(place, mask, sum);
                }
            }
        }
    }
}

/// The first `count` of the rows times the weights, into the target. On tiles, where the thread has them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub fn multiply(tiles: Option<&Shapes>, rows: &Rows, count: usize, matrix: &Matrix, mut target: Target) {
    assert!(rows.stride >= matrix.depth && count.next_multiple_of(rows_at_a_time()) <= rows.sums.len());
    assert!(target.length() == count * matrix.columns);
    assert!(!matches!(&target, Target::Added(_, factors) if factors.len() != matrix.columns));
    for first in (0..matrix.scales.len() / LANES).step_by(matrix.together) {
        match matrix.group(first) {
            (start, panels) if tiles.is_some() => {
                on_tiles(rows, count, matrix, start, first, panels, &mut target);
            }
            (start, 1) => group::<1>(rows, count, matrix, start, first, &mut target),
            (start, 2) => group::<2>(rows, count, matrix, start, first, &mut target),
            (start, _) => group::<PANELS>(rows, count, matrix, start, first, &mut target),
        }
    }
}

/// The columns of the group that starts at `start` of the weights, with the panel `first`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn group<const P: usize>(
    rows: &Rows,
    count: usize,
    matrix: &Matrix,
    start: usize,
    first: usize,
    target: &mut Target,
) {
    let weights = &matrix.groups[start..];
    let quads = matrix.depth / QUAD;
    for (number, top) in (0..count).step_by(ROWS).enumerate() {
        // Each tile asks for a part of the next group, which would come too late from beyond the caches.
        let ahead = weights.get(P * quads + number.min(PANELS - 1) * quads..).unwrap_or_default();
        let sums = tile::<P>(&rows.values[top * rows.stride..], rows.stride, weights, quads, ahead);
        for (row, sums) in (top..count).zip(sums) {
            finish(rows, row, matrix, first, sums, target);
        }
    }
}

/// A row's sums, by panel from `first` on, with scales and bias, into the target.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn finish(
    rows: &Rows,
    row: usize,
    matrix: &Matrix,
    first: usize,
    sums: impl IntoIterator<Item = __m512i>,
    target: &mut Target,
) {
    let columns = matrix.columns;
    // Wraps only for tokens that are not finite, whose values mean nothing.
    let offset = _mm512_set1_epi32(OFFSET.wrapping_mul(rows.sums[row]));
    let scale = _mm512_set1_ps(rows.scales[row]);
    for (panel, sum) in (first..).zip(sums) {
        let column = panel * LANES;
        let (scales, bias) = (&matrix.scales[column..][..LANES], &matrix.bias[column..][..LANES]);
        // SAFETY: both slices are LANES long. The mask leaves out columns that there are not; the target has
        // as many rows as are multiplied, and the factors are as many as the columns, as `multiply` asserts.
        unsafe {
            let scale = _mm512_mul_ps(scale, _mm512_loadu_ps(scales.as_ptr()));
            let value = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, offset));
            let value = _mm512_fmadd_ps(value, scale, _mm512_loadu_ps(bias.as_ptr()));
            target.put(row * columns + column, column, lanes(columns, column), value);
        }
    }
}

/// The sums of a block of tiles.
#[repr(C, align(64))]
struct Block([[[i32; LANES]; amx::BLOCK / LANES]; amx::BLOCK]);

/// The columns of the group that starts at `start` of the weights, with the panel `first`, of one or two `panels`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn on_tiles(
    rows: &Rows,
    count: usize,
    matrix: &Matrix,
    start: usize,
    first: usize,
    panels: usize,
    target: &mut Target,
) {
    let lines = &matrix.groups[start..][..panels * matrix.depth / QUAD];
    assert!(matrix.depth.is_multiple_of(DEEP) && rows.values.len() >= rows.sums.len() * rows.stride);
    let mut block = Block([[[0; LANES]; amx::BLOCK / LANES]; amx::BLOCK]);
    for top in (0..count).step_by(amx::BLOCK) {
        let of = Operands {
            rows: [top, top + amx::SIDE].map(|row| rows.values[row * rows.stride..].as_ptr()),
            row_stride: rows.stride,
            panels: [0, panels - 1].map(|panel| lines[panel..].as_ptr().cast()),
            line_stride: panels * size_of::<Line>(),
            steps: matrix.depth / DEEP,
        };
        let into = Sums { first: block.0.as_mut_ptr().cast(), row_stride: size_of_val(&block.0[0]) };
        // SAFETY: `multiply` was given the thread's tiles. There is room for whole blocks of rows, each at least as long as
        // the weights are deep, as asserted there; each panel has as many lines; the block takes all sums.
        unsafe { amx::int8(of, into) };
        for (row, sums) in (top..count).zip(&block.0) {
            // SAFETY: a panel's sums are a register long.
            let sums = sums[..panels].iter().map(|sums| unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) });
            finish(rows, row, matrix, first, sums, target);
        }
    }
}

/// `ROWS` rows of `values`, `stride` apart, times the weights of a group, `[quads, P]` lines: the sums, by row and panel.
/// What lies `ahead` is brought nearer meanwhile.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn tile<const P: usize>(
    values: &[i8],
    stride: usize,
    weights: &[Line],
    quads: usize,
    ahead: &[Line],
) -> [[__m512i; P]; ROWS] {
    assert!(values.len() >= (ROWS - 1) * stride + QUAD * quads && weights.len() >= P * quads);
    let mut sums = [[_mm512_setzero_si512(); P]; ROWS];
    for quad in 0..quads {
        let mut columns = [_mm512_setzero_si512(); P];
        for (panel, column) in columns.iter_mut().enumerate() {
            // SAFETY: panel < P and quad < quads, and there are as many lines, as asserted.
            *column = unsafe { _mm512_loadu_si512(weights.as_ptr().add(quad * P + panel).cast()) };
        }
        // SAFETY: any address may be given; what is beyond the lines is not used.
        #[allow(unused_unsafe, reason = "newer compilers know that nothing can happen")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(ahead.as_ptr().wrapping_add(quad).cast())
        };
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < ROWS and quad < quads, and there are as many values, as asserted.
            let four =
                unsafe { values.as_ptr().add(row * stride + quad * QUAD).cast::<i32>().read_unaligned() };
            let four = _mm512_set1_epi32(four);
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = _mm512_dpbusd_epi32(*sum, column, four);
            }
        }
    }
    sums
}

/// To the nearest number in bf16, of two equally near ones the even; in the lower half of each lane. Processors with VNNI
/// may lack the instruction for it.
#[target_feature(enable = "avx512f")]
#[inline]
fn rounded_to_bf16(value: __m512) -> __m512i {
    let bits = _mm512_castps_si512(value);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
    let short = _mm512_srli_epi32::<16>(rounded);
    let not_a_number = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
    _mm512_mask_mov_epi32(short, not_a_number, _mm512_set1_epi32(0x7fc0))
}
