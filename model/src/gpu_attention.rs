// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attention scores, and maps on a GPU, for the few blocks that need them; all others use libtorch's fused attention.
//!
//! Shapes: N pictures, H heads, L tokens, D width.

use anyhow::Result;
use tch::{Kind, Tensor};

/// Values of the maps that exist at a time: 64 Mi in f32 are 256 MiB, a few hundred microseconds of work.
const VALUES_AT_A_TIME: i64 = if cfg!(test) { 1 << 10 } else { 64 << 20 };

/// Pre-softmax scores `a b^T / sqrt(D / H)` in f32: two `[N, H, L, D / H] -> [N, H, L, L]`.
pub fn scores(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (_, _, _, head_width) = a.size4()?;
    if a.device().is_cuda() && a.kind() != Kind::Float && a.kind() == b.kind() {
        return short_scores(a, b);
    }
    // In f32 throughout: a score rounded to 8 bits is an attention wrong by several percent.
    let a = a.f_to_kind(Kind::Float)?.f_mul_scalar((head_width as f64).powf(-0.5))?;
    Ok(a.f_matmul(&b.f_to_kind(Kind::Float)?.f_transpose(-2, -1)?)?)
}

/// Scores `a b^T / sqrt(D / H)` in f32 of numbers in f16 or bf16, on the matrix units: two `[N, H, L, D / H] -> [N, H, L, L]`.
/// Products of 16-bit numbers are exact in f32, and they are summed in f32.
fn short_scores(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (n, heads, l, head_width) = a.size4()?;
    let scale = (head_width as f64).powf(-0.5);
    // A power of two changes no digit in any format; heads of 64 are scaled by 1/8.
    let exact = scale.log2().fract() == 0.0;
    let a = if exact { a.f_mul_scalar(scale)? } else { a.shallow_clone() };
    let flat = |x: &Tensor| x.f_reshape([n * heads, x.size()[2], head_width]);
    let scores = flat(&a)?.f_bmm_dtype(&flat(b)?.f_transpose(1, 2)?, Kind::Float)?;
    let mut scores = scores.f_view([n, heads, l, b.size()[2]])?;
    if !exact {
        let _ = scores.f_mul_scalar_(scale)?;
    }
    Ok(scores)
}

/// Mean over the heads of `softmax(scores)`, some pictures at a time: two `[N, H, L, D / H] -> [N, L, L]`.
pub fn mean_map(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (_, heads, l, _) = a.size4()?;
    let pictures = (VALUES_AT_A_TIME / (heads * l * l).max(1)).max(1);
    let some = a.f_split(pictures, 0)?.into_iter().zip(b.f_split(pictures, 0)?);
    let maps = some.map(|(a, b)| -> Result<Tensor> {
        let maps = scores(&a, &b)?.f_softmax(-1, Kind::Float)?;
        Ok(maps.f_mean_dim([1i64].as_slice(), false, Kind::Float)?)
    });
    let maps = maps.collect::<Result<Vec<_>>>()?;
    match &maps[..] {
        [only] => Ok(only.shallow_clone()),
        _ => Ok(Tensor::f_cat(&maps, 0)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transformer::mean_attention_map;

    #[test]
    fn some_pictures_at_a_time_are_all_pictures() {
        tch::manual_seed(2);
        let random = || Tensor::randn([5, 3, 11, 8], (Kind::Float, tch::Device::Cpu));
        let (a, b) = (random(), random());
        let off = mean_map(&a, &b).unwrap() - mean_attention_map(&a, &b).unwrap();
        assert!(off.abs().max().double_value(&[]) < 1e-6);
    }
}
