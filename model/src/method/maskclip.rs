// SPDX-License-Identifier: MIT OR Apache-2.0
//! MaskCLIP (Zhou et al., ECCV 2022, arXiv 2112.01071; chongzhou96/MaskCLIP): every token keeps its own value in the last
//! block; google-deepmind/tips segments so too (`TIPS_zeroshot_segmentation.ipynb`). As in the published code, residual connection and MLP stay; later papers compare with `residual=drop`.
//!
//! Its two refinements are off unless a threshold is given, as in the published configs. `pd=0.5`: prompt denoising,
//! a class whose probability stays below it everywhere is left out. `ks=1`: key smoothing, patches less sure than it
//! take the probabilities of patches with similar keys; logits are then such weighted probabilities, not cosines.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::{Method, Options, cosines};
use crate::options::word;
use crate::transformer::unit_rows;
use crate::vision::{Trunk, VisionTower};

/// Scale of the cosines in the refinements' softmax.
const SCALE: f64 = 100.0;
/// Logit of a class that is left out.
const LEFT_OUT: f64 = -100.0;
const RESIDUALS: [(&str, bool); 2] = [("keep", true), ("drop", false)];

struct MaskClip {
    residual: bool,
    prompt_denoising: f64,
    key_smoothing: f64,
}

pub fn build(options: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    Ok(Box::new(MaskClip {
        residual: options.choice("residual", &RESIDUALS)?,
        prompt_denoising: options.number("pd", 0.0, 0.0..=1.0)?,
        key_smoothing: options.number("ks", 0.0, 0.0..=1.0)?,
    }))
}

impl Method for MaskClip {
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        tower.patch_features(&self.last_block(tower, &trunk.x, &trunk.qkv.v)?)
    }

    fn features_of(&self, tower: &VisionTower, trunk: &Trunk, rows: &Tensor) -> Result<Option<Tensor>> {
        let (x, v) = (trunk.x.f_index_select(1, rows)?, trunk.qkv.v.f_index_select(2, rows)?);
        let x = self.last_block(tower, &x, &v)?; // [1, R, D]
        Ok(Some(unit_rows(&tower.project(&x.f_select(0, 0)?)?)?))
    }

    fn takes_any_tower(&self) -> bool {
        true
    }

    fn compares_patches(&self) -> bool {
        self.prompt_denoising == 0.0 && self.key_smoothing == 0.0
    }

    fn logits(
        &self,
        tower: &VisionTower,
        trunk: &Trunk,
        features: &Tensor,
        n: i64,
        queries: &Tensor,
    ) -> Result<Tensor> {
        let mut logits = cosines(&features.f_select(0, n)?, queries, trunk.grid)?; // [Q, h, w]
        if self.prompt_denoising > 0.0 {
            let surest = probabilities(&logits)?.f_amax([1i64, 2], true)?; // [Q, 1, 1]
            logits = logits.f_masked_fill(&surest.f_lt(self.prompt_denoising)?, LEFT_OUT)?;
        }
        if self.key_smoothing > 0.0 {
            let (q, h, w) = logits.size3()?;
            let keys = tower.last_block()?.attn.project(&trunk.qkv.k.f_narrow(0, n, 1)?)?; // [1, L, D]
            let keys =
                keys.f_squeeze_dim(0)?.f_narrow(0, tower.config.lead, h * w)?.f_to_kind(Kind::Float)?; // [h w, D]
            // Unit length over the patches, not over each key: so does the published code.
            let norm = keys.f_norm_scalaropt_dim(2, [0], true)?.f_clamp_min(1e-12)?;
            let keys = keys.f_div(&norm)?;
            let found = probabilities(&logits)?.f_reshape([q, h * w])?.f_transpose(0, 1)?; // [h w, Q]
            let smoothed = keys.f_matmul(&keys.f_transpose(0, 1)?.f_matmul(&found)?)?; // [h w, Q]
            let unsure = found.f_amax([1i64].as_slice(), true)?.f_lt(self.key_smoothing)?; // [h w, 1]
            logits = smoothed.f_where_self(&unsure, &found)?.f_transpose(0, 1)?.f_reshape([q, h, w])?;
        }
        Ok(logits)
    }

    fn describe(&self) -> String {
        let residual = word(&RESIDUALS, self.residual);
        format!("maskclip(residual={residual},pd={},ks={})", self.prompt_denoising, self.key_smoothing)
    }
}

impl MaskClip {
    /// `[N, L, D]` and values `[N, H, L, D / H] -> [N, L, D]`, each token by itself.
    fn last_block(&self, tower: &VisionTower, x: &Tensor, v: &Tensor) -> Result<Tensor> {
        let block = tower.last_block()?;
        match self.residual {
            true => block.residual(x, v),
            false => block.attn.project(v),
        }
    }
}

/// Softmax over the queries: `[Q, h, w] -> [Q, h, w]`.
fn probabilities(logits: &Tensor) -> Result<Tensor> {
    Ok(logits.f_mul_scalar(SCALE)?.f_softmax(0, Kind::Float)?)
}
