// SPDX-License-Identifier: MIT OR Apache-2.0
//! A checkpoint with the vision tower of ViT-B/16 and random weights: its arithmetic, without a download. The text
//! tower is narrow, as text is no part of these measurements.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

/// Width, blocks, heads.
const VISION: (usize, usize, usize) = (768, 12, 12);
const TEXT: (usize, usize, usize) = (16, 2, 1);
const JOINT: usize = 512;
const TOKENS: usize = 49_408;
/// Patches of a side of 224 pixels, squared, and the class token.
const POSITIONS: usize = 14 * 14 + 1;

struct Weights {
    state: u64,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl Weights {
    /// Values of the size that training leaves, spread evenly around `centre`.
    fn add(&mut self, name: String, shape: &[usize], centre: f32) {
        let values = (0..shape.iter().product()).flat_map(|_| {
            self.state =
                self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (self.state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            (centre + 0.03 * unit).to_le_bytes()
        });
        self.tensors.push((name, shape.to_vec(), values.collect()));
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.add(format!("{name}.weight"), &[width], 1.0);
        self.add(format!("{name}.bias"), &[width], 0.0);
    }

    fn linear(&mut self, name: &str, from: usize, to: usize) {
        self.add(format!("{name}.weight"), &[to, from], 0.0);
        self.add(format!("{name}.bias"), &[to], 0.0);
    }

    fn write(&self, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let views = self.tensors.iter().map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        std::fs::write(folder.join("model.safetensors"), serialize(views, None)?)?;
        Ok(())
    }

    fn tower(&mut self, name: &str, (width, blocks, _): (usize, usize, usize)) {
        for block in 0..blocks {
            let name = format!("{name}.encoder.layers.{block}");
            self.norm(&format!("{name}.layer_norm1"), width);
            self.norm(&format!("{name}.layer_norm2"), width);
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                self.linear(&format!("{name}.self_attn.{projection}"), width, width);
            }
            self.linear(&format!("{name}.mlp.fc1"), width, 4 * width);
            self.linear(&format!("{name}.mlp.fc2"), 4 * width, width);
        }
    }
}

/// Writes a DINOv2 of the size S/14, 88 MB, with random weights into the folder.
#[allow(dead_code)] // each bench uses its part
pub fn write_helper(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    const WIDTH: usize = 384;
    let config = json!({
        "model_type": "dinov2", "hidden_size": WIDTH, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4,
        "image_size": 518, "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-6
    });
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let mut weights = Weights { state: 2, tensors: Vec::new() };
    let projection = "embeddings.patch_embeddings.projection";
    weights.add(format!("{projection}.weight"), &[WIDTH, 3, 14, 14], 0.0);
    weights.add(format!("{projection}.bias"), &[WIDTH], 0.0);
    weights.add("embeddings.cls_token".into(), &[1, 1, WIDTH], 0.0);
    weights.add("embeddings.position_embeddings".into(), &[1, 37 * 37 + 1, WIDTH], 0.0);
    for block in 0..12 {
        let name = format!("encoder.layer.{block}");
        for part in ["norm1", "norm2"] {
            weights.norm(&format!("{name}.{part}"), WIDTH);
        }
        for part in ["layer_scale1", "layer_scale2"] {
            weights.add(format!("{name}.{part}.lambda1"), &[WIDTH], 1.0);
        }
        for part in ["attention.query", "attention.key", "attention.value", "output.dense"] {
            weights.linear(&format!("{name}.attention.{part}"), WIDTH, WIDTH);
        }
        weights.linear(&format!("{name}.mlp.fc1"), WIDTH, 4 * WIDTH);
        weights.linear(&format!("{name}.mlp.fc2"), 4 * WIDTH, WIDTH);
    }
    weights.norm("layernorm", WIDTH);
    weights.write(folder)
}

/// Writes config and weights, 350 MB, into the folder.
pub fn write(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let tower = |(width, blocks, heads): (usize, usize, usize)| {
        json!({
            "hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads,
            "num_hidden_layers": blocks, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "image_size": 224,
            "patch_size": 16, "max_position_embeddings": 77, "vocab_size": TOKENS, "eos_token_id": 49407
        })
    };
    let config = json!({
        "model_type": "clip", "projection_dim": JOINT, "vision_config": tower(VISION), "text_config": tower(TEXT)
    });
    std::fs::write(folder.join("config.json"), config.to_string())?;
    let mut weights = Weights { state: 1, tensors: Vec::new() };
    weights.tower("vision_model", VISION);
    weights.add("vision_model.embeddings.class_embedding".into(), &[VISION.0], 0.0);
    weights.add("vision_model.embeddings.patch_embedding.weight".into(), &[VISION.0, 3, 16, 16], 0.0);
    weights.add("vision_model.embeddings.position_embedding.weight".into(), &[POSITIONS, VISION.0], 0.0);
    weights.norm("vision_model.pre_layrnorm", VISION.0);
    weights.norm("vision_model.post_layernorm", VISION.0);
    weights.add("visual_projection.weight".into(), &[JOINT, VISION.0], 0.0);
    weights.tower("text_model", TEXT);
    weights.add("text_model.embeddings.token_embedding.weight".into(), &[TOKENS, TEXT.0], 0.0);
    weights.add("text_model.embeddings.position_embedding.weight".into(), &[77, TEXT.0], 0.0);
    weights.norm("text_model.final_layer_norm", TEXT.0);
    weights.add("text_projection.weight".into(), &[JOINT, TEXT.0], 0.0);
    weights.add("logit_scale".into(), &[], 4.6);
    weights.write(folder)
}
