// SPDX-License-Identifier: MIT OR Apache-2.0
//! `GstAnalyticsSegmentationMtd`, which the `gstreamer-analytics` crate does not wrap, and class names that may be 0.
//!
//! Source: `gstanalyticssegmentationmtd.h` and `gstanalyticsclassificationmtd.h` of GStreamer 1.26.

use std::ffi::CStr;

use anyhow::{Result, ensure};
use glib::translate::*;
use gst_analytics::{AnalyticsClassificationMtd, AnalyticsMtd, AnalyticsMtdRef, AnalyticsRelationMeta, ffi};

use super::Location;
use crate::meta::view::MaskLayout;

/// A relation meta that can be added to.
pub type Relations<'a> = gst::MetaRefMut<'a, AnalyticsRelationMeta, gst::meta::Standalone>;

/// Marks references to a `GstAnalyticsSegmentationMtd`.
pub enum SegmentationMtd {}

// SAFETY: the trait asks for the type under which the library registers what the reference is taken for.
unsafe impl AnalyticsMtd for SegmentationMtd {
    fn mtd_type() -> ffi::GstAnalyticsMtdType {
        // SAFETY: a getter without arguments that returns an address inside the library.
        unsafe { ffi::gst_analytics_segmentation_mtd_get_mtd_type() }
    }
}

/// Adds a semantic segmentation and returns its id within the meta.
///
/// `region_ids` are the mask's values; the position of each is its region index.
///
/// # Errors
/// A mask that is not GRAY8 or GRAY16_LE with a `GstVideoMeta`; no room in the meta.
pub fn add_segmentation(
    relations: &mut Relations<'_>,
    mask: gst::Buffer,
    region_ids: &[u32],
    location: Location,
) -> Result<u32> {
    ensure!(MaskLayout::of(&mask).is_some(), "the mask is not GRAY8 or GRAY16_LE with a GstVideoMeta");
    let Location { x, y, w, h } = location;
    let mask = mask.into_glib_ptr();
    let mut mtd = ffi::GstAnalyticsSegmentationMtd { id: 0, meta: std::ptr::null_mut() };
    // SAFETY: the meta and its buffer are borrowed mutably, `region_ids` is read and copied during the call, `mtd` is
    // written. The mask is handed over (transfer full) if the call succeeds.
    let added: bool = unsafe {
        from_glib(ffi::gst_analytics_relation_meta_add_segmentation_mtd(
            relations.as_mut_ptr(),
            mask,
            ffi::GST_SEGMENTATION_TYPE_SEMANTIC,
            region_ids.len(),
            region_ids.as_ptr().cast_mut(),
            x,
            y,
            w,
            h,
            &mut mtd,
        ))
    };
    if !added {
        // SAFETY: the reference made by `into_glib_ptr` above was not taken over.
        drop(unsafe { gst::Buffer::from_glib_full(mask) });
    }
    ensure!(added, "the analytics metadata takes no more segmentations");
    Ok(mtd.id)
}

/// The mask of a segmentation and the part of the frame that it covers.
pub fn mask(segmentation: &AnalyticsMtdRef<'_, SegmentationMtd>) -> Option<(gst::Buffer, Location)> {
    let mut at = Location { x: 0, y: 0, w: 0, h: 0 };
    // SAFETY: the handle holds the id and the meta of a live reference of this type; the four numbers are written and
    // the buffer comes with a reference of its own (transfer full, nullable).
    let mask: Option<gst::Buffer> = unsafe {
        let handle = handle(segmentation);
        let mask =
            ffi::gst_analytics_segmentation_mtd_get_mask(&handle, &mut at.x, &mut at.y, &mut at.w, &mut at.h);
        from_glib_full(mask)
    };
    Some((mask?, at))
}

/// The values of the mask that are listed, by region index.
pub fn region_ids(segmentation: &AnalyticsMtdRef<'_, SegmentationMtd>) -> Vec<u32> {
    // SAFETY: as in `mask`; every index asked for is below the count.
    unsafe {
        let handle = handle(segmentation);
        let count = ffi::gst_analytics_segmentation_mtd_get_region_count(&handle);
        (0..count).map(|index| ffi::gst_analytics_segmentation_mtd_get_region_id(&handle, index)).collect()
    }
}

/// # Safety
/// The handle must not outlive the reference.
unsafe fn handle(segmentation: &AnalyticsMtdRef<'_, SegmentationMtd>) -> ffi::GstAnalyticsSegmentationMtd {
    // SAFETY: copies id and address out of a live reference.
    let ffi::GstAnalyticsMtd { id, meta } = unsafe { ffi::GstAnalyticsMtd::unsafe_from(segmentation) };
    ffi::GstAnalyticsSegmentationMtd { id, meta }
}

/// Name and confidence of the class at an index; `None` above the last one, and for the quark 0, which has no name.
pub fn class(
    classes: &AnalyticsMtdRef<'_, AnalyticsClassificationMtd>,
    index: usize,
) -> Option<(String, f32)> {
    if index >= classes.len() {
        return None;
    }
    // SAFETY: the handle is a live reference to a classification, and the index was checked. The crate's own getter
    // has to be passed over because its `Quark` must not be 0.
    let quark = unsafe {
        let ffi::GstAnalyticsMtd { id, meta } = ffi::GstAnalyticsMtd::unsafe_from(classes);
        ffi::gst_analytics_cls_mtd_get_quark(&ffi::GstAnalyticsClsMtd { id, meta }, index)
    };
    Some((name(quark)?, classes.level(index)))
}

/// The string of a quark, which other elements may have made from text in any encoding.
pub fn name(quark: glib::ffi::GQuark) -> Option<String> {
    // SAFETY: returns NULL for a number that is no quark, else a string that lives as long as the process.
    let text = unsafe { glib::ffi::g_quark_to_string(quark) };
    // SAFETY: as above; it ends with a 0.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
