// SPDX-License-Identifier: MIT OR Apache-2.0
//! The masks of one frame as an ONVIF metadata document: `tt:MetadataStream` of the schema
//! `http://www.onvif.org/ver10/schema` (ONVIF Analytics Service Specification, section "Scene description").
//!
//! Each region is an object: its value in the mask is the `ObjectId`, its label the `Type` of its class, its score
//! the likelihood, and its shape a bounding box, a centre of gravity and one polygon for each connected piece, the
//! largest first. Coordinates are ONVIF's: -1 to 1, x to the right, y *upwards*. ONVIF knows no holes, so they are
//! joined to the outline around them (see [`keyhole`]).

mod components;
mod keyhole;

use std::io;

use anyhow::{Context, Result};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::polygon::{self, Corner};
use super::{Masks, Rect, Region};

/// Namespace of the elements, prefix `tt`.
pub const NAMESPACE: &str = "http://www.onvif.org/ver10/schema";

/// The document of one frame, UTF-8. `utc` is the frame's time since 1970.
///
/// # Errors
/// The mask cannot be mapped for reading; a time after the year 9999.
pub fn document(masks: &Masks, utc: gst::ClockTime) -> Result<Vec<u8>> {
    let shapes = shapes(masks)?;
    let time = utc_text(utc)?;
    let mut writer = Writer::new(Vec::new());
    write(&mut writer, masks, &shapes, &time).context("cannot write XML")?;
    Ok(writer.into_inner())
}

type Point = (f64, f64);

/// The polygons of each region, relative to the frame as everywhere else in the meta (0..1, y downwards).
fn shapes(masks: &Masks) -> Result<Vec<Vec<Vec<Point>>>> {
    let ids = masks.view().context("the mask cannot be mapped for reading")?;
    let rings = polygon::rings(ids.rows());
    let components = components::Components::new(ids.rows());
    let simplify = |ring: &[Corner]| polygon::simplify(ring, polygon::TOLERANCE);
    let polygons = keyhole::polygons(&rings, &components, simplify);
    let Rect { x, y, w, h } = masks.rect;
    let (width, height) = (ids.width() as f64, ids.height() as f64);
    let point =
        |&(column, row): &Corner| (x + f64::from(column) / width * w, y + f64::from(row) / height * h);
    let of = |region: &Region| {
        let mine = polygons.iter().filter(|(value, _)| u32::from(*value) == region.value);
        mine.map(|(_, corners)| corners.iter().map(point).collect()).collect()
    };
    Ok(masks.regions.iter().map(of).collect())
}

fn write(out: &mut Writer<Vec<u8>>, masks: &Masks, shapes: &[Vec<Vec<Point>>], time: &str) -> io::Result<()> {
    out.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    out.create_element("tt:MetadataStream").with_attribute(("xmlns:tt", NAMESPACE)).write_inner_content(
        |out| {
            out.create_element("tt:VideoAnalytics").write_inner_content(|out| {
                let frame = out.create_element("tt:Frame");
                frame
                    .with_attribute(("UtcTime", time))
                    .with_attribute(("Source", "gclip"))
                    .write_inner_content(|out| {
                        masks
                            .regions
                            .iter()
                            .zip(shapes)
                            .try_for_each(|(region, shape)| object(out, region, shape))
                    })?;
                Ok(())
            })?;
            Ok(())
        },
    )?;
    Ok(())
}

fn object(out: &mut Writer<Vec<u8>>, region: &Region, polygons: &[Vec<Point>]) -> io::Result<()> {
    let id = region.value.to_string();
    out.create_element("tt:Object").with_attribute(("ObjectId", &*id)).write_inner_content(|out| {
        out.create_element("tt:Appearance").write_inner_content(|out| {
            out.create_element("tt:Shape").write_inner_content(|out| shape(out, region, polygons))?;
            out.create_element("tt:Class").write_inner_content(|out| {
                let likelihood = number(region.score);
                out.create_element("tt:Type")
                    .with_attribute(("Likelihood", &*likelihood))
                    .write_text_content(BytesText::new(&legal(&region.label)))?;
                Ok(())
            })?;
            Ok(())
        })?;
        Ok(())
    })?;
    Ok(())
}

fn shape(out: &mut Writer<Vec<u8>>, region: &Region, polygons: &[Vec<Point>]) -> io::Result<()> {
    let [left, top] = [across(region.x), up(region.y)].map(number);
    let [right, bottom] = [across(region.x + region.w), up(region.y + region.h)].map(number);
    out.create_element("tt:BoundingBox")
        .with_attributes([("left", &*left), ("top", &*top), ("right", &*right), ("bottom", &*bottom)])
        .write_empty()?;
    let middle = (region.x + region.w / 2.0, region.y + region.h / 2.0);
    point(out, "tt:CenterOfGravity", centre_of_gravity(polygons).unwrap_or(middle))?;
    for polygon in polygons {
        out.create_element("tt:Polygon").write_inner_content(|out| {
            polygon.iter().try_for_each(|&corner| point(out, "tt:Point", corner))
        })?;
    }
    Ok(())
}

fn point(out: &mut Writer<Vec<u8>>, name: &str, (x, y): Point) -> io::Result<()> {
    let (x, y) = (number(across(x)), number(up(y)));
    out.create_element(name).with_attributes([("x", &*x), ("y", &*y)]).write_empty()?;
    Ok(())
}

fn across(x: f64) -> f64 {
    2.0 * x - 1.0
}

fn up(y: f64) -> f64 {
    1.0 - 2.0 * y
}

/// Five decimals are far below a pixel, and the text stays short.
fn number(value: f64) -> String {
    let rounded = (value * 1e5).round() / 1e5;
    // Adding zero turns -0 into 0.
    (rounded + 0.0).to_string()
}

/// Of the area inside the polygons; `None` if they have none.
fn centre_of_gravity(polygons: &[Vec<Point>]) -> Option<Point> {
    let sides = polygons.iter().flat_map(|polygon| polygon.iter().zip(polygon.iter().cycle().skip(1)));
    let (mut area, mut x, mut y) = (0.0, 0.0, 0.0);
    for (a, b) in sides {
        let cross = a.0 * b.1 - b.0 * a.1;
        area += cross;
        x += (a.0 + b.0) * cross;
        y += (a.1 + b.1) * cross;
    }
    (area.abs() > 1e-12).then(|| (x / (3.0 * area), y / (3.0 * area)))
}

/// Without the characters that no XML 1.0 document may hold, escaped or not.
fn legal(text: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if allowed(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// As `xs:dateTime`, to the microsecond.
fn utc_text(utc: gst::ClockTime) -> Result<String> {
    let seconds = i64::try_from(utc.seconds()).context("a time out of range")?;
    let text = glib::DateTime::from_unix_utc(seconds)
        .and_then(|time| time.format("%Y-%m-%dT%H:%M:%S"))
        .with_context(|| format!("{seconds} seconds after 1970 are no date"))?;
    Ok(format!("{text}.{:06}Z", utc.useconds() % 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        let utc = gst::ClockTime::from_useconds(1_700_000_000_000_042);
        assert_eq!(utc_text(utc).unwrap(), "2023-11-14T22:13:20.000042Z");
        assert!(utc_text(gst::ClockTime::MAX).is_ok(), "the year 2554");
    }

    #[test]
    fn labels_hold_only_what_xml_can() {
        assert_eq!(legal("a\u{1}b\u{ffff}\t<犬>"), "a\u{fffd}b\u{fffd}\t<犬>");
    }

    #[test]
    fn the_centre_of_gravity_of_an_angle_is_not_that_of_its_box() {
        let angle = vec![(0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)];
        let (x, y) = centre_of_gravity(&[angle]).unwrap();
        // Squares at (1/4, 1/4), (1/4, 3/4), (3/4, 3/4).
        assert!((x - 5.0 / 12.0).abs() < 1e-9 && (y - 7.0 / 12.0).abs() < 1e-9, "{x} {y}");
        assert_eq!(centre_of_gravity(&[vec![(0.0, 0.0), (1.0, 1.0)]]), None);
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(number(-1e-9), "0");
        assert_eq!(number(0.123456), "0.12346");
    }
}
