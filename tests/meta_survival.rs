// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which elements keep the masks? Runs each between a source and a sink and prints the table that the
//! documentation quotes (`cargo test --test meta_survival -- --nocapture`). Elements that are not installed are left out.
//! On the version of the documented table the two must agree.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use gst::prelude::*;
use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};
use gstgclip::meta::{Masks, Rect};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
}
use Fate::{Kept, Lost};

const DOCUMENTED: &str = include_str!("../src/meta/survival.md");
const DOCUMENTED_VERSION: (u32, u32) = (1, 22);
const FRAMES: usize = 6;

/// Chains, and what becomes of the masks where that is a promise of ours or a fact of the format.
const CHAINS: &[(&str, Option<Fate>)] = &[
    ("identity", Some(Kept)),
    ("queue", Some(Kept)),
    ("queue2", Some(Kept)),
    ("multiqueue", Some(Kept)),
    ("tee", Some(Kept)),
    ("valve", Some(Kept)),
    ("videoconvert ! video/x-raw,format=RGB", Some(Kept)),
    ("videoscale ! video/x-raw,width=32,height=32", Some(Kept)),
    ("videoconvertscale ! video/x-raw,format=RGB,width=32,height=32", Some(Kept)),
    ("videorate ! video/x-raw,framerate=50/1", Some(Kept)),
    ("videocrop left=8", Some(Kept)),
    ("videobox left=8", Some(Kept)),
    ("videoflip method=clockwise", Some(Kept)),
    ("videobalance saturation=0.5", Some(Kept)),
    ("gamma gamma=2", Some(Kept)),
    ("gaussianblur", None),
    ("deinterlace mode=interlaced", None),
    ("alpha", None),
    ("timeoverlay", Some(Kept)),
    ("textoverlay text=hello", Some(Kept)),
    ("clockoverlay", None),
    ("overlaycomposition", None),
    ("compositor", None),
    ("x264enc tune=zerolatency", Some(Kept)),
    ("jpegenc", Some(Kept)),
    ("vp8enc deadline=1", None),
    ("avenc_mpeg4", None),
    ("x264enc tune=zerolatency ! h264parse", None),
    ("x264enc tune=zerolatency ! h264parse ! avdec_h264", None),
    ("jpegenc ! jpegdec", None),
    ("jpegenc ! rtpjpegpay", None),
    ("jpegenc ! rtpjpegpay ! rtpjpegdepay", None),
    ("jpegenc ! matroskamux", Some(Lost)),
    ("jpegenc ! avimux", Some(Lost)),
];

fn masks() -> Masks {
    let mut mask = gst::Buffer::from_slice([1, 0, 9, 9, 0, 1, 9, 9]);
    VideoMeta::add(mask.get_mut().unwrap(), VideoFrameFlags::empty(), VideoFormat::Gray8, 2, 2).unwrap();
    Masks { generation: 1, age: gst::ClockTime::ZERO, mask, rect: Rect::FULL, regions: Vec::new() }
}

/// Whether all buffers that leave a chain still carry the masks; `None` if it cannot be run here.
fn fate(chain: &str) -> Option<Fate> {
    let description = format!(
        "videotestsrc num-buffers={FRAMES} ! video/x-raw,format=I420,width=64,height=48,framerate=25/1 \
         ! identity name=attach ! {chain} ! fakesink name=out"
    );
    let pipeline = gst::parse::launch(&description).ok()?.downcast::<gst::Pipeline>().ok()?;
    let attach = pipeline.by_name("attach")?.static_pad("src")?;
    attach.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            masks().attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let count = counts.clone();
    let both = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pipeline.by_name("out")?.static_pad("sink")?.add_probe(both, move |_, info| {
        let mut see = |buffer: &gst::BufferRef| {
            count[usize::from(Masks::from_buffer(buffer).is_some())].fetch_add(1, Relaxed);
        };
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => see(buffer),
            Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(&mut see),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus()?.timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted);
    pipeline.set_state(gst::State::Null).unwrap();
    let end = end.unwrap_or_else(|| panic!("{chain} hangs"));
    assert_eq!(end.type_(), gst::MessageType::Eos, "{chain}: {end:?}");
    let (without, with) = (counts[0].load(Relaxed), counts[1].load(Relaxed));
    assert!(without + with > 0, "{chain}: nothing came out");
    Some(if without == 0 { Kept } else { Lost })
}

#[test]
fn the_known_elements_keep_the_masks() {
    gst::init().unwrap();
    gstgclip::meta::register();
    println!(
        "Masks behind elements of GStreamer {}:\n\n| chain | masks |\n| --- | --- |",
        gst::version_string()
    );
    let mut wrong = Vec::new();
    for (chain, expected) in CHAINS {
        let Some(fate) = fate(chain) else {
            println!("| `{chain}` | not installed |");
            continue;
        };
        let row = format!("| `{chain}` | {} |", if fate == Kept { "kept" } else { "lost" });
        println!("{row}");
        let (major, minor, ..) = gst::version();
        let undocumented = (major, minor) == DOCUMENTED_VERSION && !DOCUMENTED.contains(&row);
        if undocumented || expected.is_some_and(|expected| expected != fate) {
            wrong.push(row);
        }
    }
    assert!(wrong.is_empty(), "against what is documented: {wrong:?}");
}
