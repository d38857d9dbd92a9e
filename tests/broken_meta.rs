// SPDX-License-Identifier: MIT OR Apache-2.0
//! Metadata that anybody may have made, good and broken, into every element that reads it: nothing crashes, no frame is lost, no
//! text is unreadable, and (where valgrind is installed) no byte is touched that is not theirs.

use std::process::Command;

use gclip_testing::dice::Dice;
use gclip_testing::scene;
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::NAME;

/// A share of the frame, or what is none.
fn share(dice: &mut Dice, odd: bool) -> f64 {
    const NONE: [f64; 10] =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, -1e9, 5e-324, -0.25, 1.75, -0.0];
    match odd && dice.one_in(4) {
        true => dice.of(&NONE),
        false => dice.below(1001) as f64 / 1000.0,
    }
}

const LABELS: [&str; 7] = ["car", "road & <sky>", "a \"q\" \\ '", "é漢🚗", "", "x\ny\tz\u{1}", "شجرة"];

/// A mask and its video metadata, which say more or less than there is.
fn mask(dice: &mut Dice, odd: bool) -> gst::Buffer {
    let (width, height) = (1 + dice.below(70) as u32, 1 + dice.below(50) as u32);
    let deep = dice.one_in(3);
    let row = width as usize * if deep { 2 } else { 1 };
    let (mut offset, mut stride) = (dice.below(3) as usize * 2, (row + dice.below(9) as usize) as i32);
    let size = offset + stride as usize * height as usize;
    let values =
        (0..size).map(|_| if odd && dice.one_in(40) { dice.below(256) } else { dice.below(4) } as u8);
    let mut mask = gst::Buffer::from_mut_slice(values.collect::<Vec<_>>());
    let mut format = if deep { VideoFormat::Gray16Le } else { VideoFormat::Gray8 };
    let (mut said_width, mut said_height) = (width, height);
    if odd {
        match dice.below(14) {
            0 => said_width += 5,
            1 => said_height += 3,
            2 => stride = 1,
            3 => offset = 1_000_000,
            4 => stride = -stride,
            5 => (said_width, said_height) = (0, 0),
            6 => said_width = i32::MAX as u32,
            7 => mask.get_mut().unwrap().set_size(size / 2),
            8 => stride = i32::MAX,
            9 => format = VideoFormat::Rgb,
            10 => return mask,
            11 => (said_width, said_height) = (width.div_ceil(2), height.div_ceil(2)),
            _ => {}
        }
    }
    let fresh = mask.get_mut().unwrap();
    let (flags, size) = (VideoFrameFlags::empty(), (said_width, said_height));
    VideoMeta::add_full(fresh, flags, format, size.0, size.1, &[offset], &[stride]).unwrap();
    mask
}

fn region(dice: &mut Dice, number: u32, odd: bool) -> gst::Structure {
    let name = if odd && dice.one_in(20) { "other" } else { "region" };
    let value = if odd && dice.one_in(9) { dice.of(&[0, 255, 70_000, u32::MAX]) } else { number + 1 };
    let mut region = gst::Structure::builder(name)
        .field("value", value)
        .field("label", LABELS[number as usize % LABELS.len()])
        .build();
    for field in ["score", "area", "x", "y", "w", "h"] {
        region.set(field, share(dice, odd));
    }
    if odd && dice.one_in(15) {
        region.set("label", 7i32);
    }
    region
}

fn attach(dice: &mut Dice, buffer: &mut gst::BufferRef, odd: bool, regions: u32) {
    gstgclip::meta::register();
    let mut meta = gst::meta::CustomMeta::add(buffer, NAME).unwrap();
    let structure = meta.mut_structure();
    structure.set("version", if odd && dice.one_in(20) { 0u32 } else { 1 + dice.below(2) as u32 });
    structure.set("generation", dice.below(1000));
    structure.set("age", if odd && dice.one_in(9) { u64::MAX } else { dice.below(1 << 30) });
    structure.set("mask", mask(dice, odd));
    for (field, whole) in [("x", 0.0), ("y", 0.0), ("w", 1.0), ("h", 1.0)] {
        structure.set(field, if odd && dice.one_in(2) { share(dice, true) } else { whole });
    }
    let regions = (0..regions).map(|number| region(dice, number, odd).to_send_value());
    structure.set("regions", gst::Array::from_values(regions));
    if odd && dice.one_in(6) {
        let fields = ["version", "generation", "age", "mask", "x", "w", "regions"];
        structure.remove_field(fields[dice.below(7) as usize]);
    }
    match odd.then(|| dice.below(40)) {
        Some(0) => structure.set("regions", "no array"),
        Some(1) => structure.set("regions", gst::Array::from_values([7i32.to_send_value()])),
        Some(2) => structure.set("mask", "no buffer"),
        Some(3) => structure.set("x", "0"),
        _ => {}
    }
}

/// Frames with such metadata through an element; what came out.
fn feed(
    element: &str,
    format: &str,
    frames: u64,
    seed: u64,
    odd: bool,
    regions: Option<u32>,
) -> Vec<gst::Buffer> {
    scene::init();
    let caps: gst::Caps =
        format!("video/x-raw,format={format},width=64,height=48,framerate=25/1").parse().unwrap();
    let size = gst_video::VideoInfo::from_caps(&caps).unwrap().size();
    let mut harness = Harness::new_parse(element);
    harness.set_src_caps(caps);
    let mut dice = Dice::new(seed, 0);
    for number in 0..frames {
        let mut buffer = gst::Buffer::from_mut_slice(vec![90u8; size]);
        let fresh = buffer.get_mut().unwrap();
        fresh.set_pts(gst::ClockTime::from_mseconds(40) * number);
        fresh.set_duration(gst::ClockTime::from_mseconds(40));
        if !dice.one_in(12) {
            let regions = regions.unwrap_or_else(|| dice.below(7) as u32);
            attach(&mut dice, fresh, odd, regions);
        }
        harness
            .push(buffer)
            .unwrap_or_else(|flow| panic!("{element}, frame {number} of seed {seed}: {flow:?}"));
    }
    std::iter::from_fn(|| harness.try_pull()).collect()
}

const OVERLAYS: [&str; 6] =
    ["tint labels=true", "contour", "blur strength=1", "pixelate invert=true", "fill", "invert"];
const MASKS: [&str; 5] = [
    "mode=ids",
    "mode=ids size=frame",
    "mode=matte size=frame",
    "mode=matte edges=hard only=car",
    "mode=cutout",
];

/// How many frames go into each: fewer where each takes a hundred times as long.
fn frames() -> u64 {
    std::env::var("GCLIP_TEST_FRAMES").ok().and_then(|count| count.parse().ok()).unwrap_or(250)
}

#[test]
fn hand_made_masks_do_no_harm() {
    let frames = frames();
    for (seed, odd) in [(1, false), (2, true), (3, true)] {
        for (mode, format) in OVERLAYS.iter().zip(["I420", "RGB", "NV12", "YUY2", "RGBA", "GRAY8"]) {
            let out = feed(&format!("gclipoverlay mode={mode}"), format, frames, seed, odd, None);
            assert_eq!(out.len() as u64, frames, "{mode}");
        }
        for settings in MASKS {
            feed(&format!("gclipmask {settings}"), "RGBA", frames, seed, odd, None);
        }
        for form in ["none", "rle", "polygon", "png"] {
            for line in feed(&format!("gclipmeta2json mask={form}"), "RGB", frames, seed, odd, None) {
                let line = line.map_readable().unwrap();
                let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&line);
                assert!(parsed.is_ok(), "{form}, seed {seed}: {}", String::from_utf8_lossy(&line));
            }
        }
        for document in feed("gclipmeta2onvif", "RGB", frames, seed, odd, None) {
            let document = String::from_utf8(document.map_readable().unwrap().to_vec()).unwrap();
            assert!(document.trim_end().ends_with("</tt:MetadataStream>"), "{document}");
            assert!(!document.contains("NaN") && !document.contains("inf"), "{document}");
        }
    }
}

#[test]
fn ten_thousand_regions_are_many_and_no_more() {
    for element in
        ["gclipoverlay labels=true", "gclipmask mode=matte", "gclipmeta2json mask=rle", "gclipmeta2onvif"]
    {
        let out = feed(element, "RGB", 2, 5, false, Some(10_000));
        assert!(out.len() <= 2, "{element}");
    }
}

/// The tests above once more, each byte watched.
#[test]
fn no_byte_is_touched_that_is_not_theirs() {
    if std::env::var_os("GCLIP_TEST_FRAMES").is_some() {
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("skipped: no valgrind here (scripts/setup.sh --tests installs it)");
        return;
    }
    let output = Command::new("valgrind")
        .args(["-q", "--error-exitcode=9", "--undef-value-errors=no", "--leak-check=no"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "hand_made_masks_do_no_harm", "--nocapture"])
        .env("GCLIP_TEST_FRAMES", "12")
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
