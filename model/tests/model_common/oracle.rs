// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the published code of each method gave for a random CLIP. It lies beside the repository, or where
//! `GCLIP_SHARED` says; without it the tests that need it say that they skip.

use std::path::PathBuf;
use std::sync::Arc;

use gclip_model::preprocess::{Colour, Picture, PixelFormat};
use gclip_model::{InputSize, Model, ModelSpec, Positions, Vocabulary};
use tch::Tensor;

use super::{assert_close, find_tensor, spec, tensor, vocabulary};

pub struct Oracle {
    pub root: PathBuf,
    /// Where the numbers lie.
    values: PathBuf,
}

impl Oracle {
    pub fn find() -> Option<Oracle> {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let root = std::env::var_os("GCLIP_SHARED").map_or(beside, PathBuf::from).join("oracle");
        if !root.is_dir() {
            println!("skipped: there is no oracle at {}", root.display());
            return None;
        }
        Some(Oracle { values: root.join("oracle"), root })
    }

    /// The numbers of the second part, with helper models, for the pictures and the checkpoint of the first.
    pub fn find_second() -> Option<Oracle> {
        let Oracle { root, .. } = Oracle::find()?;
        let second = root.with_file_name("oracle-2");
        if !second.is_dir() {
            println!("skipped: there is no oracle at {}", second.display());
            return None;
        }
        Some(Oracle { root, values: second.join("oracle") })
    }

    /// A helper model of the second part.
    pub fn helper(&self, name: &str) -> String {
        self.values.with_file_name(name).to_str().unwrap().to_owned()
    }

    pub fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    pub fn find_tensor(&self, file: &str, key: &str) -> Option<Tensor> {
        find_tensor(&self.values.join(file), key)
    }

    pub fn tensor(&self, file: &str, key: &str) -> Tensor {
        tensor(&self.values.join(file), key)
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_slice(&std::fs::read(self.root.join(name)).unwrap()).unwrap()
    }

    pub fn picture(&self, name: &str) -> Picture {
        let rgb = image::open(self.root.join("images").join(format!("{name}.png"))).unwrap().to_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        let data = Tensor::from_slice(rgb.as_raw()).into();
        Picture { format: PixelFormat::Rgb, width, height, colour: Colour::default(), data }
    }

    /// Features of the oracle's queries, as a vocabulary of one class a query.
    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        vocabulary(&tensor(&self.root.join("oracle/encoders.safetensors"), "text/query_features"))
    }
}

/// Per-patch logits of one method for both pictures, against every key of the oracle that exists for it.
pub fn assert_method(oracle: &Oracle, key: &str, method: &str, options: &str) {
    assert_method_in(oracle, "methods.safetensors", key, method, options);
}

/// As [`assert_method`], on another checkpoint than the oracle's own.
pub fn assert_method_of(oracle: &Oracle, model: &str, key: &str, method: &str, options: &str) {
    assert_everywhere(oracle, model, "methods.safetensors", key, method, options);
}

/// As [`assert_method`], with the oracle's values in `file`.
pub fn assert_method_in(oracle: &Oracle, file: &str, key: &str, method: &str, options: &str) {
    assert_everywhere(oracle, &oracle.path("hf"), file, key, method, options);
}

fn assert_everywhere(oracle: &Oracle, model: &str, file: &str, key: &str, method: &str, options: &str) {
    let vocabulary = oracle.vocabulary();
    for (positions, suffix) in [(Positions::Plain, "logits_plainpos"), (Positions::Scale, "logits")] {
        let spec = ModelSpec { positions, ..spec(model, method, options) };
        let mut model = Model::load(&spec).unwrap();
        for image in ["img0", "img1"] {
            // Nothing is interpolated at the trained size: both kinds are equal, and the oracle keeps one.
            let suffix = match (image, positions) {
                ("img0", Positions::Plain) => "logits",
                ("img0", Positions::Scale) => continue,
                _ => suffix,
            };
            let key = format!("{key}/{image}/{suffix}");
            let Some(expected) = oracle.find_tensor(file, &key) else { continue };
            let picture = oracle.picture(image);
            let size = model.vision.network_size(&picture, InputSize::Native);
            let input = model.vision.preprocess(&[&picture], size).unwrap();
            let logits = model.vision.logits(&input, &[&vocabulary]).unwrap().remove(0);
            assert_close(&key, &logits, &expected);
        }
    }
}
