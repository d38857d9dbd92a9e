// SPDX-License-Identifier: MIT OR Apache-2.0
//! SC-CLIP (Bai et al., IEEE TIP 2025, arXiv 2411.15869; SuleBai/SC-CLIP): self-calibrated CLIP. No residual
//! connection, no MLP in the last block; instead
//!
//! * anomalous patches, outliers among the tokens that enter the last block, take the mean of their neighbours;
//! * patches are averaged with those alike in the features of earlier blocks, before (`pre=8`) and after (`post=3`) the
//!   last block's attention, which is half key-key, half that likeness;
//! * the sum of several blocks' outputs (`layers=3-9`) goes through the same attention and is added.
//!
//! Blocks count from 0; those of the paper are for 12, other depths get the same share of theirs. More switches:
//! `beta=0.4` (likeness below it counts as none), `cls=0.3` (share of the class token that is added back).
//! The published code places an outlier by dividing its index by the grid's rows, which only holds on squares; here the
//! columns divide.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::outliers::{largest_share, outlier_factors};
use super::{Method, Options};
use crate::transformer::{Block, Qkv, attention_map, gather, unit_rows};
use crate::vision::{Trunk, VisionTower, Wanted};

/// Neighbours that a patch's density is measured with, and the share of patches that are outliers.
const NEIGHBOURS: usize = 30;
const OUTLIERS: f64 = 0.05;
/// Factor of the likeness before its softmax.
const SHARPNESS: f64 = 3.0;

struct ScClip {
    pre: usize,
    post: usize,
    layers: RangeInclusive<usize>,
    beta: f64,
    class_share: f64,
}

pub fn build(options: &mut Options, depth: usize) -> Result<Box<dyn Method>> {
    if depth < 2 {
        bail!("scclip needs a tower of two blocks or more");
    }
    let last = depth - 2;
    let block = |word: &str| match word.trim().parse::<usize>() {
        Ok(block) if block <= last => Ok(block),
        _ => bail!("scclip: {word:?} is no block before the last, which are 0 to {last}"),
    };
    let mut one = |key, default: usize| match options.take(key) {
        Some(typed) => block(&typed),
        None => Ok(default.min(last)),
    };
    let (pre, post) = (one("pre", depth * 2 / 3)?, one("post", depth / 4)?);
    let layers = match options.take("layers") {
        None => (depth / 4).min(last)..=(depth * 3 / 4).min(last),
        Some(typed) => {
            let (first, last) = typed.split_once('-').unwrap_or((&typed, &typed));
            let range = block(first)?..=block(last)?;
            if range.is_empty() {
                bail!("scclip option layers={typed} is no range of blocks such as 3-9");
            }
            range
        }
    };
    Ok(Box::new(ScClip {
        pre,
        post,
        layers,
        beta: options.number("beta", 0.4, -1.0..=1.0)?,
        class_share: options.number("cls", 0.3, 0.0..=10.0)?,
    }))
}

impl Method for ScClip {
    fn wanted(&self) -> Wanted {
        let mut outputs: Vec<usize> = self.layers.clone().collect();
        outputs.extend([self.pre, self.post]);
        Wanted { outputs, ..Wanted::default() }
    }

    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let output = |index: usize| -> Result<Tensor> {
            let output = trunk.outputs.get(&index).context("the tower kept no output of a block")?;
            Ok(output.f_to_kind(Kind::Float)?)
        };
        let block = tower.last_block()?;
        let (class, x) = split(&trunk.x.f_to_kind(Kind::Float)?)?; // [N, 1, D], [N, h w, D]
        let outliers = outliers(&x)?; // [N, h w]

        let likeness = likeness(&repair(&split(&output(self.pre)?)?.1, &outliers, trunk.grid)?)?; // [N, h w, h w]
        let guide = guide(&likeness)?;
        let x = self.aggregate(&likeness, &repair(&x, &outliers, trunk.grid)?)?;
        let first = self.last_attention(block, &x, &class, &guide)?;

        let mut sum = trunk.x.f_zeros_like()?.f_to_kind(Kind::Float)?;
        for index in self.layers.clone() {
            sum = sum.f_add_(&output(index)?)?;
        }
        let (class, sum) = split(&sum)?;
        let second = self.last_attention(block, &sum, &class, &guide)?;

        // Averaging is linear: one average of the sum is the sum of both.
        let alike = self::likeness(&split(&output(self.post)?)?.1)?;
        let y = self.aggregate(&alike, &first.f_add(&second)?)?; // [N, h w, D]
        unit_rows(&tower.project(&y)?)
    }

    fn describe(&self) -> String {
        let (first, last) = (self.layers.start(), self.layers.end());
        format!(
            "scclip(pre={},post={},layers={first}-{last},beta={},cls={})",
            self.pre, self.post, self.beta, self.class_share
        )
    }
}

impl ScClip {
    /// Each patch becomes the mean of the patches alike it, weighted by likeness: `[N, h w, h w]`, `[N, h w, D]`.
    fn aggregate(&self, likeness: &Tensor, x: &Tensor) -> Result<Tensor> {
        let weights = likeness.f_masked_fill(&likeness.f_lt(self.beta)?, 0.0)?;
        let sum = weights.f_sum_dim_intlist([-1i64].as_slice(), true, Kind::Float)?; // [N, h w, 1]
        Ok(weights.f_matmul(x)?.f_div(&sum.f_add_scalar(1e-6)?)?)
    }

    /// The last block's attention among patches, half `guide` `[N, 1, h w, h w]`: `[N, h w, D] -> [N, h w, D]`.
    fn last_attention(&self, block: &Block, x: &Tensor, class: &Tensor, guide: &Tensor) -> Result<Tensor> {
        let Qkv { k, v, .. } = block.qkv(x)?;
        let map = attention_map(&k, &k)?.f_add(guide)?.f_mul_scalar(0.5)?; // [N, H, h w, h w]
        let y = block.attn.project(&gather(&map, &v)?)?.f_to_kind(Kind::Float)?; // [N, h w, D]
        Ok(y.f_add(&class.f_mul_scalar(self.class_share)?)?)
    }
}

/// Class token and patches: `[N, L, D] -> [N, 1, D], [N, h w, D]`.
fn split(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (_, tokens, _) = x.size3()?;
    Ok((x.f_narrow(1, 0, 1)?, x.f_narrow(1, 1, tokens - 1)?))
}

/// Cosines between patches: `[N, h w, D] -> [N, h w, h w]`.
fn likeness(x: &Tensor) -> Result<Tensor> {
    let x = unit_rows(x)?;
    Ok(x.f_matmul(&x.f_transpose(1, 2)?)?)
}

/// Attention by likeness, among patches more alike than the average pair: `[N, h w, h w] -> [N, 1, h w, h w]`.
fn guide(likeness: &Tensor) -> Result<Tensor> {
    let mean = likeness.f_mean_dim([1i64, 2].as_slice(), true, Kind::Float)?; // [N, 1, 1]
    let scores = likeness.f_sub(&mean)?.f_mul_scalar(SHARPNESS)?;
    let unlike = scores.f_lt(0.0)?;
    // Where all patches are equal, rounding must not leave a patch without itself.
    let _ = unlike.f_diagonal(0, 1, 2)?.f_fill_(0.0)?;
    let scores = scores.f_masked_fill(&unlike, f64::NEG_INFINITY)?;
    Ok(scores.f_softmax(-1, Kind::Float)?.f_unsqueeze(1)?)
}

/// Local outlier factor of each patch, by squared distance: `[h w, D]`.
fn factors(patches: &Tensor) -> Result<Vec<f32>> {
    let (n, _) = patches.size2()?;
    // Mode 2: differences, not products, which would cancel.
    let distances = Tensor::f_cdist(patches, patches, 2.0, 2)?.f_square()?; // [h w, h w]
    let mut values = vec![0f32; (n * n) as usize];
    distances.f_contiguous()?.f_copy_data(&mut values, (n * n) as usize)?;
    Ok(outlier_factors(&values, n as usize, NEIGHBOURS))
}

/// True where a patch is an outlier among those of its picture: `[N, h w, D] -> [N, h w]`.
fn outliers(x: &Tensor) -> Result<Tensor> {
    let (n, patches, _) = x.size3()?;
    let mut found = Vec::with_capacity((n * patches) as usize);
    for picture in 0..n {
        found.extend(largest_share(&factors(&x.f_select(0, picture)?)?, OUTLIERS));
    }
    Ok(Tensor::f_from_slice(&found)?.f_reshape([n, patches])?.f_to_device(x.device())?)
}

/// Outliers take the mean of those of their 8 neighbours that are none; without such, they stay. `[N, h w, D]`.
fn repair(x: &Tensor, outliers: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
    let (n, _, d) = x.size3()?;
    let sound = outliers.f_logical_not()?.f_to_kind(Kind::Float)?.f_unsqueeze(2)?; // [N, h w, 1]
    let around = |x: &Tensor, channels: i64| -> Result<Tensor> {
        let map = x.f_transpose(1, 2)?.f_reshape([n, channels, h, w])?;
        // An outlier's own place holds 0, so all nine places add up to its neighbours.
        let mean = map.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, true, None)?; // [N, channels, h, w]
        Ok(mean.f_flatten(2, 3)?.f_transpose(1, 2)?) // [N, h w, channels]
    };
    let count = around(&sound, 1)?;
    let mean = around(&x.f_mul(&sound)?, d)?.f_div(&count.f_clamp_min(1e-6)?)?;
    let mended = outliers.f_unsqueeze(2)?.f_logical_and(&count.f_gt(0.0)?)?;
    Ok(mean.f_where_self(&mended, x)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::oracle::Oracle;
    use crate::vision::Positions;

    #[test]
    fn outliers_are_those_of_the_published_code() {
        let Some(oracle) = Oracle::find() else { return };
        let (plain, scale) = (Positions::Plain, Positions::Scale);
        for (picture, positions, suffix) in
            [("img0", scale, ""), ("img1", scale, ""), ("img1", plain, "_plainpos")]
        {
            let tower = oracle.tower(positions);
            let trunk = tower.trunk(&oracle.input(picture), &Wanted::default()).unwrap();
            let patches = split(&trunk.x).unwrap().1.select(0, 0);
            let factors = Tensor::from_slice(&factors(&patches).unwrap());
            let expected = oracle.tensor("methods", &format!("scclip/{picture}/lof_scores{suffix}"));
            let difference = ((&factors - &expected) / expected).abs().max().double_value(&[]);
            assert!(difference < 2e-5, "{picture}{suffix}: {difference:e}");
            let found = outliers(&patches.unsqueeze(0)).unwrap().get(0).nonzero().flatten(0, -1);
            let expected = oracle.tensor("methods", &format!("scclip/{picture}/outlier_indices{suffix}"));
            assert_eq!(
                Vec::<i64>::try_from(found).unwrap(),
                Vec::<i64>::try_from(expected.to_kind(Kind::Int64)).unwrap()
            );
        }
    }

    #[test]
    fn an_outlier_takes_the_mean_of_its_sound_neighbours() {
        // A grid of 2 x 2: the first two patches are outliers, neither may vote for the other.
        let x = Tensor::from_slice(&[9f32, 7.0, 1.0, 2.0]).reshape([1, 4, 1]);
        let marks = Tensor::from_slice(&[true, true, false, false]).reshape([1, 4]);
        let mended: Vec<f32> = Vec::try_from(repair(&x, &marks, (2, 2)).unwrap().flatten(0, -1)).unwrap();
        assert_eq!(mended, [1.5, 1.5, 1.0, 2.0]);
        let all = marks.ones_like();
        assert_eq!(repair(&x, &all, (2, 2)).unwrap(), x);
    }
}
