// SPDX-License-Identifier: MIT OR Apache-2.0
//! Softmax of one row of scores in f32, on AVX-512.

use std::arch::x86_64::{
    __m256i, __m512, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm256_storeu_si256, _mm512_add_ps,
    _mm512_cvtneps_pbh, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_max_ps, _mm512_reduce_add_ps,
    _mm512_roundscale_ps, _mm512_scalef_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_ps,
};
use std::f32::consts::{LN_2, LOG2_E};

use super::tile::LANES;

/// Two to the power of less than this is as good as nothing.
const SMALLEST: f32 = -126.0;

/// `exp(scale (row - largest))` in the place of each score, also as bf16 into `rounded` (two numbers a u32); returns the
/// sum of the unrounded ones. The length is a multiple of `LANES`.
#[target_feature(enable = "avx512f,avx512bf16,avx512vl")]
#[inline]
pub fn exponentials(row: &mut [f32], largest: f32, scale: f32, rounded: &mut [u32]) -> f32 {
    let factor = _mm512_set1_ps(scale * LOG2_E);
    let offset = _mm512_set1_ps(-largest * scale * LOG2_E);
    let mut sum = _mm512_setzero_ps();
    for (scores, rounded) in row.chunks_exact_mut(LANES).zip(rounded.chunks_exact_mut(LANES / 2)) {
        // SAFETY: `scores` is LANES f32 and `rounded` LANES / 2 u32 long, which is LANES bf16; the transmute is between
        // 256-bit registers of plain numbers.
        unsafe {
            let power = _mm512_fmadd_ps(_mm512_loadu_ps(scores.as_ptr()), factor, offset);
            let value = exp2(_mm512_max_ps(power, _mm512_set1_ps(SMALLEST)));
            sum = _mm512_add_ps(sum, value);
            _mm512_storeu_ps(scores.as_mut_ptr(), value);
            let short: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(value));
            _mm256_storeu_si256(rounded.as_mut_ptr().cast(), short);
        }
    }
    _mm512_reduce_add_ps(sum)
}

/// 2^x to within 3e-6 of itself: the whole part goes into the exponent, the rest, at most a half, into a Taylor
/// polynomial.
#[target_feature(enable = "avx512f")]
#[inline]
pub fn exp2(x: __m512) -> __m512 {
    const TERMS: [f32; 5] =
        [LN_2 * LN_2 * LN_2 * LN_2 / 24.0, LN_2 * LN_2 * LN_2 / 6.0, LN_2 * LN_2 / 2.0, LN_2, 1.0];
    let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let rest = _mm512_sub_ps(x, whole);
    let mut value = _mm512_set1_ps(LN_2 * LN_2 * LN_2 * LN_2 * LN_2 / 120.0);
    for term in TERMS {
        value = _mm512_fmadd_ps(value, rest, _mm512_set1_ps(term));
    }
    _mm512_scalef_ps(value, whole)
}
