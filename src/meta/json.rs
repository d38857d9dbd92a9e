// SPDX-License-Identifier: MIT OR Apache-2.0
//! The masks of one frame as JSON; the form is fixed by `src/meta2json/schema.json`.

use serde::{Deserialize, Serialize};

use super::{Masks, Region, rle};

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
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameRegion {
    pub label: String,
    pub value: u32,
    pub score: f64,
    pub area: f64,
    #[serde(rename = "box")]
    pub bounds: Rect,
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
}

impl Frame {
    /// `None` if the mask is asked for and cannot be read.
    pub fn new(masks: &Masks, times: Times, size: Option<Size>, form: MaskForm) -> Option<Frame> {
        let nanoseconds = |time: Option<gst::ClockTime>| time.map(gst::ClockTime::nseconds);
        let mut region_masks = region_masks(masks, form)?.into_iter();
        let regions =
            masks.regions.iter().map(|region| FrameRegion::new(region, region_masks.next())).collect();
        let super::Rect { x, y, w, h } = masks.rect;
        Some(Frame {
            pts: nanoseconds(times.pts),
            stream_time: nanoseconds(times.stream),
            running_time: nanoseconds(times.running),
            width: size.map(|size| size.width),
            height: size.map(|size| size.height),
            generation: masks.generation,
            age: masks.age.nseconds(),
            rect: Rect { x, y, w, h },
            regions,
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
    }
}

impl FrameRegion {
    fn new(region: &Region, mask: Option<RegionMask>) -> FrameRegion {
        let Region { value, ref label, score, area, x, y, w, h } = *region;
        FrameRegion { label: label.clone(), value, score, area, bounds: Rect { x, y, w, h }, mask }
    }
}

/// One mask per region, in their order, or none at all.
fn region_masks(masks: &Masks, form: MaskForm) -> Option<Vec<RegionMask>> {
    if form == MaskForm::None {
        return Some(Vec::new());
    }
    masks.with_ids(|ids| {
        let values = masks.regions.iter().map(|region| u16::try_from(region.value).unwrap_or(0));
        let size = [ids.height() as u32, ids.width() as u32];
        match form {
            MaskForm::None => Vec::new(),
            MaskForm::Rle => {
                let runs = rle::runs(ids.rows());
                let counts = |value| rle::compress(&rle::counts(&runs, value));
                values.map(|value| RegionMask::Rle { size, counts: counts(value) }).collect()
            }
        }
    })
}
