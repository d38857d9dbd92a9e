// SPDX-License-Identifier: MIT OR Apache-2.0
use gst_analytics::{
    AnalyticsClassificationMtd, AnalyticsODMtd, AnalyticsRelationMeta, RelTypes, prelude::*,
};

use super::ffi::{self, Relations, SegmentationMtd};
use super::*;

const FRAME: (u32, u32) = (80, 40);

fn buffer() -> gst::Buffer {
    gst::init().unwrap();
    gst::Buffer::new()
}

fn mask(rows: &[&[u16]], wide: bool) -> gst::Buffer {
    gst::init().unwrap();
    compose::mask_of(&rows.concat(), rows[0].len() as u32, rows.len() as u32, wide).unwrap()
}

fn region(value: u32, label: &str) -> Region {
    Region { value, label: label.into(), score: 0.75, area: 0.25, x: 0.0, y: 0.5, w: 0.5, h: 0.5 }
}

fn masks(mask: gst::Buffer, regions: Vec<Region>) -> Masks {
    Masks::new(3, mask, regions)
}

fn values(masks: &Masks) -> Vec<Vec<u16>> {
    let row = |row: crate::meta::MaskRow| (0..row.len()).map(|x| row.get(x).unwrap()).collect();
    masks.with_ids(|ids| ids.rows().map(row).collect()).unwrap()
}

fn labels(masks: &Masks) -> Vec<(u32, &str)> {
    masks.regions.iter().map(|region| (region.value, region.label.as_str())).collect()
}

/// Adds a segmentation as another element might.
fn add(relations: &mut Relations<'_>, rows: &[&[u16]], ids: &[u32], at: [i32; 4]) -> u32 {
    let [x, y, w, h] = at;
    let location = Location { x, y, w: w as u32, h: h as u32 };
    ffi::add_segmentation(relations, mask(rows, false), ids, location).unwrap()
}

fn quark(label: &str) -> glib::Quark {
    glib::Quark::from_str(label)
}

#[test]
fn what_is_attached_is_read_back_and_shares_the_mask() {
    let ours = masks(
        mask(&[&[0, 1, 1, 0], &[3, 3, 0, 0]], false),
        vec![region(3, "Straße, 道路"), region(1, "cat")],
    );
    let mut buffer = buffer();
    attach(&ours, buffer.get_mut().unwrap(), FRAME, false).unwrap();
    let copy = buffer.copy();
    for buffer in [&buffer, &copy] {
        let read = read(buffer, FRAME).unwrap();
        assert_eq!(read.mask.as_ptr(), ours.mask.as_ptr());
        assert_eq!((read.generation, read.age, read.rect), (0, gst::ClockTime::ZERO, Rect::FULL));
        assert_eq!(labels(&read), [(1, "cat"), (3, "Straße, 道路")]);
        let cat = &read.regions[0];
        assert_eq!([cat.score, cat.area, cat.x, cat.y, cat.w, cat.h], [0.75, 0.25, 0.25, 0.0, 0.5, 0.5]);
    }
}

#[test]
fn the_view_follows_the_documentation_and_what_upstream_looks_for() {
    let ours = masks(mask(&[&[0, 1], &[3, 3]], false), vec![region(3, "road"), region(1, "cat")]);
    let mut buffer = buffer();
    attach(&ours, buffer.get_mut().unwrap(), FRAME, true).unwrap();
    let relations = buffer.meta::<AnalyticsRelationMeta>().unwrap();
    let segmentation = relations.iter::<SegmentationMtd>().next().unwrap();
    assert_eq!(ffi::region_ids(&segmentation), [0, 1, 2, 3], "index = value, gaps included");
    let (_, location) = ffi::mask(&segmentation).unwrap();
    assert_eq!(location, Location { x: 0, y: 0, w: 80, h: 40 });
    for relation in [RelTypes::N_TO_N, RelTypes::RELATE_TO] {
        let classes: Vec<_> = relations
            .iter_direct_related::<AnalyticsClassificationMtd>(segmentation.id(), relation)
            .collect();
        assert_eq!(classes.len(), 1, "{relation:?}");
        let names: Vec<_> = (0..classes[0].len()).map(|i| ffi::class(&classes[0], i).unwrap()).collect();
        let expected = [("background", -1.0), ("cat", 0.75), ("", -1.0), ("road", 0.75)];
        assert_eq!(names, expected.map(|(name, level)| (name.to_owned(), level)));
    }
    let objects: Vec<_> = relations.iter::<AnalyticsODMtd>().collect();
    let of = |object: &gst_analytics::AnalyticsMtdRef<AnalyticsODMtd>| {
        let at = object.location().unwrap();
        (object.obj_type().unwrap().as_str().to_string(), [at.x, at.y, at.w, at.h], at.loc_conf_lvl)
    };
    let bounds = [0, 20, 40, 20];
    assert_eq!(
        objects.iter().map(of).collect::<Vec<_>>(),
        [("road".into(), bounds, 0.75), ("cat".into(), bounds, 0.75)]
    );
    for object in &objects {
        for (from, to) in [(object.id(), segmentation.id()), (segmentation.id(), object.id())] {
            assert_eq!(relations.relation(from, to), RelTypes::RELATE_TO);
        }
    }
    assert_eq!(labels(&read(&buffer, FRAME).unwrap()), [(3, "road"), (1, "cat")]);
}

#[test]
fn masks_of_sixteen_bits_list_only_what_is_there() {
    let ours = masks(mask(&[&[0, 700], &[2, 2]], true), vec![region(2, "near"), region(700, "far")]);
    let mut buffer = buffer();
    attach(&ours, buffer.get_mut().unwrap(), FRAME, false).unwrap();
    let relations = buffer.meta::<AnalyticsRelationMeta>().unwrap();
    assert_eq!(ffi::region_ids(&relations.iter::<SegmentationMtd>().next().unwrap()), [0, 2, 700]);
    assert_eq!(labels(&read(&buffer, FRAME).unwrap()), [(2, "near"), (700, "far")]);
}

#[test]
fn part_of_a_frame_stays_part_of_a_frame() {
    let rect = Rect { x: 0.25, y: 0.5, w: 0.5, h: 0.25 };
    let ours = Masks { rect, ..masks(mask(&[&[1, 0]], false), vec![region(1, "cat")]) };
    let mut buffer = buffer();
    attach(&ours, buffer.get_mut().unwrap(), FRAME, false).unwrap();
    let read = read(&buffer, FRAME).unwrap();
    assert_eq!(read.rect, rect);
    let cat = &read.regions[0];
    assert_eq!([cat.area, cat.x, cat.y, cat.w, cat.h], [0.0625, 0.25, 0.5, 0.25, 0.25]);
}

#[test]
fn a_mask_that_is_none_is_an_error_and_is_not_kept() {
    gst::init().unwrap();
    let mask = gst::Buffer::with_size(4).unwrap();
    let mut buffer = buffer();
    let error = attach(&masks(mask.clone(), vec![]), buffer.get_mut().unwrap(), FRAME, false).unwrap_err();
    assert!(error.to_string().contains("GRAY8"), "{error}");
    drop(buffer);
    assert!(mask.is_writable(), "nobody else holds it");
}

#[test]
fn no_reference_to_a_mask_is_left_behind() {
    let ours = masks(mask(&[&[1]], false), vec![region(1, "cat")]);
    let mut buffer = buffer();
    attach(&ours, buffer.get_mut().unwrap(), FRAME, true).unwrap();
    drop(read(&buffer, FRAME).unwrap());
    drop(buffer.copy());
    drop(buffer);
    assert!(ours.mask.is_writable(), "nobody else holds it");
}

/// `yolosegv8tensordec`: one segmentation and one detection per object, related both ways, no classes, and the value
/// of the object is not among the listed ones.
#[test]
fn one_segmentation_per_object_with_its_name_in_a_detection() {
    let mut buffer = buffer();
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    let objects = [
        ("cat", 0.5, 1u16, [0, 0, 40, 20]),
        ("dog", 0.75, 2, [40, 20, 40, 20]),
        ("cat", 0.9, 3, [0, 20, 40, 20]),
    ];
    for (label, level, value, at) in objects {
        let segmentation = add(&mut relations, &[&[value, 0], &[value, value]], &[0], at);
        let [x, y, w, h] = at;
        let object = relations.add_od_mtd(quark(label), x, y, w, h, level).unwrap().id();
        relations.set_relation(RelTypes::RELATE_TO, object, segmentation).unwrap();
        relations.set_relation(RelTypes::RELATE_TO, segmentation, object).unwrap();
    }
    let read = read(&buffer, FRAME).unwrap();
    assert_eq!(labels(&read), [(1, "cat"), (2, "dog")], "one region for each name");
    assert_eq!(values(&read), [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 2, 0], [1, 1, 2, 2]]);
    let (cat, dog) = (&read.regions[0], &read.regions[1]);
    assert!((cat.score - 0.9).abs() < 1e-6 && (dog.score - 0.75).abs() < 1e-6);
    assert_eq!([cat.area, cat.x, cat.y, cat.w, cat.h], [0.375, 0.0, 0.0, 0.5, 1.0]);
    assert_eq!([dog.area, dog.x, dog.y, dog.w, dog.h], [0.1875, 0.5, 0.5, 0.5, 0.5]);
}

#[test]
fn instances_of_one_class_are_one_region() {
    let mut buffer = buffer();
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    let segmentation = add(&mut relations, &[&[12, 7], &[31, 0]], &[0, 12, 7, 31], [0, 0, 80, 40]);
    let names = ["background", "strawberry", "strawberry", "leaf"].map(quark);
    let classes = relations.add_cls_mtd(&[-1.0, 0.6, 0.9, -1.0], &names).unwrap().id();
    relations.set_relation(RelTypes::RELATE_TO, segmentation, classes).unwrap();
    let read = read(&buffer, FRAME).unwrap();
    assert_eq!(labels(&read), [(1, "strawberry"), (2, "leaf")]);
    assert_eq!(values(&read), [[1, 1], [2, 0]]);
    assert!((read.regions[0].score - 0.9).abs() < 1e-6);
    assert_eq!(read.regions[1].score, 0.0, "not stated");
}

#[test]
fn a_mask_that_reaches_out_of_the_frame_is_cut() {
    let mut buffer = buffer();
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    add(&mut relations, &[&[5, 6], &[5, 6]], &[0, 5, 6], [-40, 20, 80, 40]);
    let read = read(&buffer, FRAME).unwrap();
    assert_eq!(labels(&read), [(2, "region 6")], "the left half is outside");
    assert_eq!(values(&read), [[0, 0], [2, 0]]);
}

#[test]
fn what_makes_no_sense_is_passed_over() {
    let mut buffer = buffer();
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    add(&mut relations, &[&[1]], &[1], [0, 0, 0, 40]);
    assert!(read(&buffer, FRAME).is_none(), "an empty rectangle");
    assert!(read(&buffer, (0, 0)).is_none());
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    let segmentation = add(&mut relations, &[&[1, 9]], &[1], [0, 0, 80, 40]);
    let classes = relations.add_cls_mtd(&[f32::NAN], &[quark("odd")]).unwrap().id();
    relations.set_relation(RelTypes::N_TO_N, segmentation, classes).unwrap();
    let read = read(&buffer, FRAME).unwrap();
    assert_eq!(labels(&read), [(1, "odd"), (9, "region 9")]);
    assert_eq!(read.regions[0].score, 0.0);
}

/// Masks of more names than 8 bits hold.
#[test]
fn many_objects_make_a_mask_of_sixteen_bits() {
    let mut buffer = buffer();
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    for part in 0..2u16 {
        let row: Vec<u16> = (1..=200).collect();
        let segmentation = add(&mut relations, &[&row], &[], [0, i32::from(part) * 20, 400, 20]);
        let names: Vec<_> = row.iter().map(|value| quark(&format!("{part}-{value}"))).collect();
        let ids: Vec<u32> = row.iter().map(|&value| u32::from(value)).collect();
        let named = add(&mut relations, &[&row], &ids, [0, i32::from(part) * 20, 400, 20]);
        let classes = relations.add_cls_mtd(&[0.5; 200], &names).unwrap().id();
        relations.set_relation(RelTypes::N_TO_N, named, classes).unwrap();
        assert_ne!(named, segmentation);
    }
    let read = read(&buffer, (400, 40)).unwrap();
    assert_eq!(read.regions.len(), 400);
    assert_eq!(read.view().unwrap().format(), gst_video::VideoFormat::Gray16Le);
    assert_eq!(read.region_at(0.999, 0.9).unwrap().label, "1-200");
}

#[test]
fn big_endian_masks_are_turned_round() {
    gst::init().unwrap();
    let turned = |bytes: &'static [u8]| {
        let mut mask = gst::Buffer::from_slice(bytes);
        let (none, format) = (gst_video::VideoFrameFlags::empty(), gst_video::VideoFormat::Gray16Be);
        // Rows of two values and two bytes of padding.
        gst_video::VideoMeta::add_full(mask.get_mut().unwrap(), none, format, 2, 2, &[0], &[6]).unwrap();
        read::little_endian(mask)
    };
    let mask = turned(&[0, 0, 1, 2, 9, 9, 0, 5, 0, 0]).unwrap();
    assert_eq!(values(&masks(mask, vec![])), [[0, 258], [5, 0]]);
    assert!(turned(&[0, 0, 1, 2, 9, 9, 0, 5, 0]).is_none(), "smaller than its video meta says");
}
