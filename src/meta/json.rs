// SPDX-License-Identifier: MIT OR Apache-2.0
//! The masks of one frame as JSON; the form is fixed by `src/meta2json/schema.json`.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{MaskView, Masks, Region, Tag, png, polygon, rle};

/// How a region's mask is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipJsonMask")]
pub enum MaskForm {
    /// Boxes and areas only.
    #[default]
    #[enum_value(name = "No mask: boxes and areas only", nick = "none")]
    None,
    #[enum_value(name = "COCO run-length encoding, compressed, as pycocotools reads it", nick = "rle")]
    Rle,
    #[enum_value(name = "Simplified outlines, holes included", nick = "polygon")]
    Polygon,
    #[enum_value(name = "PNG picture of each region in base64", nick = "png")]
    Png,
}

/// Size of a frame in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

/// When a frame is shown; `None` is written as `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    pub pts: Option<gst::ClockTime>,
    pub stream: Option<gst::ClockTime>,
    pub running: Option<gst::ClockTime>,
}

/// One frame. Times in nanoseconds, boxes and areas relative to the frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub pts: Option<u64>,
    pub stream_time: Option<u64>,
    pub running_time: Option<u64>,
    /// Pixels; `null` where the caps do not say.
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Generation of the prompts.
    pub generation: u64,
    /// Nanoseconds since the frame that the mask was made from; 0 = this one.
    pub age: u64,
    /// The part of the frame that the mask covers.
    pub rect: Rect,
    pub regions: Vec<FrameRegion>,
    /// Every class, where tag scores were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
    /// Every thing that is looked at for damage: how damaged it looks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anomalies: Vec<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

/// One class that is present, in the form that `gclipmeta2json` and `gclip segment` share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameRegion {
    /// Value of the class in the mask.
    pub value: u32,
    pub label: String,
    /// 0..1
    pub score: f64,
    /// Share of the frame.
    pub area: f64,
    /// Box, normalised to the frame.
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<RegionMask>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RegionMask {
    Rle {
        /// Height, width of the mask in pixels.
        size: [u32; 2],
        counts: String,
    },
    Polygon {
        /// Closed outlines of `[x, y]`, relative to the frame, that fill the region by the even-odd rule.
        rings: Vec<Vec<[f64; 2]>>,
    },
    Png {
        /// Height, width of the mask in pixels.
        size: [u32; 2],
        /// Base64 of an 8-bit grey PNG, 255 where the region is.
        data: String,
    },
}

impl Frame {
    /// # Errors
    /// The mask is asked for and cannot be read or written.
    pub fn new(masks: &Masks, times: Times, size: Option<Size>, form: MaskForm) -> Result<Frame> {
        let nanoseconds = |time: Option<gst::ClockTime>| time.map(gst::ClockTime::nseconds);
        let mut region_masks = region_masks(masks, form)?.into_iter();
        let regions =
            masks.regions.iter().map(|region| FrameRegion::new(region, region_masks.next())).collect();
        let super::Rect { x, y, w, h } = masks.rect;
        Ok(Frame {
            pts: nanoseconds(times.pts),
            stream_time: nanoseconds(times.stream),
            running_time: nanoseconds(times.running),
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
            generation: masks.generation,
            age: masks.age.nseconds(),
            rect: Rect { x, y, w, h },
            regions,
            tags: masks.tags.clone(),
            anomalies: masks
                .anomalies
                .iter()
                .map(|anomaly| Tag { label: anomaly.label.clone(), score: anomaly.score })
                .collect(),
        })
    }

    /// One line of JSON, with its newline.
    pub fn to_line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    /// Whether both frames say the same but for their times and age.
    pub fn same_content(&self, other: &Frame) -> bool {
        (self.width, self.height, self.generation, self.rect)
            == (other.width, other.height, other.generation, other.rect)
            && self.regions == other.regions
            && self.tags == other.tags
            && self.anomalies == other.anomalies
    }
}

impl FrameRegion {
    fn new(region: &Region, mask: Option<RegionMask>) -> FrameRegion {
        let Region { value, ref label, score, area, x, y, w, h } = *region;
        FrameRegion { value, label: label.clone(), score, area, x, y, w, h, mask }
    }
}

/// One mask per region, in their order, or none at all.
fn region_masks(masks: &Masks, form: MaskForm) -> Result<Vec<RegionMask>> {
    if form == MaskForm::None {
        return Ok(Vec::new());
    }
    let ids = masks.view().context("the mask cannot be mapped for reading")?;
    let values = masks.regions.iter().map(|region| u16::try_from(region.value).unwrap_or(0));
    let size = [ids.height() as u32, ids.width() as u32];
    match form {
        MaskForm::None => Ok(Vec::new()),
        MaskForm::Rle => {
            let runs = rle::runs(ids.rows());
            let counts = |value| rle::compress(&rle::counts(&runs, value));
            Ok(values.map(|value| RegionMask::Rle { size, counts: counts(value) }).collect())
        }
        MaskForm::Polygon => {
            let outlines = outlines(&ids, masks.rect);
            let rings = |value| {
                outlines.iter().filter(|(of, _)| *of == value).map(|(_, ring)| ring.clone()).collect()
            };
            Ok(values.map(|value| RegionMask::Polygon { rings: rings(value) }).collect())
        }
        MaskForm::Png => {
            values.map(|value| Ok(RegionMask::Png { size, data: png::encode(&ids, value)? })).collect()
        }
    }
}

/// Simplified outlines of every value, relative to the frame.
fn outlines(ids: &MaskView, rect: super::Rect) -> Vec<(u16, Vec<[f64; 2]>)> {
    // A hundred thousandth of the frame is far below one pixel, and the text stays short.
    let relative = |at: u32, size: usize, start: f64, length: f64| {
        ((start + f64::from(at) / size as f64 * length) * 1e5).round() / 1e5
    };
    let point =
        |(x, y)| [relative(x, ids.width(), rect.x, rect.w), relative(y, ids.height(), rect.y, rect.h)];
    let simplified = |ring: polygon::Ring| {
        let corners = polygon::simplify(&ring.corners, polygon::TOLERANCE);
        (ring.value, corners.into_iter().map(point).collect())
    };
    polygon::rings(ids.rows()).into_iter().map(simplified).collect()
}
