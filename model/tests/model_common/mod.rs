// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of the model share: specs, tensors from files, comparison.
#![allow(dead_code)] // each test program uses its part

pub mod oracle;
pub mod small_helper;

use std::path::Path;
use std::sync::Arc;

use gclip_model::method::MethodSpec;
use gclip_model::preprocess::{Colour, Picture, PixelFormat};
use gclip_model::{DeviceChoice, ModelSpec, PrecisionChoice, Vocabulary};
use safetensors::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

/// Largest difference in f32, on the scale of cosines.
pub const TOLERANCE: f64 = 2e-5;

/// A model on the CPU in f32.
pub fn spec(model: impl Into<String>, method: &str, options: &str) -> ModelSpec {
    ModelSpec {
        model: model.into(),
        method: MethodSpec { name: method.into(), options: options.into() },
        device: DeviceChoice::Cpu,
        precision: PrecisionChoice::F32,
        ..ModelSpec::default()
    }
}

/// One tensor of a safetensors file, if it is there.
pub fn find_tensor(file: &Path, key: &str) -> Option<Tensor> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(key).ok()?;
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::I32 => Kind::Int,
        Dtype::U8 => Kind::Uint8,
        other => panic!("{other:?}"),
    };
    let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
    Some(Tensor::from_data_size(view.data(), &shape, kind))
}

pub fn tensor(file: &Path, key: &str) -> Tensor {
    find_tensor(file, key).unwrap_or_else(|| panic!("{} has no {key}", file.display()))
}

pub fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.to_kind(Kind::Float).flatten(0, -1)).unwrap()
}

/// A picture from `[H, W, 3]` u8.
pub fn picture(rgb: &Tensor) -> Picture {
    let (height, width, _) = rgb.size3().unwrap();
    let (width, height) = (width as usize, height as usize);
    Picture {
        format: PixelFormat::Rgb,
        width,
        height,
        colour: Colour::default(),
        data: rgb.flatten(0, -1).into(),
    }
}

/// A vocabulary of one class a query, from `[Q, E]` features.
pub fn vocabulary(features: &Tensor) -> Arc<Vocabulary> {
    let (queries, dim) = features.size2().unwrap();
    Arc::new(Vocabulary {
        labels: (0..queries).map(|query| query.to_string()).collect(),
        query_value: (1..=queries as u32).collect(),
        features: values(features),
        dim: dim as usize,
        ..Vocabulary::default()
    })
}

pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let difference = (found - expected).abs().max().double_value(&[]);
    println!("{what}: {difference:.1e}");
    // Cosines are at most 1; the key-smoothed maps of MaskCLIP reach 80, with 24 bits all the same.
    let tolerance = TOLERANCE * expected.abs().max().double_value(&[]).clamp(1.0, 100.0);
    assert!(difference <= tolerance, "{what} differs by {difference:e}");
}
