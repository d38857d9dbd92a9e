// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes out: a value for each patch, and one for the picture.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// Share of the patches, the highest, whose mean is the score of a picture: the highest alone is one noisy patch.
pub(super) const TOP: f64 = 0.01;

/// How damaged every patch looks.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyMap {
    pub rows: usize,
    pub columns: usize,
    /// 0 to 1, row by row.
    pub values: Vec<f32>,
    /// Of the picture: the mean of the highest hundredth of the values.
    pub score: f64,
}

impl AnomalyMap {
    /// Of values `[h w]` on a grid of rows and columns.
    pub(super) fn of(map: &Tensor, (rows, columns): (i64, i64)) -> Result<AnomalyMap> {
        let values = Vec::<f32>::try_from(&map.f_to_kind(Kind::Float)?.f_flatten(0, -1)?.f_contiguous()?)?;
        ensure!(values.iter().all(|value| value.is_finite()), "the model gives values that are not numbers");
        let score = top_mean(&values, TOP);
        Ok(AnomalyMap { rows: rows as usize, columns: columns as usize, values, score })
    }
}

/// Mean of the highest `share` of the values, one at least; 0 without any.
pub(super) fn top_mean(values: &[f32], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let count = ((values.len() as f64 * share).round() as usize).clamp(1, values.len().max(1));
    let top = &sorted[..count.min(sorted.len())];
    top.iter().map(|&value| f64::from(value)).sum::<f64>() / top.len().max(1) as f64
}
