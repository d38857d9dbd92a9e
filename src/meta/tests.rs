// SPDX-License-Identifier: MIT OR Apache-2.0
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta, VideoRegionOfInterestMeta};

use super::*;

fn init() {
    gst::init().unwrap();
    register();
}

/// A GRAY8 mask with `padding` bytes of 99 behind each row.
fn mask8(rows: &[&[u8]], padding: usize) -> gst::Buffer {
    let (width, height) = (rows[0].len(), rows.len());
    let bytes: Vec<u8> = rows.iter().flat_map(|row| [row, &vec![99; padding][..]].concat()).collect();
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    let stride = [(width + padding) as i32];
    let (none, format) = (VideoFrameFlags::empty(), VideoFormat::Gray8);
    VideoMeta::add_full(buffer.get_mut().unwrap(), none, format, width as u32, height as u32, &[0], &stride)
        .unwrap();
    buffer
}

fn region(value: u32, label: &str) -> Region {
    Region { value, label: label.into(), score: 0.75, area: 0.25, x: 0.0, y: 0.5, w: 0.5, h: 0.5 }
}

fn masks() -> Masks {
    let mask = mask8(&[&[0, 1], &[2, 2]], 3);
    let masks = Masks::new(7, mask, vec![region(1, "cat"), region(2, "Straße, 道路")]);
    Masks { age: gst::ClockTime::from_mseconds(40), ..masks }
}

#[test]
fn what_is_attached_is_read_back_and_shares_the_mask() {
    init();
    let masks = masks();
    let mut buffer = gst::Buffer::new();
    masks.attach(buffer.get_mut().unwrap());
    let copy = buffer.copy();
    for buffer in [&buffer, &copy] {
        let read = Masks::from_buffer(buffer).unwrap();
        assert_eq!((read.generation, read.age, read.rect), (7, masks.age, masks.rect));
        assert_eq!(read.regions, masks.regions);
        assert_eq!(read.mask.as_ptr(), masks.mask.as_ptr());
    }
}

#[test]
fn the_structure_is_the_public_contract() {
    init();
    let mut buffer = gst::Buffer::new();
    masks().attach(buffer.get_mut().unwrap());
    let meta = gst::meta::CustomMeta::from_buffer(&buffer, NAME).unwrap();
    let structure = meta.structure();
    assert_eq!(structure.name(), NAME);
    assert_eq!(structure.get::<u32>("version"), Ok(1));
    assert_eq!(structure.get::<u64>("generation"), Ok(7));
    assert_eq!(structure.get::<u64>("age"), Ok(40_000_000));
    assert_eq!(structure.get::<f64>("w"), Ok(1.0));
    let regions = structure.get::<gst::Array>("regions").unwrap();
    let second = regions.as_slice()[1].get::<gst::Structure>().unwrap();
    assert_eq!(second.name(), "region");
    assert_eq!(second.get::<u32>("value"), Ok(2));
    assert_eq!(second.get::<String>("label").unwrap(), "Straße, 道路");
    assert_eq!(second.get::<f64>("y"), Ok(0.5));
    assert!(meta.tags().is_empty());
}

#[test]
fn histograms_are_there_only_when_there_are_some() {
    init();
    let histograms = vec![Histogram { label: "道路".into(), pixels: vec![0, 7, u32::MAX] }];
    let counted = Masks { histograms: histograms.clone(), ..masks() };
    let mut buffer = gst::Buffer::new();
    counted.attach(buffer.get_mut().unwrap());
    assert_eq!(Masks::from_buffer(&buffer).unwrap().histograms, histograms);
    masks().attach(buffer.get_mut().unwrap());
    assert!(Masks::from_buffer(&buffer).unwrap().histograms.is_empty());
}

#[test]
fn tags_are_there_only_when_there_are_some() {
    init();
    let tag = |label: &str, score| Tag { label: label.into(), score };
    let tagged = Masks { tags: vec![tag("cat", 0.5), tag("道路", 1.0)], ..masks() };
    let mut buffer = gst::Buffer::new();
    tagged.attach(buffer.get_mut().unwrap());
    assert_eq!(Masks::from_buffer(&buffer).unwrap().tags, tagged.tags);
    masks().attach(buffer.get_mut().unwrap());
    assert!(Masks::from_buffer(&buffer).unwrap().tags.is_empty());
    let meta = gst::meta::CustomMeta::from_buffer(&buffer, NAME).unwrap();
    assert!(!meta.structure().has_field("tags"));
}

#[test]
fn a_second_attach_replaces_the_first() {
    init();
    let mut buffer = gst::Buffer::new();
    masks().attach(buffer.get_mut().unwrap());
    Masks { generation: 8, ..masks() }.attach(buffer.get_mut().unwrap());
    assert_eq!(Masks::from_buffer(&buffer).unwrap().generation, 8);
    assert_eq!(buffer.iter_meta::<gst::Meta>().count(), 1);
    Masks::detach(buffer.get_mut().unwrap());
    assert!(Masks::from_buffer(&buffer).is_none());
}

/// What the reader makes of the good content after `change`.
fn read_changed(change: impl FnOnce(&mut gst::StructureRef)) -> Option<Masks> {
    init();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    masks().attach(buffer);
    change(gst::meta::CustomMeta::from_mut_buffer(buffer, NAME).unwrap().mut_structure());
    Masks::from_buffer(buffer)
}

#[test]
fn a_missing_field_or_another_type_is_no_meta() {
    for name in ["version", "generation", "age", "mask", "x", "y", "w", "h", "regions"] {
        assert!(read_changed(|structure| structure.remove_field(name)).is_none(), "without {name}");
        assert!(read_changed(|structure| structure.set(name, "text")).is_none(), "{name} as text");
    }
}

#[test]
fn senseless_values_are_no_meta() {
    assert!(read_changed(|structure| structure.set("version", 0u32)).is_none());
    assert!(read_changed(|structure| structure.set("age", u64::MAX)).is_none());
    assert!(read_changed(|structure| structure.set("w", 0.0)).is_none());
    assert!(read_changed(|structure| structure.set("x", f64::NAN)).is_none());
    assert!(read_changed(|structure| structure.set("regions", gst::Array::new([3i32]))).is_none());
    let stranger = gst::Structure::new_empty("region");
    assert!(read_changed(|structure| structure.set("regions", gst::Array::new([stranger]))).is_none());
    assert!(read_changed(|structure| structure.set("mask", gst::Buffer::with_size(4).unwrap())).is_none());
}

#[test]
fn a_later_version_is_read_as_version_1() {
    let read = read_changed(|structure| {
        structure.set("version", 2u32);
        structure.set("novelty", 1.5);
    });
    assert_eq!(read.unwrap().regions.len(), 2);
}

#[test]
fn a_mask_smaller_than_its_video_meta_is_no_meta() {
    init();
    for (offset, stride, readable) in
        [(0, 5, true), (0, 1, false), (0, 9, false), (3, 5, true), (4, 5, false)]
    {
        let mut mask = gst::Buffer::from_slice([0; 10]);
        let (none, format) = (VideoFrameFlags::empty(), VideoFormat::Gray8);
        VideoMeta::add_full(mask.get_mut().unwrap(), none, format, 2, 2, &[offset], &[stride]).unwrap();
        let found = Masks { mask, ..masks() }.view().is_some();
        assert_eq!(found, readable, "offset {offset}, stride {stride}");
    }
}

#[test]
fn rows_leave_the_padding_out() {
    init();
    let masks = masks();
    let view = masks.view().unwrap();
    assert_eq!((view.width(), view.height(), view.format()), (2, 2, VideoFormat::Gray8));
    assert_eq!(view.rows().collect::<Vec<_>>(), [MaskRow::U8(&[0, 1]), MaskRow::U8(&[2, 2])]);
    assert!(view.row(2).is_empty());
    assert_eq!((view.get(1, 0), view.get(2, 0), view.get(0, 2)), (Some(1), None, None));
}

#[test]
fn sixteen_bit_masks_are_little_endian() {
    init();
    let mut mask = gst::Buffer::from_slice([1, 0, 0, 1]);
    VideoMeta::add(mask.get_mut().unwrap(), VideoFrameFlags::empty(), VideoFormat::Gray16Le, 2, 1).unwrap();
    let masks = Masks { mask, regions: vec![region(256, "far")], ..masks() };
    let mut row = [0; 2];
    masks.with_ids(|ids| ids.row(0).copy_to(&mut row)).unwrap();
    assert_eq!(row, [1, 256]);
    assert_eq!(masks.region_at(0.9, 0.5).unwrap().label, "far");
}

#[test]
fn region_at_goes_through_the_covered_rectangle() {
    init();
    let masks = Masks { rect: Rect { x: 0.5, y: 0.0, w: 0.5, h: 1.0 }, ..masks() };
    let value_at = |x, y| masks.region_at(x, y).map(|region| region.value);
    assert_eq!(value_at(0.25, 0.75), None, "left of the mask");
    assert_eq!(value_at(0.51, 0.25), None, "background");
    assert_eq!(value_at(0.76, 0.25), Some(1));
    assert_eq!(value_at(0.51, 0.99), Some(2));
    assert_eq!(value_at(1.0, 0.0), None, "the right edge is outside");
    assert_eq!(value_at(f64::NAN, 0.5), None);
}

#[test]
fn regions_of_interest_are_in_pixels_and_replaced() {
    init();
    let mut buffer = gst::Buffer::new();
    let buffer = buffer.get_mut().unwrap();
    VideoRegionOfInterestMeta::add(buffer, "somebody else's", (1, 2, 3, 4));
    attach_regions_of_interest(buffer, &[region(1, "old"), region(2, "older")], 100, 80);
    let third = Region { x: 0.3, y: 0.0, w: 0.333, h: 1.0, ..region(3, "cat") };
    attach_regions_of_interest(buffer, &[third], 10, 4);
    let found: Vec<_> = buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .map(|roi| (roi.roi_type(), roi.rect(), roi.param("gclip").map(|p| p.get::<f64>("score").unwrap())))
        .collect();
    assert_eq!(found, [("somebody else's", (1, 2, 3, 4), None), ("cat", (3, 0, 4, 4), Some(0.75))]);
}
