// SPDX-License-Identifier: MIT OR Apache-2.0
//! Long runs: text is encoded once for all frames, and memory stays where it was. Each runs in a process of its own,
//! because memory belongs to the process, and with an empty cache of embeddings.
//!
//! The run over real forwards takes its time: `cargo test --release --test soak -- --ignored`.

use gclip_testing::tiny;
#[allow(dead_code)] // the CPU time of threads is for others
use gclip_testing::usage;
use std::path::{Path, PathBuf};
use std::process::Command;

use gclip_testing::fake::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

/// What the allocator may keep for itself. 64x48 frames with masks that are never freed take 48 MiB over 8,000.
const SLACK_KIB: u64 = 6 << 10;
const FRAME: (u32, u32) = (64, 48);
const INSIDE: &str = "GCLIP_TEST_SOAK";

/// Runs the test of this name alone in a new process; there, this returns true and the test does its work.
fn alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let cache = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .env("XDG_CACHE_HOME", cache.path())
        .output()
        .unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{said}{error}");
    assert!(said.contains("1 passed"), "{test} did not run: {said}");
    false
}

/// Memory of this process in KiB.
fn resident() -> u64 {
    usage::memory("VmRSS:").unwrap() / 1024
}

fn assert_flat(early: u64, late: u64) {
    println!("resident: {early} KiB early, {late} KiB late");
    assert!(late < early + SLACK_KIB, "memory grew from {early} to {late} KiB");
}

/// A harness around `gclipsegment` on a real checkpoint.
fn real(model: &Path, size: (u32, u32)) -> Rig {
    init();
    let element = gst::ElementFactory::make("gclipsegment")
        .property("model", model.to_str().unwrap())
        .property("prompts", "sky; tree, wood; road")
        .property("prompt-template", "none")
        .property("device", "cpu")
        .build()
        .unwrap();
    Rig::around(element, size)
}

/// Pushes frames and takes each out, with its mask.
fn pass(rig: &mut Rig, frames: std::ops::Range<u64>, size: (u32, u32)) {
    for number in frames {
        rig.harness.push(frame_of(number, size)).unwrap();
        assert!(Masks::from_buffer(&rig.pull()).is_some());
        while rig.bus.pop().is_some() {}
    }
}

#[test]
fn text_is_encoded_once_for_a_thousand_frames() {
    if !alone("text_is_encoded_once_for_a_thousand_frames") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), true);
    let mut rig = real(folder.path(), SIZE);
    rig.element.set_property("batch-size", 1u32);
    pass(&mut rig, 0..1, SIZE);
    // Four names in one template each.
    let counts = |rig: &Rig| {
        ["texts-encoded", "cache-misses", "cache-hits", "prompt-generation"].map(|name| rig.stat::<u64>(name))
    };
    assert_eq!(counts(&rig), [4, 4, 0, 1]);
    pass(&mut rig, 1..1000, SIZE);
    assert_eq!(counts(&rig), [4, 4, 0, 1]);
    assert_eq!((rig.stat::<u64>("frames"), rig.stat::<u64>("inferred")), (1000, 1000));
    // A second element on the same weights finds them all.
    let mut second = real(folder.path(), SIZE);
    second.element.set_property("batch-size", 1u32);
    pass(&mut second, 0..1, SIZE);
    assert_eq!(counts(&second), [0, 0, 4, 1]);
}

#[test]
fn memory_is_flat_over_ten_thousand_frames() {
    if !alone("memory_is_flat_over_ten_thousand_frames") {
        return;
    }
    let fake = Fake::install();
    let mut rig = fake.rig_with(|element| element.set_property("batch-size", 1u32));
    rig.harness.set_src_caps(caps(FRAME.0, FRAME.1));
    pass(&mut rig, 0..2000, FRAME);
    let early = resident();
    pass(&mut rig, 2000..10_000, FRAME);
    assert_flat(early, resident());
    assert_eq!((rig.stat::<u64>("frames"), rig.stat::<u64>("inferred")), (10_000, 10_000));
}

#[test]
#[ignore = "500 forwards of the demo model take minutes on a slow machine"]
fn memory_is_flat_over_five_hundred_real_frames() {
    if !alone("memory_is_flat_over_five_hundred_real_frames") {
        return;
    }
    let model = PathBuf::from(gclip_testing::DEMO);
    let size = (320, 180);
    let mut rig = real(&model, size);
    rig.element.set_property("batch-size", 1u32);
    pass(&mut rig, 0..100, size);
    let early = resident();
    pass(&mut rig, 100..500, size);
    // A copy of the frame and its mask, 148 KiB, would add up to 58 MiB.
    assert_flat(early, resident());
}
