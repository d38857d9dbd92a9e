// SPDX-License-Identifier: MIT OR Apache-2.0
//! ResCLIP (Yang et al., CVPR 2025, arXiv 2411.15851; yvhangyang/ResCLIP), on top of another method's last block:
//!
//! * Residual cross-correlation (RCS): the last block's map is mixed, head by head, with the mean query-key attention of
//!   earlier blocks.
//! * Semantic feedback (SFR): a first pass segments the picture; in a second, patches that it put together attend to one
//!   another.
//!
//! Switches: `base=naclip|clearclip|sclip|clip` (sclip and clip keep residual connection and MLP), `rcs=on|off`,
//! `blocks=5-8` (from 0, before the last), `tau_r=2,lambda_r=0.3` (factor, share of the earlier blocks), `sfr=on|off`,
//! `tau_s=2.1,lambda_s=0.7` (factor, share of the feedback), `sure=0.25` (pixels less sure get the first query),
//! `apart=on|off` (patches of one class with another between them count less), `std=5` (of the Gaussians, in patches).
//! The published values differ from one data set to the next; the defaults are those for ADE20K, which has most classes.
//!
//! As in the published code, the feedback is rounded to 16 bits on the way; that moves cosines by up to 2.3e-5.

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::cluster::vote;
use super::feedback::togetherness;
use super::naclip::neighbourhood;
use super::{Method, Options, cosines};
use crate::options::word;
use crate::refine::Pamr;
use crate::transformer::{Qkv, gather, scores};
use crate::vision::{Trunk, VisionTower, Wanted};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Base {
    Naclip,
    ClearClip,
    Sclip,
    Clip,
}

const BASES: [(&str, Base); 4] =
    [("naclip", Base::Naclip), ("clearclip", Base::ClearClip), ("sclip", Base::Sclip), ("clip", Base::Clip)];
const ON: [(&str, bool); 2] = [("on", true), ("off", false)];
/// Scale of the first pass's softmax.
const SCALE: f64 = 40.0;
/// The first pass's logits are held at the picture's size: 1 GiB.
const MOST_VALUES: i64 = 1 << 28;

/// A factor, and the share of what is mixed in.
#[derive(Clone, Copy)]
struct Mix {
    factor: f64,
    share: f64,
}

struct ResClip {
    base: Base,
    rcs: bool,
    blocks: Vec<usize>,
    earlier: Mix,
    sfr: bool,
    feedback: Mix,
    sure: f64,
    apart: bool,
    std: f64,
}

pub fn build(options: &mut Options, depth: usize) -> Result<Box<dyn Method>> {
    let blocks = match options.take("blocks") {
        // Of 12 blocks 5 to 8; other depths get the same share of theirs.
        None => (depth * 5 / 12..=depth * 2 / 3).filter(|block| block + 1 < depth).collect(),
        Some(typed) => {
            let (first, last) = typed.split_once('-').unwrap_or((&typed, &typed));
            match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
                (Ok(first), Ok(last)) if first <= last && last + 1 < depth => (first..=last).collect(),
                _ => bail!(
                    "resclip option blocks={typed} is no range of blocks before the last, which are 0 to {}",
                    depth.saturating_sub(2)
                ),
            }
        }
    };
    let factors = 0.0..=100.0;
    let shares = 0.0..=1.0;
    let blocks: Vec<usize> = blocks;
    Ok(Box::new(ResClip {
        base: options.choice("base", &BASES)?,
        rcs: options.choice("rcs", &ON)? && !blocks.is_empty(),
        blocks,
        earlier: Mix {
            factor: options.number("tau_r", 2.0, factors.clone())?,
            share: options.number("lambda_r", 0.3, shares.clone())?,
        },
        sfr: options.choice("sfr", &ON)?,
        feedback: Mix {
            factor: options.number("tau_s", 2.1, factors)?,
            share: options.number("lambda_s", 0.7, shares.clone())?,
        },
        sure: options.number("sure", 0.25, shares)?,
        apart: options.choice("apart", &ON)?,
        std: options.number("std", 5.0, 0.01..=1e4)?,
    }))
}

impl Method for ResClip {
    fn wanted(&self) -> Wanted {
        Wanted { head_maps: if self.rcs { self.blocks.clone() } else { Vec::new() }, ..Wanted::default() }
    }

    /// Of the first pass.
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        self.pass(tower, trunk, &trunk.x, &trunk.qkv, self.earlier_map(trunk)?.as_ref(), None)
    }

    fn compares_patches(&self) -> bool {
        false
    }

    fn logits(
        &self,
        tower: &VisionTower,
        trunk: &Trunk,
        features: &Tensor,
        n: i64,
        queries: &Tensor,
    ) -> Result<Tensor> {
        let logits = cosines(&features.f_select(0, n)?, queries, trunk.grid)?; // [Q, h, w]
        if !self.sfr {
            return Ok(logits);
        }
        let labels = self.patch_labels(&logits, &trunk.input.f_narrow(0, n, 1)?)?;
        let feedback = feedback(&labels, trunk.grid, self.apart, self.std)?.f_to_device(logits.device())?;
        let feedback = feedback.f_div(&feedback.f_max()?)?.f_to_kind(Kind::Half)?; // [L, L]
        let feedback = feedback.f_mul_scalar(self.feedback.share)?.f_to_kind(Kind::Float)?;
        let of_picture = |x: &Tensor| x.f_narrow(0, n, 1);
        let Qkv { q, k, v } = &trunk.qkv;
        let qkv = Qkv { q: of_picture(q)?, k: of_picture(k)?, v: of_picture(v)? };
        let earlier = self.earlier_map(trunk)?.map(|map| of_picture(&map)).transpose()?;
        let x = of_picture(&trunk.x)?;
        let features = self.pass(tower, trunk, &x, &qkv, earlier.as_ref(), Some(&feedback))?; // [1, h w, E]
        cosines(&features.f_select(0, 0)?, queries, trunk.grid)
    }

    fn describe(&self) -> String {
        let blocks = match self.blocks[..] {
            [first, .., last] => format!("{first}-{last}"),
            [one] => one.to_string(),
            [] => "none".into(),
        };
        format!(
            "resclip(base={},rcs={},blocks={blocks},tau_r={},lambda_r={},sfr={},tau_s={},lambda_s={},sure={},apart={},std={})",
            word(&BASES, self.base),
            word(&ON, self.rcs),
            self.earlier.factor,
            self.earlier.share,
            word(&ON, self.sfr),
            self.feedback.factor,
            self.feedback.share,
            self.sure,
            word(&ON, self.apart),
            self.std
        )
    }
}

impl ResClip {
    /// Mean of the earlier blocks' maps, head by head: `[N, H, L, L]`.
    fn earlier_map(&self, trunk: &Trunk) -> Result<Option<Tensor>> {
        if !self.rcs {
            return Ok(None);
        }
        let maps = self.blocks.iter().map(|block| trunk.head_maps.get(block));
        let mut maps = maps.map(|map| map.context("the tower kept no attention map of a block"));
        let first = maps.next().context("no blocks to take maps from")??;
        let sum = maps.try_fold(first.shallow_clone(), |sum, map| anyhow::Ok(sum.f_add(map?)?))?;
        Ok(Some(sum.f_div_scalar(self.blocks.len() as f64)?))
    }

    /// The last block: `x` `[N, L, D]` to features `[N, h w, E]`. `feedback` is `[L, L]`, already its
    /// share.
    fn pass(
        &self,
        tower: &VisionTower,
        trunk: &Trunk,
        x: &Tensor,
        Qkv { q, k, v }: &Qkv,
        earlier: Option<&Tensor>,
        feedback: Option<&Tensor>,
    ) -> Result<Tensor> {
        let scores = |a: &Tensor, b: &Tensor| match feedback {
            Some(feedback) => {
                let own = scores(a, b)?.f_mul_scalar(1.0 - self.feedback.share)?;
                Ok(own.f_add(feedback)?.f_mul_scalar(self.feedback.factor)?)
            }
            None => scores(a, b),
        };
        let own = |scores: Tensor| -> Result<Tensor> { Ok(scores.f_softmax(-1, Kind::Float)?) };
        let mut map = match self.base {
            Base::Naclip => {
                own(scores(k, k)?.f_add(&neighbourhood(trunk.grid, self.std, tower.device())?)?)?
            }
            Base::ClearClip => own(scores(q, q)?)?,
            Base::Sclip => own(scores(q, q)?)?.f_add(&own(scores(k, k)?)?)?,
            Base::Clip => own(scores(q, k)?)?,
        }; // [N, H, L, L]
        if let Some(earlier) = earlier {
            let Mix { factor, share } = self.earlier;
            map = map.f_mul_scalar(factor * (1.0 - share))?.f_add(&earlier.f_mul_scalar(factor * share)?)?;
        }
        let gathered = gather(&map, v)?;
        let block = tower.last_block()?;
        tower.patch_features(&match self.base {
            Base::Naclip | Base::ClearClip => block.attn.project(&gathered)?,
            Base::Sclip | Base::Clip => block.residual(x, &gathered)?,
        })
    }

    /// The query that most of a patch's pixels have, once logits `[Q, h, w]` are refined by `picture` `[1, 3, H, W]`.
    fn patch_labels(&self, logits: &Tensor, picture: &Tensor) -> Result<Vec<i64>> {
        let (queries, h, w) = logits.size3()?;
        let (_, _, height, width) = picture.size4()?;
        if queries * height * width > MOST_VALUES {
            bail!(
                "resclip cannot refine {queries} queries in {width}x{height} pixels: look at a smaller size or with sfr=off"
            );
        }
        let full = logits.f_unsqueeze(0)?.f_upsample_bilinear2d([height, width], false, None, None)?;
        let refined = Pamr::new(picture)?.refine(&full.f_squeeze_dim(0)?)?; // [Q, H, W]
        let (surest, query) = refined.f_mul_scalar(SCALE)?.f_softmax(0, Kind::Float)?.f_max_dim(0, false)?; // [H, W]
        let query = query.f_masked_fill(&surest.f_lt(self.sure)?, 0.0)?;
        // Pixels patch by patch.
        let (ph, pw) = (height / h, width / w);
        let query = query.f_reshape([h, ph, w, pw])?.f_permute([0, 2, 1, 3])?.f_contiguous()?; // [h, w, ph, pw]
        let mut pixels = vec![0i64; query.numel()];
        query.f_copy_data(&mut pixels, query.numel())?;
        let patches: Vec<i64> = (0..h * w).flat_map(|patch| (0..ph * pw).map(move |_| patch)).collect();
        Ok(vote(&pixels, &patches).into_iter().step_by((ph * pw) as usize).collect())
    }
}

/// How much patches should attend to one another by their labels, rows adding up to 1, nothing for the class token: f32
/// `[L, L]`. As published, rows are blurred along the list of patches, not over the grid.
fn feedback(labels: &[i64], (h, w): (i64, i64), apart: bool, std: f64) -> Result<Tensor> {
    let n = h * w;
    let together = togetherness(labels, (h as usize, w as usize), apart);
    let rows = Tensor::f_from_slice(&together)?.f_reshape([n, 1, n])?;
    let size = n.min((6.0 * std + 1.0) as i64) | 1;
    let place = Tensor::f_arange(size, (Kind::Float, rows.device()))?.f_sub_scalar(size / 2)?;
    let kernel = place.f_square()?.f_div_scalar(-2.0 * std * std)?.f_exp()?;
    let kernel = kernel.f_div(&kernel.f_sum(Kind::Float)?)?.f_reshape([1, 1, size])?;
    let blurred = rows.f_conv1d::<&Tensor>(&kernel, None, 1, size / 2, 1, 1)?.f_squeeze_dim(1)?; // [h w, h w]
    let sums = blurred.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?.f_add_scalar(1e-8)?;
    Ok(blurred.f_div(&sums)?.f_constant_pad_nd([1i64, 0, 1, 0])?) // [L, L]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::oracle::Oracle;

    #[test]
    fn labels_and_feedback_are_those_of_the_published_code() {
        let Some(oracle) = Oracle::find() else { return };
        for (key, apart) in [("resclip", true), ("resclip_nodel", false)] {
            for picture in ["img0", "img1"] {
                let of = |part: &str| oracle.find_tensor("methods", &format!("{key}/{picture}/{part}"));
                let method = ResClip {
                    base: Base::Naclip,
                    rcs: true,
                    blocks: vec![5, 6, 7, 8],
                    earlier: Mix { factor: 2.0, share: 0.3 },
                    sfr: true,
                    feedback: Mix { factor: 2.1, share: 0.7 },
                    sure: 0.4,
                    apart,
                    std: 5.0,
                };
                let labels = method.patch_labels(&of("first_pass_logits").unwrap(), &oracle.input(picture));
                let labels = labels.unwrap();
                let expected = of("patch_labels").unwrap();
                let (h, w) = expected.size2().unwrap();
                let expected = Vec::<i64>::try_from(expected.to_kind(Kind::Int64).flatten(0, -1)).unwrap();
                assert_eq!(labels, expected, "{key} {picture}");
                let Some(expected) = of("S_rows_every8") else { continue };
                let found = feedback(&labels, (h, w), apart, 5.0).unwrap().slice(0, 1, None, 8);
                let difference = (found - expected).abs().max().double_value(&[]);
                println!("{key} {picture}: {difference:.1e}");
                assert!(difference < 1e-6, "{key} {picture}: {difference:e}");
            }
        }
    }
}
