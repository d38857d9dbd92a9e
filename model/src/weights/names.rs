// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other libraries' tensor names to the canonical ones, which are openai/CLIP's.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use tch::Tensor;

/// Hugging Face's prefix of a tensor name and the canonical one.
const PREFIXES: [(&str, &str); 12] = [
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."), // sic
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("visual_projection.weight", "visual.proj"),
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_projection.weight", "text_projection"),
];

/// Inside a block.
const PARTS: [(&str, &str); 5] = [
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
];

/// Renames Hugging Face's `CLIPModel` tensors, joins q, k and v, and turns the projections around.
pub fn from_hugging_face(tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut renamed = HashMap::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let name = rename(&name);
        // HF keeps linear layers [out, in]; openai/CLIP multiplies by [in, out].
        let tensor = match name.as_str() {
            "visual.proj" | "text_projection" if tensor.dim() == 2 => tensor.f_transpose(0, 1)?,
            _ => tensor,
        };
        renamed.insert(name, tensor);
    }
    let queries: Vec<String> =
        renamed.keys().filter(|name| name.contains(".self_attn.q_proj.")).cloned().collect();
    for query in queries {
        let mut rows = Vec::new();
        for letter in [".q_proj.", ".k_proj.", ".v_proj."] {
            let name = query.replace(".q_proj.", letter);
            rows.push(renamed.remove(&name).with_context(|| format!("tensor {name} is missing"))?);
        }
        if rows.iter().any(|row| row.size() != rows[0].size() || row.kind() != rows[0].kind()) {
            bail!("{query} and its key and value differ in shape or type");
        }
        let joined = Tensor::f_cat(&rows, 0)?; // 3 x [width, width] -> [3 width, width]
        let name = query.replace(".self_attn.q_proj.weight", ".attn.in_proj_weight");
        renamed.insert(name.replace(".self_attn.q_proj.bias", ".attn.in_proj_bias"), joined);
    }
    Ok(renamed)
}

fn rename(name: &str) -> String {
    let mut name = match PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        Some((prefix, canonical)) => format!("{canonical}{}", &name[prefix.len()..]),
        None => return name.into(),
    };
    for (part, canonical) in PARTS {
        name = name.replace(part, canonical);
    }
    name
}

/// open_clip keeps openai/CLIP's names; models with a text tower of their own class put it under `text.`.
pub fn from_open_clip(tensors: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let plain = |name: String| name.strip_prefix("text.").map(Into::into).unwrap_or(name);
    tensors.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect()
}
