// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which elements keep the masks? Runs each between a source and a sink and compares with the table that the
//! documentation quotes, in the columns of the GStreamer that is there.
//! `UPDATE_SURVIVAL=1 cargo test --test meta_survival` writes these columns.

use std::path::Path;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use gclip_testing::frames::mask;
use gst::prelude::*;
use gst_video::VideoFormat;
use gstgclip::meta::Masks;

const TABLE: &str = "src/meta/survival.md";
const ABSENT: &str = "–";
const FRAMES: usize = 6;
const SIZE: (u32, u32) = (64, 48);

/// The two forms of the masks, by the heading of their columns.
const OURS: &str = "GclipSegmentationMeta";
const STANDARD: &str = "analytics";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
}
use Fate::{Kept, Lost};

/// Chains, and what becomes of our meta where that is a promise of ours or a fact of the format.
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
    let mask = mask(VideoFormat::Gray8, 2, 2, [1, 0, 9, 9, 0, 1, 9, 9]);
    Masks::new(1, mask, Vec::new())
}

/// Attaches every form that this build knows.
fn attach(buffer: &mut gst::BufferRef) {
    masks().attach(buffer);
    #[cfg(feature = "v1_26")]
    gstgclip::meta::attach_analytics(&masks(), buffer, SIZE, false).unwrap();
}

fn carries(form: &str, buffer: &gst::BufferRef) -> bool {
    if form == OURS {
        return Masks::from_buffer(buffer).is_some();
    }
    let mut other = buffer.copy();
    Masks::detach(other.get_mut().unwrap());
    Masks::found_on(&other, Some(SIZE)).is_some()
}

/// How many buffers left a chain, and how many of them still carried each form.
#[derive(Default)]
struct Counts {
    all: AtomicUsize,
    with: [AtomicUsize; 2],
}

impl Counts {
    fn see(&self, buffer: &gst::BufferRef) {
        self.all.fetch_add(1, Relaxed);
        for (form, count) in [OURS, STANDARD].into_iter().zip(&self.with) {
            count.fetch_add(usize::from(carries(form, buffer)), Relaxed);
        }
    }
}

/// Whether all buffers that leave a chain still carry each form of the masks; `None` if it cannot be run here.
fn fates(chain: &str) -> Option<[Fate; 2]> {
    let (width, height) = SIZE;
    let description = format!(
        "videotestsrc num-buffers={FRAMES} ! video/x-raw,format=I420,width={width},height={height},framerate=25/1 \
         ! identity name=attach ! {chain} ! fakesink name=out"
    );
    let pipeline = gst::parse::launch(&description).ok()?.downcast::<gst::Pipeline>().ok()?;
    pipeline.by_name("attach")?.static_pad("src")?.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data {
            attach(buffer.make_mut());
        }
        gst::PadProbeReturn::Ok
    });
    let counts = Arc::new(Counts::default());
    let count = counts.clone();
    let both = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pipeline.by_name("out")?.static_pad("sink")?.add_probe(both, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => count.see(buffer),
            Some(gst::PadProbeData::BufferList(list)) => list.iter().for_each(|buffer| count.see(buffer)),
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
    let all = counts.all.load(Relaxed);
    assert!(all > 0, "{chain}: nothing came out");
    Some([0, 1].map(|form| if counts.with[form].load(Relaxed) == all { Kept } else { Lost }))
}

/// The documented table: what stands before it, its columns, and its rows by chain.
struct Table {
    prose: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    fn read() -> Table {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE)).unwrap();
        let start = text.find("| chain |").unwrap();
        let cells = |line: &str| -> Vec<String> {
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
        };
        let mut lines = text[start..].lines().map(cells);
        let columns = lines.next().unwrap()[1..].to_vec();
        let rows =
            lines.skip(1).map(|row| (row[0].trim_matches('`').to_owned(), row[1..].to_vec())).collect();
        Table { prose: text[..start].to_owned(), columns, rows }
    }

    fn cell(&mut self, chain: &str, column: usize) -> &mut String {
        let row = self.rows.iter().position(|(of, _)| of == chain).unwrap_or_else(|| {
            self.rows.push((chain.to_owned(), vec![ABSENT.to_owned(); self.columns.len()]));
            self.rows.len() - 1
        });
        &mut self.rows[row].1[column]
    }

    fn write(&self) {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = self.prose.clone();
        text += &line(&[&["chain".to_owned()], &self.columns[..]].concat());
        text += &line(&vec!["---".to_owned(); self.columns.len() + 1]);
        for (chain, cells) in &self.rows {
            if cells.iter().any(|cell| cell != ABSENT) {
                text += &line(&[&[format!("`{chain}`")], &cells[..]].concat());
            }
        }
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE), text).unwrap();
    }
}

#[test]
fn the_known_elements_keep_the_masks() {
    gst::init().unwrap();
    gstgclip::meta::register();
    let (major, minor, ..) = gst::version();
    let mut table = Table::read();
    let update = std::env::var_os("UPDATE_SURVIVAL").is_some();
    let forms = if cfg!(feature = "v1_26") { &[OURS, STANDARD][..] } else { &[OURS] };
    let mut wrong = Vec::new();
    for (chain, promised) in CHAINS {
        let fates = fates(chain);
        if promised.is_some_and(|promised| fates.is_some_and(|[ours, _]| ours != promised)) {
            wrong.push(format!("{chain}: not as promised"));
        }
        for (form, name) in forms.iter().enumerate() {
            let heading = format!("{name}, {major}.{minor}");
            // A GStreamer that the table does not know has only the promises to keep.
            let Some(column) = table.columns.iter().position(|column| *column == heading) else { continue };
            let found = match fates.map(|fates| fates[form]) {
                Some(Kept) => "kept",
                Some(Lost) => "lost",
                None => ABSENT,
            };
            let documented = table.cell(chain, column);
            if update {
                *documented = found.to_owned();
            } else if found != ABSENT && documented != found {
                wrong.push(format!("{chain}, {heading}: {found}, documented as {documented}"));
            }
        }
    }
    if update {
        table.write();
    }
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}
