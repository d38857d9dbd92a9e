// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipmeta2json` through the plugin: what it writes, when it writes, what it does between.

use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::json::{Frame, RegionMask};
use gstgclip::meta::{Masks, Rect, Region, rle};

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
    let mut mask = gst::Buffer::from_slice([left, left, 0, 0, left, left, 0, 1]);
    VideoMeta::add(mask.get_mut().unwrap(), VideoFrameFlags::empty(), VideoFormat::Gray8, 4, 2).unwrap();
    let region = |value, label: &str, area, x, y, w, h| {
        let label = label.into();
        Region { value, label, score: 0.5, area, x, y, w, h }
    };
    let regions =
        vec![region(2, "\"big\" 犬", 0.5, 0.0, 0.0, 0.5, 1.0), region(1, "dot", 0.125, 0.75, 0.5, 0.25, 0.5)];
    Masks { generation: 3, age: gst::ClockTime::ZERO, mask, rect: Rect::FULL, regions }
}

fn frame(number: u64, masks: Option<Masks>) -> gst::Buffer {
    let mut buffer = gst::Buffer::new();
    let writable = buffer.get_mut().unwrap();
    writable.set_pts(gst::ClockTime::from_mseconds(40) * number);
    writable.set_duration(gst::ClockTime::from_mseconds(40));
    if let Some(masks) = masks {
        masks.attach(writable);
    }
    buffer
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
