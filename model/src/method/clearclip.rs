// SPDX-License-Identifier: MIT OR Apache-2.0
//! ClearCLIP (Lan et al., ECCV 2024, arXiv 2407.12442; mc-lan/ClearCLIP): query-query attention in the last block,
//! without its residual connection and MLP.

use anyhow::Result;
use tch::Tensor;

use super::sclip::correlative_attention;
use super::{Method, Options};
use crate::options::word;
use crate::transformer::attend;
use crate::vision::{Trunk, VisionTower};

#[derive(Clone, Copy, PartialEq)]
enum Attention {
    QueryQuery,
    QueryKey,
    /// The sum of query-query and key-key attention, as in SCLIP.
    Both,
}

const ATTENTIONS: [(&str, Attention); 3] =
    [("qq", Attention::QueryQuery), ("qk", Attention::QueryKey), ("qq+kk", Attention::Both)];
const RESIDUALS: [(&str, bool); 2] = [("drop", false), ("keep", true)];

/// The paper's ablation: `attention=qq|qk|qq+kk`, `residual=drop|keep` (keep: the MLP too).
struct ClearClip {
    attention: Attention,
    residual: bool,
}

pub fn build(options: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    Ok(Box::new(ClearClip {
        attention: options.choice("attention", &ATTENTIONS)?,
        residual: options.choice("residual", &RESIDUALS)?,
    }))
}

impl Method for ClearClip {
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let (q, k, v) = (&trunk.qkv.q, &trunk.qkv.k, &trunk.qkv.v);
        let gathered = match self.attention {
            Attention::QueryQuery => attend(q, q, v, false)?,
            Attention::QueryKey => attend(q, k, v, false)?,
            Attention::Both => correlative_attention(&trunk.qkv)?,
        };
        let block = tower.last_block()?;
        tower.patch_features(&match self.residual {
            true => block.residual(&trunk.x, &gathered)?,
            false => block.attn.project(&gathered)?,
        })
    }

    fn describe(&self) -> String {
        let (attention, residual) = (word(&ATTENTIONS, self.attention), word(&RESIDUALS, self.residual));
        format!("clearclip(attention={attention},residual={residual})")
    }
}
