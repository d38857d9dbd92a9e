// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the model's answer to the masks on a buffer.

use std::sync::Arc;

use anyhow::Result;

#[cfg(feature = "v1_26")]
use super::CAT;
use super::MetaFlags;
use crate::frame;
use crate::meta::{self, Anomaly, Histogram, Masks, Rect, Region, Tag};
use crate::model::Segmentation;

/// The masks of the very frame that the model looked at, of the part of it that is shown: left, top, width and
/// height, 0..1. The mask buffer is made once and then shared.
pub fn masks_of(segmentation: &Arc<Segmentation>, generation: u64, shown: [f64; 4]) -> Result<Masks> {
    let region = |region: &crate::model::Region| Region {
        value: region.value,
        label: region.label.clone(),
        score: region.score,
        area: region.area,
        x: region.x,
        y: region.y,
        w: region.w,
        h: region.h,
    };
    let tag = |tag: &crate::model::Tag| Tag { label: tag.label.clone(), score: tag.score };
    let regions = segmentation.regions.iter().map(region).collect();
    let masks = Masks::new(generation, frame::mask_buffer(segmentation)?, regions);
    let [x, y, w, h] = shown;
    let masks = masks.of_part(Rect { x, y, w, h });
    let anomaly = |anomaly: &crate::model::Anomaly| -> Result<Anomaly> {
        let map = frame::map_buffer(&anomaly.map)?;
        Ok(Anomaly { label: anomaly.label.clone(), score: anomaly.map.score, map })
    };
    let anomalies = segmentation.anomalies.iter().map(anomaly).collect::<Result<_>>()?;
    let histogram = |histogram: &crate::model::Histogram| Histogram {
        label: histogram.label.clone(),
        pixels: histogram.pixels.to_vec(),
    };
    let histograms = segmentation.histograms.iter().map(histogram).collect();
    Ok(Masks { tags: segmentation.tags.iter().map(tag).collect(), histograms, anomalies, ..masks })
}

/// Puts the masks on a frame of this width and height, in the forms that are asked for.
pub fn attach(masks: &Masks, buffer: &mut gst::BufferRef, (width, height): (u32, u32), flags: MetaFlags) {
    if flags.contains(MetaFlags::CUSTOM) {
        masks.attach(buffer);
    }
    if flags.contains(MetaFlags::ROI) {
        meta::attach_regions_of_interest(buffer, &masks.regions, width, height);
    }
    #[cfg(feature = "v1_26")]
    if flags.intersects(MetaFlags::ANALYTICS | MetaFlags::ANALYTICS_OBJECTS) {
        let objects = flags.contains(MetaFlags::ANALYTICS_OBJECTS);
        if let Err(error) = meta::attach_analytics(masks, buffer, (width, height), objects) {
            gst::error!(CAT, "no analytics metadata on a frame: {error:#}");
        }
    }
}
