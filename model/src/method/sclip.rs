// SPDX-License-Identifier: MIT OR Apache-2.0
//! SCLIP (Wang et al., ECCV 2024, arXiv 2312.01597; wangf3014/SCLIP): correlative self-attention in the last block, the
//! sum of query-query and key-key attention; residual connection and MLP stay.

use anyhow::Result;
use tch::Tensor;

use super::{Method, Options};
use crate::transformer::{Qkv, attention_map, gather};
use crate::vision::{Trunk, VisionTower};

struct Sclip;

pub fn build(_: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    Ok(Box::new(Sclip))
}

/// `(softmax(q q^T / sqrt(d)) + softmax(k k^T / sqrt(d))) v`: `[N, H, L, D / H]`. The rows of the sum add up to 2.
pub fn correlative_attention(Qkv { q, k, v }: &Qkv) -> Result<Tensor> {
    let map = attention_map(q, q)?.f_add(&attention_map(k, k)?)?; // [N, H, L, L]
    gather(&map, v)
}

impl Method for Sclip {
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let gathered = correlative_attention(&trunk.qkv)?;
        tower.patch_features(&tower.last_block()?.residual(&trunk.x, &gathered)?)
    }

    fn describe(&self) -> String {
        "sclip".into()
    }
}
