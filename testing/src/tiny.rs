// SPDX-License-Identifier: MIT OR Apache-2.0
//! A CLIP checkpoint of random weights, small enough to be made in a test: Hugging Face layout, two blocks, 32 px.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::json;

const WIDTH: usize = 64;
/// The token table is most of the file: the text tower is narrow.
const TEXT_WIDTH: usize = 16;
const TOKENS: usize = 49_408;

/// Tensors by name, shape and f32 values.
pub type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Writes config and weights. Without text, the checkpoint has a vision tower only.
pub fn write(folder: &Path, with_text: bool) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config(with_text).to_string()).unwrap();
    write_weights(&folder.join("model.safetensors"), &tensors(with_text));
}

pub fn config(with_text: bool) -> serde_json::Value {
    let tower = |width: usize| {
        json!({
            "hidden_size": width, "intermediate_size": 128, "num_attention_heads": 1, "num_hidden_layers": 2,
            "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "image_size": 32, "patch_size": 16,
            "max_position_embeddings": 77, "vocab_size": TOKENS, "eos_token_id": 49407
        })
    };
    match with_text {
        true => json!({
            "model_type": "clip", "projection_dim": 32,
            "vision_config": tower(WIDTH), "text_config": tower(TEXT_WIDTH)
        }),
        false => json!({"model_type": "clip", "projection_dim": 32, "vision_config": tower(WIDTH)}),
    }
}

pub fn write_weights(path: &Path, tensors: &Tensors) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, serialize(views, None).unwrap()).unwrap();
}

/// As [`write`], with other weights for another seed.
pub fn write_seeded(folder: &Path, seed: u64) {
    write(folder, true);
    write_weights(&folder.join("model.safetensors"), &seeded(true, seed));
}

pub fn tensors(with_text: bool) -> Tensors {
    seeded(with_text, 0)
}

fn seeded(with_text: bool, seed: u64) -> Tensors {
    let seed = seed << 8;
    let mut all = Random(seed + 1).tower("vision_model", WIDTH);
    let mut random = Random(seed + 2);
    all.push(random.tensor("vision_model.embeddings.class_embedding", &[WIDTH]));
    all.push(random.tensor("vision_model.embeddings.patch_embedding.weight", &[WIDTH, 3, 16, 16]));
    all.push(random.tensor("vision_model.embeddings.position_embedding.weight", &[5, WIDTH]));
    all.extend(random.norm("vision_model.pre_layrnorm", WIDTH));
    all.extend(random.norm("vision_model.post_layernorm", WIDTH));
    all.push(random.tensor("visual_projection.weight", &[32, WIDTH]));
    all.push(("logit_scale".into(), vec![], vec![4.6]));
    if with_text {
        all.extend(Random(seed + 3).tower("text_model", TEXT_WIDTH));
        all.push(random.tensor("text_model.embeddings.token_embedding.weight", &[TOKENS, TEXT_WIDTH]));
        all.push(random.tensor("text_model.embeddings.position_embedding.weight", &[77, TEXT_WIDTH]));
        all.extend(random.norm("text_model.final_layer_norm", TEXT_WIDTH));
        all.push(random.tensor("text_projection.weight", &[32, TEXT_WIDTH]));
    }
    all
}

/// A linear congruential generator: the same weights on every machine.
struct Random(u64);

impl Random {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> (String, Vec<usize>, Vec<f32>) {
        let values = (0..shape.iter().product()).map(|_| {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.2
        });
        (name.into(), shape.into(), values.collect())
    }

    fn norm(&mut self, name: &str, width: usize) -> Tensors {
        let ones = (format!("{name}.weight"), vec![width], vec![1.0; width]);
        vec![ones, self.tensor(&format!("{name}.bias"), &[width])]
    }

    fn linear(&mut self, name: &str, from: usize, to: usize) -> Tensors {
        vec![self.tensor(&format!("{name}.weight"), &[to, from]), self.tensor(&format!("{name}.bias"), &[to])]
    }

    fn tower(&mut self, name: &str, width: usize) -> Tensors {
        let mut all = Vec::new();
        for block in 0..2 {
            let name = format!("{name}.encoder.layers.{block}");
            for norm in ["layer_norm1", "layer_norm2"] {
                all.extend(self.norm(&format!("{name}.{norm}"), width));
            }
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                all.extend(self.linear(&format!("{name}.self_attn.{projection}"), width, width));
            }
            all.extend(self.linear(&format!("{name}.mlp.fc1"), width, 128));
            all.extend(self.linear(&format!("{name}.mlp.fc2"), 128, width));
        }
        all
    }
}

/// A picture with some structure.
pub fn write_picture(path: &Path, width: u32, height: u32) {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 11) as u8, ((x / 9 + y / 5) * 50) as u8]);
    image::RgbImage::from_fn(width, height, pixel).save(path).unwrap();
}
