// SPDX-License-Identifier: MIT OR Apache-2.0
//! PAMR, pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels",
//! CVPR 2020, section 3.3), with the settings that SCLIP, NACLIP and ResCLIP report.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use crate::decode::Logits;

/// How far the published settings look, in pixels.
const DILATIONS: [i64; 2] = [8, 16];
const ITERATIONS: usize = 10;

/// How alike each pixel and its neighbours are: the weights that PAMR averages logits with.
pub struct Pamr {
    /// `[neighbours, 1, H, W]`, a softmax over the neighbours.
    affinity: Tensor,
    /// Of each neighbour, (down, right) in pixels.
    offsets: Vec<(i64, i64)>,
    /// The furthest neighbour.
    reach: i64,
    iterations: usize,
}

impl Pamr {
    /// With the published settings. `picture` is `[1, 3, H, W]`, normalised.
    pub fn new(picture: &Tensor) -> Result<Pamr> {
        Pamr::with(picture, &DILATIONS, ITERATIONS)
    }

    /// With neighbours in eight directions at each of `dilations`.
    pub fn with(picture: &Tensor, dilations: &[i64], iterations: usize) -> Result<Pamr> {
        let Some(&reach) = dilations.iter().max() else { bail!("PAMR needs a dilation") };
        let [1, _, height, width] = picture.size()[..] else {
            bail!("PAMR refines one picture, not {:?}", picture.size());
        };
        let picture = picture.f_to_kind(Kind::Float)?;
        let around =
            |distance: i64| (-1..=1).flat_map(move |y| (-1..=1).map(move |x| (y * distance, x * distance)));
        let windows: Vec<(i64, i64)> = dilations.iter().flat_map(|&distance| around(distance)).collect();
        let offsets: Vec<(i64, i64)> = windows.iter().copied().filter(|&offset| offset != (0, 0)).collect();
        let padded = pad(&picture, reach)?;
        let shifted = |(down, right): (i64, i64)| shift(&padded, reach, (down, right), [height, width]);
        let samples = windows.iter().map(|&offset| shifted(offset)).collect::<Result<Vec<_>>>()?;
        let samples = Tensor::f_cat(&samples, 0)?; // [9 x dilations, 3, H, W], the centre once a dilation
        let deviation = samples.f_std_dim([0i64].as_slice(), true, false)?; // [3, H, W]
        let softness = deviation.f_mul_scalar(0.1)?.f_add_scalar(1e-8)?;
        let likeness = offsets
            .iter()
            .map(|&offset| -> Result<Tensor> {
                let difference = picture.f_sub(&shifted(offset)?)?.f_abs()?.f_div(&softness)?; // [1, 3, H, W]
                Ok(difference.f_mean_dim([1i64].as_slice(), true, Kind::Float)?.f_neg()?) // [1, 1, H, W]
            })
            .collect::<Result<Vec<_>>>()?;
        let affinity = Tensor::f_cat(&likeness, 0)?.f_softmax(0, Kind::Float)?; // [P, 1, H, W]
        Ok(Pamr { affinity, offsets, reach, iterations })
    }

    /// Refines `[queries, H, W]` f32 logits, H and W as the picture's.
    pub fn refine(&self, logits: &Tensor) -> Result<Tensor> {
        let [queries, height, width] = logits.size()[..] else { bail!("logits of {} axes", logits.dim()) };
        let mut logits = logits.f_unsqueeze(0)?; // [1, Q, H, W]
        for _ in 0..self.iterations {
            let padded = pad(&logits, self.reach)?;
            let mut next = Tensor::f_zeros([1, queries, height, width], (Kind::Float, logits.device()))?;
            for (index, &offset) in (0i64..).zip(&self.offsets) {
                let neighbour = shift(&padded, self.reach, offset, [height, width])?;
                let _ = next.f_addcmul_(&self.affinity.f_select(0, index)?, &neighbour)?;
            }
            logits = next;
        }
        Ok(logits.f_squeeze_dim(0)?)
    }
}

/// `[N, C, H, W]` with its border repeated `reach` times on every side.
fn pad(tensor: &Tensor, reach: i64) -> Result<Tensor> {
    Ok(tensor.f_replication_pad2d([reach, reach, reach, reach])?)
}

/// What lies `offset` (down, right) of each pixel, a view into the padded tensor.
fn shift(padded: &Tensor, reach: i64, offset: (i64, i64), [height, width]: [i64; 2]) -> Result<Tensor> {
    Ok(padded.f_narrow(2, reach + offset.0, height)?.f_narrow(3, reach + offset.1, width)?)
}

/// Logits refined by PAMR wherever they come from.
pub struct Refined<'a> {
    logits: &'a dyn Logits,
    pamr: Pamr,
    /// Height and width at which the refinement runs.
    size: [i64; 2],
}

impl<'a> Refined<'a> {
    /// For masks of `mask` (height, width). The published code refines at the picture's own size; a mask smaller than
    /// the `[1, 3, H, W]` normalised `picture` is refined at the picture's size and shrunk after.
    pub fn new(logits: &'a dyn Logits, picture: &Tensor, mask: (usize, usize)) -> Result<Refined<'a>> {
        let [_, _, height, width] = picture.size()[..] else { bail!("picture of {} axes", picture.dim()) };
        let mask = [mask.0 as i64, mask.1 as i64];
        let size = if mask[0] * mask[1] < height * width { [height, width] } else { mask };
        let picture = picture.f_to_kind(Kind::Float)?;
        let picture = match size == [height, width] {
            true => picture,
            false => picture.f_upsample_bilinear2d(size, false, None, None)?,
        };
        Ok(Refined { logits, pamr: Pamr::new(&picture)?, size })
    }
}

impl Logits for Refined<'_> {
    fn queries(&self) -> usize {
        self.logits.queries()
    }

    fn upsampled(&self, rows: &[i64], size: [i64; 2]) -> Result<Tensor> {
        let refined = self.pamr.refine(&self.logits.upsampled(rows, self.size)?)?; // [rows, H, W]
        let every: Vec<i64> = (0..rows.len() as i64).collect();
        refined.upsampled(&every, size)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn logits_stop_at_the_pictures_edge() {
        // A picture of two halves; a logit that spills over the border is drawn back to it.
        let cpu = (Kind::Float, tch::Device::Cpu);
        let column = Tensor::arange(64, cpu);
        let left = column.lt(32).to_kind(Kind::Float);
        let picture = left.expand([1, 3, 48, 64], false) * 2.0 - 1.0;
        let spilled = column.lt(35).to_kind(Kind::Float).expand([1, 48, 64], false).contiguous();
        let refined = Pamr::new(&picture).unwrap().refine(&spilled).unwrap();
        assert!(refined.double_value(&[0, 24, 33]) < 0.2, "{}", refined.double_value(&[0, 24, 33]));
        assert!(refined.double_value(&[0, 24, 30]) > 0.8, "{}", refined.double_value(&[0, 24, 30]));
    }

    #[test]
    fn flat_pictures_and_single_pixels_stay_finite() {
        for (height, width) in [(1, 1), (5, 3)] {
            let picture = Tensor::zeros([1, 3, height, width], (Kind::Float, tch::Device::Cpu));
            let logits = Tensor::ones([2, height, width], (Kind::Float, tch::Device::Cpu));
            let refined = Pamr::new(&picture).unwrap().refine(&logits).unwrap();
            assert!((refined - logits).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn equal_to_the_published_code() {
        let shared = std::env::var("GCLIP_SHARED")
            .unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").into());
        let Ok(tensors) = Tensor::read_safetensors(format!("{shared}/oracle/oracle/pamr.safetensors")) else {
            eprintln!("skipped: no oracle in {shared}");
            return;
        };
        let oracle: HashMap<String, Tensor> = tensors.into_iter().collect();
        let of = |key: &str| oracle[&format!("pamr/{key}")].shallow_clone();
        let picture = of("image").unsqueeze(0);
        // The published code brings logits to the picture's size with corners aligned, where ours arrive upsampled.
        let quarter =
            of("logits_quarter").unsqueeze(0).upsample_bilinear2d([48, 64], true, None, None).squeeze_dim(0);
        for (key, logits, dilations, iterations) in [
            ("out_iter1_dil8_16", of("logits"), [8, 16], 1),
            ("out_iter10_dil8_16", of("logits"), [8, 16], 10),
            ("out_iter10_dil1_2", of("logits"), [1, 2], 10),
            ("out_iter10_dil8_16_from_quarter", quarter, [8, 16], 10),
        ] {
            let refined = Pamr::with(&picture, &dilations, iterations).unwrap().refine(&logits).unwrap();
            let error = (refined - of(key)).abs().max().double_value(&[]);
            assert!(error < 2e-5, "{key}: {error}");
        }
    }
}
