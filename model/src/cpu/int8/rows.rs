// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tokens in 8 bits, symmetric, each by a scale of its own; and the layer norm before.

use std::arch::x86_64::{
    __mmask16, _mm256_maskz_loadu_epi16, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_cvtps_epi32, _mm512_fmadd_ps,
    _mm512_mask_cvtsepi32_storeu_epi8, _mm512_mask_storeu_ps, _mm512_mask_sub_ps, _mm512_maskz_loadu_ps,
    _mm512_max_epi32, _mm512_mul_ps, _mm512_reduce_add_epi32, _mm512_reduce_add_ps, _mm512_reduce_max_epi32,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_sub_ps,
};

use super::layout::{DEEP, LANES, rows};

/// The largest number in 8 bits; -128 is not used, so that signs are alike.
pub const LARGEST: f32 = 127.0;

/// What numbers in 8 bits are multiplied by to get the original ones, and the other way; for a row of this largest
/// absolute value. Numbers so small that nothing could be divided by them are nothing.
pub fn scale_and_inverse(largest: f32) -> (f32, f32) {
    let inverse = LARGEST / largest;
    if inverse == f32::INFINITY { (0.0, 0.0) } else { (largest / LARGEST, inverse) }
}

/// Lanes of the vector at `at` that belong to a row of `length` numbers.
pub fn lanes(length: usize, at: usize) -> __mmask16 {
    let left = length.saturating_sub(at).min(LANES);
    ((1u32 << left) - 1) as __mmask16
}

/// Tokens in 8 bits, for as many as the kernel takes at a time.
pub struct Rows {
    /// Numbers from one row to the next: the width, rounded up to a whole number of `DEEP`, with zeros.
    pub stride: usize,
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
    /// Of each row's values.
    pub sums: Vec<i32>,
}

impl Rows {
    /// For `count` rows of `width` numbers.
    pub fn new(count: usize, width: usize) -> Rows {
        let (count, stride) = (count.next_multiple_of(rows()), width.next_multiple_of(DEEP));
        Rows { stride, values: vec![0; count * stride], scales: vec![0.0; count], sums: vec![0; count] }
    }

    /// Puts numbers into a row. What is not finite makes the row's scale so, and with it all that comes of the row.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub fn put(&mut self, row: usize, numbers: &[f32]) {
        let values = &mut self.values[row * self.stride..][..self.stride];
        assert!(numbers.len() <= values.len());
        let magnitude = _mm512_set1_epi32(i32::MAX);
        // As integers, absolute values are in the order of the numbers, and what is not finite is above all others.
        let mut largest = _mm512_setzero_si512();
        for at in (0..numbers.len()).step_by(LANES) {
            // SAFETY: the mask leaves out what lies beyond the numbers.
            let lane = unsafe { _mm512_maskz_loadu_ps(lanes(numbers.len(), at), numbers.as_ptr().add(at)) };
            largest = _mm512_max_epi32(largest, _mm512_and_si512(_mm512_castps_si512(lane), magnitude));
        }
        let (scale, inverse) = scale_and_inverse(f32::from_bits(_mm512_reduce_max_epi32(largest) as u32));
        let mut sum = _mm512_setzero_si512();
        for at in (0..numbers.len()).step_by(LANES) {
            // SAFETY: the mask leaves out what lies beyond the numbers; the row has room for whole vectors.
            unsafe {
                let lane = _mm512_maskz_loadu_ps(lanes(numbers.len(), at), numbers.as_ptr().add(at));
                let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(lane, _mm512_set1_ps(inverse)));
                sum = _mm512_add_epi32(sum, rounded);
                _mm512_mask_cvtsepi32_storeu_epi8(values.as_mut_ptr().add(at).cast(), 0xffff, rounded);
            }
        }
        self.scales[row] = scale;
        self.sums[row] = _mm512_reduce_add_epi32(sum);
    }
}

/// A layer norm over the whole of a row.
pub struct Norm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub eps: f32,
}

impl Norm {
    /// Of a row into another, both as long as the weights.
    #[target_feature(enable = "avx512f")]
    pub fn apply(&self, row: &[f32], into: &mut [f32]) {
        let width = self.weight.len();
        assert!(self.bias.len() == width && row.len() == width && into.len() == width);
        let whole = (width as f32).recip();
        let mut sum = _mm512_setzero_ps();
        for at in (0..width).step_by(LANES) {
            // SAFETY: here and below the mask leaves out what lies beyond the slices, which are equally long.
            sum =
                _mm512_add_ps(sum, unsafe { _mm512_maskz_loadu_ps(lanes(width, at), row.as_ptr().add(at)) });
        }
        let mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) * whole);
        let mut squares = _mm512_setzero_ps();
        for at in (0..width).step_by(LANES) {
            let mask = lanes(width, at);
            // SAFETY: as above.
            let lane = unsafe { _mm512_maskz_loadu_ps(mask, row.as_ptr().add(at)) };
            let off = _mm512_mask_sub_ps(_mm512_setzero_ps(), mask, lane, mean);
            squares = _mm512_fmadd_ps(off, off, squares);
        }
        let factor = _mm512_set1_ps((_mm512_reduce_add_ps(squares) * whole + self.eps).sqrt().recip());
        for at in (0..width).step_by(LANES) {
            let mask = lanes(width, at);
            // SAFETY: as above.
            unsafe {
                let [lane, weight, bias] = [row, &self.weight, &self.bias]
                    .map(|numbers| _mm512_maskz_loadu_ps(mask, numbers.as_ptr().add(at)));
                let normal = _mm512_mul_ps(_mm512_sub_ps(lane, mean), factor);
                let normal = _mm512_fmadd_ps(normal, weight, bias);
                _mm512_mask_storeu_ps(into.as_mut_ptr().add(at), mask, normal);
            }
        }
    }
}

/// bf16 to f32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn widen(short: &[u16], into: &mut [f32]) {
    let width = short.len();
    assert!(into.len() == width);
    for at in (0..width).step_by(LANES) {
        let mask = lanes(width, at);
        // SAFETY: the mask leaves out what lies beyond the slices.
        unsafe {
            let lane = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, short.as_ptr().add(at).cast()));
            let lane = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(lane));
            _mm512_mask_storeu_ps(into.as_mut_ptr().add(at), mask, lane);
        }
    }
}
