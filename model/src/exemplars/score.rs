// SPDX-License-Identifier: MIT OR Apache-2.0
//! Patches of a frame against descriptors. Shapes: `...` any axes before, h w patches, E joint width, n descriptors.

use std::ops::Range;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::vocabulary::{Scoring, Vocabulary};

/// Negatives that count for a patch (section "contrast" of [`super::ExemplarScore`]).
const NEGATIVE_NEIGHBOURS: usize = 3;

/// Mean of the `neighbours` largest cosines with `keys`, `[..., p, E]` x `[n, E] -> [..., p]`. Times `neighbours` it is DN4's
/// image-to-class score of each descriptor.
pub fn top_cosines(features: &Tensor, keys: &Tensor, neighbours: usize) -> Result<Tensor> {
    top_mean(&features.f_matmul(&keys.f_transpose(0, 1)?)?, neighbours)
}

/// Mean of the largest values of the last axis.
pub fn top_mean(values: &Tensor, count: usize) -> Result<Tensor> {
    let among = *values.size().last().context("a value has no axis")?;
    let (top, _) = values.f_topk((count.max(1) as i64).min(among), -1, true, false)?;
    Ok(top.f_mean_dim([-1i64].as_slice(), false, Kind::Float)?)
}

/// Tip-Adapter's part of the pictures, in its units (cosines times 100): `alpha * sum over keys of exp(-beta (1 - cos))`,
/// `[..., p, E]` x `[n, E] -> [..., p]`.
pub fn tip_adapter(features: &Tensor, keys: &Tensor, alpha: f64, beta: f64) -> Result<Tensor> {
    let affinity =
        features.f_matmul(&keys.f_transpose(0, 1)?)?.f_sub_scalar(1.0)?.f_mul_scalar(beta)?.f_exp()?;
    Ok(affinity.f_sum_dim_intlist([-1i64].as_slice(), false, Kind::Float)?.f_mul_scalar(alpha)?)
}

/// u less half of what the nearest negatives are nearer: u - max(0, near - u) / 2.
pub fn contrasted(own: &Tensor, near: &Tensor) -> Result<Tensor> {
    Ok(own.f_sub(&near.f_sub(own)?.f_clamp_min(0.0)?.f_mul_scalar(0.5)?)?)
}

/// Mean cosine with the nearest negatives; what a patch of no class's descriptors is compared with.
pub fn near_negatives(features: &Tensor, negatives: &Tensor) -> Result<Tensor> {
    top_cosines(features, negatives, NEGATIVE_NEIGHBOURS)
}

/// The classes by pictures of a vocabulary, on the model's device.
pub(crate) struct Ready(Vec<(Range<usize>, On)>);

enum On {
    Linear { gain: f64, offset: f64 },
    Nearest { positives: Tensor, negatives: Option<Tensor>, neighbours: usize, gain: f64, offset: f64 },
    Added { keys: Tensor, alpha: f64, beta: f64 },
}

impl Ready {
    pub fn of(vocabulary: &Vocabulary, device: Device) -> Result<Ready> {
        let matrix = |values: &[f32]| -> Result<Tensor> {
            let rows = Tensor::f_from_slice(values)?.f_reshape([-1, vocabulary.dim as i64])?;
            Ok(rows.f_to_device(device)?)
        };
        let ready = vocabulary.pictured.iter().map(|pictured| {
            let on = match &pictured.scoring {
                Scoring::Linear { gain, offset } => On::Linear { gain: *gain, offset: *offset },
                Scoring::Nearest { positives, negatives, neighbours, gain, offset } => On::Nearest {
                    positives: matrix(positives)?,
                    negatives: if negatives.is_empty() { None } else { Some(matrix(negatives)?) },
                    neighbours: *neighbours,
                    gain: *gain,
                    offset: *offset,
                },
                Scoring::Added { keys, alpha, beta } => {
                    On::Added { keys: matrix(keys)?, alpha: *alpha, beta: *beta }
                }
            };
            Ok((pictured.queries.clone(), on))
        });
        Ok(Ready(ready.collect::<Result<_>>()?))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Cosines `[..., Q, h, w]` of features `[..., h w, E]`, with those of classes by pictures as their scores say.
    pub fn rescore(&self, cosines: Tensor, features: &Tensor) -> Result<Tensor> {
        if self.is_empty() {
            return Ok(cosines);
        }
        let axis = cosines.dim() as i64 - 3;
        let scores = cosines.f_detach_copy()?;
        for (queries, on) in &self.0 {
            let mut part = scores.f_narrow(axis, queries.start as i64, queries.len() as i64)?;
            let map = |of_patches: Tensor| -> Result<Tensor> {
                let mut size = part.size();
                size[axis as usize] = 1;
                Ok(of_patches.f_reshape(size)?)
            };
            let scored = match on {
                On::Linear { gain, offset } => part.f_mul_scalar(*gain)?.f_add_scalar(*offset)?,
                On::Nearest { positives, negatives, neighbours, gain, offset } => {
                    let mut own = top_cosines(features, positives, *neighbours)?;
                    if let Some(negatives) = negatives {
                        own = contrasted(&own, &near_negatives(features, negatives)?)?;
                    }
                    map(own.f_mul_scalar(*gain)?.f_add_scalar(*offset)?)?.f_expand_as(&part)?
                }
                On::Added { keys, alpha, beta } => {
                    // Cosines, and not a hundred times them.
                    part.f_add(&map(tip_adapter(features, keys, alpha / 100.0, *beta)?)?)?
                }
            };
            part.f_copy_(&scored)?;
        }
        Ok(scores)
    }
}
