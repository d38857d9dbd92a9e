// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other libraries' tensor names to the canonical ones, which are openai/CLIP's.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

/// Hugging Face's prefix of a tensor name and the canonical one, of CLIP and SigLIP.
const PREFIXES: [(&str, &str); 14] = [
    ("vision_model.head.", "visual.head."),
    ("text_model.head.", "text_head."),
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

/// Renames the tensors of Hugging Face's `CLIPModel` or `SiglipModel`, joins q, k and v, and turns the projections around.
pub fn from_hugging_face(tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut renamed = HashMap::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let name = rename_by(&name, &PREFIXES, &PARTS);
        // HF keeps linear layers [out, in]; openai/CLIP multiplies by [in, out].
        let tensor = match name.as_str() {
            "visual.proj" | "text_projection" if tensor.dim() == 2 => tensor.f_transpose(0, 1)?,
            _ => tensor,
        };
        renamed.insert(name, tensor);
    }
    join_attention(&mut renamed, [".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."])?;
    Ok(renamed)
}

/// Puts queries, keys and values of each block into one tensor: 3 x `[width, width] -> [3 width, width]`. `parts` are what their
/// names have in the place of `.attn.in_proj_`.
pub fn join_attention(tensors: &mut HashMap<String, Tensor>, parts: [&str; 3]) -> Result<()> {
    let [query_part, ..] = parts;
    let queries: Vec<String> = tensors.keys().filter(|name| name.contains(query_part)).cloned().collect();
    for query in queries {
        let mut rows = Vec::new();
        for part in parts {
            let name = query.replace(query_part, part);
            rows.push(tensors.remove(&name).with_context(|| format!("tensor {name} is missing"))?);
        }
        if rows.iter().any(|row| row.size() != rows[0].size() || row.kind() != rows[0].kind()) {
            bail!("{query} and its key and value differ in shape or type");
        }
        tensors.insert(query.replace(query_part, ".attn.in_proj_"), Tensor::f_cat(&rows, 0)?);
    }
    Ok(())
}

/// Multiplies the scales of a block's two outputs, as DINOv2 has them, into the weights before them.
pub fn fold_scales(tensors: &mut HashMap<String, Tensor>) -> Result<()> {
    for (scale, linear) in
        [(".layer_scale1.lambda1", ".attn.out_proj"), (".layer_scale2.lambda1", ".mlp.c_proj")]
    {
        let names: Vec<String> = tensors.keys().filter(|name| name.ends_with(scale)).cloned().collect();
        for name in names {
            let factors = tensors.remove(&name).context("a tensor that was just there")?;
            let factors = factors.f_to_kind(Kind::Float)?;
            for kind in ["weight", "bias"] {
                let name = name.replace(scale, &format!("{linear}.{kind}"));
                let tensor = tensors.remove(&name).with_context(|| format!("tensor {name} is missing"))?;
                let tensor = tensor.f_to_kind(Kind::Float)?;
                if tensor.size().first() != factors.size().first() || factors.dim() != 1 {
                    bail!("{name} of shape {:?} has {:?} scales", tensor.size(), factors.size());
                }
                let factors =
                    if kind == "weight" { factors.f_unsqueeze(1)? } else { factors.shallow_clone() };
                tensors.insert(name, tensor.f_mul(&factors)?);
            }
        }
    }
    Ok(())
}

/// Prefixes of TIPSv2's tensors: those of transformers, then those of the published files.
const TIPS_PREFIXES: [(&str, &str); 21] = [
    ("vision_model.embeddings.patch_embeddings.projection.", "visual.conv1."),
    ("vision_model.embeddings.cls_token", "visual.class_embedding"),
    ("vision_model.embeddings.register_tokens", "visual.register_tokens"),
    ("vision_model.embeddings.position_embeddings", "visual.positional_embedding"),
    ("vision_model.embeddings.mask_token", "mask_token"),
    ("vision_model.encoder.layer.", "visual.transformer.resblocks."),
    ("vision_model.layernorm.", "visual.ln_post."),
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("vision_encoder.patch_embed.proj.", "visual.conv1."),
    ("vision_encoder.cls_token", "visual.class_embedding"),
    ("vision_encoder.register_tokens", "visual.register_tokens"),
    ("vision_encoder.pos_embed", "visual.positional_embedding"),
    ("vision_encoder.mask_token", "mask_token"),
    ("vision_encoder.blocks.", "visual.transformer.resblocks."),
    ("vision_encoder.norm.", "visual.ln_post."),
    ("text_encoder.token_embedding.", "token_embedding."),
    ("text_encoder.transformer.resblocks.", "transformer.resblocks."),
    ("text_encoder.ln_final.", "ln_final."),
    ("text_encoder.temperature", "temperature"),
];

/// Inside a block of TIPSv2, of either.
const TIPS_PARTS: [(&str, &str); 15] = [
    (".norm1.", ".ln_1."),
    (".norm2.", ".ln_2."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".attention.o_proj.", ".attn.out_proj."),
    (".attention.", ".attn."),
    (".attn.proj.", ".attn.out_proj."),
    (".attn.qkv.", ".attn.in_proj_"),
    (".self_attn.", ".attn."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
    (".mlp.w12.", ".mlp.gate_and_up."),
    (".mlp.w3.", ".mlp.down."),
];

/// Renames the tensors of a TIPSv2, as transformers' `Tipsv2Model` has them or as they are published, joins q, k and v, and
/// multiplies the scales of the blocks in.
pub fn from_tips(tensors: HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>> {
    let mut renamed = HashMap::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let name = rename_by(&name, &TIPS_PREFIXES, &TIPS_PARTS);
        let tensor = match name.as_str() {
            // [1, 1, width] -> [width]
            "visual.class_embedding" => tensor.f_flatten(0, -1)?,
            // [1, registers, width], [1, 1 + patches, width]
            "visual.register_tokens" | "visual.positional_embedding" if tensor.dim() == 3 => {
                tensor.f_squeeze_dim(0)?
            }
            _ => tensor,
        };
        renamed.insert(name, tensor);
    }
    join_attention(&mut renamed, [".attn.q_proj.", ".attn.k_proj.", ".attn.v_proj."])?;
    fold_scales(&mut renamed)?;
    Ok(renamed)
}

/// What begins with no known prefix keeps its name.
fn rename_by(name: &str, prefixes: &[(&str, &str)], parts: &[(&str, &str)]) -> String {
    let known = prefixes
        .iter()
        .find_map(|(prefix, canonical)| Some(format!("{canonical}{}", name.strip_prefix(prefix)?)));
    let Some(mut name) = known else { return name.into() };
    for (part, canonical) in parts {
        name = name.replace(part, canonical);
    }
    name
}

/// open_clip keeps openai/CLIP's names; models with a text tower of their own class put it under `text.`.
pub fn from_open_clip(tensors: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
    let plain = |name: String| name.strip_prefix("text.").map(Into::into).unwrap_or(name);
    tensors.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect()
}
