// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hugging Face's names of a helper model's tensors to those of the blocks that it shares with CLIP; the scales that DINOv2
//! multiplies a block's two outputs by go into the weights before them.

use std::collections::HashMap;

use anyhow::Result;
use tch::Tensor;

use crate::weights::{fold_scales, join_attention};

/// What the names of the blocks' tensors begin with.
pub const BLOCKS: &str = "blocks.";

/// Inside a block; both families, the longer names first.
const PARTS: [(&str, &str); 10] = [
    (".attention.output.dense.", ".attn.out_proj."),
    (".attention.attention.query.", ".attn.query."),
    (".attention.attention.key.", ".attn.key."),
    (".attention.attention.value.", ".attn.value."),
    (".layernorm_before.", ".ln_1."),
    (".layernorm_after.", ".ln_2."),
    (".intermediate.dense.", ".mlp.c_fc."),
    (".output.dense.", ".mlp.c_proj."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
];

/// Renames, joins queries, keys and values, and multiplies the scales in.
pub fn canonical(tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut renamed: HashMap<String, Tensor> =
        tensors.into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
    join_attention(&mut renamed, [".attn.query.", ".attn.key.", ".attn.value."])?;
    fold_scales(&mut renamed)?;
    Ok(renamed)
}

fn rename(name: &str) -> String {
    let Some(block) = name.strip_prefix("encoder.layer.") else { return name.into() };
    let mut name = format!("{BLOCKS}{block}").replace(".norm1.", ".ln_1.").replace(".norm2.", ".ln_2.");
    for (part, canonical) in PARTS {
        name = name.replace(part, canonical);
    }
    name
}
