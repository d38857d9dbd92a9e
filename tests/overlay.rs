// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipoverlay` through the public plugin: what each property draws, and that nothing else changes.

use gclip_testing::scene::*;
use gst::prelude::*;
use gst_video::VideoFormat;

const MODES: [&str; 6] = ["tint", "contour", "blur", "pixelate", "fill", "invert"];

#[test]
fn fill_paints_the_region_and_nothing_else_in_every_format() {
    for format in FORMATS {
        let scene = Scene::new(format, 64, 32);
        // Left half of a mask of 4 x 1 cells; the border is at x = 32.
        let masks = masks(4, 1, &[1, 1, 0, 0], &["car"]);
        let mut overlay = scene.overlay("mode=fill legend=false colors=car=#ff0000");
        let before = scene.frame(Some(&masks));
        let after = overlay.push(before.copy_deep().unwrap());
        let (before, after) = (Pixels::of(&scene, &before), Pixels::of(&scene, &after));
        let red = scene.store([255, 0, 0]);
        for y in 0..32 {
            for x in 0..64 {
                let (old, new) = (before.at(x, y), after.at(x, y));
                match x {
                    0..=30 => assert_eq!(new, red, "{format:?} {x},{y}"),
                    33.. => assert_eq!(new, old, "{format:?} {x},{y}"),
                    _ => {}
                }
            }
        }
        assert_eq!(before.other_bytes(), after.other_bytes(), "{format:?}: alpha and padding");
    }
}

#[test]
fn tint_mixes_by_opacity() {
    let scene = Scene::new(VideoFormat::Rgbx, 64, 32);
    let masks = masks(4, 1, &[1, 1, 0, 0], &["car"]);
    let mut overlay = scene.overlay("mode=tint opacity=0.25 legend=false colors=car=#c86400");
    let before = scene.frame(Some(&masks));
    let after = overlay.push(before.copy_deep().unwrap());
    let (before, after) = (Pixels::of(&scene, &before), Pixels::of(&scene, &after));
    for x in 0..28 {
        for (old, (new, colour)) in before.at(x, 9).iter().zip(after.at(x, 9).iter().zip([200.0, 100.0, 0.0]))
        {
            let expected = *old as f64 * 0.75 + colour * 0.25;
            assert!((*new as f64 - expected).abs() <= 1.0, "{x}: {old} -> {new}, not {expected}");
        }
    }
}

#[test]
fn opacity_zero_leaves_every_byte() {
    for format in FORMATS {
        let scene = Scene::new(format, 50, 30);
        let masks = masks(5, 3, &[1, 1, 2, 2, 0, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1], &["a", "b"]);
        for mode in MODES {
            let mut overlay = scene.overlay(&format!("mode={mode} opacity=0 legend=false"));
            let before = scene.frame(Some(&masks));
            let after = overlay.push(before.copy_deep().unwrap());
            assert_eq!(bytes(&before), bytes(&after), "{format:?} {mode}");
        }
    }
}

#[test]
fn frames_without_masks_are_neither_changed_nor_copied() {
    let scene = Scene::new(VideoFormat::I420, 40, 30);
    let mut overlay = scene.overlay("");
    let before = scene.frame(None);
    // A second reference: not writable.
    let after = overlay.push(before.clone());
    assert_eq!(before.as_ptr(), after.as_ptr());
}

#[test]
fn a_shared_frame_is_copied_before_it_is_drawn_on() {
    let scene = Scene::new(VideoFormat::Nv12, 40, 30);
    let mut overlay = scene.overlay("mode=fill");
    let before = scene.frame(Some(&masks(1, 1, &[1], &["a"])));
    let original = bytes(&before);
    let after = overlay.push(before.clone());
    assert_eq!(bytes(&before), original);
    assert_ne!(bytes(&after), original);
    assert!(gstgclip::meta::Masks::from_buffer(&after).is_some(), "the masks go on with the frame");
}

#[test]
fn any_size_down_to_one_pixel() {
    for format in FORMATS {
        for (width, height) in [(1, 1), (1, 7), (7, 1), (3, 3), (17, 9), (101, 75)] {
            let scene = Scene::new(format, width, height);
            for mode in MODES {
                let mut overlay = scene.overlay(&format!("mode={mode} opacity=1"));
                let masks = masks(3, 3, &[1, 0, 2, 2, 1, 0, 0, 0, 1], &["one", "two"]);
                overlay.push(scene.frame(Some(&masks)));
            }
        }
    }
}

#[test]
fn properties_take_effect_on_the_next_frame() {
    let scene = Scene::new(VideoFormat::Rgb, 40, 20);
    let masks = masks(2, 1, &[1, 2], &["car", "tree"]);
    let mut overlay = scene.overlay("mode=fill legend=false colors=car=#ff0000,tree=#00ff00");
    let mut corners = |name: &str, value: &str| {
        if !name.is_empty() {
            overlay.element().set_property_from_str(name, value);
        }
        let before = scene.frame(Some(&masks));
        let after = overlay.push(before.copy_deep().unwrap());
        let (before, after) = (Pixels::of(&scene, &before), Pixels::of(&scene, &after));
        [2, 37].map(|x| (after.at(x, 9) != before.at(x, 9)).then(|| after.at(x, 9)))
    };
    let (red, green, blue) = (vec![255, 0, 0], vec![0, 255, 0], vec![0, 0, 255]);
    assert_eq!(corners("", ""), [Some(red.clone()), Some(green.clone())]);
    assert_eq!(corners("only", "TREE"), [None, Some(green.clone())]);
    assert_eq!(corners("invert", "true"), [Some(vec![0, 0, 0]), None]);
    assert_eq!(corners("only", ""), [None, None]);
    assert_eq!(corners("invert", "false"), [Some(red.clone()), Some(green)]);
    assert_eq!(corners("colors", "*=#00f"), [Some(blue.clone()), Some(blue.clone())]);
    assert_eq!(corners("colors", "car=wrong"), [Some(blue.clone()), Some(blue)], "the old ones stay");
    assert_eq!(corners("mode", "contour"), [None, None]);
}

#[test]
fn a_mask_covers_only_its_rectangle() {
    let scene = Scene::new(VideoFormat::Gray8, 80, 40);
    let mut masks = masks(1, 1, &[1], &["car"]);
    masks.rect = gstgclip::meta::Rect { x: 0.25, y: 0.5, w: 0.5, h: 0.25 };
    let mut overlay = scene.overlay("mode=fill legend=false colors=car=#fff");
    let before = scene.frame(Some(&masks));
    let after = overlay.push(before.copy_deep().unwrap());
    let (before, after) = (Pixels::of(&scene, &before), Pixels::of(&scene, &after));
    for y in 0..40 {
        for x in 0..80 {
            let inside = (20..60).contains(&x) && (20..30).contains(&y);
            let expected = if inside { scene.store([255; 3]) } else { before.at(x, y) };
            assert_eq!(after.at(x, y), expected, "{x},{y}");
        }
    }
}

#[test]
fn masks_of_16_bits_and_many_classes() {
    let scene = Scene::new(VideoFormat::Rgb, 64, 16);
    let masks = masks_16(4, 1, &[700, 700, 0, 0], &[(700, "zebra")]);
    let mut overlay = scene.overlay("mode=fill legend=false colors=zebra=#102030");
    let after = overlay.push(scene.frame(Some(&masks)));
    assert_eq!(Pixels::of(&scene, &after).at(5, 5), [16, 32, 48]);
}

#[test]
fn the_legend_stands_in_its_corner() {
    let scene = Scene::new(VideoFormat::Nv12, 320, 240);
    let masks = masks(1, 1, &[1], &["car"]);
    for (position, right, bottom) in [
        ("top-left", false, false),
        ("top-right", true, false),
        ("bottom-left", false, true),
        ("bottom-right", true, true),
    ] {
        let mut overlay = scene.overlay(&format!("opacity=0 legend-position={position}"));
        let before = scene.frame(Some(&masks));
        let after = overlay.push(before.copy_deep().unwrap());
        let (before, after) = (Pixels::of(&scene, &before), Pixels::of(&scene, &after));
        let mut changed = 0;
        for (x, y) in (0..240).flat_map(|y| (0..320).map(move |x| (x, y))) {
            if before.at(x, y) != after.at(x, y) {
                changed += 1;
                assert_eq!((x >= 160, y >= 120), (right, bottom), "{position} {x},{y}");
            }
        }
        assert!(changed > 500, "{position}: {changed}");
    }
}

#[test]
fn malformed_metadata_leaves_the_frame() {
    let scene = Scene::new(VideoFormat::Rgb, 32, 32);
    let mut overlay = scene.overlay("");
    let mut before = scene.frame(Some(&masks(1, 1, &[1], &["car"])));
    {
        let buffer = before.make_mut();
        let mut meta = gst::meta::CustomMeta::from_mut_buffer(buffer, gstgclip::meta::NAME).unwrap();
        meta.mut_structure().set("mask", "not a buffer");
    }
    let after = overlay.push(before.copy_deep().unwrap());
    assert_eq!(bytes(&before), bytes(&after));
}

#[test]
fn colours_follow_the_colorimetry_of_the_frame() {
    for colorimetry in ["bt601", "bt709", "1:3:5:1", "bt2020"] {
        let scene = Scene::with_colorimetry(VideoFormat::I420, 32, 32, colorimetry);
        let mut overlay = scene.overlay("mode=fill legend=false colors=*=#3060c0");
        let after = overlay.push(scene.frame(Some(&masks(1, 1, &[1], &["a"]))));
        assert_eq!(Pixels::of(&scene, &after).at(16, 16), scene.store([0x30, 0x60, 0xc0]), "{colorimetry}");
    }
}

#[test]
fn labels_stand_on_their_regions() {
    let scene = Scene::new(VideoFormat::I420, 640, 480);
    let left = masks(4, 1, &[1, 1, 0, 0], &["a very wide thing"]);
    let [on, off] = changed(&scene, "labels=true opacity=0 legend=false", &left);
    assert!(on > 500 && off == 0, "{on} {off}");
    assert_eq!(changed(&scene, "labels=true only=other opacity=0 legend=false", &left), [0, 0]);
}

#[test]
fn composition_goes_beside_the_frame_only_where_downstream_takes_it() {
    let scene = Scene::new(VideoFormat::Nv12, 64, 48);
    let masks = masks(2, 1, &[1, 0], &["car"]);
    for (takes, mode, beside) in
        [(true, "fill", true), (false, "fill", false), (true, "blur", false), (true, "tint", true)]
    {
        let mut overlay =
            scene.overlay(&format!("composition=true legend=false mode={mode} colors=car=#ff8000"));
        if takes {
            overlay.take_compositions();
        }
        let before = scene.frame(Some(&masks));
        let after = overlay.push(before.copy_deep().unwrap());
        assert_eq!(bytes(&before) == bytes(&after), beside, "{takes} {mode}: pixels");
        let meta = after.meta::<gst_video::VideoOverlayCompositionMeta>();
        assert_eq!(meta.is_some(), beside, "{takes} {mode}: meta");
        if let (Some(meta), "fill") = (meta, mode) {
            let rectangle = meta.overlay().rectangle(0).unwrap();
            let pixels = rectangle.pixels_unscaled_argb(gst_video::VideoOverlayFormatFlags::empty());
            let map = pixels.map_readable().unwrap();
            let pixel = |x: usize, y: usize| u32::from_ne_bytes(map.as_chunks::<4>().0[y * 64 + x]);
            assert_eq!(pixel(5, 20), 0xffff8000);
            assert_eq!(pixel(60, 20) >> 24, 0);
        }
    }
}

#[test]
fn rows_may_be_padded() {
    let scene = Scene::new(VideoFormat::Nv12, 50, 20);
    let masks = masks(1, 1, &[1], &["car"]);
    // Luma at 64 bytes a row, chroma at 80, 100 bytes between them.
    let (stride, offset) = ([64, 80], [0usize, 64 * 20 + 100]);
    let mut frame = gst::Buffer::from_mut_slice(vec![77u8; offset[1] + 80 * 10]);
    let flags = gst_video::VideoFrameFlags::empty();
    gst_video::VideoMeta::add_full(frame.make_mut(), flags, VideoFormat::Nv12, 50, 20, &offset, &stride)
        .unwrap();
    masks.attach(frame.make_mut());
    let after = bytes(&scene.overlay("mode=fill legend=false colors=car=#ffffff").push(frame));
    for (i, &byte) in after.iter().enumerate() {
        let expected = match i {
            i if i < 64 * 20 => {
                if i % 64 < 50 {
                    235
                } else {
                    77
                }
            }
            i if i < offset[1] => 77,
            i => {
                if (i - offset[1]) % 80 < 50 {
                    128
                } else {
                    77
                }
            }
        };
        assert_eq!(byte, expected, "byte {i}");
    }
}

#[test]
fn a_frame_smaller_than_its_caps_is_an_error_with_a_sentence() {
    let scene = Scene::new(VideoFormat::Rgb, 64, 64);
    let mut frame = gst::Buffer::with_size(100).unwrap();
    masks(1, 1, &[1], &["car"]).attach(frame.make_mut());
    let mut overlay = scene.overlay("");
    let bus = gst::Bus::new();
    overlay.element().set_bus(Some(&bus));
    assert_eq!(overlay.try_push(frame), Err(gst::FlowError::Error));
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error message");
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    assert!(error.error().message().contains("cannot draw on a frame"), "{error:?}");
}

#[test]
fn caps_may_change_and_labels_keep_their_colours() {
    let scene = Scene::new(VideoFormat::Rgb, 64, 32);
    let mut overlay = scene.overlay("mode=fill legend=false");
    let red = Pixels::of(&scene, &overlay.push(scene.frame(Some(&masks(1, 1, &[1], &["car"]))))).at(9, 9);
    let other = Scene::new(VideoFormat::Bgrx, 33, 17);
    overlay.set_caps(&other);
    // The same label has another number now, and another label has its old one.
    let both = masks(2, 1, &[1, 2], &["tree", "car"]);
    let after = Pixels::of(&other, &overlay.push(other.frame(Some(&both))));
    assert_eq!(after.at(30, 9), red);
    assert_ne!(after.at(2, 9), red);
}
