// SPDX-License-Identifier: MIT OR Apache-2.0
//! The regions as `GstVideoRegionOfInterestMeta`, for consumers that know only boxes.

use std::ops::ControlFlow::Continue;

use gst::buffer::BufferMetaForeachAction::{Keep, Remove};
use gst_video::VideoRegionOfInterestMeta;

use super::Region;

/// Name of the parameter structure that marks a region of interest as ours.
pub const PARAMETER: &str = "gclip";

/// Attaches one region of interest per region, in the place of those attached before: its type is the label, its
/// box is in pixels of a frame of `width` x `height`, its id is the value in the mask, and a parameter structure
/// `gclip` holds `label` (string), `value` (uint), `score` (double) and `area` (double, share of the frame).
pub fn attach_regions_of_interest(buffer: &mut gst::BufferRef, regions: &[Region], width: u32, height: u32) {
    buffer.foreach_meta_mut(|mut meta| {
        let ours = meta
            .downcast_ref::<VideoRegionOfInterestMeta>()
            .is_some_and(|roi| roi.param(PARAMETER).is_some());
        Continue(if ours { Remove } else { Keep })
    });
    for region in regions {
        let rect = pixel_box(region, width, height);
        let mut roi = VideoRegionOfInterestMeta::add(buffer, &region.label, rect);
        roi.set_id(i32::try_from(region.value).unwrap_or(-1));
        roi.add_param(
            gst::Structure::builder(PARAMETER)
                .field("label", region.label.as_str())
                .field("value", region.value)
                .field("score", region.score)
                .field("area", region.area)
                .build(),
        );
    }
}

/// Left, top, width, height of the smallest box of whole pixels around a region, inside the frame.
pub(super) fn pixel_box(region: &Region, width: u32, height: u32) -> (u32, u32, u32, u32) {
    let (x, w) = pixel_span(region.x, region.w, width);
    let (y, h) = pixel_span(region.y, region.h, height);
    (x, y, w, h)
}

fn pixel_span(start: f64, length: f64, size: u32) -> (u32, u32) {
    // A product like 0.3 * 10 may end a hair above the pixel edge it stands for.
    const SLACK: f64 = 1e-6;
    let size = f64::from(size);
    let first = (start * size + SLACK).floor().clamp(0.0, size);
    let end = ((start + length) * size - SLACK).ceil().clamp(first, size);
    (first as u32, (end - first) as u32)
}
