// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipmeta2onvif` through the plugin: what it writes, checked against ONVIF's own schema, and whether the ONVIF
//! elements of gst-plugins-rs take it.

use gclip_testing::python;
use std::sync::Once;

use gclip_testing::frames::{frame, mask};
use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstgclip::meta::{Masks, Rect, Region};

fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        gst::init().unwrap();
        gstgclip::plugin_register_static().unwrap();
        gstrsonvif::plugin_register_static().unwrap();
    });
}

/// 8x4 values: a ring (2) around a hole with a dot (1) in it, and a second piece of 2 on the right.
fn masks() -> Masks {
    #[rustfmt::skip]
    let values = [
        2, 2, 2, 2, 2, 0, 0, 0,
        2, 0, 0, 0, 2, 0, 2, 2,
        2, 0, 1, 0, 2, 0, 2, 2,
        2, 2, 2, 2, 2, 0, 0, 0,
    ];
    let mask = mask(VideoFormat::Gray8, 8, 4, values);
    let region = |value, label: &str, score, x, y, w, h| {
        let label = label.into();
        Region { value, label, score, area: 0.5, x, y, w, h }
    };
    let regions = vec![
        region(2, "ring <&> \"犬\" \u{1}", 0.875, 0.0, 0.0, 1.0, 1.0),
        region(1, "dot", 0.25, 0.25, 0.5, 0.125, 0.25),
    ];
    Masks::new(3, mask, regions)
}

fn harness(properties: &str) -> Harness {
    init();
    let element = gst::parse::launch(&format!("gclipmeta2onvif {properties}")).unwrap();
    let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
    harness.set_src_caps_str("video/x-raw,format=RGB,width=640,height=360,framerate=25/1");
    harness
}

fn text(buffer: &gst::Buffer) -> String {
    String::from_utf8(buffer.map_readable().unwrap().to_vec()).unwrap()
}

/// The value of an attribute, at its first place behind `after`.
fn attribute<'a>(document: &'a str, after: &str, name: &str) -> &'a str {
    let rest = document.split_once(after).unwrap_or_else(|| panic!("no {after} in {document}")).1;
    rest.split_once(&format!("{name}=\"")).unwrap().1.split_once('"').unwrap().0
}

#[test]
fn one_document_a_frame() {
    let mut harness = harness("time-source=running-time");
    let output = harness.push_and_pull(frame(3, Some(masks()))).unwrap();
    assert_eq!(output.pts(), Some(gst::ClockTime::from_mseconds(120)));
    assert_eq!(output.duration(), Some(gst::ClockTime::from_mseconds(40)));
    let caps = harness.sinkpad().unwrap().current_caps().unwrap();
    assert_eq!(caps.to_string(), "application/x-onvif-metadata, parsed=(boolean)true, encoding=(string)utf8");
    let document = text(&output);
    assert_eq!(attribute(&document, "<tt:Frame", "UtcTime"), "1970-01-01T00:00:00.120000Z");
    let (ring, dot) = document.split_once("</tt:Object>").unwrap();
    assert_eq!(attribute(ring, "<tt:Object", "ObjectId"), "2");
    assert!(ring.contains("<tt:Type Likelihood=\"0.875\">ring &lt;&amp;&gt;"), "{ring}");
    assert!(ring.contains("犬") && ring.contains('\u{fffd}'), "what XML cannot hold is replaced: {ring}");
    // From -1 to 1, y upwards.
    let bounds = ["left", "top", "right", "bottom"].map(|side| attribute(dot, "<tt:BoundingBox", side));
    assert_eq!(bounds, ["-0.5", "0", "-0.25", "-0.5"]);
    let centre = ["x", "y"].map(|axis| attribute(dot, "<tt:CenterOfGravity", axis));
    assert_eq!(centre, ["-0.375", "-0.25"]);
    assert_eq!((ring.matches("<tt:Polygon>").count(), dot.matches("<tt:Polygon>").count()), (2, 1));
    assert_eq!(dot.matches("<tt:Point ").count(), 4, "{dot}");
}

/// Even-odd at the pixels' centres: the hole is no part of the ring, and no piece is missing.
#[test]
fn polygons_fill_the_region_and_leave_its_holes() {
    let mut harness = harness("");
    let document = text(&harness.push_and_pull(frame(0, Some(masks()))).unwrap());
    let ring = document.split_once("</tt:Object>").unwrap().0;
    let number = |text: &str, name| attribute(text, "", name).parse::<f64>().unwrap();
    let polygons: Vec<Vec<(f64, f64)>> = ring
        .split("<tt:Polygon>")
        .skip(1)
        .map(|polygon| polygon.split("<tt:Point").skip(1).map(|p| (number(p, "x"), number(p, "y"))).collect())
        .collect();
    let inside = |x: f64, y: f64| {
        let sides = polygons.iter().flat_map(|p| p.iter().zip(p.iter().cycle().skip(1)));
        let crossed = sides.filter(|((ax, ay), (bx, by))| {
            (*ay > y) != (*by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
        });
        crossed.count() % 2 == 1
    };
    let values = masks().mask.map_readable().unwrap().to_vec();
    for (i, value) in values.iter().enumerate() {
        let (x, y) = (((i % 8) as f64 + 0.5) / 4.0 - 1.0, 1.0 - ((i / 8) as f64 + 0.5) / 2.0);
        assert_eq!(inside(x, y), *value == 2, "column {}, row {}: {polygons:?}", i % 8, i / 8);
    }
}

#[test]
fn documents_follow_the_schema_of_onvif() {
    let mut harness = harness("");
    let nothing = Masks { regions: Vec::new(), ..masks() };
    let part = Masks { rect: Rect { x: 0.25, y: 0.5, w: 0.5, h: 0.5 }, ..masks() };
    let documents: Vec<String> = (0..)
        .zip([masks(), nothing, part])
        .map(|(number, masks)| text(&harness.push_and_pull(frame(number, Some(masks))).unwrap()))
        .collect();
    let broken = documents[0].replace("<tt:CenterOfGravity", "<tt:CentreOfGravity");
    let check = |documents: &[String]| {
        python::run("onvif_schema.py", &[], &serde_json::to_string(documents).unwrap())
    };
    let Some(faults) = check(&documents) else { return };
    assert_eq!(faults, "");
    assert!(check(&[broken]).unwrap().contains("document 0"), "the schema is looked at");
}

/// UTC of a document, in microseconds.
fn utc(document: &str) -> u64 {
    let time = attribute(document, "<tt:Frame", "UtcTime");
    let time = glib::DateTime::from_iso8601(time, None).unwrap();
    time.to_unix() as u64 * 1_000_000 + time.microsecond() as u64
}

#[test]
fn frames_keep_their_distances_in_utc() {
    let mut harness = harness("");
    let now = glib::DateTime::now_utc().unwrap().to_unix() as u64 * 1_000_000;
    let times = [0, 1, 5].map(|number| {
        let output = harness.push_and_pull(frame(number, Some(masks()))).unwrap();
        utc(&text(&output))
    });
    assert_eq!((times[1] - times[0], times[2] - times[0]), (40_000, 200_000));
    assert!(times[0].abs_diff(now) < 3600 * 1_000_000, "{times:?} {now}");
}

#[test]
fn a_frames_own_utc_time_counts() {
    let mut harness = harness("time-source=running-time");
    let moment = gst::ClockTime::from_useconds(1_700_000_000_000_042);
    let ntp = moment + gst::ClockTime::from_seconds(2_208_988_800);
    for (reference, timestamp, expected) in [
        ("timestamp/x-unix", moment, moment.useconds()),
        ("timestamp/x-ntp", ntp, moment.useconds()),
        ("timestamp/x-drone", moment, 0),
    ] {
        let mut buffer = frame(0, Some(masks()));
        let caps = gst::Caps::new_empty_simple(reference);
        gst::ReferenceTimestampMeta::add(buffer.get_mut().unwrap(), &caps, timestamp, gst::ClockTime::NONE);
        assert_eq!(utc(&text(&harness.push_and_pull(buffer).unwrap())), expected, "{reference}");
    }
}

#[test]
fn a_frame_without_masks_is_a_gap() {
    let mut harness = harness("");
    harness.push(frame(1, None)).unwrap();
    let gap = std::iter::from_fn(|| harness.try_pull_event())
        .find_map(|event| match event.view() {
            gst::EventView::Gap(gap) => Some(gap.get()),
            _ => None,
        })
        .unwrap();
    assert_eq!(gap, (gst::ClockTime::from_mseconds(40), gst::ClockTime::from_mseconds(40).into()));
    assert!(harness.try_pull().is_none());
}

/// Plays to the end; the buffers at the end of the pipeline as text.
fn play(rest: &str) -> Vec<String> {
    init();
    let source = "videotestsrc num-buffers=3 ! video/x-raw,width=64,height=36,framerate=25/1 ! identity name=attach \
                  ! gclipmeta2onvif time-source=running-time";
    let pipeline = gst::parse::launch(&format!("{source} ! {rest} ! appsink name=out sync=false")).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let attach = pipeline.by_name("attach").unwrap().static_pad("src").unwrap();
    attach.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            masks().attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let pull = || sink.pull_sample().ok().map(|sample| text(&sample.buffer_owned().unwrap()));
    let texts = std::iter::from_fn(pull).collect();
    let error = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(error.is_none(), "{rest}: {error:?}");
    texts
}

/// Documents travel in one packet or in several. The depayloader drops a first document that comes in several: each
/// of its packets is marked as a discontinuity, and makes it forget the ones before.
#[test]
fn the_payloader_of_gst_plugins_rs_takes_it() {
    let direct = play("identity");
    assert_eq!(direct.len(), 3);
    assert_eq!(play("rtponvifmetadatapay mtu=65000 ! rtponvifmetadatadepay"), direct);
    assert_eq!(play("rtponvifmetadatapay mtu=300 ! rtponvifmetadatadepay"), direct[1..]);
}

/// Its parser finds the frames by their times and keeps every object.
#[test]
fn the_parser_of_gst_plugins_rs_reads_it() {
    let parsed = play("onvifmetadataparse");
    assert_eq!(parsed.len(), 3, "{parsed:?}");
    for (number, document) in parsed.iter().enumerate() {
        let time = format!("1970-01-01T00:00:00.{:06}Z", number * 40_000);
        assert_eq!(attribute(document, "Frame", "UtcTime"), time);
        assert_eq!(document.matches("Object ").count(), 2, "{document}");
        assert_eq!(document.matches("Polygon>").count(), 6, "{document}");
    }
}

/// Running time stands still in a pause, and UTC does not.
#[test]
fn utc_is_right_again_after_a_pause() {
    init();
    let pipeline = gst::parse::launch(
        "videotestsrc is-live=true ! video/x-raw,format=GRAY8,width=16,height=16,framerate=20/1 ! identity name=attach \
         ! gclipmeta2onvif ! fakesink name=out sync=true",
    );
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let attach = pipeline.by_name("attach").unwrap().static_pad("src").unwrap();
    attach.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            masks().attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
    // How far each frame's UTC lies behind the system's clock, in microseconds.
    let (send, receive) = std::sync::mpsc::channel();
    let out = pipeline.by_name("out").unwrap().static_pad("sink").unwrap();
    out.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let utc = utc(&text(info.buffer().unwrap()));
        let _ = send.send(now.as_micros() as i64 - utc as i64);
        gst::PadProbeReturn::Ok
    });
    let behind = |count: usize| -> i64 {
        let wait = std::time::Duration::from_secs(20);
        let last: Vec<i64> = (0..count).map(|_| receive.recv_timeout(wait).unwrap()).collect();
        *last.iter().min().unwrap()
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    let before = behind(10);
    pipeline.set_state(gst::State::Paused).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    while receive.try_recv().is_ok() {}
    pipeline.set_state(gst::State::Playing).unwrap();
    // The first were made before the pause.
    behind(3);
    let after = behind(10);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!((before - after).abs() < 500_000, "{before} us behind before the pause, {after} after it");
}

#[test]
fn the_source_of_times_stays_as_it_is_while_frames_pass() {
    let mut harness = harness("time-source=running-time");
    let element = harness.element().unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_property_from_str("time-source", "clock");
    assert!(bus.pop_filtered(&[gst::MessageType::Warning]).is_some());
    bus.set_flushing(true);
    let output = harness.push_and_pull(frame(3, Some(masks()))).unwrap();
    assert_eq!(utc(&text(&output)), 120_000);
}
