// SPDX-License-Identifier: MIT OR Apache-2.0
//! A harness around one `gclipsegment` on a real checkpoint of random weights.

use std::path::{Path, PathBuf};

use gstgclip::meta::Masks;

use crate::fake::{Rig, frame_of, init, mask_values};
use crate::tiny;

pub const PICTURE: (u32, u32) = (64, 48);

pub struct Workshop(tempfile::TempDir);

impl Default for Workshop {
    fn default() -> Workshop {
        Workshop::new()
    }
}

impl Workshop {
    pub fn new() -> Workshop {
        init();
        Workshop(tempfile::tempdir().unwrap())
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// A checkpoint of weights that the seed decides.
    pub fn model(&self, seed: u64) -> PathBuf {
        let folder = self.0.path().join(format!("model-{seed}"));
        tiny::write_seeded(&folder, seed);
        folder
    }
}

/// A playing element on a checkpoint; with an id it shares it.
pub fn rig(model: &Path, id: Option<&str>) -> Rig {
    Rig::around(element(model, id), PICTURE)
}

/// What a rig is around, before it starts.
pub fn element(model: &Path, id: Option<&str>) -> gst::Element {
    gst::ElementFactory::make("gclipsegment")
        .property("model", model.to_str().unwrap())
        .property("model-instance-id", id)
        .property("prompts", "cat; dog; sky; road")
        .property("prompt-template", "none")
        .property_from_str("precision", "f32")
        .property("device", "cpu")
        .property("batch-timeout", 0u64)
        .build()
        .unwrap()
}

/// A frame with some structure, the same for every number but for its times.
pub fn picture(number: u64) -> gst::Buffer {
    let mut buffer = frame_of(number, PICTURE);
    let fresh = buffer.get_mut().unwrap();
    let mut map = fresh.map_writable().unwrap();
    for (index, pixel) in map.iter_mut().enumerate() {
        *pixel = (index * 7 % 256 + index / 640 * 31 % 256) as u8 / 2;
    }
    drop(map);
    buffer
}

/// What the model makes of the picture: the mask's values and the scores of the regions, as text to compare.
pub fn answer(buffer: &gst::Buffer) -> String {
    let masks = Masks::from_buffer(buffer).expect("the buffer carries masks");
    let scores: Vec<_> =
        masks.regions.iter().map(|region| format!("{} {:.5}", region.label, region.score)).collect();
    format!("{scores:?} {:?}", mask_values(&masks))
}

pub fn answer_of(rig: &mut Rig, number: u64) -> String {
    rig.harness.push(picture(number)).unwrap();
    answer(&rig.pull())
}
