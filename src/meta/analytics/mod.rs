// SPDX-License-Identifier: MIT OR Apache-2.0
//! The masks as GStreamer's own analytics metadata (1.26 and later), for and from elements that do not know ours.
//!
//! [`attach`] writes one semantic `GstAnalyticsSegmentationMtd`, whose mask is that of our own meta (0 = background),
//! and one `GstAnalyticsClsMtd` that names its regions by index. Segmentation and classes are related by `RELATE_TO`,
//! the documented relation, and by `N_TO_N`, the one that upstream's `segmentationoverlay` looks for. On demand each
//! region gets a `GstAnalyticsODMtd` with its box, related to the segmentation by `RELATE_TO` in both directions.
//!
//! [`read`] takes the segmentations of any element, also one per object with the name in a related detection, as
//! `yolosegv8tensordec` attaches them.

mod compose;
mod ffi;
mod part;
mod read;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result};
use gst_analytics::{AnalyticsRelationMeta, RelTypes, prelude::*};

use super::{Masks, Rect, Region, roi};

pub use read::read;

/// Name of the region 0.
const BACKGROUND: &str = "background";
/// Confidence that stands for "not stated".
const UNDEFINED: f32 = -1.0;
/// Largest value of an 8-bit mask.
const LARGEST_BYTE: u32 = 255;

/// The part of a frame that a mask covers, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Location {
    x: i32,
    y: i32,
    w: u32,
    h: u32,
}

/// One entry of the table of regions.
struct Listed<'a> {
    value: u32,
    label: &'a str,
    confidence: f32,
}

impl<'a> Listed<'a> {
    fn of(region: &'a Region) -> Listed<'a> {
        Listed { value: region.value, label: &region.label, confidence: region.score as f32 }
    }
}

impl Location {
    /// To the nearest pixel.
    fn of(rect: Rect, (width, height): (u32, u32)) -> Location {
        let pixel = |share: f64, of: u32| (share * f64::from(of)).round();
        let (left, right) = (pixel(rect.x, width), pixel(rect.x + rect.w, width));
        let (top, bottom) = (pixel(rect.y, height), pixel(rect.y + rect.h, height));
        Location { x: left as i32, y: top as i32, w: (right - left) as u32, h: (bottom - top) as u32 }
    }

    fn rect(self, (width, height): (u32, u32)) -> Rect {
        let (width, height) = (f64::from(width), f64::from(height));
        Rect {
            x: f64::from(self.x) / width,
            y: f64::from(self.y) / height,
            w: f64::from(self.w) / width,
            h: f64::from(self.h) / height,
        }
    }
}

/// Adds the masks to the buffer's analytics metadata; `frame` is its width and height in pixels.
///
/// What is there already stays: analytics metadata cannot be taken back. Labels become `GQuark`s, which GLib keeps
/// until the process ends: memory grows with the number of different labels ever used.
///
/// # Errors
/// A mask that is not GRAY8 or GRAY16_LE with a `GstVideoMeta`; no room in the metadata.
pub fn attach(
    masks: &Masks,
    buffer: &mut gst::BufferRef,
    frame: (u32, u32),
    with_objects: bool,
) -> Result<()> {
    let listed = listed(&masks.regions);
    let ids: Vec<u32> = listed.iter().map(|class| class.value).collect();
    let names: Vec<glib::Quark> = listed.iter().map(|class| glib::Quark::from_str(class.label)).collect();
    let levels: Vec<f32> = listed.iter().map(|class| class.confidence).collect();

    let mut relations = AnalyticsRelationMeta::add(buffer);
    let location = Location::of(masks.rect, frame);
    let segmentation = ffi::add_segmentation(&mut relations, masks.mask.clone(), &ids, location)?;
    let classes = relations.add_cls_mtd(&levels, &names).context("classes of the regions")?.id();
    relations
        .set_relation(RelTypes::N_TO_N | RelTypes::RELATE_TO, segmentation, classes)
        .context("names of the regions")?;
    let objects = if with_objects { &masks.regions[..] } else { &[] };
    for region in objects {
        let (x, y, w, h) = roi::pixel_box(region, frame.0, frame.1);
        let [x, y, w, h] = [x, y, w, h].map(|side| i32::try_from(side).unwrap_or(i32::MAX));
        let label = glib::Quark::from_str(&region.label);
        let object =
            relations.add_od_mtd(label, x, y, w, h, region.score as f32).context("box of a region")?.id();
        relations.set_relation(RelTypes::RELATE_TO, object, segmentation)?;
        relations.set_relation(RelTypes::RELATE_TO, segmentation, object)?;
    }
    Ok(())
}

/// The table of regions, background first.
///
/// For 8-bit masks it has an entry for every value up to the largest one that is present, absent ones without a name:
/// upstream's `segmentationoverlay` (1.28) takes the value itself for the index when it selects types, and reads
/// outside its table if that is shorter. It cannot draw 16-bit masks at all, so those list what is present.
fn listed(regions: &[Region]) -> Vec<Listed<'_>> {
    let background = Listed { value: 0, label: BACKGROUND, confidence: UNDEFINED };
    let largest = regions.iter().map(|region| region.value).max().unwrap_or(0);
    let mut listed = vec![background];
    if largest > LARGEST_BYTE {
        listed.extend(regions.iter().map(Listed::of));
        return listed;
    }
    listed.extend((1..=largest).map(|value| {
        let absent = Listed { value, label: "", confidence: UNDEFINED };
        regions.iter().find(|region| region.value == value).map_or(absent, Listed::of)
    }));
    listed
}
