// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip video`: decode, segment, draw, encode. Leaves `NAME.mp4`, `NAME.png` and `NAME.jsonl`, and with `--player`
//! `NAME.plain.mp4`.

mod light;
mod picture;
mod report;
mod shape;
mod timestamps;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use gst::prelude::*;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::address::Address;
use crate::output::Results;
use crate::redact::Secrets;
use crate::rtsp::Counter;
use crate::say::complain;
use crate::{progress, property, redact, rtsp, trouble};
use picture::Showcase;
use report::Report;
use shape::playable;

/// Turns pictures as the file says: phones store them as their sensor lies, with a display matrix or an orientation tag beside.
/// Costs nothing where neither is there.
pub const UPRIGHT: &str = "videoflip video-direction=auto";

/// Ending of the video without masks that `--player` leaves.
pub const PLAIN: &str = "plain.mp4";

#[derive(clap::Args)]
pub struct Args {
    /// A video file, a URI (rtsp://, http://, file://) or a camera (/dev/video0).
    source: String,
    /// Checkpoint folder or file, or a Hugging Face id that is in the local cache.
    #[arg(long)]
    model: String,
    /// What to look for: classes separated by `;`, synonyms by `,`. Or `@FILE`, one class a line.
    #[arg(long)]
    prompts: String,
    /// Names that compete for pixels and stay undrawn, separated by `,`.
    #[arg(long, default_value = "")]
    background: String,
    /// Folder for the results; made if missing.
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Base name of the results.
    #[arg(long, default_value = "video")]
    name: String,
    /// Stop after this many seconds of video (a live source otherwise runs until Ctrl-C).
    #[arg(long)]
    seconds: Option<f64>,
    /// Also leave the video without masks (NAME.plain.mp4), and the masks in the JSON lines: `gclip try FOLDER` shows them.
    #[arg(long)]
    player: bool,
    /// Any other property of gclipsegment, such as `batch-size=8`; may be repeated.
    #[arg(long = "set", value_name = "PROPERTY=VALUE")]
    settings: Vec<String>,
    /// Any property of gclipoverlay, such as `mode=contour`; may be repeated.
    #[arg(long = "draw", value_name = "PROPERTY=VALUE")]
    drawing: Vec<String>,
}

/// Paths of the results.
struct Paths {
    video: PathBuf,
    picture: PathBuf,
    json: PathBuf,
    plain: Option<PathBuf>,
}

/// How a run ended that has results.
enum End {
    Whole,
    /// The source broke off; what came before is whole.
    BrokenOff(Error),
}

pub fn run(args: &Args) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstgclip::plugin_register_static().context("the gclip plugin does not register")?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let file = |ending: &str| args.out.join(format!("{}.{ending}", args.name));
    let paths = Paths {
        video: file("mp4"),
        picture: file("png"),
        json: file("jsonl"),
        plain: args.player.then(|| file(PLAIN)),
    };
    let mut results = Results::default();
    let partial = Paths {
        video: results.add(&paths.video)?,
        picture: results.add(&paths.picture)?,
        json: results.add(&paths.json)?,
        plain: paths.plain.as_deref().map(|path| results.add(path)).transpose()?,
    };

    let pipeline = build(args, &partial)?;
    let segment = pipeline.by_name("segment").context("the pipeline has no gclipsegment")?;
    let overlay = pipeline.by_name("overlay").context("the pipeline has no gclipoverlay")?;
    let showcase = Arc::new(Showcase::default());
    Showcase::watch(&showcase, &overlay)?;
    let report = Report::watch(&segment)?;
    let retimed = timestamps::make_rise(&segment)?;
    let time_is_up = Arc::new(AtomicBool::new(false));
    if let Some(seconds) = args.seconds {
        let length = Duration::try_from_secs_f64(seconds)
            .map_err(|_| anyhow!("--seconds {seconds} is not a length of time"))?;
        limit(&segment, gst::ClockTime::try_from(length)?, time_is_up.clone())?;
    }

    let outcome = play(&pipeline, args, &report, &time_is_up);
    let finished = report.finish(&segment);
    let hdr = segment.static_pad("sink").and_then(|pad| light::word(&pad));
    // After an error the pipeline may still hold open files; NULL closes them either way.
    pipeline.set_state(gst::State::Null).context("the pipeline does not stop")?;
    let why = |error: Error| redact::urls(&format!("{error:#}"));
    let end =
        outcome.map_err(|error| anyhow!("cannot segment {}: {}", redact::urls(&args.source), why(error)))?;
    showcase.write(&partial.picture, &paths.picture)?;
    results.put_in_place()?;
    match retimed.load(Ordering::Relaxed) {
        0 => {}
        frames => complain!(
            "gclip: the time stamps of {frames} frames are missing or do not rise; each was put behind the frame before"
        ),
    }
    if let Some(word) = hdr {
        complain!("gclip: {word}");
    }
    let written = [&paths.video, &paths.picture, &paths.json].into_iter().chain(&paths.plain);
    finished.print(&written.map(PathBuf::as_path).collect::<Vec<_>>());
    match end {
        End::Whole => Ok(()),
        End::BrokenOff(error) => {
            let (source, frames) = (redact::urls(&args.source), finished.frames());
            bail!("{source} broke off after {frames} frames, which are in the results: {}", why(error))
        }
    }
}

/// The whole pipeline. Each branch has a queue, so that decoding, the model, drawing and encoding run beside
/// each other; the queues' names become the threads' names, by which the report tells CPU time apart.
/// The encoder looks seconds ahead, so the sinks must not wait for each other's first buffer (async=false).
fn build(args: &Args, results: &Paths) -> Result<gst::Pipeline> {
    let source = if args.source.starts_with("/dev/video") {
        "v4l2src name=source".to_string()
    } else {
        // A sound track stays unlinked: GStreamer then stops that stream alone.
        "uridecodebin name=source".to_string()
    };
    let plain = if results.plain.is_some() {
        format!(
            " masks. ! queue name=plain max-size-bytes=0 ! {} ! x264enc speed-preset=veryfast bitrate=4096 ! h264parse \
             ! mp4mux ! filesink name=plain_video async=false",
            playable("even_plain")
        )
    } else {
        String::new()
    };
    let drawn = playable("even");
    let description = format!(
        "{source} ! videoconvert ! {UPRIGHT} ! queue name=decode max-size-buffers=8 max-size-bytes=0 max-size-time=0 \
         ! gclipsegment name=segment ! tee name=masks \
         masks. ! queue name=draw ! gclipoverlay name=overlay ! queue name=encode max-size-bytes=0 \
         ! {drawn} ! x264enc speed-preset=veryfast bitrate=4096 ! h264parse ! mp4mux ! filesink name=video async=false \
         masks. ! queue name=json ! gclipmeta2json name=lines ! filesink name=json_file async=false{plain}"
    );
    let pipeline = gst::parse::launch(&description)
        .context("a GStreamer element is missing (scripts/setup.sh installs them all)")?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("the description is not a pipeline"))?;

    let element = |name: &str| pipeline.by_name(name).with_context(|| format!("the pipeline has no {name}"));
    element("video")?.set_property("location", path_text(&results.video)?);
    element("json_file")?.set_property("location", path_text(&results.json)?);
    if let Some(path) = &results.plain {
        element("plain_video")?.set_property("location", path_text(path)?);
        element("lines")?.set_property_from_str("mask", "rle");
        shape::make_even(&pipeline, "even_plain")?;
    }
    if args.source.starts_with("/dev/video") {
        element("source")?.set_property("device", &args.source);
    } else {
        let source = element("source")?;
        source.set_property("uri", uri_of(&args.source)?);
        source.connect("source-setup", false, |arguments| {
            // Nobody asks what is counted.
            rtsp::guard(&arguments.get(1)?.get().ok()?, Counter::default());
            None
        });
    }
    shape::make_even(&pipeline, "even")?;
    let segment = element("segment")?;
    segment.set_property("model", &args.model);
    match args.prompts.strip_prefix('@') {
        Some(file) => segment.set_property("prompts-file", file),
        None => segment.set_property("prompts", &args.prompts),
    }
    if !args.background.is_empty() {
        segment.set_property("background", &args.background);
    }
    property::set_all(&segment, &args.settings)?;
    property::set_all(&element("overlay")?, &args.drawing)?;
    Ok(pipeline)
}

impl Args {
    /// Whether what is lost is lost for ever.
    fn is_live(&self) -> bool {
        self.source.starts_with("rtsp") && self.source.contains("://")
            || self.source.starts_with("/dev/video")
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))
}

pub fn uri_of(source: &str) -> Result<String> {
    if source.contains("://") {
        return Ok(source.to_string());
    }
    let path = std::fs::canonicalize(source).with_context(|| format!("cannot read the video {source}"))?;
    Ok(glib::filename_to_uri(&path, None)?.to_string())
}

/// Keeps frames that come `length` or more after the first one from the element, and says so in `time_is_up`.
fn limit(element: &gst::Element, length: gst::ClockTime, time_is_up: Arc<AtomicBool>) -> Result<()> {
    let pad = element.static_pad("sink").context("gclipsegment has no sink pad")?;
    let first = OnceLock::new();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) else { return gst::PadProbeReturn::Ok };
        if pts.saturating_sub(*first.get_or_init(|| pts)) < length {
            return gst::PadProbeReturn::Ok;
        }
        time_is_up.store(true, Ordering::Relaxed);
        // Not Drop: after gstreamer-rs has freed the buffer, GStreamer would try to free it once more.
        gst::PadProbeReturn::Handled
    });
    Ok(())
}

/// Signals that end a recording properly: Ctrl-C, and what a service manager or a terminal that closes sends.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// A request to end. The first signal ends the stream properly, or at once where there is none yet; the second ends
/// the program.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        // In this order: the default action is taken if the flag has been set before this signal.
        signal_hook::flag::register_conditional_default(signal, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Plays to the end of the stream, to the time limit or to a signal, whichever is first.
fn play(pipeline: &gst::Pipeline, args: &Args, report: &Report, time_is_up: &AtomicBool) -> Result<End> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let segment = pipeline.by_name("segment").and_then(|segment| segment.static_pad("sink"));
    let frames_in = segment.context("the pipeline has no gclipsegment")?;
    let progress = progress::video()?;
    let stop = stop_on_signals()?;
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(trouble::first_error(&bus));
    }
    let started = Instant::now();
    let (mut ending, mut broken) = (false, None);
    loop {
        let message = bus.timed_pop_filtered(
            gst::ClockTime::from_mseconds(100),
            &[
                gst::MessageType::Eos,
                gst::MessageType::Error,
                gst::MessageType::Warning,
                gst::MessageType::Element,
            ],
        );
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => break,
            Some(gst::MessageView::Error(error)) => {
                let from_source = error.src().is_some_and(|src| is_in_source(src, pipeline));
                let why = explain(error, &args.source);
                if !args.is_live() || !from_source || broken.is_some() || report.frames() == 0 {
                    return Err(broken.unwrap_or(why));
                }
                // What a camera has sent so far is not lost with it.
                (ending, broken) = (true, Some(why));
                frames_in.send_event(gst::event::Eos::new());
            }
            Some(gst::MessageView::Element(element)) => {
                if let Some(what) = element.structure().and_then(trouble::missing_decoder) {
                    bail!("{what}");
                }
            }
            Some(gst::MessageView::Warning(warning)) => {
                progress.println(format!("gclip: {}", redact::urls(&warning.error().to_string())))
            }
            _ => {}
        }
        let position = pipeline.query_position::<gst::ClockTime>().unwrap_or_default();
        let duration = pipeline.query_duration::<gst::ClockTime>().map(|length| length.mseconds());
        if let Some(length) = duration.filter(|length| *length > 0) {
            progress.set_length(length);
        }
        progress.set_position(position.mseconds());
        let frames = report.frames();
        progress.set_message(format!(
            "{frames} frames, {:.1}/s",
            frames as f64 / started.elapsed().as_secs_f64()
        ));
        let stop = stop.load(Ordering::Relaxed);
        if stop && frames_in.current_caps().is_none() {
            bail!("stopped before the first frame");
        }
        if !ending && (time_is_up.load(Ordering::Relaxed) || stop) {
            ending = true; // EOS rather than a hard stop: the MP4 index is written at the end
            pipeline.send_event(gst::event::Eos::new());
        }
    }
    progress.finish_and_clear();
    Ok(broken.map_or(End::Whole, End::BrokenOff))
}

/// Whether something is part of what reads and decodes.
fn is_in_source(object: &gst::Object, pipeline: &gst::Pipeline) -> bool {
    pipeline.by_name("source").is_some_and(|source| *object == source || object.has_as_ancestor(&source))
}

/// An error in the words that `gclip watch` has for cameras.
fn explain(error: &gst::message::Error, source: &str) -> Error {
    match Address::parse(source, &["rtsp", "rtsps"]) {
        Ok(address) => {
            let mut secrets = Secrets::default();
            secrets.add(address.secrets.iter().cloned());
            trouble::explain(error, &address, &|text| secrets.hide(text))
        }
        Err(_) => trouble::readable(error),
    }
}
