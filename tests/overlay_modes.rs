// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modes of `gclipoverlay`: which side of a border each one changes, and how much detail it leaves.

use gclip_testing::scene::*;
use gst_video::VideoFormat;

#[test]
fn every_mode_changes_its_side_of_the_border_in_every_format() {
    let masks = masks(4, 1, &[1, 1, 0, 0], &["face"]);
    for format in FORMATS {
        let scene = Scene::new(format, 64, 32);
        for (mode, inside, outside) in [
            ("tint", true, false),
            ("contour", true, false),
            ("blur", true, false),
            ("pixelate", true, false),
            ("fill", true, false),
            ("invert", false, true),
            ("blur invert=true", false, true),
            ("pixelate invert=true", false, true),
            ("fill invert=true", false, true),
            ("tint invert=true", false, true),
            ("invert invert=true", true, false),
        ] {
            let [left, right] = changed(&scene, &format!("mode={mode} legend=false"), &masks);
            // The contour of a region is a line, the other modes cover nearly all of their side.
            let least = if mode == "contour" { 0 } else { 64 * 32 / 2 * 8 / 10 };
            assert!(if inside { left >= least } else { left == 0 }, "{format:?} mode={mode}: left {left}");
            assert!(
                if outside { right >= least } else { right == 0 },
                "{format:?} mode={mode}: right {right}"
            );
        }
    }
}

#[test]
fn blur_and_pixelate_leave_no_detail() {
    for format in [VideoFormat::Rgb, VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Yuy2] {
        let scene = Scene::new(format, 128, 96);
        let masks = masks(1, 1, &[1], &["face"]);
        for mode in ["blur", "pixelate"] {
            let mut overlay = scene.overlay(&format!("mode={mode} strength=1 legend=false"));
            let before = scene.frame(Some(&masks));
            let after = overlay.push(before.copy_deep().unwrap());
            let (before, after) = (Pixels::of(&scene, &before), Pixels::of(&scene, &after));
            // Sum of the steps from pixel to pixel along a row.
            let detail = |pixels: &Pixels| {
                (1..128).map(|x| pixels.at(x, 50)[0].abs_diff(pixels.at(x - 1, 50)[0]) as u32).sum::<u32>()
            };
            let (old, new) = (detail(&before), detail(&after));
            assert!(new * 20 < old, "{format:?} {mode}: {old} -> {new}");
        }
    }
}
