// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`Masks`] to and from the structure of the meta.

use glib::value::FromValue;
use gst::prelude::*;

use super::view::MaskLayout;
use super::{Anomaly, Histogram, Masks, Rect, Region, Tag, VERSION};

const REGION: &str = "region";
const TAG: &str = "tag";
const HISTOGRAM: &str = "histogram";
const ANOMALY: &str = "anomaly";

pub fn write(masks: &Masks, structure: &mut gst::StructureRef) {
    structure.set("version", VERSION);
    structure.set("generation", masks.generation);
    structure.set("age", masks.age.nseconds());
    structure.set("mask", masks.mask.clone());
    structure.set("x", masks.rect.x);
    structure.set("y", masks.rect.y);
    structure.set("w", masks.rect.w);
    structure.set("h", masks.rect.h);
    structure
        .set("regions", gst::Array::from_values(masks.regions.iter().map(|r| region(r).to_send_value())));
    if !masks.tags.is_empty() {
        structure.set("tags", gst::Array::from_values(masks.tags.iter().map(|t| tag(t).to_send_value())));
    }
    if !masks.histograms.is_empty() {
        let histograms = masks.histograms.iter().map(|h| histogram(h).to_send_value());
        structure.set("histograms", gst::Array::from_values(histograms));
    }
    if !masks.anomalies.is_empty() {
        let anomalies = masks.anomalies.iter().map(|a| anomaly(a).to_send_value());
        structure.set("anomalies", gst::Array::from_values(anomalies));
    }
}

/// As in the field `regions`.
pub fn region(region: &Region) -> gst::Structure {
    gst::Structure::builder(REGION)
        .field("value", region.value)
        .field("label", region.label.as_str())
        .field("score", region.score)
        .field("area", region.area)
        .field("x", region.x)
        .field("y", region.y)
        .field("w", region.w)
        .field("h", region.h)
        .build()
}

/// As in the field `tags`.
pub fn tag(tag: &Tag) -> gst::Structure {
    gst::Structure::builder(TAG).field("label", tag.label.as_str()).field("score", tag.score).build()
}

fn histogram(histogram: &Histogram) -> gst::Structure {
    let pixels = gst::Array::from_values(histogram.pixels.iter().map(|pixels| pixels.to_send_value()));
    gst::Structure::builder(HISTOGRAM)
        .field("label", histogram.label.as_str())
        .field("pixels", pixels)
        .build()
}

/// As in the field `anomalies`.
pub fn anomaly(anomaly: &Anomaly) -> gst::Structure {
    gst::Structure::builder(ANOMALY)
        .field("label", anomaly.label.as_str())
        .field("score", anomaly.score)
        .field("map", anomaly.map.clone())
        .build()
}

/// `None` unless every field of version 1 is there, of its type, and makes sense.
pub fn read(structure: &gst::StructureRef) -> Option<Masks> {
    if field::<u32>(structure, "version")? < VERSION {
        return None;
    }
    let mask = field::<gst::Buffer>(structure, "mask")?;
    MaskLayout::of(&mask)?;
    let (x, y, w, h) = rectangle(structure)?;
    let regions = structure.get::<gst::ArrayRef>("regions").ok()?;
    Some(Masks {
        generation: field(structure, "generation")?,
        age: gst::ClockTime::from_nseconds(u64_time(field(structure, "age")?)?),
        mask,
        rect: Rect { x, y, w, h },
        regions: regions.as_slice().iter().map(read_region).collect::<Option<_>>()?,
        tags: match structure.get::<gst::ArrayRef>("tags") {
            Ok(tags) => tags.as_slice().iter().map(read_tag).collect::<Option<_>>()?,
            Err(_) => Vec::new(),
        },
        histograms: match structure.get::<gst::ArrayRef>("histograms") {
            Ok(histograms) => histograms.as_slice().iter().map(read_histogram).collect::<Option<_>>()?,
            Err(_) => Vec::new(),
        },
        anomalies: match structure.get::<gst::ArrayRef>("anomalies") {
            Ok(anomalies) => anomalies.as_slice().iter().map(read_anomaly).collect::<Option<_>>()?,
            Err(_) => Vec::new(),
        },
    })
}

fn read_region(value: &glib::SendValue) -> Option<Region> {
    let structure = value.get::<gst::Structure>().ok().filter(|s| s.has_name(REGION))?;
    let (x, y, w, h) = rectangle(&structure)?;
    Some(Region {
        value: field(&structure, "value")?,
        label: field(&structure, "label")?,
        score: finite(&structure, "score")?,
        area: finite(&structure, "area")?,
        x,
        y,
        w,
        h,
    })
}

fn read_tag(value: &glib::SendValue) -> Option<Tag> {
    let structure = value.get::<gst::Structure>().ok().filter(|s| s.has_name(TAG))?;
    Some(Tag { label: field(&structure, "label")?, score: finite(&structure, "score")? })
}

fn read_histogram(value: &glib::SendValue) -> Option<Histogram> {
    let structure = value.get::<gst::Structure>().ok().filter(|s| s.has_name(HISTOGRAM))?;
    let pixels = structure.get::<gst::ArrayRef>("pixels").ok()?;
    let pixels = pixels.as_slice().iter().map(|pixels| pixels.get().ok()).collect::<Option<_>>()?;
    Some(Histogram { label: field(&structure, "label")?, pixels })
}

fn read_anomaly(value: &glib::SendValue) -> Option<Anomaly> {
    let structure = value.get::<gst::Structure>().ok().filter(|s| s.has_name(ANOMALY))?;
    let map = field::<gst::Buffer>(&structure, "map")?;
    MaskLayout::of(&map)?;
    Some(Anomaly { label: field(&structure, "label")?, score: finite(&structure, "score")?, map })
}

fn field<'a, T: FromValue<'a>>(structure: &'a gst::StructureRef, name: &str) -> Option<T> {
    structure.get(name).ok()
}

fn finite(structure: &gst::StructureRef, name: &str) -> Option<f64> {
    field::<f64>(structure, name).filter(|value| value.is_finite())
}

/// Left, top, width, height; only a rectangle with some area.
fn rectangle(structure: &gst::StructureRef) -> Option<(f64, f64, f64, f64)> {
    let (w, h) = (finite(structure, "w")?, finite(structure, "h")?);
    (w > 0.0 && h > 0.0).then_some(())?;
    Some((finite(structure, "x")?, finite(structure, "y")?, w, h))
}

/// `ClockTime` panics on the value that stands for "none".
fn u64_time(nanoseconds: u64) -> Option<u64> {
    (nanoseconds != u64::MAX).then_some(nanoseconds)
}
