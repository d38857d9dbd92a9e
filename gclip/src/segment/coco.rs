// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was found in a set of pictures as a COCO data set, the form that annotation tools and trainers read: a category a
//! class, an annotation a region.
//!
//! Masks are run lengths, marked `iscrowd` as COCO asks for with those: they keep every pixel and every hole, which
//! polygons would not.

use std::io::Write;

use anyhow::Result;
use gstgclip::meta::json::RegionMask;
use gstgclip::model::Segmentation;
use gstgclip::picture::RgbImage;
use serde::Serialize;
use serde_json::json;

use super::inputs::Input;
use super::record::masks;

#[derive(Default)]
pub struct Dataset {
    pictures: Vec<Picture>,
    annotations: Vec<Annotation>,
}

#[derive(Serialize)]
struct Picture {
    id: usize,
    /// Relative to the folder that was named.
    file_name: String,
    width: usize,
    height: usize,
}

#[derive(Serialize)]
struct Annotation {
    id: usize,
    image_id: usize,
    /// The mask value: the nth class.
    category_id: u32,
    segmentation: RegionMask,
    /// Pixels.
    area: f64,
    /// Left, top, width and height in pixels.
    bbox: [f64; 4],
    iscrowd: u8,
    /// Mean probability over the region; COCO's results have it, and its annotations may.
    score: f64,
}

impl Dataset {
    pub fn add(&mut self, input: &Input, image: &RgbImage, answer: &Segmentation) {
        let (width, height) = (image.width(), image.height());
        let image_id = self.pictures.len() + 1;
        self.pictures.push(Picture { id: image_id, file_name: input.file_name(), width, height });
        let (across, down) = (width as f64, height as f64);
        for (region, segmentation) in answer.regions.iter().zip(masks(answer)) {
            self.annotations.push(Annotation {
                id: self.annotations.len() + 1,
                image_id,
                category_id: region.value,
                segmentation,
                area: (region.area * across * down).round(),
                bbox: [region.x * across, region.y * down, region.w * across, region.h * down]
                    .map(f64::round),
                iscrowd: 1,
                score: region.score,
            });
        }
    }

    /// With the classes that were looked for, found or not.
    pub fn write(&self, labels: &[String], file: &mut dyn Write) -> Result<()> {
        let category =
            |(id, name): (usize, &String)| json!({ "id": id + 1, "name": name, "supercategory": "" });
        let categories: Vec<_> = labels.iter().enumerate().map(category).collect();
        let whole = json!({
            "info": { "description": "gclip segment", "version": env!("CARGO_PKG_VERSION") },
            "licenses": [],
            "images": self.pictures,
            "categories": categories,
            "annotations": self.annotations,
        });
        Ok(serde_json::to_writer(file, &whole)?)
    }
}
