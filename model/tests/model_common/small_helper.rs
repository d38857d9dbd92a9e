// SPDX-License-Identifier: MIT OR Apache-2.0
//! A helper model that is written in no time.

use std::collections::HashMap;
use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// A DINOv2 of one block, 8 wide, random; as its config and tensors.
pub struct Small {
    pub config: serde_json::Value,
    pub tensors: HashMap<String, Tensor>,
}

impl Small {
    pub fn dinov2() -> Small {
        tch::manual_seed(3);
        let config = serde_json::json!({
            "model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 4,
            "image_size": 8, "patch_size": 4, "hidden_act": "gelu", "use_swiglu_ffn": false, "qkv_bias": true
        });
        let layer = "encoder.layer.0";
        let mut shapes: Vec<(String, Vec<i64>)> = vec![
            ("embeddings.cls_token".into(), vec![1, 1, 8]),
            ("embeddings.position_embeddings".into(), vec![1, 5, 8]),
            ("embeddings.mask_token".into(), vec![1, 8]),
            ("embeddings.patch_embeddings.projection.weight".into(), vec![8, 3, 4, 4]),
            ("embeddings.patch_embeddings.projection.bias".into(), vec![8]),
            (format!("{layer}.layer_scale1.lambda1"), vec![8]),
            (format!("{layer}.layer_scale2.lambda1"), vec![8]),
        ];
        for (name, rows, columns) in [
            ("attention.attention.query", 8, 8),
            ("attention.attention.key", 8, 8),
            ("attention.attention.value", 8, 8),
            ("attention.output.dense", 8, 8),
            ("mlp.fc1", 32, 8),
            ("mlp.fc2", 8, 32),
        ] {
            shapes.push((format!("{layer}.{name}.weight"), vec![rows, columns]));
            shapes.push((format!("{layer}.{name}.bias"), vec![rows]));
        }
        for name in [format!("{layer}.norm1"), format!("{layer}.norm2"), "layernorm".into()] {
            shapes.push((format!("{name}.weight"), vec![8]));
            shapes.push((format!("{name}.bias"), vec![8]));
        }
        let tensors = shapes.into_iter().map(|(name, shape)| (name, Tensor::randn(&shape[..], CPU) * 0.3));
        Small { config, tensors: tensors.collect() }
    }

    /// Into a folder that lives as long as the first of both.
    pub fn write(&self) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), self.config.to_string()).unwrap();
        let tensors: Vec<(&String, &Tensor)> = self.tensors.iter().collect();
        Tensor::write_safetensors(&tensors, folder.path().join("model.safetensors")).unwrap();
        let path = folder.path().to_path_buf();
        (folder, path)
    }
}
