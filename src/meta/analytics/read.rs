// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segmentations of any element as [`Masks`].

use std::collections::HashSet;

use gst_analytics::{
    AnalyticsClassificationMtd, AnalyticsMtdRef, AnalyticsODMtd, AnalyticsRelationMeta, RelTypes, prelude::*,
};
use gst_video::{VideoFormat, VideoMeta};

use super::compose;
use super::ffi::{self, SegmentationMtd};
use super::part::{Extent, Name, Part, by_falling_area, extents};
use super::{Masks, Rect, Region};
use crate::meta::view::{MaskLayout, MaskView};

type Relations<'a> = gst::MetaRef<'a, AnalyticsRelationMeta>;
type Classes<'a> = AnalyticsMtdRef<'a, AnalyticsClassificationMtd>;

/// The segmentations of a buffer whose frame has `frame` pixels (width, height); `None` if there are none.
///
/// A single one that lies inside the frame and has a name for each value is taken as it is, mask and values. Several,
/// such as one per object, are laid over each other in their order, and what has the same name becomes one region.
/// Names are those of the related classes (`N_TO_N`, else `RELATE_TO`) by region index, else of the one related
/// detection, else `region N`. A region's score is the highest confidence stated for it. Generation and age are 0.
pub fn read(buffer: &gst::BufferRef, frame: (u32, u32)) -> Option<Masks> {
    let relations = buffer.meta::<AnalyticsRelationMeta>()?;
    if frame.0 == 0 || frame.1 == 0 {
        return None;
    }
    let parts: Vec<Part> = relations
        .iter::<SegmentationMtd>()
        .filter_map(|segmentation| Part::new(&relations, &segmentation))
        .collect();
    let (mask, rect, regions) = match parts.as_slice() {
        [] => return None,
        [only] if only.fits_as_it_is(frame) => {
            let rect = only.location.rect(frame);
            (only.mask.clone(), rect, only.regions(rect))
        }
        parts => {
            let (mask, regions) = compose::over_frame(parts, frame)?;
            (mask, Rect::FULL, regions)
        }
    };
    Some(Masks { rect, ..Masks::new(0, mask, regions) })
}

impl Part {
    fn new<'a>(
        relations: &'a Relations<'a>,
        segmentation: &AnalyticsMtdRef<'a, SegmentationMtd>,
    ) -> Option<Part> {
        let (mask, location) = ffi::mask(segmentation)?;
        let mask = little_endian(mask)?;
        if location.w == 0 || location.h == 0 {
            return None;
        }
        let (size, extents) = {
            let view = MaskView::new(&mask)?;
            ((view.width(), view.height()), extents(&view))
        };
        let ids = ffi::region_ids(segmentation);
        let related = |relation| {
            relations.iter_direct_related::<AnalyticsClassificationMtd>(segmentation.id(), relation).next()
        };
        let classes = related(RelTypes::N_TO_N).or_else(|| related(RelTypes::RELATE_TO));
        let object = only_object(relations, segmentation.id());
        let name = |extent: &Extent| {
            let index = ids.iter().position(|&id| id == u32::from(extent.value));
            let class = classes.as_ref().zip(index).and_then(|(classes, index)| class(classes, index));
            class
                .or_else(|| object.clone())
                .unwrap_or_else(|| Name { label: format!("region {}", extent.value), confidence: 0.0 })
        };
        let names = extents.iter().map(name).collect();
        Some(Part { mask, size, location, extents, names })
    }

    /// Whether mask and values can stay as they are.
    fn fits_as_it_is(&self, (width, height): (u32, u32)) -> bool {
        let inside = |start: i32, length: u32, of: u32| {
            u32::try_from(start).ok().and_then(|start| start.checked_add(length)).is_some_and(|end| end <= of)
        };
        let distinct: HashSet<&str> = self.names.iter().map(|name| name.label.as_str()).collect();
        inside(self.location.x, self.location.w, width)
            && inside(self.location.y, self.location.h, height)
            && distinct.len() == self.names.len()
    }

    fn regions(&self, rect: Rect) -> Vec<Region> {
        let regions = self.extents.iter().zip(&self.names);
        let mut regions: Vec<_> =
            regions.map(|(extent, name)| extent.region(name.clone(), self.size, rect)).collect();
        by_falling_area(&mut regions);
        regions
    }
}

/// The class at an index, if it has a name.
fn class(classes: &Classes<'_>, index: usize) -> Option<Name> {
    let (label, level) = ffi::class(classes, index)?;
    (!label.is_empty()).then(|| Name { label, confidence: confidence(level) })
}

/// The detection that the segmentation is related to, if it is one.
fn only_object<'a>(relations: &'a Relations<'a>, segmentation: u32) -> Option<Name> {
    let mut objects = relations.iter_direct_related::<AnalyticsODMtd>(segmentation, RelTypes::ANY);
    let (object, None) = (objects.next()?, objects.next()) else { return None };
    let label = ffi::name(glib::translate::IntoGlib::into_glib(object.obj_type()?))?;
    Some(Name { label, confidence: confidence(object.confidence_level()) })
}

/// Negative stands for "not stated".
fn confidence(level: f32) -> f64 {
    if level.is_finite() { f64::from(level).clamp(0.0, 1.0) } else { 0.0 }
}

/// GRAY16_BE masks are turned round; `None` for what is no mask.
pub(super) fn little_endian(mask: gst::Buffer) -> Option<gst::Buffer> {
    if mask.meta::<VideoMeta>()?.format() != VideoFormat::Gray16Be {
        MaskLayout::of(&mask)?;
        return Some(mask);
    }
    let MaskLayout { width, height, offset, stride, .. } = MaskLayout::of_values(&mask, 2)?;
    let map = mask.map_readable().ok()?;
    let mut values = Vec::with_capacity(width * height);
    for y in 0..height {
        let row = map.get(offset + y * stride..)?.get(..2 * width)?;
        values.extend(row.as_chunks().0.iter().map(|&bytes| u16::from_be_bytes(bytes)));
    }
    compose::mask_of(&values, width as u32, height as u32, true)
}
