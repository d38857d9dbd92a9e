// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip video`: decode, segment, draw, encode. Leaves `NAME.mp4`, `NAME.png` and `NAME.jsonl`, and with `--player`
//! `NAME.plain.mp4`.

mod light;
mod picture;
mod pipeline;
mod play;
mod report;
mod shape;
mod timestamps;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use gst::prelude::*;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::output::Results;
use crate::say::complain;
use crate::{progress, redact, start};
pub use picture::Showcase;
pub use pipeline::{Files, Look, UPRIGHT, build, launch, part, uri_of};
pub use play::{End, Fault, Moment, Of, play};
use report::Report;
pub use timestamps::make_rise;

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

pub fn run(args: &Args) -> Result<()> {
    start::gstreamer()?;
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let file = |ending: &str| args.out.join(format!("{}.{ending}", args.name));
    let (video, picture, json) = (file("mp4"), file("png"), file("jsonl"));
    let plain = args.player.then(|| file(PLAIN));
    let mut results = Results::default();
    let files = Files {
        video: Some(results.add(&video)?),
        json: results.add(&json)?,
        masks: args.player,
        plain: plain.as_deref().map(|path| results.add(path)).transpose()?,
    };
    let partial_picture = results.add(&picture)?;

    let pipeline = build(&args.look(), &files)?;
    let (segment, overlay) = (part(&pipeline, "segment")?, part(&pipeline, "overlay")?);
    let showcase = Arc::new(Showcase::default());
    Showcase::watch(&showcase, &overlay)?;
    let report = Report::watch(&segment)?;
    let retimed = make_rise(&segment)?;
    let time_is_up = Arc::new(AtomicBool::new(false));
    if let Some(seconds) = args.seconds {
        let length = Duration::try_from_secs_f64(seconds)
            .map_err(|_| anyhow!("--seconds {seconds} is not a length of time"))?;
        limit(&segment, gst::ClockTime::try_from(length)?, time_is_up.clone())?;
    }

    let outcome = record(&pipeline, args, &report, &time_is_up);
    let finished = report.finish(&segment);
    let hdr = segment.static_pad("sink").and_then(|pad| light::word(&pad));
    // After an error the pipeline may still hold open files; NULL closes them either way.
    pipeline.set_state(gst::State::Null).context("the pipeline does not stop")?;
    let why = |error: Error| redact::urls(&format!("{error:#}"));
    let end =
        outcome.map_err(|error| anyhow!("cannot segment {}: {}", redact::urls(&args.source), why(error)))?;
    showcase.write(&partial_picture, &picture)?;
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
    let written = [&video, &picture, &json].into_iter().chain(&plain);
    finished.print(&written.map(PathBuf::as_path).collect::<Vec<_>>());
    match end {
        End::Whole => Ok(()),
        End::BrokenOff(error) => {
            let (source, frames) = (redact::urls(&args.source), finished.frames());
            bail!("{source} broke off after {frames} frames, which are in the results: {}", why(error))
        }
    }
}

impl Args {
    fn look(&self) -> Look<'_> {
        Look {
            source: &self.source,
            model: &self.model,
            prompts: &self.prompts,
            background: &self.background,
            settings: &self.settings,
            drawing: &self.drawing,
        }
    }
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
fn record(pipeline: &gst::Pipeline, args: &Args, report: &Report, time_is_up: &AtomicBool) -> Result<End> {
    let frames_in = part(pipeline, "segment")?.static_pad("sink").context("gclipsegment has no sink pad")?;
    let progress = progress::video()?;
    let stop = stop_on_signals()?;
    let started = Instant::now();
    let mut each = |moment: &Moment| {
        if let Some(warning) = moment.warning {
            progress.println(format!("gclip: {warning}"));
        }
        if let Some(length) = moment.length.map(|length| length.mseconds()).filter(|length| *length > 0) {
            progress.set_length(length);
        }
        progress.set_position(moment.position.mseconds());
        let frames = report.frames();
        progress.set_message(format!(
            "{frames} frames, {:.1}/s",
            frames as f64 / started.elapsed().as_secs_f64()
        ));
        let stop = stop.load(Ordering::Relaxed);
        if stop && frames_in.current_caps().is_none() {
            bail!("stopped before the first frame");
        }
        Ok(time_is_up.load(Ordering::Relaxed) || stop)
    };
    let end = play(pipeline, &args.source, &|| report.frames(), &mut each)?;
    progress.finish_and_clear();
    Ok(end)
}
