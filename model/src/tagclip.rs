// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which classes are in a picture at all: the tag scores of TagCLIP (Lin et al., AAAI 2024, arXiv 2312.12828;
//! linyq2117/TagCLIP).
//!
//! 1. Coarse: the softmax over the queries of each patch, whose token keeps its own value in the last block.
//! 2. Dual-masking attention refinement: patches average those they attend to in late blocks, where enough blocks agree
//!    (section 3.2), and then, class by class, only those inside the boxes around the class.
//! 3. Class-wise reidentification (section 3.3): what stands out is looked at again, cropped, the class token attending
//!    to the class alone.
//!
//! Positions are resized as the tower says (published: [`Positions::Bilinear`](super::Positions)), and the templates are the
//! user's (published: 85).

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::boxes::{Box, boxes_above, surrounding};
use super::method::cosines;
use super::transformer::{mean_attention_map, unit_rows};
use super::vision::{VisionTower, Wanted};

/// An entry of the attention counts where as many blocks hold it for more than their mean (of 12; of few, a third).
const AGREEING: usize = 4;
/// Bias of what the class token must not attend to.
const UNSEEN: f64 = -1000.0;

/// What differs between the published runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TagOptions {
    /// What cosines are multiplied by; the checkpoint says.
    pub logit_scale: f64,
    /// Refine with every block but the last (published for COCO-Stuff) instead of those of the last third.
    pub all_blocks: bool,
    /// Share of the range of patch scores above which a class is looked at again (0.5; for COCO-Stuff 0.1).
    pub again_above: f64,
}

impl TagOptions {
    /// As published for VOC and COCO; `None` for checkpoints that do not say what cosines are multiplied by.
    pub fn new(logit_scale: Option<f64>) -> TagOptions {
        TagOptions {
            logit_scale: logit_scale.unwrap_or(DEFAULT_LOGIT_SCALE),
            all_blocks: false,
            again_above: 0.5,
        }
    }
}

/// CLIP's limit, which its training reaches.
const DEFAULT_LOGIT_SCALE: f64 = 100.0;

/// Scores of every patch and query, `[h w, Q]`, f32.
pub struct PatchScores {
    pub coarse: Tensor,
    /// Averaged by attention.
    pub propagated: Tensor,
    /// Averaged by attention inside the boxes.
    pub boxed: Tensor,
    /// Rows and columns of the patch grid.
    pub grid: (i64, i64),
}

/// Score of each of the first `foreground` queries in one picture, 0 to 1. `input` is `[1, 3, H, W]`, `queries` `[Q, E]`.
pub fn tag_scores(
    tower: &VisionTower,
    input: &Tensor,
    queries: &Tensor,
    foreground: usize,
    options: &TagOptions,
) -> Result<Vec<f32>> {
    let patches = patch_scores(tower, input, queries, options)?;
    let best = patches.boxed.f_amax([0i64].as_slice(), false)?; // [Q]
    let mut scores = Vec::<f32>::try_from(&best.f_narrow(0, 0, foreground as i64)?.f_contiguous()?)?;
    let (least, most) =
        (patches.boxed.f_min()?.f_double_value(&[])?, patches.boxed.f_max()?.f_double_value(&[])?);
    let threshold = (least + options.again_above * (most - least)) as f32;
    for (class, score) in scores.iter_mut().enumerate() {
        if *score <= threshold {
            continue;
        }
        let own = values(&patches.boxed.f_select(1, class as i64)?)?;
        // As published, a class without an extent ends the second look for all that follow.
        let Some((area, marked)) = surrounding(&own, patches.grid) else { break };
        let again = look_again(tower, input, area, &marked, queries, options)?;
        *score = 0.5 * *score + 0.5 * again.f_double_value(&[class as i64])? as f32;
    }
    Ok(scores)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(&tensor.f_contiguous()?)?)
}

/// Steps 1 and 2: the scores of one picture's patches.
pub fn patch_scores(
    tower: &VisionTower,
    input: &Tensor,
    queries: &Tensor,
    options: &TagOptions,
) -> Result<PatchScores> {
    let depth = tower.blocks.len();
    let wanted = Wanted { mean_maps: (0..depth.saturating_sub(1)).collect(), ..Wanted::default() };
    let trunk = tower.trunk(input, &wanted)?;
    let tokens = tower.last_block()?.residual(&trunk.x, &trunk.qkv.v)?;
    let features = tower.patch_features(&tokens)?.f_select(0, 0)?; // [h w, E]
    let logits = cosines(&features, queries, trunk.grid)?.f_flatten(1, 2)?; // [Q, h w]
    let coarse = logits.f_mul_scalar(options.logit_scale)?.f_softmax(0, Kind::Float)?.f_transpose(0, 1)?; // [h w, Q]

    let last = mean_attention_map(&trunk.qkv.q, &trunk.qkv.k)?; // [1, L, L]
    let patches = coarse.size()[0];
    let among_patches = |map: &Tensor| map.f_select(0, 0)?.f_narrow(0, 1, patches)?.f_narrow(1, 1, patches); // [h w, h w]
    let mut agreeing = coarse.f_new_zeros([patches, patches], (Kind::Float, coarse.device()))?;
    let mut sum = agreeing.f_zeros_like()?;
    let first = if options.all_blocks { 0 } else { (depth * 2 / 3).min(depth.saturating_sub(2)) };
    for index in 0..depth {
        let map = trunk.mean_maps.get(&index);
        let map = if index + 1 == depth { &last } else { map.context("the tower kept no attention map")? };
        let map = among_patches(map)?;
        agreeing = agreeing.f_add_(&map.f_gt_tensor(&map.f_mean(Kind::Float)?)?)?;
        if (first..depth.saturating_sub(1)).contains(&index) {
            sum = sum.f_add_(&map)?;
        }
    }
    let count = depth.saturating_sub(1 + first).max(1);
    let attention =
        sum.f_div_scalar(count as f64)?.f_mul(&agreeing.f_ge(AGREEING.min(depth.div_ceil(3)) as f64)?)?;

    let propagated = attention.f_matmul(&coarse)?; // [h w, Q]
    let inside = inside_boxes(&propagated, trunk.grid)?;
    let boxed = attention.f_matmul(&coarse.f_mul(&inside)?)?;
    Ok(PatchScores { coarse, propagated, boxed, grid: trunk.grid })
}

/// 1 inside the boxes around each query's own patches, else 0: `[h w, Q] -> [h w, Q]`.
fn inside_boxes(scores: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
    let (patches, queries) = scores.size2()?;
    let scores = scores.f_transpose(0, 1)?; // [Q, h w]
    let low = scores.f_amin([1i64].as_slice(), true)?;
    let scores = scores.f_sub(&low)?;
    let scores = scores.f_div(&scores.f_amax([1i64].as_slice(), true)?)?; // 0 to 1
    let means = values(&scores.f_mean_dim([1i64].as_slice(), false, Kind::Float)?)?;
    let flat = values(&scores.f_flatten(0, 1)?)?;
    let mut inside = Vec::with_capacity(flat.len());
    for (map, &mean) in flat.chunks_exact(patches as usize).zip(&means) {
        let boxes = boxes_above(map, (h as usize, w as usize), mean);
        let within =
            |place: usize| boxes.iter().any(|area| area.contains(place / w as usize, place % w as usize));
        inside.extend((0..map.len()).map(|place| if within(place) { 1f32 } else { 0.0 }));
    }
    let inside = Tensor::f_from_slice(&inside)?.f_reshape([queries, patches])?.f_transpose(0, 1)?;
    Ok(inside.f_to_device(scores.device())?)
}

/// Probability of every query, `[Q]`, for the crop around a class, seen by the class token in `marked` patches only.
fn look_again(
    tower: &VisionTower,
    input: &Tensor,
    area: Box,
    marked: &[bool],
    queries: &Tensor,
    options: &TagOptions,
) -> Result<Tensor> {
    let patch = tower.config.patch_size;
    let (rows, columns) = tower.config.grid;
    let (top, left) = (area.top as i64, area.left as i64);
    let (h, w) = (area.bottom as i64 - top, area.right as i64 - left);
    let crop = input.f_narrow(2, top * patch, h * patch)?.f_narrow(3, left * patch, w * patch)?;
    let crop = crop.f_upsample_bilinear2d([rows * patch, columns * patch], false, None, None)?;
    let seen: Vec<f32> = marked.iter().map(|&marked| f32::from(u8::from(marked))).collect();
    let seen = Tensor::f_from_slice(&seen)?.f_reshape([1, 1, h, w])?;
    let seen = seen.f_upsample_nearest2d([rows, columns], None, None)?.f_flatten(0, -1)?; // [h w]
    let unseen = seen.f_rsub_scalar(1.0)?.f_mul_scalar(UNSEEN)?;
    let bias = unseen.f_unsqueeze(0)?.f_constant_pad_nd([1i64, 0, 0, rows * columns])?; // [L, L]
    let bias = bias.f_to_device(input.device())?.f_to_kind(tower.kind)?;
    let class = tower.encode_image_with_bias(&crop, &bias)?; // [1, E]
    let class = unit_rows(&class)?;
    let logits = queries.f_matmul(&class.f_transpose(0, 1)?)?.f_squeeze_dim(1)?; // [Q]
    Ok(logits.f_mul_scalar(options.logit_scale)?.f_softmax(0, Kind::Float)?)
}

#[cfg(test)]
mod tests;
