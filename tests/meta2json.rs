// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipmeta2json` through the plugin: what it writes, when it writes, what it does between.

use gclip_testing::python;
use std::sync::Once;

use gclip_testing::frames::{frame, mask};
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::json::{Frame, RegionMask};
use gstgclip::meta::{MaskRow, Masks, Rect, Region, Tag, polygon, rle};
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../src/meta2json/schema.json");

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstgclip::plugin_register_static().unwrap();
    });
}

/// 4x2 pixels, `left` in the left half, 1 in the bottom right corner.
fn masks(left: u8) -> Masks {
    let mask = mask(VideoFormat::Gray8, 4, 2, [left, left, 0, 0, left, left, 0, 1]);
    let region = |value, label: &str, area, x, y, w, h| {
        let label = label.into();
        Region { value, label, score: 0.5, area, x, y, w, h }
    };
    let regions =
        vec![region(2, "\"big\" 犬", 0.5, 0.0, 0.0, 0.5, 1.0), region(1, "dot", 0.125, 0.75, 0.5, 0.25, 0.5)];
    Masks::new(3, mask, regions)
}

fn harness(properties: &str) -> Harness {
    init();
    let mut harness = Harness::new_parse(&format!("gclipmeta2json {properties}"));
    harness.set_src_caps_str("video/x-raw,format=RGB,width=640,height=360,framerate=25/1");
    harness
}

/// The object in a buffer, checked against the schema.
fn parse(buffer: &gst::Buffer) -> Frame {
    let map = buffer.map_readable().unwrap();
    let text = std::str::from_utf8(&map).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    assert!(text.ends_with('\n'));
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let schema = serde_json::from_str(SCHEMA).unwrap();
    if let Err(error) = jsonschema::validate(&schema, &value) {
        panic!("{error} at {}", error.instance_path());
    }
    serde_json::from_value(value).unwrap()
}

/// PTS of the gaps and buffers that came out, in order: ("gap" or "buffer", frame number).
fn outcome(harness: &mut Harness, frames: Vec<gst::Buffer>) -> Vec<(&'static str, u64)> {
    let number = |pts: gst::ClockTime| pts.mseconds() / 40;
    let mut seen = Vec::new();
    for frame in frames {
        harness.push(frame).unwrap();
        while let Some(buffer) = harness.try_pull() {
            seen.push(("buffer", number(buffer.pts().unwrap())));
        }
        while let Some(event) = harness.try_pull_event() {
            if let gst::EventView::Gap(gap) = event.view() {
                assert_eq!(gap.get().1, gst::ClockTime::from_mseconds(40).into());
                seen.push(("gap", number(gap.get().0)));
            }
        }
    }
    seen
}

#[test]
fn one_object_a_frame() {
    let mut harness = harness("");
    let output = harness.push_and_pull(frame(3, Some(masks(2)))).unwrap();
    assert_eq!(output.pts(), Some(gst::ClockTime::from_mseconds(120)));
    assert_eq!(output.duration(), Some(gst::ClockTime::from_mseconds(40)));
    let frame = parse(&output);
    assert_eq!(
        (frame.pts, frame.stream_time, frame.running_time),
        (Some(120_000_000), Some(120_000_000), Some(120_000_000))
    );
    assert_eq!((frame.width, frame.height, frame.generation, frame.age), (Some(640), Some(360), 3, 0));
    let big = &frame.regions[0];
    assert_eq!((big.label.as_str(), big.value, big.score, big.area), ("\"big\" 犬", 2, 0.5, 0.5));
    assert_eq!((big.x, big.y, big.w, big.h), (0.0, 0.0, 0.5, 1.0));
    assert_eq!(big.mask, None);
    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
    assert_eq!(caps.structure(0).unwrap().name(), "application/x-json");
}

#[test]
fn tag_scores_are_written_where_the_masks_have_them() {
    let tag = |label: &str, score| Tag { label: label.into(), score };
    let tagged = Masks { tags: vec![tag("big", 0.875), tag("absent", 0.0)], ..masks(2) };
    let mut harness = harness("");
    let parsed = parse(&harness.push_and_pull(frame(0, Some(tagged))).unwrap());
    let found: Vec<_> = parsed.tags.iter().map(|tag| (tag.label.as_str(), tag.score)).collect();
    assert_eq!(found, [("big", 0.875), ("absent", 0.0)]);
    let output = harness.push_and_pull(frame(1, Some(masks(2)))).unwrap();
    assert!(!String::from_utf8_lossy(&output.map_readable().unwrap()).contains("tags"));
}

#[test]
fn run_lengths_decode_to_the_mask() {
    let mut harness = harness("mask=rle");
    let frame = parse(&harness.push_and_pull(frame(0, Some(masks(2)))).unwrap());
    let decoded: Vec<Vec<bool>> = (frame.regions.iter())
        .map(|region| {
            let Some(RegionMask::Rle { size: [height, width], counts }) = &region.mask else {
                panic!("no RLE")
            };
            rle::decode(&rle::decompress(counts).unwrap(), *height as usize, *width as usize).unwrap()
        })
        .collect();
    let pixels = [2, 2, 0, 0, 2, 2, 0, 1];
    assert_eq!(decoded, [pixels.map(|value| value == 2), pixels.map(|value| value == 1)]);
}

#[test]
fn polygons_are_relative_to_the_frame() {
    let right_half = Masks { rect: Rect { x: 0.5, y: 0.0, w: 0.5, h: 1.0 }, ..masks(2) };
    let mut harness = harness("mask=polygon");
    let parsed = parse(&harness.push_and_pull(frame(0, Some(right_half))).unwrap());
    let rings: Vec<_> = parsed.regions.iter().map(|region| region.mask.clone().unwrap()).collect();
    let left = vec![vec![[0.5, 0.0], [0.75, 0.0], [0.75, 1.0], [0.5, 1.0]]];
    let dot = vec![vec![[0.875, 0.5], [1.0, 0.5], [1.0, 1.0], [0.875, 1.0]]];
    assert_eq!(rings, [left, dot].map(|rings| RegionMask::Polygon { rings }));
}

#[test]
fn pictures_decode_to_the_mask() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut harness = harness("mask=png");
    let parsed = parse(&harness.push_and_pull(frame(0, Some(masks(2)))).unwrap());
    let Some(RegionMask::Png { size: [2, 4], data }) = &parsed.regions[0].mask else { panic!("{parsed:?}") };
    let picture = image::load_from_memory(&STANDARD.decode(data).unwrap()).unwrap().into_luma8();
    assert_eq!(picture.into_raw(), [255, 255, 0, 0, 255, 255, 0, 0]);
}

/// What a mask with the values of `pixels` carries: one region for each value that is there.
fn masks_of(pixels: &[u8], width: u32, height: u32) -> Masks {
    let mut mask = gst::Buffer::from_slice(pixels.to_vec());
    let gray = VideoFormat::Gray8;
    let (none, stride) = (VideoFrameFlags::empty(), width as i32);
    VideoMeta::add_full(mask.get_mut().unwrap(), none, gray, width, height, &[0], &[stride]).unwrap();
    let values: std::collections::BTreeSet<u8> = pixels.iter().copied().filter(|&value| value > 0).collect();
    let region = |&value: &u8| {
        let (value, label) = (u32::from(value), value.to_string());
        Region { value, label, score: 0.5, area: 0.5, x: 0.0, y: 0.0, w: 1.0, h: 1.0 }
    };
    Masks { mask, regions: values.iter().map(region).collect(), ..masks(2) }
}

/// Even-odd fill at the pixels' centres, of outlines relative to the frame.
fn filled(rings: &[Vec<[f64; 2]>], width: u32, height: u32) -> Vec<bool> {
    let (columns, rows) = (width as usize, height as usize);
    // True where an odd number of sides lies between a pixel's centre and the one left of it.
    let mut changes = vec![false; rows * (columns + 1)];
    for ([ax, ay], [bx, by]) in rings.iter().flat_map(|ring| ring.iter().zip(ring.iter().cycle().skip(1))) {
        let [first, last] = [ay.min(*by), ay.max(*by)].map(|y| (y * f64::from(height) - 0.5).ceil() as usize);
        for row in first..last.min(rows) {
            let y = (row as f64 + 0.5) / f64::from(height);
            let x = ax + (y - ay) / (by - ay) * (bx - ax);
            let column = (x * f64::from(width) - 0.5).ceil().clamp(0.0, f64::from(width)) as usize;
            changes[row * (columns + 1) + column] ^= true;
        }
    }
    let row = |changes: &[bool]| {
        let inside = changes.iter().scan(false, |inside, change| {
            *inside ^= change;
            Some(*inside)
        });
        inside.take(columns).collect::<Vec<bool>>()
    };
    changes.chunks(columns + 1).flat_map(row).collect()
}

/// Both ways: what OpenCV draws and pycocotools encodes is read here, and what is written here is read by them.
#[test]
fn pycocotools_and_opencv_agree() {
    let Some(made) = python::run("masks.py", &["make"], "") else { return };
    let mut cases = Vec::new();
    let (mut run_lengths, mut outlines) = (harness("mask=rle"), harness("mask=polygon"));
    for (number, case) in (0..).zip(serde_json::from_str::<Vec<Value>>(&made).unwrap()) {
        let side = |name: &str| case[name].as_u64().unwrap() as u32;
        let (width, height) = (side("width"), side("height"));
        let hex = case["pixels"].as_str().unwrap();
        let pixels: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let equals = |value: u32| pixels.iter().map(|&pixel| u32::from(pixel) == value).collect::<Vec<_>>();

        for (value, counts) in case["rles"].as_object().unwrap() {
            let counts = rle::decompress(counts.as_str().unwrap()).unwrap();
            let read = rle::decode(&counts, height as usize, width as usize).unwrap();
            assert_eq!(read, equals(value.parse().unwrap()), "mask {number}: theirs, value {value}");
        }

        let masks = masks_of(&pixels, width, height);
        let written = |harness: &mut Harness| {
            parse(&harness.push_and_pull(frame(number, Some(masks.clone()))).unwrap()).regions
        };
        let exact = polygon::rings(pixels.chunks(width as usize).map(MaskRow::U8));
        let regions = written(&mut run_lengths).into_iter().zip(written(&mut outlines));
        let regions: Vec<Value> = regions
            .map(|(run_lengths, outlines)| {
                let value = run_lengths.value;
                let exact: Vec<Vec<[f64; 2]>> = (exact.iter())
                    .filter(|ring| u32::from(ring.value) == value)
                    .map(|ring| {
                        let relative = |&(x, y): &(u32, u32)| {
                            [f64::from(x) / f64::from(width), f64::from(y) / f64::from(height)]
                        };
                        ring.corners.iter().map(relative).collect()
                    })
                    .collect();
                assert_eq!(filled(&exact, width, height), equals(value), "mask {number}: drawn by OpenCV");
                let Some(RegionMask::Polygon { rings }) = outlines.mask else { panic!("no outlines") };
                assert_eq!(rings.len(), exact.len(), "no hole and no piece is lost");
                json!({ "value": value, "rle": run_lengths.mask, "exact": exact, "simple": rings })
            })
            .collect();
        assert_eq!(regions.len(), case["rles"].as_object().unwrap().len());
        cases.push(json!({ "width": width, "height": height, "pixels": hex, "regions": regions }));
    }
    assert!(cases.len() > 50);
    assert_eq!(python::run("masks.py", &["check"], &json!(cases).to_string()).unwrap(), "");
    // A region that covers all instead: the check looks.
    let broken = cases.iter_mut().find(|case| !case["regions"].as_array().unwrap().is_empty()).unwrap();
    let mask = &mut broken["regions"][0]["rle"]["counts"];
    *mask = json!(rle::compress(&[0, broken_total(mask.as_str().unwrap())]));
    assert!(
        python::run("masks.py", &["check"], &json!([broken]).to_string()).unwrap().contains("pycocotools")
    );
}

fn broken_total(counts: &str) -> u32 {
    rle::decompress(counts).unwrap().iter().sum()
}

#[test]
fn a_frame_without_masks_is_a_gap() {
    let mut harness = harness("");
    let frames = vec![frame(0, Some(masks(2))), frame(1, None), frame(2, Some(masks(2)))];
    assert_eq!(outcome(&mut harness, frames), [("buffer", 0), ("gap", 1), ("buffer", 2)]);
}

#[test]
fn only_changes_are_written() {
    let mut harness = harness("mask=rle only-changes=true");
    let older = Masks { age: gst::ClockTime::from_mseconds(40), ..masks(2) };
    let reprompted = Masks { generation: 4, ..masks(0) };
    let contents = [masks(2), older, masks(0), masks(0), reprompted];
    let frames = (0..).zip(contents).map(|(number, masks)| frame(number, Some(masks))).collect();
    let expected = [("buffer", 0), ("gap", 1), ("buffer", 2), ("gap", 3), ("buffer", 4)];
    assert_eq!(outcome(&mut harness, frames), expected);
}

#[test]
fn a_flush_makes_the_next_frame_a_change() {
    let mut harness = harness("only-changes=true");
    assert_eq!(outcome(&mut harness, vec![frame(0, Some(masks(2)))]), [("buffer", 0)]);
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    assert_eq!(outcome(&mut harness, vec![frame(0, Some(masks(2)))]), [("buffer", 0)]);
}

#[test]
fn times_follow_the_segment() {
    let mut harness = harness("");
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_mseconds(40));
    segment.set_time(gst::ClockTime::from_mseconds(1000));
    segment.set_base(gst::ClockTime::from_mseconds(500));
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    let frame = parse(&harness.push_and_pull(frame(3, Some(masks(2)))).unwrap());
    assert_eq!(frame.pts, Some(120_000_000));
    assert_eq!(frame.stream_time, Some(1_080_000_000));
    assert_eq!(frame.running_time, Some(580_000_000));
}

/// A source with no time stamps and no caps still gets its objects, with nulls.
#[test]
fn a_stream_without_times_or_caps_is_written_with_nulls() {
    init();
    let pipeline = gst::parse::launch(
        "fakesrc name=in num-buffers=2 format=bytes ! gclipmeta2json ! appsink name=out sync=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    let source = pipeline.by_name("in").unwrap().static_pad("src").unwrap();
    source.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            masks(2).attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let frame = parse(&sink.pull_sample().unwrap().buffer_owned().unwrap());
    assert_eq!((frame.pts, frame.stream_time, frame.running_time, frame.width), (None, None, None, None));
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn it_starts_again_any_number_of_times() {
    init();
    let pipeline =
        gst::parse::launch("videotestsrc num-buffers=2 ! gclipmeta2json only-changes=true ! fakesink")
            .unwrap()
            .downcast::<gst::Pipeline>()
            .unwrap();
    for _ in 0..20 {
        pipeline.set_state(gst::State::Playing).unwrap();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let message =
            pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &wanted).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}
