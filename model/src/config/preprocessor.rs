// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a checkpoint wants its pictures: mean, deviation and short side. Cropping and the kind of interpolation belong to
//! its own tools, not to the network.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::refuse_unknown;
use super::{Hints, Side};

/// What 8-bit values are multiplied by before mean and deviation, unless the file says otherwise.
const RESCALE: f64 = 1.0 / 255.0;

/// What image processors state beside that: how to crop and interpolate, which code to run, where it is to run.
const HARMLESS: [&str; 23] = [
    "antialias",
    "auto_map",
    "crop_size",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_center_crop",
    "do_convert_rgb",
    "do_pad",
    "do_resize",
    "feature_extractor_type",
    "fill_color",
    "image_processor_type",
    "image_seq_length",
    "input_data_format",
    "interpolation",
    "pad_size",
    "processor_class",
    "resample",
    "resize_mode",
    "return_tensors",
    "size_divisor",
];

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Fields {
    #[serde(alias = "image_mean")]
    mean: Option<[f64; 3]>,
    #[serde(alias = "image_std")]
    std: Option<[f64; 3]>,
    size: Option<Size>,
    do_normalize: Option<bool>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    mode: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// `224`, `[224, 224]`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Side(Side),
    ShortestEdge { shortest_edge: i64 },
    Fixed { height: i64, width: i64 },
}

impl Size {
    fn short_side(&self) -> i64 {
        match self {
            Size::Side(side) => side.height_width().0.min(side.height_width().1),
            Size::ShortestEdge { shortest_edge } => *shortest_edge,
            Size::Fixed { height, width } => *height.min(width),
        }
    }
}

impl Hints {
    /// Takes mean, standard deviation and short side from a Hugging Face `preprocessor_config.json`.
    ///
    /// # Errors
    /// It is none, or says what is not supported.
    pub fn read_preprocessor(&mut self, json: &str) -> Result<()> {
        self.apply(&serde_json::from_str(json)?)
    }

    /// As [`read_preprocessor`](Self::read_preprocessor), from the `processor_config.json` that transformers 5 writes:
    /// the image processor is a part of it.
    ///
    /// # Errors
    /// It is none, it has no image processor, or that says what is not supported.
    pub fn read_processor(&mut self, json: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Processor {
            image_processor: Option<Fields>,
        }
        let Processor { image_processor } = serde_json::from_str(json)?;
        self.apply(&image_processor.context("it has no image_processor")?)
    }

    pub(super) fn apply(&mut self, fields: &Fields) -> Result<()> {
        refuse_unknown("the image processor", &fields.rest, &HARMLESS)?;
        if let Some(mode) = fields.mode.as_deref().filter(|&mode| mode != "RGB") {
            bail!("the image processor says mode = {mode:?}; only RGB is supported");
        }
        self.short_side = fields.size.as_ref().map(Size::short_side).or(self.short_side);
        let normalisation = &mut self.normalisation;
        normalisation.mean = fields.mean.unwrap_or(normalisation.mean);
        normalisation.std = fields.std.unwrap_or(normalisation.std);
        if fields.do_normalize == Some(false) {
            (normalisation.mean, normalisation.std) = ([0.0; 3], [1.0; 3]);
        }
        let factor = match (fields.do_rescale, fields.rescale_factor) {
            (Some(false), _) => 1.0,
            (_, factor) => factor.unwrap_or(RESCALE),
        };
        // Pictures have values from 0 to 1 here: another factor goes into mean and deviation.
        let scale = factor / RESCALE;
        if !(scale.is_finite() && scale > 0.0) {
            bail!("the image processor says rescale_factor = {factor}, which is above 0 in all others");
        }
        if (scale - 1.0).abs() > 1e-9 {
            normalisation.mean = normalisation.mean.map(|value| value / scale);
            normalisation.std = normalisation.std.map(|value| value / scale);
        }
        let usable = |value: f64| value.is_finite() && value > 0.0;
        if !normalisation.std.iter().copied().all(usable)
            || !normalisation.mean.iter().all(|value| value.is_finite())
        {
            bail!("the image processor says a mean or deviation that is no usable number: {normalisation:?}");
        }
        Ok(())
    }
}
