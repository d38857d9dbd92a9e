// SPDX-License-Identifier: MIT OR Apache-2.0
//! Products of numbers in f16 with results in f32, on a GPU's matrix units: some ten times as fast as f32, which has no
//! such units without TF32's 10 bits. Each product is exact in f32 and they are summed in f32, so that all that is lost is
//! the rounding of the two inputs to 11 bits.

use anyhow::Result;
use tch::{Kind, Tensor};

/// `a b` in f32: `[B, M, K]`, `[B, K, N] -> [B, M, N]`, both rounded to f16.
pub fn wide_product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a, b) = (a.f_to_kind(Kind::Half)?, b.f_to_kind(Kind::Half)?);
    match a.device().is_cuda() {
        true => Ok(a.f_bmm_dtype(&b, Kind::Float)?),
        // The same numbers elsewhere.
        false => Ok(a.f_to_kind(Kind::Float)?.f_bmm(&b.f_to_kind(Kind::Float)?)?),
    }
}

/// A matrix `[in, out]` that wide products go through, kept in f16.
pub struct WideMatrix(Tensor);

impl WideMatrix {
    pub fn new(matrix: &Tensor) -> Result<WideMatrix> {
        Ok(WideMatrix(matrix.f_to_kind(Kind::Half)?.f_contiguous()?.f_unsqueeze(0)?))
    }

    /// `[..., in] -> [..., out]`, f32.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, inner, outer) = self.0.size3()?;
        let mut size = x.size();
        let out = wide_product(&x.f_reshape([1, -1, inner])?, &self.0)?; // [1, rows, out]
        if let Some(last) = size.last_mut() {
            *last = outer;
        }
        Ok(out.f_view(&size[..])?)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn only_the_inputs_are_rounded() {
        tch::manual_seed(5);
        let random = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        let (x, matrix) = (random(&[2, 3, 64]), random(&[64, 8]));
        let out = WideMatrix::new(&matrix).unwrap().forward(&x).unwrap();
        assert_eq!((out.size(), out.kind()), (vec![2, 3, 8], Kind::Float));
        let rounded = |x: &Tensor| x.to_kind(Kind::Half).to_kind(Kind::Double);
        let off = (out.to_kind(Kind::Double) - rounded(&x).matmul(&rounded(&matrix))).abs().max();
        assert!(off.double_value(&[]) < 1e-5, "summed in f32");
        let exact = x.to_kind(Kind::Double).matmul(&matrix.to_kind(Kind::Double));
        let off = (out.to_kind(Kind::Double) - exact).abs().max().double_value(&[]);
        assert!(off > 1e-5 && off < 1e-2, "{off}");
    }
}
