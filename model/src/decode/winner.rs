// SPDX-License-Identifier: MIT OR Apache-2.0
//! The winning query of each pixel, found in chunks of queries.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::Logits;

/// Upsampled logits held at a time: 32 Mi f32 values are 128 MiB. Tests see several chunks in small pictures.
pub const VALUES_AT_A_TIME: i64 = if cfg!(test) { 1 << 16 } else { 32 << 20 };

/// The best query of each pixel, and what the softmax needs to say how sure it is.
pub struct Winner {
    /// `[H, W]` i64, the row of the best query; of equal ones the first.
    pub query: Tensor,
    /// `[H, W]` f32, its logit: the cosine times the scale.
    best: Tensor,
    /// `[H, W]` f32, the logarithm of the sum of exponentials over the queries looked at.
    pub log_sum: Tensor,
}

impl Winner {
    /// Looks at the queries in `rows`, rising, at `size` (height, width).
    pub fn among(logits: &dyn Logits, rows: &[i64], size: [i64; 2], scale: f64) -> Result<Winner> {
        let chunk = (VALUES_AT_A_TIME / (size[0] * size[1]).max(1)).max(1);
        let mut winner: Option<Winner> = None;
        for rows in rows.chunks(chunk as usize) {
            let full = logits.upsampled(rows, size)?; // [C, H, W]
            let part = Winner::of_chunk(&full, rows, scale)?;
            winner = Some(match winner {
                None => part,
                Some(before) => before.or_later(&part)?,
            });
        }
        winner.context("no query to decode")
    }

    fn of_chunk(full: &Tensor, rows: &[i64], scale: f64) -> Result<Winner> {
        let full = full.f_mul_scalar(scale)?;
        let (best, index) = full.f_max_dim(0, false)?; // [C, H, W] -> [H, W]
        let log_sum = full.f_logsumexp([0i64].as_slice(), false)?;
        let rows = Tensor::f_from_slice(rows)?.f_to_device(index.device())?;
        Ok(Winner { query: rows.f_take(&index)?, best, log_sum })
    }

    /// Merges the winner of later queries; equal scores stay with the earlier query.
    fn or_later(&self, later: &Winner) -> Result<Winner> {
        let better = later.best.f_gt_tensor(&self.best)?;
        Ok(Winner {
            query: later.query.f_where_self(&better, &self.query)?,
            best: self.best.f_maximum(&later.best)?,
            log_sum: self.log_sum.f_logaddexp(&later.log_sum)?,
        })
    }

    /// How far the best is above the best of the queries in `rows` with another mask value, `[H, W]` f32. `values` are those
    /// of all queries.
    pub fn margin(
        &self,
        logits: &dyn Logits,
        rows: &[i64],
        values: &[u32],
        size: [i64; 2],
        scale: f64,
    ) -> Result<Tensor> {
        let device = self.query.device();
        let values: Vec<i64> = values.iter().map(|&value| value.into()).collect();
        let values = Tensor::f_from_slice(&values)?.f_to_device(device)?;
        let won = values.f_take(&self.query)?; // [H, W]
        let chunk = (VALUES_AT_A_TIME / (size[0] * size[1]).max(1)).max(1);
        let mut margin = self.best.f_full_like(f64::INFINITY)?;
        for rows in rows.chunks(chunk as usize) {
            let full = logits.upsampled(rows, size)?.f_mul_scalar(scale)?; // [C, H, W]
            let of_rows =
                values.f_take(&Tensor::f_from_slice(rows)?.f_to_device(device)?)?.f_view([-1, 1, 1])?;
            let others = full.f_masked_fill(&of_rows.f_eq_tensor(&won)?, f64::NEG_INFINITY)?;
            let behind = self.best.f_sub(&others.f_amax([0i64].as_slice(), false)?)?;
            margin = margin.f_minimum(&behind)?;
        }
        Ok(margin)
    }

    /// Everything about the winners, with the sum of the softmax, in one copy to the host.
    pub fn copy_back(&self, log_sum: &Tensor, margin: Option<&Tensor>) -> Result<Found> {
        let probability = self.best.f_sub(log_sum)?.f_exp()?; // [H, W]
        let mut parts = vec![
            self.query.f_to_kind(Kind::Int)?,
            probability.f_view_dtype(Kind::Int)?,
            self.best.f_contiguous()?.f_view_dtype(Kind::Int)?,
        ];
        if let Some(margin) = margin {
            parts.push(margin.f_view_dtype(Kind::Int)?);
        }
        let together = Tensor::f_stack(&parts, 0)?.f_to_device(Device::Cpu)?; // [3 or 4, H, W]
        let mut words = vec![0i32; together.numel()];
        let count = words.len();
        together.f_copy_data(&mut words, count)?;
        let mut parts = words.chunks(count / parts.len());
        let mut next = || parts.next().unwrap_or_default().iter();
        let query = next().map(|&query| query as u32).collect();
        let mut floats = || next().map(|&bits| f32::from_bits(bits as u32)).collect();
        Ok(Found { query, probability: floats(), best: floats(), margin: floats() })
    }
}

/// The winners on the host, row-major.
pub struct Found {
    pub query: Vec<u32>,
    /// Their shares of the softmax.
    pub probability: Vec<f32>,
    /// Their cosines times the scale.
    pub best: Vec<f32>,
    /// Empty where nobody asked.
    pub margin: Vec<f32>,
}
