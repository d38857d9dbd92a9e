// SPDX-License-Identifier: MIT OR Apache-2.0
//! The activations of the MLP in f32, on AVX-512.

use std::arch::x86_64::{
    __m512, _CMP_LT_OQ, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_mask_mov_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_rcp14_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_sub_ps,
};
use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LOG2_E};

use crate::cpu::softmax::exp2;

/// Powers of two beyond these are as good as nothing and infinity.
const FURTHEST: f32 = 126.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// `x sigmoid(x)`
    Silu,
    /// `x Phi(x)`
    Gelu,
    /// GELU by its approximation with a hyperbolic tangent.
    GeluTanh,
}

impl Curve {
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn of(self, x: __m512) -> __m512 {
        match self {
            Curve::Silu => _mm512_mul_ps(x, sigmoid(x)),
            Curve::Gelu => _mm512_mul_ps(x, normal_distribution(x)),
            Curve::GeluTanh => {
                // (1 + tanh y) / 2 = sigmoid(2 y), y = sqrt(2 / pi) (x + 0.044715 x^3)
                let square = _mm512_mul_ps(x, x);
                let inner = _mm512_fmadd_ps(square, _mm512_set1_ps(0.044_715), _mm512_set1_ps(1.0));
                let twice = _mm512_mul_ps(
                    _mm512_mul_ps(x, inner),
                    _mm512_set1_ps(2.0 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2),
                );
                _mm512_mul_ps(x, sigmoid(twice))
            }
        }
    }
}

/// `exp(x)` to within 3e-6 of itself, of what is not too far from 0.
#[target_feature(enable = "avx512f")]
#[inline]
fn exp(x: __m512) -> __m512 {
    let power = _mm512_mul_ps(x, _mm512_set1_ps(LOG2_E));
    exp2(_mm512_min_ps(_mm512_max_ps(power, _mm512_set1_ps(-FURTHEST)), _mm512_set1_ps(FURTHEST)))
}

/// `1 / x` to within 1e-7 of itself: a guess of 14 bits, and a step of Newton's.
#[target_feature(enable = "avx512f")]
#[inline]
fn reciprocal(x: __m512) -> __m512 {
    let guess = _mm512_rcp14_ps(x);
    _mm512_mul_ps(guess, _mm512_fnmadd_ps(x, guess, _mm512_set1_ps(2.0)))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn sigmoid(x: __m512) -> __m512 {
    let one = _mm512_set1_ps(1.0);
    reciprocal(_mm512_fmadd_ps(exp(_mm512_sub_ps(_mm512_setzero_ps(), x)), one, one))
}

/// To within 2e-7: Abramowitz and Stegun, 7.1.26.
#[target_feature(enable = "avx512f")]
#[inline]
fn normal_distribution(x: __m512) -> __m512 {
    const TERMS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let minus = _mm512_sub_ps(_mm512_setzero_ps(), x);
    let z = _mm512_mul_ps(_mm512_max_ps(x, minus), _mm512_set1_ps(FRAC_1_SQRT_2));
    let t = reciprocal(_mm512_fmadd_ps(z, _mm512_set1_ps(0.327_591_1), _mm512_set1_ps(1.0)));
    let mut sum = _mm512_setzero_ps();
    for term in TERMS {
        sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(term));
    }
    let square = _mm512_mul_ps(z, _mm512_sub_ps(_mm512_setzero_ps(), z));
    let tail = _mm512_mul_ps(_mm512_mul_ps(_mm512_mul_ps(sum, t), exp(square)), _mm512_set1_ps(0.5));
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
    _mm512_mask_mov_ps(_mm512_sub_ps(_mm512_set1_ps(1.0), tail), negative, tail)
}
