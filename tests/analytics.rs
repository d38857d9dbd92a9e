// SPDX-License-Identifier: MIT OR Apache-2.0
//! GStreamer's own analytics metadata between our elements and those of others.
#![cfg(feature = "v1_26")]

#[path = "analytics/others.rs"]
mod others;

use gclip_testing::scene::{Pixels, Scene, bytes, init, masks};
use gst_analytics::{AnalyticsRelationMeta, RelTypes, prelude::*};
use gst_check::Harness;
use gst_video::VideoFormat;
use gstgclip::meta::{Masks, Rect, attach_analytics};
use others::{add_segmentation, quark};

const FILL: &str = "mode=fill legend=false colors=car=#ff0000,person=#00ff00";

/// A frame of 64x32 with a car on the left, as one segmentation with classes, related as documented.
fn semantic(scene: &Scene) -> gst::Buffer {
    let mut buffer = scene.frame(None);
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    let mask = masks(4, 1, &[7, 7, 0, 0], &[]).mask;
    let segmentation = add_segmentation(&mut relations, mask, &[0, 7], [0, 0, 64, 32]);
    let names = ["background", "car"].map(quark);
    let classes = relations.add_cls_mtd(&[-1.0, 0.5], &names).unwrap().id();
    relations.set_relation(RelTypes::RELATE_TO, segmentation, classes).unwrap();
    buffer
}

/// A frame of 64x32 with two objects of 16x16, each as `yolosegv8tensordec` attaches them: a segmentation of the
/// object's box whose value is not listed, and a detection that names it, related both ways.
fn decoded(scene: &Scene) -> gst::Buffer {
    let mut buffer = scene.frame(None);
    let mut relations = AnalyticsRelationMeta::add(buffer.get_mut().unwrap());
    for (count, (label, x, y)) in (1u8..).zip([("car", 0, 0), ("person", 32, 16)]) {
        let object = relations.add_od_mtd(quark(label), x, y, 16, 16, 0.75).unwrap().id();
        let values = [count, count, 0, 0, count, count, count, 0].repeat(2);
        let mask = masks(4, 4, &values, &[]).mask;
        let segmentation = add_segmentation(&mut relations, mask, &[0], [x, y, 16, 16]);
        relations.set_relation(RelTypes::RELATE_TO, object, segmentation).unwrap();
        relations.set_relation(RelTypes::RELATE_TO, segmentation, object).unwrap();
    }
    buffer
}

/// The same two objects in one mask over the frame.
fn same_as_decoded() -> Masks {
    let mut values = vec![0u8; 16 * 8];
    for (value, left, top) in [(1, 0, 0), (2, 8, 4)] {
        for (row, width) in [(0, 2), (1, 3), (2, 2), (3, 3)] {
            values[(top + row) * 16 + left..][..width].fill(value);
        }
    }
    masks(16, 8, &values, &["car", "person"])
}

#[test]
fn the_overlay_draws_the_segmentations_of_others_as_it_draws_ours() {
    for format in [VideoFormat::Rgbx, VideoFormat::I420] {
        let scene = Scene::new(format, 64, 32);
        let ours = masks(4, 1, &[1, 1, 0, 0], &["car"]);
        for (theirs, ours) in [(semantic(&scene), ours), (decoded(&scene), same_as_decoded())] {
            let expected = scene.overlay(FILL).push(scene.frame(Some(&ours)));
            let drawn = scene.overlay(FILL).push(theirs);
            assert!(bytes(&drawn) != bytes(&scene.frame(None)), "{format:?}: nothing drawn");
            assert!(bytes(&drawn) == bytes(&expected), "{format:?}");
        }
    }
}

#[test]
fn our_meta_goes_before_that_of_others() {
    let scene = Scene::new(VideoFormat::Rgbx, 64, 32);
    let ours = masks(4, 1, &[0, 0, 0, 1], &["person"]);
    let mut both = semantic(&scene);
    ours.attach(both.get_mut().unwrap());
    let expected = scene.overlay(FILL).push(scene.frame(Some(&ours)));
    assert!(bytes(&scene.overlay(FILL).push(both)) == bytes(&expected));
}

fn harness(description: &str, scene: &Scene) -> Harness {
    init();
    let mut harness = Harness::new_parse(description);
    harness.set_src_caps(scene.info.to_caps().unwrap());
    harness
}

#[test]
fn the_mask_video_shows_the_segmentations_of_others() {
    let scene = Scene::new(VideoFormat::Rgb, 64, 32);
    let ids = harness("gclipmask mode=ids", &scene).push_and_pull(semantic(&scene)).unwrap();
    assert_eq!(bytes(&ids)[..4], [7, 7, 0, 0], "a single segmentation keeps its values");
    let ids = harness("gclipmask mode=ids", &scene).push_and_pull(decoded(&scene)).unwrap();
    assert_eq!(bytes(&ids), bytes(&same_as_decoded().mask));
    let matte = harness("gclipmask mode=matte edges=hard only=person size=frame", &scene)
        .push_and_pull(decoded(&scene))
        .unwrap();
    let white = bytes(&matte).iter().enumerate().filter(|(_, value)| **value == 255).count();
    assert!((100..=200).contains(&white), "about 10 cells of 16 pixels: {white}");
}

#[test]
fn the_json_tells_the_segmentations_of_others() {
    let scene = Scene::new(VideoFormat::Rgb, 64, 32);
    let line = harness("gclipmeta2json mask=rle", &scene).push_and_pull(decoded(&scene)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&bytes(&line)).unwrap();
    let regions = json["regions"].as_array().unwrap();
    let told: Vec<_> = regions
        .iter()
        .map(|region| {
            let number = |name: &str| region[name].as_f64().unwrap();
            (region["label"].as_str().unwrap(), ["score", "x", "y", "w", "h"].map(number))
        })
        .collect();
    assert_eq!(told, [("car", [0.75, 0.0, 0.0, 0.1875, 0.5]), ("person", [0.75, 0.5, 0.5, 0.1875, 0.5])]);
    assert_eq!(regions[0]["mask"]["size"], serde_json::json!([8, 16]));
}

/// Elements that keep only the standard metadata hand on all that is needed: what is read from it is what went in.
#[test]
fn the_standard_metadata_carries_our_masks_through_a_scaler() {
    init();
    let ours = Masks {
        rect: Rect { x: 0.25, y: 0.0, w: 0.5, h: 1.0 },
        ..masks(2, 2, &[1, 0, 1, 2], &["car", "sky"])
    };
    let scene = Scene::new(VideoFormat::Rgb, 64, 32);
    let mut scaler = Harness::new("videoconvertscale");
    scaler.set_src_caps(scene.info.to_caps().unwrap());
    scaler.set_sink_caps(Scene::new(VideoFormat::Rgb, 32, 16).info.to_caps().unwrap());
    let mut buffer = scene.frame(None);
    attach_analytics(&ours, buffer.get_mut().unwrap(), (64, 32), true).unwrap();
    let scaled = scaler.push_and_pull(buffer).unwrap();
    let read = Masks::found_on(&scaled, Some((32, 16))).unwrap();
    assert_eq!(read.mask.as_ptr(), ours.mask.as_ptr(), "the mask is shared");
    assert_eq!(read.rect, ours.rect);
    let labels: Vec<_> = read.regions.iter().map(|region| (region.value, region.label.as_str())).collect();
    assert_eq!(labels, [(1, "car"), (2, "sky")]);
}

fn present(element: &str) -> bool {
    init();
    let found = gst::ElementFactory::find(element).is_some();
    if !found {
        eprintln!("skipped: GStreamer {} has no {element}", gst::version_string());
    }
    found
}

/// Upstream's overlay (1.28) tints by half, in hues at equal distances: for two classes red and cyan.
#[test]
fn upstreams_overlay_draws_our_masks_as_ours_does() {
    if !present("segmentationoverlay") {
        return;
    }
    let (width, height) = (128usize, 64usize);
    // Not RGBx: upstream takes its unused byte for an alpha.
    let scene = Scene::new(VideoFormat::Rgb, width as u32, height as u32);
    // Two discs, one of each class, in a mask of half the frame's size.
    let class = |x: usize, y: usize| {
        let inside = |cx: usize, radius: usize| {
            let (dx, dy) = (x.abs_diff(cx), y.abs_diff(16));
            dx * dx + dy * dy < radius * radius
        };
        u8::from(inside(18, 11)) + 2 * u8::from(inside(46, 13))
    };
    let values: Vec<u8> = (0..64 * 32).map(|i| class(i % 64, i / 64)).collect();
    let ours = masks(64, 32, &values, &["car", "person"]);

    let mut buffer = scene.frame(None);
    attach_analytics(&ours, buffer.get_mut().unwrap(), (width as u32, height as u32), false).unwrap();
    for (selected, classes) in [("", &[1, 2][..]), ("selected-types=person", &[2])] {
        let mut upstream =
            harness(&format!("segmentationoverlay hint-maximum-segment-type=2 {selected}"), &scene);
        upstream.set_sink_caps(scene.info.to_caps().unwrap());
        let theirs = Pixels::of(&scene, &upstream.push_and_pull(buffer.copy_deep().unwrap()).unwrap());
        let only = if classes.len() == 1 { "only=person" } else { "" };
        let look = format!("mode=tint opacity=0.502 legend=false colors=car=#ff0000,person=#00ffff {only}");
        let drawn = Pixels::of(&scene, &scene.overlay(&look).push(buffer.copy_deep().unwrap()));
        let before = Pixels::of(&scene, &scene.frame(None));

        let (mut compared, mut painted) = (0, 0);
        for (x, y) in (8..width - 8).flat_map(|x| (8..height - 8).map(move |y| (x, y))) {
            // Ours is smooth at borders, theirs has steps: those pixels are left out.
            let here = class(x / 2, y / 2);
            let near = |d: usize| [(x - d, y), (x + d, y), (x, y - d), (x, y + d)];
            if (1..=6).flat_map(near).any(|(x, y)| class(x / 2, y / 2) != here) {
                continue;
            }
            let (a, b) = (theirs.at(x, y), drawn.at(x, y));
            assert!(
                a.iter().zip(&b).all(|(a, b)| a.abs_diff(*b) <= 3),
                "{selected} {x},{y}: {a:?}, ours {b:?}, before {:?} class {here}",
                before.at(x, y)
            );
            compared += 1;
            painted += usize::from(classes.contains(&here) && a != before.at(x, y));
        }
        assert!(compared > 1500 && painted > 100 * classes.len(), "{compared} compared, {painted} painted");
    }
}

/// Upstream's own decoder, fed with the tensors that a model would give: what it attaches, our overlay draws.
#[test]
fn the_overlay_draws_what_upstreams_decoder_attaches() {
    if !present("yolosegv8tensordec") {
        return;
    }
    let scene = Scene::new(VideoFormat::Rgbx, 64, 64);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "car\nperson\n").unwrap();
    let decoder = format!("yolosegv8tensordec label-file={}", file.path().display());
    let mut decoder = harness(&decoder, &scene);
    decoder.set_src_caps(others::with_tensors(&scene.info.to_caps().unwrap()));
    let mut buffer = scene.frame(None);
    others::add_tensors(buffer.get_mut().unwrap());
    let decoded = decoder.push_and_pull(buffer).unwrap();
    let masks = Masks::found_on(&decoded, Some((64, 64))).expect("the decoder found the object");
    let labels: Vec<_> = masks.regions.iter().map(|region| region.label.as_str()).collect();
    assert_eq!(labels, ["person"]);

    let drawn = Pixels::of(&scene, &scene.overlay(FILL).push(decoded.copy_deep().unwrap()));
    let before = Pixels::of(&scene, &scene.frame(None));
    let green = [0, 255, 0];
    for (x, y) in [(4, 20), (32, 32), (60, 44)] {
        assert_eq!(drawn.at(x, y), green, "{x},{y} is in the object's box");
    }
    for (x, y) in [(4, 4), (60, 11), (32, 58)] {
        assert_eq!(drawn.at(x, y), before.at(x, y), "{x},{y} is outside");
    }
}
