// SPDX-License-Identifier: MIT OR Apache-2.0
//! ProxyCLIP (Lan et al., ECCV 2024, arXiv 2408.04883; mc-lan/ProxyCLIP): the values of CLIP's last block are gathered by how
//! alike patches are to a second model, DINO or DINOv2 (`helper-model`), on that model's grid. No residual connection, no MLP.
//!
//! `A = softmax(gamma (S - beta mean(S)))` with the cosines `S` of the helper's patches, among entries that are not below 0.
//! Switches: `beta=1.2`, `gamma=3`; `grid=own|clip`: the helper sees CLIP's pixels, as published, or is given the picture in a
//! size in which its patches are CLIP's, with fewer of them to compute and nothing to interpolate.
//!
//! `gla=on` is GLA-CLIP (CVPR 2026, arXiv 2603.23030; 2btlFe/GLA-CLIP): the windows of a picture are attended together;
//! similarities are taken from anchors, the mean of what is alike by more than 0.6, found in `anchors=2` rounds; each row has
//! its own mean, and small sets a sharper `gamma = 1 + 30 / n`; `beta = 1 + 0.3 ln(1 + windows)`. A number for `beta` or `gamma`
//! takes the place of that.
//!
//! As published but for these: a row in which all are below 0 (a black picture, whose patches are all alike) keeps its
//! largest entry and is not NaN (GLA-CLIP does so); rows and columns of pictures that are no squares keep their places; of
//! very many windows only so many are attended together as fit the memory.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::{Method, Options};
use crate::helper::Helper;
use crate::preprocess::Normalisation;
use crate::transformer::{gather, unit_rows};
use crate::vision::{Trunk, VisionTower};

/// Likeness of patches that share an anchor.
const ALIKE: f64 = 0.6;
const WINDOWS_SHARE: f64 = 0.3;
const SET_SHARE: f64 = 30.0;
/// Patches that are attended together: their map has as many rows and columns, 151 MB in f32.
const TOGETHER: i64 = 6144;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Gla {
    anchors: u32,
    /// `None`: by the number of windows.
    beta: Option<f64>,
    /// `None`: by the size of the set.
    gamma: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Weighing {
    Proxy { beta: f64, gamma: f64 },
    Gla(Gla),
}

struct ProxyClip {
    helper: Option<(Helper, Normalisation)>,
    weighing: Weighing,
    /// Whether the helper's grid is made to be CLIP's.
    on_clips_grid: bool,
}

pub fn build(options: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    let gla = options.choice("gla", &[("off", false), ("on", true), ("false", false), ("true", true)])?;
    let on_clips_grid = options.choice("grid", &[("own", false), ("clip", true)])?;
    let (betas, gammas) = (-10.0..=10.0, 0.0..=1000.0);
    let weighing = match gla {
        false => Weighing::Proxy {
            beta: options.number("beta", 1.2, betas)?,
            gamma: options.number("gamma", 3.0, gammas)?,
        },
        true => Weighing::Gla(Gla {
            beta: options.optional_number("beta", betas)?,
            gamma: options.optional_number("gamma", gammas)?,
            anchors: options.whole("anchors", 2, 1..=10)?,
        }),
    };
    Ok(Box::new(ProxyClip { helper: None, weighing, on_clips_grid }))
}

impl Method for ProxyClip {
    fn reads_helper(&self) -> bool {
        true
    }

    fn take_helper(&mut self, helper: Helper, normalisation: Normalisation) {
        self.helper = Some((helper, normalisation));
    }

    /// Unit rows.
    fn helper_sees(&self, input: &Tensor, (h, w): (i64, i64)) -> Result<Option<Tensor>> {
        let Some((helper, normalisation)) = &self.helper else { return Ok(None) };
        let pictures = match self.on_clips_grid {
            false => input.shallow_clone(),
            true => {
                let size = [h * helper.patch_size(), w * helper.patch_size()];
                input.f_upsample_bilinear2d(size, false, None, None)?
            }
        };
        Ok(Some(unit_rows(&helper.tokens(&pictures, normalisation)?)?))
    }

    fn grid(&self, trunk: &Trunk) -> Result<(i64, i64)> {
        match &self.helper {
            Some((helper, _)) if !self.on_clips_grid => helper.grid(&trunk.input),
            _ => Ok(trunk.grid),
        }
    }

    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let alike = match &trunk.helper_saw {
            Some(known) => known.shallow_clone(),
            None => self.helper_sees(&trunk.input, trunk.grid)?.context("proxyclip has no helper model")?,
        }; // [N, h' w', C]
        let values = values(trunk, self.grid(trunk)?)?; // [N, h' w', D]
        let gathered = match self.weighing {
            Weighing::Proxy { beta, gamma } => gather(&proxy_attention(&alike, beta, gamma)?, &values)?,
            Weighing::Gla(gla) => {
                let (n, patches, _) = alike.size3()?;
                let at_a_time = if trunk.is_one_picture { (TOGETHER / patches).clamp(1, n) } else { 1 };
                let groups = alike.f_split(at_a_time, 0)?.into_iter().zip(values.f_split(at_a_time, 0)?);
                let groups = groups.map(|(alike, values)| -> Result<Tensor> {
                    let windows = alike.size().first().copied().unwrap_or(1);
                    let map = gla.attention(&alike.f_flatten(0, 1)?, windows)?.f_unsqueeze(0)?;
                    Ok(gather(&map, &values.f_flatten(0, 1)?.f_unsqueeze(0)?)?
                        .f_reshape(&values.size()[..])?)
                });
                Tensor::f_cat(&groups.collect::<Result<Vec<_>>>()?, 0)?
            }
        }; // [N, h' w', D]
        unit_rows(&tower.project(&tower.last_block()?.attn.out_proj.forward(&gathered)?)?)
    }

    fn describe(&self) -> String {
        let grid = if self.on_clips_grid { "clip" } else { "own" };
        let auto = |number: Option<f64>| number.map_or("auto".to_string(), |number| number.to_string());
        let weighing = match self.weighing {
            Weighing::Proxy { beta, gamma } => format!("gla=off,beta={beta},gamma={gamma}"),
            Weighing::Gla(Gla { anchors, beta, gamma }) => {
                format!("gla=on,beta={},gamma={},anchors={anchors}", auto(beta), auto(gamma))
            }
        };
        let helper = self.helper.as_ref().map_or("none", |(helper, _)| helper.name());
        format!("proxyclip({weighing},grid={grid},helper={helper})")
    }
}

/// Values of the last block's patches, all heads side by side, on another grid: f32 `[N, h' w', D]`.
fn values(trunk: &Trunk, grid: (i64, i64)) -> Result<Tensor> {
    let (h, w) = trunk.grid;
    let (n, heads, _, head_width) = trunk.qkv.v.size4()?;
    let values = trunk.qkv.v.f_narrow(2, 1, h * w)?.f_to_kind(Kind::Float)?.f_permute([0, 1, 3, 2])?; // [N, H, D / H, h w]
    let values = values.f_reshape([n, heads * head_width, h, w])?;
    let values = match grid == trunk.grid {
        true => values,
        false => values.f_upsample_bilinear2d([grid.0, grid.1], false, None, None)?,
    };
    let values = values.f_flatten(2, 3)?.f_transpose(1, 2)?; // [N, h' w', D]
    // Where values in f16 tell that inputs of products may be so, they tell it here too.
    Ok(match trunk.qkv.v.kind() {
        Kind::Half => values.f_to_kind(Kind::Half)?,
        _ => values,
    })
}

/// Scores with `-inf` for those below 0, but for the largest of a row in which all are: softmax of its rows.
fn attend_above_zero(scores: &Tensor) -> Result<Tensor> {
    let least = scores.f_amax([-1i64].as_slice(), true)?.f_clamp_max(0.0)?;
    let unlike = scores.f_lt_tensor(&least)?;
    Ok(scores.f_masked_fill(&unlike, f64::NEG_INFINITY)?.f_softmax(-1, Kind::Float)?)
}

/// Unit rows `[N, T, C] -> [N, T, T]`, f32 throughout: an entry near 0 falls on either side of it.
fn proxy_attention(alike: &Tensor, beta: f64, gamma: f64) -> Result<Tensor> {
    let likeness = alike.f_matmul(&alike.f_transpose(1, 2)?)?; // [N, T, T]
    let mean = likeness.f_mean_dim([1i64, 2].as_slice(), true, Kind::Float)?;
    attend_above_zero(&likeness.f_sub(&mean.f_mul_scalar(beta)?)?.f_mul_scalar(gamma)?)
}

impl Gla {
    /// Of the unit rows of all windows together: `[T, C] -> [T, T]`.
    fn attention(&self, alike: &Tensor, windows: i64) -> Result<Tensor> {
        let mut likeness = alike.f_matmul(&alike.f_transpose(0, 1)?)?;
        let mut count = alike.f_new_ones([1, 1], (Kind::Float, alike.device()))?;
        for _ in 0..self.anchors {
            let sets;
            (sets, count) = members(&likeness)?;
            let anchors = sets.f_matmul(alike)?.f_div(&count.f_add_scalar(1e-6)?)?;
            likeness = unit_rows(&anchors)?.f_matmul(&alike.f_transpose(0, 1)?)?;
        }
        let mean = likeness.f_mean_dim([1i64].as_slice(), true, Kind::Float)?.f_clamp_min(0.0)?; // [T, 1]
        let beta = self.beta.unwrap_or(1.0 + WINDOWS_SHARE * (1.0 + windows as f64).ln());
        let scores = likeness.f_sub(&mean.f_mul_scalar(beta)?)?;
        let scores = match self.gamma {
            Some(gamma) => scores.f_mul_scalar(gamma)?,
            None => scores.f_mul(&count.f_reciprocal()?.f_mul_scalar(SET_SHARE)?.f_add_scalar(1.0)?)?,
        };
        attend_above_zero(&scores)
    }
}

/// Which patches are alike each, itself where none is, f32 `[T, T]`, and how many `[T, 1]`.
fn members(likeness: &Tensor) -> Result<(Tensor, Tensor)> {
    let sets = likeness.f_gt(ALIKE)?.f_to_kind(Kind::Float)?;
    let alone = sets.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?.f_eq(0.0)?; // [T]
    let mut own = sets.f_diagonal(0, 0, 1)?;
    let _ = own.f_add_(&alone.f_to_kind(Kind::Float)?)?;
    let count = sets.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
    Ok((sets, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, tch::Device) = (Kind::Float, tch::Device::Cpu);

    #[test]
    fn rows_never_are_empty() {
        // All alike, the threshold is above every entry: a black picture.
        let same = unit_rows(&Tensor::ones([2, 7, 4], CPU)).unwrap();
        let random = unit_rows(&Tensor::randn([2, 7, 4], CPU)).unwrap();
        for alike in [same, random] {
            let maps = [
                proxy_attention(&alike, 1.2, 3.0).unwrap(),
                proxy_attention(&alike, 10.0, 3.0).unwrap(),
                Gla { anchors: 2, beta: None, gamma: None }.attention(&alike.flatten(0, 1), 2).unwrap(),
            ];
            for map in maps {
                let sums = map.sum_dim_intlist([-1i64].as_slice(), false, Kind::Float);
                assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5);
            }
        }
    }

    #[test]
    fn patches_attend_to_those_that_are_alike() {
        let one = Tensor::eye(2, CPU).repeat_interleave_self_int(2, 0, 4).unsqueeze(0); // [1, 4, 2]
        let map = proxy_attention(&one, 1.2, 3.0).unwrap();
        let expected = Tensor::eye(2, CPU).kron(&Tensor::full([2, 2], 0.5, CPU));
        assert!((map.squeeze() - expected).abs().max().double_value(&[]) < 1e-6);
    }
}
