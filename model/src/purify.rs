// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which prompts a picture has no place for: FreeCP, training-free class purification (ICCV 2025, arXiv 2508.00557;
//! chenqi1126/FreeCP), on top of any method's cosines.
//!
//! 1. [`Affinity`]: how patches attend to one another in all blocks but the last, made doubly stochastic and squared.
//! 2. [`Redundancy`]: each class's map is spread by it, inside boxes around where the class is strong. A class that is there
//!    looks alike before and after; the score says how much, 0 to 1/2. Below `rp` (published: 0.15 for VOC, 0.1 for Context
//!    and Cityscapes, 0.05 for ADE20K) it is redundant.
//! 3. [`ambiguous`]: classes whose spread maps overlap by more than `ap` (0.7; 0.8 for Cityscapes and COCO) stand for the
//!    same thing; [`decide_by_crops`] lets CLIP look at it again and keeps the best.
//!
//! Differences from the published code: a class may have synonyms, and then its map is the maximum of theirs; a class whose
//! map is flat (one query only, or a picture of one colour) has no extent, in place of a division by zero.
//!
//! Shapes: Q queries, C classes, patches h x w.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::boxes::{Box, boxes_above_and_inside};
use super::decode::{Logits, PatchLogits};
use super::transformer::unit_rows;
use super::vision::{Trunk, VisionTower, Wanted};

/// Share of a map's maximum above which it counts for its boxes.
const EXTENT: f32 = 0.4;
/// Side of a crop that is looked at again, in pixels.
const CROP: i64 = 112;
/// What classes that are gone have everywhere.
const GONE: f64 = -1.0;
/// How often columns and rows are normalised.
const ROUNDS: usize = 3;

/// What is done with a picture's classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purify {
    #[default]
    None,
    /// The published result: the spread maps of the classes that stay, in the place of the cosines.
    Full,
}

impl fmt::Display for Purify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purify::None => "none",
            Purify::Full => "full",
        })
    }
}

impl FromStr for Purify {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "none" => Ok(Purify::None),
            "full" => Ok(Purify::Full),
            other => bail!("purify \"{other}\" is not none or full"),
        }
    }
}

/// What differs between the published runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PurifyOptions {
    /// A class with a score of this or less is redundant.
    pub redundancy: f64,
    /// Classes whose maps overlap by this share or more are ambiguous.
    pub ambiguity: f64,
}

impl Default for PurifyOptions {
    /// Those published for VOC.
    fn default() -> Self {
        PurifyOptions { redundancy: 0.15, ambiguity: 0.7 }
    }
}

/// What the tower must keep for an [`Affinity`], beside what a method wants: the mean maps of all blocks but the last.
pub fn wanted(depth: usize) -> Wanted {
    Wanted { mean_maps: (0..depth.saturating_sub(1)).collect(), ..Wanted::default() }
}

/// How much patches have to do with one another, f32 `[h w, h w]`.
pub struct Affinity(Tensor);

impl Affinity {
    /// Of picture `n` of a batch that went through the tower with what [`wanted`] names.
    ///
    /// # Errors
    /// The tower has kept no map.
    pub fn of(trunk: &Trunk, n: i64) -> Result<Affinity> {
        let maps = trunk.mean_maps.values().map(|map| map.f_select(0, n)); // [L, L]
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        Affinity::from_maps(&maps)
    }

    /// From attention maps `[L, L]`, each the mean over the heads of a block.
    pub fn from_maps(maps: &[Tensor]) -> Result<Affinity> {
        let [first, others @ ..] = maps else {
            bail!("purification needs the attention maps of some blocks")
        };
        let mut sum = first.f_to_kind(Kind::Float)?;
        for map in others {
            sum = sum.f_add(map)?;
        }
        let (tokens, _) = sum.size2()?;
        let mut map =
            sum.f_div_scalar(maps.len() as f64)?.f_narrow(0, 1, tokens - 1)?.f_narrow(1, 1, tokens - 1)?;
        for _ in 0..ROUNDS {
            map = map.f_div(&map.f_sum_dim_intlist([0i64].as_slice(), true, Kind::Float)?)?;
            map = map.f_div(&map.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?)?;
        }
        let map = map.f_add(&map.f_transpose(0, 1)?)?.f_mul_scalar(0.5)?;
        Ok(Affinity(map.f_matmul(&map)?))
    }
}

/// What the classes of one picture look like when they are spread over what belongs together.
pub struct Redundancy {
    /// Of each class, 0 (nothing of it is there) to 1/2.
    pub scores: Vec<f32>,
    /// Softmax over all queries, the best of a class's: `[C, h w]`.
    pub probability: Tensor,
    /// Spread, each from 0 to 1; 0 throughout where a class has no extent: `[C, h w]`.
    pub spread: Tensor,
    grid: (i64, i64),
}

impl Redundancy {
    /// `cosines` are `[Q, h, w]` of one picture; `query_value` says for each query which class it is of, counted from 1, or 0
    /// for background, which competes only (as in [`Vocabulary`](super::Vocabulary)); `logit_scale` is the checkpoint's.
    ///
    /// # Errors
    /// Another number of queries or patches than the cosines have.
    pub fn of(
        cosines: &Tensor,
        affinity: &Affinity,
        query_value: &[u32],
        logit_scale: f64,
    ) -> Result<Redundancy> {
        let (queries, h, w) = cosines.size3()?;
        let (patches, _) = affinity.0.size2()?;
        if queries != query_value.len() as i64 || patches != h * w {
            bail!("cosines of {queries} queries and {h}x{w} patches for {} and {patches}", query_value.len());
        }
        let scaled = cosines.f_flatten(1, 2)?.f_to_kind(Kind::Float)?.f_mul_scalar(logit_scale)?;
        let all = scaled.f_softmax(0, Kind::Float)?; // [Q, h w]
        let classes = query_value.iter().copied().max().unwrap_or(0);
        let probability = (1..=classes).map(|class| {
            let own = (0i64..).zip(query_value).filter(|(_, value)| **value == class).map(|(row, _)| row);
            let own: Vec<i64> = own.collect();
            let own = Tensor::f_from_slice(&own)?.f_to_device(all.device())?;
            Ok(all.f_index_select(0, &own)?.f_amax([0i64].as_slice(), false)?)
        });
        let probability = probability.collect::<Result<Vec<_>>>()?;
        if probability.is_empty() {
            bail!("purification needs a class");
        }
        let probability = Tensor::f_stack(&probability, 0)?; // [C, h w]
        let range = all.f_max()?.f_sub(&all.f_min()?)?;
        let flat = range.f_le(0.0)?;
        let share = probability.f_sub(&all.f_min()?)?.f_div(&range.f_masked_fill(&flat, 1.0)?)?;
        let share = share.f_masked_fill(&flat, 0.0)?;

        let inside = inside_boxes(&share, (h, w))?;
        let spread = share.f_mul(&inside)?.f_matmul(&affinity.0.f_transpose(0, 1)?)?; // [C, h w]
        let spread = stretch(&spread)?;
        let sum = |x: &Tensor| x.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let together = sum(&probability)?.f_add(&sum(&spread)?)?.f_add_scalar(1e-8)?;
        let scores = sum(&probability.f_mul(&spread)?)?.f_div(&together)?; // [C]
        Ok(Redundancy { scores: values(&scores)?, probability, spread, grid: (h, w) })
    }

    /// Classes that are not redundant, counted from 0.
    pub fn kept(&self, options: &PurifyOptions) -> Vec<usize> {
        let kept =
            self.scores.iter().enumerate().filter(|(_, score)| f64::from(**score) > options.redundancy);
        kept.map(|(class, _)| class).collect()
    }
}

/// Each row from 0 to 1: `[C, h w] -> [C, h w]`.
fn stretch(maps: &Tensor) -> Result<Tensor> {
    let least = maps.f_amin([1i64].as_slice(), true)?;
    let range = maps.f_amax([1i64].as_slice(), true)?.f_sub(&least)?.f_add_scalar(1e-8)?;
    Ok(maps.f_sub(&least)?.f_div(&range)?)
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::try_from(&tensor.f_contiguous()?.f_flatten(0, -1)?)?)
}

/// 1 inside the boxes around each class's strong patches, else 0: `[C, h w] -> [C, h w]`.
fn inside_boxes(maps: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
    let size = (h as usize, w as usize);
    let mut inside = vec![0f32; maps.numel()];
    for (map, inside) in
        values(maps)?.chunks_exact(size.0 * size.1).zip(inside.chunks_exact_mut(size.0 * size.1))
    {
        for Box { top, left, bottom, right } in boxes_above_and_inside(map, size, EXTENT) {
            for row in top..bottom {
                let row = inside.get_mut(row * size.1 + left..row * size.1 + right);
                row.into_iter().for_each(|row| row.fill(1.0));
            }
        }
    }
    Ok(Tensor::f_from_slice(&inside)?.f_reshape(&maps.size()[..])?.f_to_device(maps.device())?)
}

/// How much the spread maps of classes overlap, smaller over larger, `[classes, classes]`.
pub fn overlaps(redundancy: &Redundancy, classes: &[usize]) -> Result<Vec<Vec<f32>>> {
    if classes.is_empty() {
        return Ok(Vec::new());
    }
    let maps = choose(&redundancy.spread, classes)?;
    let mut rows = Vec::with_capacity(classes.len());
    for row in 0..classes.len() as i64 {
        let one = maps.f_narrow(0, row, 1)?;
        let sum = |x: Tensor| x.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
        let larger = sum(maps.f_maximum(&one)?)?;
        // Two classes without an extent have nothing in common.
        let overlap = sum(maps.f_minimum(&one)?)?.f_div(&larger.f_clamp_min(1e-8)?)?;
        rows.push(values(&overlap)?);
    }
    Ok(rows)
}

fn choose(maps: &Tensor, classes: &[usize]) -> Result<Tensor> {
    let rows: Vec<i64> = classes.iter().map(|&class| class as i64).collect();
    Ok(maps.f_index_select(0, &Tensor::f_from_slice(&rows)?.f_to_device(maps.device())?)?)
}

/// What is left of a picture when the classes but those that stay are gone: values 0 to 1 in the place of cosines. Background
/// has, at each pixel, what the best of them leaves.
pub struct Purified {
    /// `[Q, h, w]`
    maps: Tensor,
    /// Queries of classes that stay, and of the background.
    staying: Vec<i64>,
    background: Vec<i64>,
}

impl Purified {
    pub fn new(redundancy: &Redundancy, staying: &[usize], query_value: &[u32]) -> Result<Purified> {
        let (h, w) = redundancy.grid;
        let is_staying = |value: u32| value > 0 && staying.contains(&(value as usize - 1));
        let of = |chosen: &dyn Fn(u32) -> bool| -> Vec<i64> {
            let queries = (0i64..).zip(query_value).filter(|(_, value)| chosen(**value));
            queries.map(|(query, _)| query).collect()
        };
        let gone = redundancy.spread.f_select(0, 0)?.f_full_like(GONE)?;
        let rows = query_value.iter().map(|&value| match is_staying(value) {
            true => Ok(redundancy.spread.f_select(0, i64::from(value) - 1)?),
            false => Ok(gone.shallow_clone()),
        });
        let maps = Tensor::f_stack(&rows.collect::<Result<Vec<_>>>()?, 0)?;
        let maps = maps.f_reshape([query_value.len() as i64, h, w])?;
        Ok(Purified { maps, staying: of(&is_staying), background: of(&|value| value == 0) })
    }
}

impl Logits for Purified {
    fn queries(&self) -> usize {
        self.maps.queries()
    }

    fn upsampled(&self, rows: &[i64], size: [i64; 2]) -> Result<Tensor> {
        let full = self.maps.upsampled(rows, size)?; // [rows, H, W]
        if !rows.iter().any(|row| self.background.contains(row)) {
            return Ok(full);
        }
        let best = match self.staying.is_empty() {
            true => full.f_select(0, 0)?.f_zeros_like()?,
            false => self.maps.upsampled(&self.staying, size)?.f_amax([0i64].as_slice(), false)?,
        };
        let left = best.f_neg()?.f_add_scalar(1.0)?; // [H, W]
        // At the size of the grid it is a view of the maps.
        let full = full.f_detach_copy()?;
        for (place, row) in (0i64..).zip(rows) {
            if self.background.contains(row) {
                full.f_select(0, place)?.f_copy_(&left)?;
            }
        }
        Ok(full)
    }
}

impl PatchLogits for Purified {
    fn patches(&self) -> &Tensor {
        &self.maps
    }

    fn with_patches(&self, maps: Tensor) -> std::boxed::Box<dyn PatchLogits> {
        std::boxed::Box::new(Purified {
            maps,
            staying: self.staying.clone(),
            background: self.background.clone(),
        })
    }

    fn per_patch(&self, map: &Tensor) -> Result<Tensor> {
        self.maps.per_patch(map)
    }
}

/// The classes in groups that overlap, one by one or by way of others; each group in order.
pub fn ambiguous(overlaps: &[Vec<f32>], classes: &[usize], options: &PurifyOptions) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut waiting: Vec<usize> = (0..classes.len()).collect();
    while let Some(&first) = waiting.first() {
        waiting.remove(0);
        let (mut group, mut next) = (vec![first], 0);
        while let Some(&member) = group.get(next) {
            let near = |&other: &usize| {
                let overlap = overlaps.get(member).and_then(|row| row.get(other)).copied();
                overlap.is_some_and(|overlap| f64::from(overlap) >= options.ambiguity)
            };
            let found: Vec<usize> = waiting.iter().copied().filter(near).collect();
            waiting.retain(|other| !found.contains(other));
            group.extend(found);
            next += 1;
        }
        group.sort_unstable();
        groups.push(group.into_iter().filter_map(|member| classes.get(member).copied()).collect());
    }
    groups
}

/// Of a group of ambiguous classes those that CLIP takes for the best of some place of theirs, and for each such place its
/// logits, `[boxes, group]`. `input` is `[1, 3, H, W]`, `descriptions` a unit feature for each class `[C, E]`.
pub fn decide_by_crops(
    tower: &VisionTower,
    input: &Tensor,
    redundancy: &Redundancy,
    group: &[usize],
    descriptions: &Tensor,
    logit_scale: f64,
) -> Result<(Vec<usize>, Vec<Vec<f32>>)> {
    let (h, w) = redundancy.grid;
    let map = choose(&redundancy.spread, group)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
    let mut kept: Vec<usize> = Vec::new();
    let mut logits = Vec::new();
    let texts = choose(descriptions, group)?; // [group, E]
    for area in boxes_above_and_inside(&values(&map)?, (h as usize, w as usize), EXTENT) {
        if area.bottom <= area.top || area.right <= area.left {
            return Ok((group.to_vec(), logits));
        }
        let patch = tower.config.patch_size;
        let [top, left, bottom, right] =
            [area.top, area.left, area.bottom, area.right].map(|side| side as i64);
        let crop = input.f_narrow(2, top * patch, (bottom - top) * patch)?;
        let crop = crop.f_narrow(3, left * patch, (right - left) * patch)?;
        let crop = crop.f_upsample_bilinear2d([CROP, CROP], false, None, None)?;
        let class = unit_rows(&tower.encode_image(&crop)?)?; // [1, E]
        let found = values(&texts.f_matmul(&class.f_transpose(0, 1)?)?.f_mul_scalar(logit_scale)?)?;
        let best = found.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(best, _)| best);
        let best = best.and_then(|best| group.get(best)).context("a crop without a class")?;
        kept.push(*best);
        logits.push(found);
    }
    kept.sort_unstable();
    kept.dedup();
    Ok((kept, logits))
}

/// Steps 2 and 3 together: the classes that stay. `descriptions` are unit features `[C, E]` of what the classes are called or
/// described by.
pub fn staying(
    tower: &VisionTower,
    input: &Tensor,
    redundancy: &Redundancy,
    descriptions: &Tensor,
    logit_scale: f64,
    options: &PurifyOptions,
) -> Result<Vec<usize>> {
    let kept = redundancy.kept(options);
    let mut staying = Vec::new();
    for group in ambiguous(&overlaps(redundancy, &kept)?, &kept, options) {
        match group.len() {
            1 => staying.extend(group),
            _ => staying
                .extend(decide_by_crops(tower, input, redundancy, &group, descriptions, logit_scale)?.0),
        }
    }
    staying.sort_unstable();
    Ok(staying)
}

#[cfg(test)]
mod tests;
