// SPDX-License-Identifier: MIT OR Apache-2.0
//! The winning query of each pixel, in chunks of queries: a thousand classes at full HD never exist at once.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

/// Upsampled logits held at a time: 32 Mi f32 values are 128 MiB.
const VALUES_AT_A_TIME: i64 = 32 << 20;

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
    /// Looks at `kept` queries (all by default) of `logits` `[Q, h, w]`, upsampled to `size`.
    pub fn among(logits: &Tensor, kept: Option<&[i64]>, size: [i64; 2], scale: f64) -> Result<Winner> {
        let chosen = match kept {
            None => logits.shallow_clone(),
            Some(rows) => {
                logits.f_index_select(0, &Tensor::f_from_slice(rows)?.f_to_device(logits.device())?)?
            }
        };
        let queries = chosen.size()[0];
        let chunk = (VALUES_AT_A_TIME / (size[0] * size[1]).max(1)).clamp(1, queries.max(1));
        let mut winner: Option<Winner> = None;
        for first in (0..queries).step_by(chunk as usize) {
            let part = chosen.f_narrow(0, first, chunk.min(queries - first))?;
            let part = Winner::of_chunk(&part, first, size, scale)?;
            winner = Some(match winner {
                None => part,
                Some(before) => before.or_later(&part)?,
            });
        }
        let Some(mut winner) = winner else { bail!("no query to decode") };
        if let Some(rows) = kept {
            let rows = Tensor::f_from_slice(rows)?.f_to_device(logits.device())?;
            winner.query = rows.f_take(&winner.query)?; // row among the kept -> row among all
        }
        Ok(winner)
    }

    fn of_chunk(chunk: &Tensor, first: i64, size: [i64; 2], scale: f64) -> Result<Winner> {
        let full = upsample(chunk, size)?.f_mul_scalar(scale)?; // [C, h, w] -> [C, H, W]
        let (best, query) = full.f_max_dim(0, false)?;
        let log_sum = full.f_logsumexp([0i64].as_slice(), false)?;
        Ok(Winner { query: query.f_add_scalar(first)?, best, log_sum })
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

    /// The winner's share of the softmax over the queries looked at, `[H, W]` f32.
    pub fn probability(&self) -> Result<Tensor> {
        self.probability_within(&self.log_sum)
    }

    /// The winner's share of a softmax with another sum, `[H, W]` f32.
    pub fn probability_within(&self, log_sum: &Tensor) -> Result<Tensor> {
        Ok(self.best.f_sub(log_sum)?.f_exp()?.f_to_kind(Kind::Float)?)
    }
}

/// `[Q, h, w]` to `[Q, H, W]`, bilinear between pixel centres.
pub fn upsample(logits: &Tensor, [height, width]: [i64; 2]) -> Result<Tensor> {
    if logits.size()[1..] == [height, width] {
        return Ok(logits.shallow_clone());
    }
    let full = logits.f_unsqueeze(0)?.f_upsample_bilinear2d([height, width], false, None, None)?;
    Ok(full.f_squeeze_dim(0)?)
}
