// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does drawing keep up with video? How many 1080p frames with eight classes one core draws per second, through the
//! public element, legend included, with a new mask on every frame. The aim is 120 for tint; divide 1 s by the time.
//!
//! ```sh
//! cargo bench --bench overlay
//! ```

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gst_video::{VideoFormat, VideoInfo};
use gstgclip::meta::{Masks, Region};

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;

/// Eight classes: sky and road with wavy borders, six ellipses; `shift` moves them.
fn masks(width: usize, height: usize, shift: f64) -> Masks {
    let class = |x: usize, y: usize| {
        let (u, v) = (x as f64 / width as f64 + shift, y as f64 / height as f64);
        let inside = |x: f64, y: f64, rx: f64, ry: f64| ((u - x) / rx).powi(2) + ((v - y) / ry).powi(2) < 1.0;
        let ellipses = [
            (0.35, 0.85, 0.02, 0.06),
            (0.85, 0.82, 0.1, 0.07),
            (0.85, 0.4, 0.08, 0.3),
            (0.62, 0.55, 0.1, 0.2),
            (0.5, 0.6, 0.18, 0.14),
            (0.2, 0.45, 0.12, 0.25),
        ];
        match ellipses.iter().position(|&(x, y, rx, ry)| inside(x, y, rx, ry)) {
            Some(index) => 3 + index as u8,
            None if v < 0.3 + 0.05 * (u * 9.0).sin() => 1,
            None if v > 0.62 + 0.1 * u => 2,
            None => 0,
        }
    };
    let data: Vec<u8> = (0..width * height).map(|i| class(i % width, i / width)).collect();
    let mut mask = gst::Buffer::from_mut_slice(data);
    gst_video::VideoMeta::add(
        mask.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::Gray8,
        width as u32,
        height as u32,
    )
    .unwrap();
    let labels = ["sky", "road", "sign", "puddle", "tree", "truck", "car", "house"];
    let region = |(i, label): (usize, &&str)| Region {
        value: i as u32 + 1,
        label: label.to_string(),
        score: 0.9,
        area: 0.125,
        x: 0.0,
        y: 0.0,
        w: 1.0,
        h: 1.0,
    };
    Masks::new(1, mask, labels.iter().enumerate().map(region).collect())
}

fn draw(criterion: &mut Criterion) {
    gst::init().unwrap();
    gstgclip::plugin_register_static().unwrap();
    let mut group = criterion.benchmark_group("1080p, 8 classes");
    group.throughput(Throughput::Elements(1));
    let small = (400, 225);
    let cases = [
        ("tint", VideoFormat::I420, small),
        ("tint", VideoFormat::Nv12, small),
        ("tint", VideoFormat::Rgbx, small),
        ("tint", VideoFormat::Rgb, small),
        ("tint", VideoFormat::Yuy2, small),
        ("tint", VideoFormat::Nv12, (1920, 1080)),
        ("contour", VideoFormat::Nv12, small),
        ("blur", VideoFormat::Nv12, small),
        ("pixelate", VideoFormat::Nv12, small),
        ("invert", VideoFormat::Nv12, small),
    ];
    for (mode, format, (width, height)) in cases {
        let info = VideoInfo::builder(format, WIDTH, HEIGHT).fps((30, 1)).build().unwrap();
        let mut harness = gst_check::Harness::new_parse(&format!("gclipoverlay mode={mode}"));
        let caps = info.to_caps().unwrap();
        harness.set_caps(caps.clone(), caps);
        // Two masks in turn: nothing that belongs to a mask can be reused.
        let masks = [masks(width, height, 0.0), masks(width, height, 0.01)];
        let mut frame = Some(gst::Buffer::from_mut_slice(vec![128u8; info.size()]));
        let mut count = 0;
        group.bench_function(format!("{mode} {format} mask {width}x{height}"), |bencher| {
            bencher.iter(|| {
                let mut buffer = frame.take().unwrap();
                masks[count % 2].attach(buffer.make_mut());
                count += 1;
                frame = Some(harness.push_and_pull(buffer).unwrap());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, draw);
criterion_main!(benches);
