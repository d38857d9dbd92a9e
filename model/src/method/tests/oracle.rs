// SPDX-License-Identifier: MIT OR Apache-2.0
//! The oracle for steps inside a method (`tests/parity*.rs` check what comes out).

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use crate::preprocess::Normalisation;
use crate::transformer::Loader;
use crate::vision::{Positions, VisionTower};
use crate::weights::Checkpoint;
use crate::{Model, ModelSpec, TextEncoder};

pub struct Oracle {
    root: PathBuf,
}

impl Oracle {
    pub fn find() -> Option<Oracle> {
        Oracle::named("oracle")
    }

    /// The one with helper models; its pictures and checkpoint are those of the first.
    pub fn find_second() -> Option<Oracle> {
        Oracle::named("oracle-2")
    }

    fn named(name: &str) -> Option<Oracle> {
        let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
        let root = std::env::var_os("GCLIP_SHARED").map_or(beside, PathBuf::from).join(name);
        if !root.is_dir() {
            println!("skipped: there is no oracle at {}", root.display());
            return None;
        }
        Some(Oracle { root })
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub fn tower(&self, positions: Positions) -> VisionTower {
        let mut checkpoint = Checkpoint::open(self.root.join("hf").to_str().unwrap()).unwrap();
        let architecture = checkpoint.architecture;
        let weights = &mut checkpoint.weights;
        let mut loader = Loader { weights, device: Device::Cpu, kind: Kind::Float, wide: false };
        VisionTower::load(&mut loader, &architecture, positions).unwrap()
    }

    /// `[1, 3, H, W]`, normalised.
    pub fn input(&self, picture: &str) -> Tensor {
        let rgb = image::open(self.root.join("images").join(format!("{picture}.png"))).unwrap().to_rgb8();
        let size = [rgb.height() as i64, rgb.width() as i64, 3];
        let rgb = Tensor::from_slice(rgb.as_raw()).reshape(size).permute([2, 0, 1]).to_kind(Kind::Float);
        let Normalisation { mean, std } = Normalisation::default();
        let three =
            |values: [f64; 3]| Tensor::from_slice(&values.map(|value| value as f32)).reshape([3, 1, 1]);
        let (mean, std) = (three(mean), three(std));
        ((rgb / 255.0 - mean) / std).unsqueeze(0)
    }

    /// Whether a file is there.
    pub fn has(&self, file: &str) -> bool {
        self.root.join("oracle").join(format!("{file}.safetensors")).is_file()
    }

    pub fn encoder(&self) -> TextEncoder {
        let model = self.root.join("hf").to_str().unwrap().to_owned();
        Model::load(&ModelSpec { model, ..ModelSpec::default() }).unwrap().text.unwrap()
    }

    pub fn find_tensor(&self, file: &str, key: &str) -> Option<Tensor> {
        let path = self.root.join("oracle").join(format!("{file}.safetensors"));
        let tensors = Tensor::read_safetensors(path).unwrap();
        tensors.into_iter().find(|(name, _)| name == key).map(|(_, tensor)| tensor)
    }

    pub fn tensor(&self, file: &str, key: &str) -> Tensor {
        self.find_tensor(file, key).unwrap_or_else(|| panic!("{file} has no {key}"))
    }
}
