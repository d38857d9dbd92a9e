// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hugging Face's names of a helper model's tensors to those of the blocks that it shares with CLIP; the scales that DINOv2
//! multiplies a block's two outputs by go into the weights before them.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

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
    let ending = |renamed: &HashMap<String, Tensor>, end: &str| -> Vec<String> {
        renamed.keys().filter(|name| name.starts_with(BLOCKS) && name.ends_with(end)).cloned().collect()
    };
    for kind in ["weight", "bias"] {
        let query = format!(".attn.query.{kind}");
        for name in ending(&renamed, &query) {
            let mut rows = Vec::new();
            for part in ["query", "key", "value"] {
                let part = name.replace(".attn.query.", &format!(".attn.{part}."));
                rows.push(renamed.remove(&part).with_context(|| format!("tensor {part} is missing"))?);
            }
            if rows.iter().any(|row| row.size() != rows[0].size() || row.kind() != rows[0].kind()) {
                bail!("{name} and its key and value differ in shape or type");
            }
            renamed.insert(name.replace(&query, &format!(".attn.in_proj_{kind}")), Tensor::f_cat(&rows, 0)?);
        }
    }
    for (scale, linear) in
        [(".layer_scale1.lambda1", ".attn.out_proj"), (".layer_scale2.lambda1", ".mlp.c_proj")]
    {
        for name in ending(&renamed, scale) {
            let factors = renamed.remove(&name).context("a tensor that was just there")?;
            let factors = factors.f_to_kind(Kind::Float)?;
            for kind in ["weight", "bias"] {
                let name = name.replace(scale, &format!("{linear}.{kind}"));
                let tensor = renamed.remove(&name).with_context(|| format!("tensor {name} is missing"))?;
                let tensor = tensor.f_to_kind(Kind::Float)?;
                if tensor.size().first() != factors.size().first() || factors.dim() != 1 {
                    bail!("{name} of shape {:?} has {:?} scales", tensor.size(), factors.size());
                }
                let factors =
                    if kind == "weight" { factors.f_unsqueeze(1)? } else { factors.shallow_clone() };
                renamed.insert(name, tensor.f_mul(&factors)?);
            }
        }
    }
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
