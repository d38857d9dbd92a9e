// SPDX-License-Identifier: MIT OR Apache-2.0
//! What do masks as data cost per frame on one core? The mask is 1920x1080 with 8 classes in smooth blobs, the largest
//! that `mask-size=frame` makes of full HD; `gclipmask` gets a mask of 336x192 and shows it at 1920x1080.
//! Times are CPU times of the thread, so that a machine that others use too tells the same.
//!
//! ```sh
//! cargo bench --bench meta
//! ```

use std::hint::black_box;
use std::time::Duration;

use cpu_time::ThreadTime;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::json::{Frame, MaskForm, Times};
use gstgclip::meta::{Masks, Region, onvif};

const CLASSES: u32 = 8;

struct CoreTime;

impl Measurement for CoreTime {
    type Intermediate = ThreadTime;
    type Value = Duration;

    fn start(&self) -> ThreadTime {
        ThreadTime::now()
    }

    fn end(&self, start: ThreadTime) -> Duration {
        start.elapsed()
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Blobs of 8 classes and background: level sets of two slow waves.
fn masks(width: usize, height: usize) -> Masks {
    let value = |i: usize| {
        let (x, y) = ((i % width) as f64 / width as f64, (i / width) as f64 / height as f64);
        let wave = (x * 9.0 + (y * 5.0).sin()).sin() + (y * 7.0 + (x * 4.0).cos()).cos();
        ((wave + 2.0) / 4.0 * f64::from(CLASSES + 1)) as u8
    };
    let mut mask = gst::Buffer::from_mut_slice((0..width * height).map(value).collect::<Vec<u8>>());
    if let Some(mask) = mask.get_mut() {
        let flags = VideoFrameFlags::empty();
        VideoMeta::add(mask, flags, VideoFormat::Gray8, width as u32, height as u32).unwrap();
    }
    let region = |value| {
        let label = format!("class {value}");
        Region { value, label, score: 0.87654321, area: 0.123456789, x: 0.1, y: 0.2, w: 0.3, h: 0.4 }
    };
    let regions = (1..=CLASSES).map(region).collect();
    Masks::new(1, mask, regions)
}

fn meta(bench: &mut Criterion<CoreTime>) {
    let masks = masks(336, 192);
    let mut buffer = gst::Buffer::new();
    let mut group = bench.benchmark_group("meta of 8 regions");
    group.bench_function("attach", |bench| {
        bench.iter(|| masks.attach(buffer.get_mut().unwrap()));
    });
    group.bench_function("read", |bench| bench.iter(|| Masks::from_buffer(black_box(&buffer)).unwrap()));
}

fn json(bench: &mut Criterion<CoreTime>) {
    let masks = masks(1920, 1080);
    let mut group = bench.benchmark_group("text of a 1920x1080 mask, 8 classes");
    for (name, form) in [
        ("none", MaskForm::None),
        ("rle", MaskForm::Rle),
        ("polygon", MaskForm::Polygon),
        ("png", MaskForm::Png),
    ] {
        let line = || Frame::new(&masks, Times::default(), None, form).unwrap().to_line().unwrap();
        eprintln!("{name}: {} bytes", line().len());
        group.throughput(Throughput::Elements(1)).bench_function(name, |bench| bench.iter(line));
    }
    let document = || onvif::document(&masks, gst::ClockTime::ZERO).unwrap();
    eprintln!("ONVIF: {} bytes", document().len());
    group.bench_function("ONVIF", |bench| bench.iter(document));
}

fn mask_video(bench: &mut Criterion<CoreTime>) {
    let masks = masks(336, 192);
    let mut group = bench.benchmark_group("gclipmask at 1920x1080");
    group.throughput(Throughput::Elements(1));
    for (name, properties) in [
        ("ids", "size=frame"),
        ("hard matte", "mode=matte edges=hard only=\"class 3,class 4\" size=frame"),
        ("soft matte", "mode=matte only=\"class 3,class 4\" size=frame"),
        ("cutout", "mode=cutout only=\"class 3,class 4\""),
    ] {
        let element = gst::parse::launch(&format!("gclipmask {properties}")).unwrap();
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_src_caps_str("video/x-raw,format=RGB,width=1920,height=1080,framerate=25/1");
        let mut frame = gst::Buffer::from_slice(vec![100; 1920 * 1080 * 3]);
        if let Some(frame) = frame.get_mut() {
            frame.set_pts(gst::ClockTime::ZERO);
            masks.attach(frame);
        }
        group.bench_function(name, |bench| {
            bench.iter(|| harness.push_and_pull(frame.clone()).unwrap());
        });
    }
}

fn all(bench: &mut Criterion<CoreTime>) {
    gst::init().unwrap();
    gstgclip::plugin_register_static().unwrap();
    meta(bench);
    json(bench);
    mask_video(bench);
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CoreTime);
    targets = all
}
criterion_main!(benches);
