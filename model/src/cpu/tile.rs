// SPDX-License-Identifier: MIT OR Apache-2.0
//! The product of a few rows with a panel of columns, in registers, on AVX512-BF16.
//!
//! Two bf16 numbers that are neighbours along the summed dimension travel as one u32: that is what `vdpbf16ps` takes. It
//! multiplies exactly and sums in f32.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_ps,
};

/// Rows of a tile: with 4 panels, 24 of the 32 registers sum.
pub const ROWS: usize = 6;
/// Columns of a panel: the f32 lanes of a register.
pub const LANES: usize = 16;

/// `ROWS` rows of `a` (`[ROWS, depth]` pairs) times `P` panels of `b` (`[P, depth, LANES]` pairs): the sums, by row and
/// panel.
#[target_feature(enable = "avx512f,avx512bf16")]
#[inline]
pub fn tile<const P: usize>(a: &[u32], b: &[u32], depth: usize) -> [[__m512; P]; ROWS] {
    assert!(a.len() >= ROWS * depth && b.len() >= P * depth * LANES);
    let mut sums = [[_mm512_setzero_ps(); P]; ROWS];
    for pair in 0..depth {
        let mut columns = [_mm512_set1_epi32(0); P];
        for (panel, column) in columns.iter_mut().enumerate() {
            // SAFETY: panel < P and pair < depth, and `b` holds P x depth x LANES pairs, as asserted.
            *column = unsafe { _mm512_loadu_si512(b.as_ptr().add((panel * depth + pair) * LANES).cast()) };
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: row < ROWS and pair < depth, and `a` holds ROWS x depth pairs, as asserted.
            let value = as_bf16(_mm512_set1_epi32(unsafe { *a.get_unchecked(row * depth + pair) } as i32));
            for (sum, &column) in sums.iter_mut().zip(&columns) {
                *sum = _mm512_dpbf16_ps(*sum, value, as_bf16(column));
            }
        }
    }
    sums
}

#[target_feature(enable = "avx512f")]
#[inline]
fn as_bf16(pairs: __m512i) -> __m512bh {
    // SAFETY: two 512-bit registers of plain numbers; every bit pattern is valid in both.
    unsafe { std::mem::transmute(pairs) }
}
