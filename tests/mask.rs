// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipmask` through the plugin: what it shows in each mode, at which size, and what it does between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use gclip_testing::frames::{frame_of, mask};
use gst::prelude::*;
use gst_check::Harness;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef, VideoInfo};
use gstgclip::meta::{Masks, Rect, Region};

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstgclip::plugin_register_static().unwrap();
    });
}

fn region(value: u32, label: &str) -> Region {
    Region { value, label: label.into(), score: 0.5, area: 0.5, x: 0.0, y: 0.0, w: 0.5, h: 1.0 }
}

/// 4x2 values: cat (1) on the left, dog (2) at the bottom right.
fn masks() -> Masks {
    let mask = mask(VideoFormat::Gray8, 4, 2, [1, 1, 0, 0, 1, 1, 0, 2]);
    let regions = vec![region(1, "Cat"), region(2, "dog")];
    Masks::new(1, mask, regions)
}

/// 2x1 values: 0 and 300.
fn wide_masks() -> Masks {
    let mask = mask(VideoFormat::Gray16Le, 2, 1, [0, 0, 44, 1]);
    Masks { mask, regions: vec![region(300, "far")], ..masks() }
}

/// A frame of 8x4 RGB pixels whose red is its column, green its row, blue 200.
fn frame(number: u64, masks: Option<Masks>) -> gst::Buffer {
    let pixels: Vec<u8> = (0..32).flat_map(|i| [i % 8, i / 8, 200]).collect();
    frame_of(gst::Buffer::from_slice(pixels), number, masks)
}

const FRAMES: &str = "video/x-raw,format=RGB,width=8,height=4,framerate=25/1,pixel-aspect-ratio=1/1";

fn harness(properties: &str) -> Harness {
    init();
    let element = gst::parse::launch(&format!("gclipmask {properties}")).unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps_str(FRAMES);
    harness
}

fn caps(harness: &Harness) -> VideoInfo {
    VideoInfo::from_caps(&harness.sinkpad().unwrap().current_caps().unwrap()).unwrap()
}

/// The first plane without the padding of its rows.
fn pixels(harness: &Harness, buffer: &gst::Buffer) -> Vec<u8> {
    let info = caps(harness);
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let stride = frame.plane_stride()[0] as usize;
    let row = frame.width() as usize * info.comp_pstride(0) as usize;
    frame.plane_data(0).unwrap().chunks(stride).flat_map(|line| line[..row].to_vec()).collect()
}

#[test]
fn ids_at_the_size_of_the_mask() {
    let mut harness = harness("");
    let output = harness.push_and_pull(frame(3, Some(masks()))).unwrap();
    let info = caps(&harness);
    assert_eq!((info.format(), info.width(), info.height()), (VideoFormat::Gray8, 4, 2));
    assert_eq!((info.par(), info.fps()), (gst::Fraction::new(1, 1), gst::Fraction::new(25, 1)));
    assert_eq!(pixels(&harness, &output), [1, 1, 0, 0, 1, 1, 0, 2]);
    assert_eq!(output.pts(), Some(gst::ClockTime::from_mseconds(120)));
    assert_eq!(output.duration(), Some(gst::ClockTime::from_mseconds(40)));
    assert_eq!(Masks::from_buffer(&output).unwrap().regions, masks().regions);
}

#[test]
fn ids_at_the_size_of_the_frame_inside_the_covered_rectangle() {
    let mut harness = harness("size=frame");
    let covered = Masks { rect: Rect { x: 0.0, y: 0.0, w: 0.5, h: 0.5 }, ..masks() };
    let output = harness.push_and_pull(frame(0, Some(covered))).unwrap();
    #[rustfmt::skip]
    let expected = [
        1, 1, 0, 0,  0, 0, 0, 0,
        1, 1, 0, 2,  0, 0, 0, 0,
        0, 0, 0, 0,  0, 0, 0, 0,
        0, 0, 0, 0,  0, 0, 0, 0,
    ];
    assert_eq!(pixels(&harness, &output), expected);
}

#[test]
fn more_classes_change_the_format_on_the_way() {
    let mut harness = harness("");
    harness.push_and_pull(frame(0, Some(masks()))).unwrap();
    let output = harness.push_and_pull(frame(1, Some(wide_masks()))).unwrap();
    let info = caps(&harness);
    assert_eq!((info.format(), info.width(), info.height()), (VideoFormat::Gray16Le, 2, 1));
    // 2x1 values over a frame of 8x4 square pixels.
    assert_eq!(info.par(), gst::Fraction::new(1, 1));
    assert_eq!(pixels(&harness, &output), [0, 0, 44, 1]);
}

#[test]
fn downstream_may_ask_for_wide_ids() {
    let mut harness = harness("size=frame");
    harness.set_sink_caps_str("video/x-raw,format=GRAY16_LE");
    let output = harness.push_and_pull(frame(0, Some(masks()))).unwrap();
    assert_eq!(pixels(&harness, &output)[..16], [1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_matte_shows_the_chosen_labels() {
    let mut harness = harness("mode=matte only=CAT edges=hard");
    let output = harness.push_and_pull(frame(0, Some(masks()))).unwrap();
    assert_eq!(pixels(&harness, &output), [255, 255, 0, 0, 255, 255, 0, 0]);
    harness.element().unwrap().set_property("only", "dog; nobody");
    let output = harness.push_and_pull(frame(1, Some(masks()))).unwrap();
    assert_eq!(pixels(&harness, &output), [0, 0, 0, 0, 0, 0, 0, 255]);
    harness.element().unwrap().set_property("only", "");
    let output = harness.push_and_pull(frame(2, Some(masks()))).unwrap();
    assert_eq!(pixels(&harness, &output), [255, 255, 0, 0, 255, 255, 0, 255]);
}

#[test]
fn a_matte_is_soft_or_hard_at_either_size() {
    let shown = |properties: &str| {
        let mut harness = harness(&format!("mode=matte only=cat {properties}"));
        let output = harness.push_and_pull(frame(0, Some(masks()))).unwrap();
        let info = caps(&harness);
        (pixels(&harness, &output)[..info.width() as usize].to_vec(), info.format())
    };
    assert_eq!(shown("edges=hard"), (vec![255, 255, 0, 0], VideoFormat::Gray8));
    assert_eq!(shown("edges=hard size=frame").0, [255, 255, 255, 255, 0, 0, 0, 0]);
    assert_eq!(shown("").0, [255, 191, 64, 0]);
    let (row, format) = shown("size=frame");
    assert_eq!(format, VideoFormat::Gray8);
    assert!(row.is_sorted_by(|a, b| a >= b), "{row:?}");
    assert_eq!((row[0], row[7]), (255, 0));
    assert!(row[2..6].iter().all(|&value| value > 0 && value < 255), "{row:?}");
}

#[test]
fn a_cutout_is_the_frame_with_alpha() {
    let mut harness = harness("mode=cutout only=cat edges=hard");
    let output = harness.push_and_pull(frame(0, Some(masks()))).unwrap();
    let info = caps(&harness);
    assert_eq!((info.format(), info.width(), info.height()), (VideoFormat::Rgba, 8, 4));
    let pixels = pixels(&harness, &output);
    assert_eq!(pixels[..4], [0, 0, 200, 255]);
    assert_eq!(pixels[(3 * 8 + 7) * 4..], [7, 3, 200, 0]);
    assert!(pixels.iter().skip(3).step_by(4).all(|&alpha| alpha == 0 || alpha == 255), "hard");
    harness.element().unwrap().set_property_from_str("edges", "soft");
    let output = harness.push_and_pull(frame(1, Some(masks()))).unwrap();
    let alpha: Vec<u8> = self::pixels(&harness, &output).into_iter().skip(3).step_by(4).collect();
    assert_eq!((alpha[0], alpha[7]), (255, 0));
    assert!(alpha[..8].iter().any(|&alpha| alpha > 0 && alpha < 255), "{alpha:?}");
}

#[test]
fn a_cutout_asks_for_colours_it_can_read() {
    init();
    let element = gst::parse::launch("gclipmask mode=cutout").unwrap();
    let caps = element.static_pad("sink").unwrap().query_caps(None);
    let planar = gst::Caps::builder("video/x-raw").field("format", "I420").build();
    assert!(!caps.can_intersect(&planar));
    assert!(caps.can_intersect(&gst::Caps::builder("video/x-raw").field("format", "BGRx").build()));
    element.set_property_from_str("mode", "matte");
    assert!(element.static_pad("sink").unwrap().query_caps(None).can_intersect(&planar));
}

/// What came out besides STREAM_START: events by name, buffers as "buffer".
fn outcome(harness: &mut Harness, frames: Vec<gst::Buffer>) -> Vec<String> {
    let mut seen = Vec::new();
    for frame in frames {
        harness.push(frame).unwrap();
        while let Some(event) = harness.try_pull_event() {
            if event.type_() != gst::EventType::StreamStart {
                seen.push(event.type_().name().to_string());
            }
        }
        while harness.try_pull().is_some() {
            seen.push("buffer".into());
        }
    }
    seen
}

#[test]
fn a_frame_without_masks_is_a_gap() {
    let mut harness = harness("size=frame");
    let frames = vec![frame(0, Some(masks())), frame(1, None), frame(2, Some(masks()))];
    assert_eq!(outcome(&mut harness, frames), ["caps", "segment", "buffer", "gap", "buffer"]);
}

#[test]
fn events_wait_for_the_caps_that_the_first_mask_tells() {
    let mut harness = harness("");
    assert_eq!(outcome(&mut harness, vec![frame(0, None)]), [""; 0]);
    let frames = vec![frame(1, Some(masks())), frame(2, None)];
    assert_eq!(outcome(&mut harness, frames), ["caps", "segment", "buffer", "gap"]);
}

/// Plays a pipeline to its end; the error's text, if that is one.
fn play(description: &str) -> Option<String> {
    init();
    let pipeline = gst::parse::launch(description).unwrap().downcast::<gst::Pipeline>().unwrap();
    if let Some(attach) = pipeline.by_name("attach") {
        attach.static_pad("src").unwrap().add_probe(gst::PadProbeType::BUFFER, |_, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
                masks().attach(buffer.make_mut());
            }
            gst::PadProbeReturn::Ok
        });
    }
    let mut error = None;
    for _ in 0..3 {
        pipeline.set_state(gst::State::Playing).unwrap();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let message =
            pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(20), &wanted).unwrap();
        if let gst::MessageView::Error(message) = message.view() {
            error = Some(message.error().to_string());
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
    error
}

#[test]
fn whole_pipelines_run_again_and_again() {
    let source =
        "videotestsrc num-buffers=5 ! video/x-raw,format=I420,width=33,height=17 ! identity name=attach";
    for rest in [
        "gclipmask ! fakesink",
        "gclipmask size=frame ! videoconvert ! jpegenc ! fakesink",
        "gclipmask mode=matte size=frame ! queue ! videoscale ! video/x-raw,width=50 ! fakesink",
        "videoconvert ! gclipmask mode=cutout ! videoconvert ! video/x-raw,format=AYUV ! fakesink",
        "tee name=t ! queue ! fakesink t. ! queue ! gclipmask ! fakesink",
    ] {
        assert_eq!(play(&format!("{source} ! {rest}")), None, "{rest}");
    }
    assert_eq!(
        play("videotestsrc num-buffers=5 ! gclipmask ! fakesink"),
        None,
        "a stream without masks ends too"
    );
}

/// Frames and mattes of one `tee` meet again in `alphacombine`, which takes only pairs of one time (and, like a matte,
/// of full range): each frame leaves with its own matte as alpha.
#[test]
fn mattes_and_frames_of_a_tee_meet_again() {
    init();
    if gst::ElementFactory::find("alphacombine").is_none() {
        eprintln!("skipped: no alphacombine here (package gstreamer1.0-plugins-bad)");
        return;
    }
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=12 pattern=black ! video/x-raw,format=I420,width=8,height=4,framerate=25/1,colorimetry=1:4:0:0 \
         ! identity name=attach ! tee name=t ! queue ! combine.sink \
         t. ! queue ! gclipmask mode=matte edges=hard size=frame ! queue ! combine.alpha \
         alphacombine name=combine ! appsink name=out sync=false",
    );
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let attach = pipeline.by_name("attach").unwrap().static_pad("src").unwrap();
    attach.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            // The nth frame has its nth column of four in the matte.
            let column = buffer.pts().unwrap().mseconds() / 40 % 4;
            let values: Vec<u8> = (0..8).map(|i| u8::from(i % 4 == column)).collect();
            let mask = mask(VideoFormat::Gray8, 4, 2, values);
            Masks { mask, ..masks() }.attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
    let mattes = Arc::new(AtomicU64::new(0));
    let counted = mattes.clone();
    let alpha = pipeline.by_name("combine").unwrap().static_pad("alpha").unwrap();
    alpha.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut count = 0;
    while let Ok(sample) = sink.pull_sample() {
        let (info, buffer) =
            (VideoInfo::from_caps(sample.caps().unwrap()).unwrap(), sample.buffer().unwrap());
        assert_eq!(buffer.pts(), Some(gst::ClockTime::from_mseconds(40) * count));
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
        let column = (count % 4) as usize;
        let expected: Vec<u8> = (0..8).map(|x| if x / 2 == column { 255 } else { 0 }).collect();
        assert_eq!(frame.plane_data(3).unwrap()[..8], expected, "frame {count}");
        count += 1;
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(mattes.load(Ordering::Relaxed), 12);
    // In GStreamer 1.26 the end of one side makes alphacombine give up the last pair.
    assert!((11..=12).contains(&count), "{count}");
}

#[test]
fn downstream_that_takes_nothing_of_it_is_one_clear_error() {
    let error =
        play("videotestsrc ! identity name=attach ! gclipmask ! video/x-raw,width=7 ! fakesink").unwrap();
    assert!(error.contains("Downstream takes none of") && error.contains("GRAY8"), "{error}");
}

/// What leaves is agreed on with downstream for a whole stream.
#[test]
fn mode_and_size_stay_as_they_are_while_frames_pass() {
    let mut harness = harness("");
    let element = harness.element().unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    harness.push_and_pull(frame(0, Some(masks()))).unwrap();
    element.set_property_from_str("mode", "cutout");
    element.set_property_from_str("size", "frame");
    for name in ["mode", "size"] {
        let message = bus.pop_filtered(&[gst::MessageType::Warning]).unwrap();
        let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
        let text = warning.error().to_string();
        assert!(text.contains(&format!("\"{name}\" stays")) && text.contains("NULL or READY"), "{text}");
    }
    let output = harness.push_and_pull(frame(1, Some(masks()))).unwrap();
    assert_eq!(pixels(&harness, &output), [1, 1, 0, 0, 1, 1, 0, 2]);
    element.set_state(gst::State::Ready).unwrap();
    element.set_property_from_str("mode", "matte");
    assert!(bus.pop_filtered(&[gst::MessageType::Warning]).is_none());
    bus.set_flushing(true);
}

/// As a pad does: tags stay through a flush, a segment does not.
#[test]
fn what_waits_for_the_first_mask_outlives_a_flush() {
    let mut harness = harness("");
    let mut tags = gst::TagList::new();
    tags.get_mut().unwrap().add::<gst::tags::Title>(&"x", gst::TagMergeMode::Append);
    harness.push_event(gst::event::Tag::new(tags));
    harness.push_event(gst::event::FlushStart::new());
    harness.push_event(gst::event::FlushStop::new(true));
    harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    let seen = outcome(&mut harness, vec![frame(0, Some(masks()))]);
    assert_eq!(seen, ["flush-start", "flush-stop", "caps", "tag", "segment", "buffer"]);
}

/// A stream that nothing could be told about, and another behind it.
#[test]
fn a_new_stream_begins_without_the_segment_of_the_one_before() {
    let mut harness = harness("");
    harness.push_event(gst::event::StreamStart::new("next"));
    harness.set_src_caps_str(FRAMES);
    let seen = outcome(&mut harness, vec![frame(0, Some(masks()))]);
    assert_eq!(seen, ["caps", "segment", "buffer"]);
}
