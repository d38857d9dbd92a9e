// SPDX-License-Identifier: MIT OR Apache-2.0
//! A video through `gclipsegment`: how steady its masks are over time, and mIoU when there are labels.
//!
//! The element is measured, not the bare model: what it does between frames (intervals, reuse) is what is asked about.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gstgclip::meta::Masks;
use parking_lot::Mutex;
use serde::Serialize;

use super::agreement::{Agreement, Recording};
use super::confusion::Confusion;
use super::consistency::{Consistency, still};
use super::pairs::files_below;
use super::report::{ClassReport, classes, percent, write_json};
use super::truth::Truth;
use super::{Against, Args};
use crate::frames::packed_rgb;
use crate::say::say;
use crate::trouble::{first_error, readable};
use crate::video::{UPRIGHT, uri_of};
use crate::{progress, property, start, usage};

/// Shares from 0 to 1; `null` where there was nothing to measure.
#[derive(Serialize)]
struct Report {
    frames: usize,
    seconds: f64,
    /// From the first mask to the last, counting included; `null` with fewer than two.
    masks_per_second: Option<f64>,
    /// CPU time a frame, likewise: of the whole process, decoding included, but without reading labels and counting pixels.
    cpu_ms_per_frame: Option<f64>,
    /// Against labels, windows of 8 and 16 frames (VSPW).
    mvc8: Option<f64>,
    mvc16: Option<f64>,
    mean_iou: Option<f64>,
    /// Over the classes in the labels alone.
    mean_iou_of_labelled: Option<f64>,
    pixel_accuracy: Option<f64>,
    /// Empty without labels.
    classes: Vec<ClassReport>,
    /// Pixels that stand still from one frame to the next whose class changes.
    flicker: Option<f64>,
    /// As mVC, over the pixels that stand still, without labels.
    still_vc8: Option<f64>,
    still_vc16: Option<f64>,
    /// Share of the tokens that the model worked on, where tokens are reused.
    tokens_worked_on: Option<f64>,
    /// With `--against`.
    #[serde(skip_serializing_if = "Option::is_none")]
    against_whole: Option<AgainstWhole>,
}

/// The run in which every frame was looked at as a whole, and how far the masks are the same.
#[derive(Serialize)]
struct AgainstWhole {
    /// Mean share of the pixels with the same class, over the frames.
    agreement: Option<f64>,
    worst_agreement: Option<f64>,
    worst_frame: Option<usize>,
    mean_iou: Option<f64>,
    mean_iou_of_labelled: Option<f64>,
    classes: Vec<ClassReport>,
    masks_per_second: Option<f64>,
    cpu_ms_per_frame: Option<f64>,
}

/// What the frames of a run are kept for, or compared with.
enum Other {
    Nothing,
    Record(Recording),
    Compare(Agreement),
}

/// What is counted while the video plays.
struct Watch {
    truth: Arc<Truth>,
    tolerance: u8,
    limit: usize,
    /// One label picture a frame, in order.
    labels: Option<Vec<PathBuf>>,
    frames: usize,
    seconds: f64,
    size: (usize, usize),
    before: Option<Before>,
    labelled: Consistency,
    unlabelled: Consistency,
    confusion: Confusion,
    other: Other,
    /// CPU time of reading labels and counting pixels.
    counting: Duration,
    /// When the first and the last mask came, and the CPU time of the process then, less that of counting.
    span: Option<[(Instant, Duration); 2]>,
    tokens_worked_on: Option<f64>,
    error: Option<anyhow::Error>,
}

struct Before {
    rgb: Vec<u8>,
    labels: Option<Vec<u16>>,
}

pub fn run(args: &Args, video: &Path, truth: &Truth) -> Result<()> {
    start::gstreamer()?;
    let labels = args.labels.as_deref().map(label_files).transpose()?;
    let run = |settings: &[&str], other: Other| run_once(args, video, truth, labels.clone(), settings, other);
    let report = match args.against {
        None => Report::new(&run(&[], Other::Nothing)?),
        Some(Against::Whole) => {
            let mut whole = run(&["token-reuse=0"], Other::Record(Recording::default()))?;
            let Other::Record(recording) = std::mem::replace(&mut whole.other, Other::Nothing) else {
                bail!("the run to compare with kept no masks");
            };
            let whole = Report::new(&whole);
            let run = run(&[], Other::Compare(Agreement::with(recording)))?;
            let Other::Compare(agreement) = &run.other else { bail!("no masks were compared") };
            let against_whole = Some(AgainstWhole {
                agreement: agreement.mean(),
                worst_agreement: agreement.worst().map(|(share, _)| share),
                worst_frame: agreement.worst().map(|(_, frame)| frame),
                mean_iou: whole.mean_iou,
                mean_iou_of_labelled: whole.mean_iou_of_labelled,
                classes: whole.classes,
                masks_per_second: whole.masks_per_second,
                cpu_ms_per_frame: whole.cpu_ms_per_frame,
            });
            Report { against_whole, ..Report::new(&run) }
        }
    };
    report.print();
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))
}

/// Plays the video once, with further properties of gclipsegment.
fn run_once(
    args: &Args,
    video: &Path,
    truth: &Truth,
    labels: Option<Vec<PathBuf>>,
    settings: &[&str],
    other: Other,
) -> Result<Watch> {
    let limit = args.limit.unwrap_or(usize::MAX);
    let watch = Arc::new(Mutex::new(Watch {
        tolerance: args.still,
        limit,
        labels,
        frames: 0,
        seconds: 0.0,
        size: (0, 0),
        before: None,
        labelled: Consistency::new(&[8, 16]),
        unlabelled: Consistency::new(&[2, 8, 16]),
        confusion: Confusion::new(truth.labels.len()),
        other,
        counting: Duration::ZERO,
        span: None,
        tokens_worked_on: None,
        error: None,
        truth: Arc::new(truth.clone()),
    }));
    let pipeline = build(args, video, truth, settings)?;
    watch_output(&pipeline, &watch)?;
    let start = Instant::now();
    let played = play(&pipeline, &watch);
    let stats: Option<gst::Structure> = pipeline.by_name("segment").map(|segment| segment.property("stats"));
    pipeline.set_state(gst::State::Null).context("the pipeline does not stop")?;
    // The pad's probe, which holds it too, goes with the pipeline.
    drop(pipeline);
    let mut watch = Arc::into_inner(watch).context("the video is still counted")?.into_inner();
    // What went wrong while counting explains what the pipeline then said.
    watch.error.take().map_or(played, Err)?;
    if watch.frames == 0 {
        bail!("{} has no frames", video.display());
    }
    watch.seconds = start.elapsed().as_secs_f64();
    watch.tokens_worked_on = stats.and_then(|stats| {
        let looks = |name| stats.get::<u64>(name).unwrap_or(0);
        let reused = looks("whole-looks") + looks("partial-looks") > 0;
        stats.get("token-share").ok().filter(|_| reused)
    });
    Ok(watch)
}

fn label_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = files_below(folder, &["png"])?;
    if files.is_empty() {
        bail!("{} holds no label PNG", folder.display());
    }
    Ok(files.into_iter().map(|file| folder.join(file)).collect())
}

fn build(args: &Args, video: &Path, truth: &Truth, further: &[&str]) -> Result<gst::Pipeline> {
    // A sound track stays unlinked. Not `expose-all-streams=false`: with it, GStreamer 1.22 finds no decoder behind a parser, so
    // none for H.264.
    let description = format!(
        "uridecodebin name=source ! videoconvert ! {UPRIGHT} ! videoconvert \
         ! video/x-raw,format=RGB ! gclipsegment name=segment ! fakesink sync=false"
    );
    let pipeline = gst::parse::launch(&description)
        .context("a GStreamer element is missing (scripts/setup.sh installs them all)")?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("the description is not a pipeline"))?;
    let path = video.to_str().with_context(|| format!("the path {} is not UTF-8", video.display()))?;
    let source = pipeline.by_name("source").context("the pipeline has no source")?;
    source.set_property("uri", uri_of(path)?);
    let segment = pipeline.by_name("segment").context("the pipeline has no gclipsegment")?;
    let (model, look) = (&args.model, &args.look);
    let prompts = args.words.complete(&truth.prompts);
    let mut settings = vec![
        format!("model={}", model.model),
        format!("method={}", model.method),
        format!("method-options={}", model.method_options),
        format!("helper-model={}", model.helper_model.as_deref().unwrap_or_default()),
        format!("device={}", model.device),
        format!("precision={}", model.precision),
        format!("prompt-template={}", args.words.template),
        format!("input-size={}", look.size),
        format!("window={}", look.window),
        format!("stride={}", look.stride.unwrap_or(0)),
        format!("context-prior={}", look.context_prior),
        format!("context-options={}", look.context_options),
        format!("purify={}", look.purify),
        format!("refine={}", look.refine),
        format!("prompt-thresholds={}", prompts.thresholds),
        format!("synonyms={}", prompts.synonyms),
        format!("refine-options={}", look.refine_options),
        format!("threshold={}", look.threshold),
        format!("unknown-cosine={}", look.unknown_cosine),
        format!("unknown-margin={}", look.unknown_margin),
        format!("logit-scale={}", look.logit_scale),
        format!("min-area={}", look.min_area),
        format!("absent={}", args.gate.absent),
        format!("absent-evidence={}", args.gate.absent_evidence),
        format!("gate-enter={}", args.gate.gate_enter.unwrap_or(-1.0)),
        // Every frame with a mask of its own, pixel for pixel.
        "mask-size=frame".to_string(),
        "late-policy=wait".to_string(),
    ];
    if let Some(descriptions) = &args.words.descriptions {
        settings.push(format!("descriptions={}", descriptions.display()));
        settings.push("enrich=tse".to_string());
    }
    settings.extend(args.settings.iter().cloned());
    settings.extend(further.iter().map(|setting| setting.to_string()));
    property::set_all(&segment, &settings)?;
    // The classes as the label rules see them: a background line is no class of the mask.
    segment.set_property("prompts", truth.prompts.to_string());
    segment.set_property("background", background_text(&truth.prompts.background));
    Ok(pipeline)
}

/// Names in the prompt grammar.
fn background_text(names: &[String]) -> String {
    let escape = |name: &String| {
        let special = |c: char| matches!(c, ',' | ';' | '#' | '\\');
        name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect::<String>()
    };
    names.iter().map(escape).collect::<Vec<_>>().join(", ")
}

/// Counts every buffer that leaves the segmenter.
fn watch_output(pipeline: &gst::Pipeline, watch: &Arc<Mutex<Watch>>) -> Result<()> {
    let segment = pipeline.by_name("segment").context("the pipeline has no gclipsegment")?;
    let pad = segment.static_pad("src").context("gclipsegment has no source pad")?;
    let watch = watch.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let mut watch = watch.lock();
        if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps())
            && watch.frames < watch.limit
            && watch.error.is_none()
            && let Err(error) = watch.look(buffer, &caps)
        {
            watch.error = Some(error.context(format!("frame {}", watch.frames)));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn play(pipeline: &gst::Pipeline, watch: &Mutex<Watch>) -> Result<()> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let bar = progress::counter(0)?;
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(first_error(&bus));
    }
    loop {
        let wait = gst::ClockTime::from_mseconds(50);
        let message = bus.timed_pop_filtered(wait, &[gst::MessageType::Eos, gst::MessageType::Error]);
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => break,
            Some(gst::MessageView::Error(error)) => return Err(readable(error)),
            _ => {}
        }
        let (frames, limit, failed) = {
            let watch = watch.lock();
            (watch.frames, watch.limit, watch.error.is_some())
        };
        bar.set_position(frames as u64);
        if failed || frames >= limit {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

impl Watch {
    fn look(&mut self, buffer: &gst::BufferRef, caps: &gst::Caps) -> Result<()> {
        let now = (Instant::now(), usage::cpu_time().saturating_sub(self.counting));
        self.span = Some([self.span.map_or(now, |[first, _]| first), now]);
        let begin = usage::own_cpu_time();
        let counted = self.count(buffer, caps);
        self.counting += usage::own_cpu_time().saturating_sub(begin);
        counted
    }

    fn count(&mut self, buffer: &gst::BufferRef, caps: &gst::Caps) -> Result<()> {
        let (size, rgb) = packed_rgb(buffer, caps)?;
        if self.frames > 0 && size != self.size {
            bail!("the size changes from {:?} to {size:?}", self.size);
        }
        self.size = size;
        let masks = Masks::from_buffer(buffer).context("it has no mask")?;
        let (mask_size, mask) = mask_values(&masks)?;
        let prediction = self.truth.classes(&mask, mask_size, size)?;

        let labels = match &self.labels {
            None => None,
            Some(files) => {
                let file = files.get(self.frames).with_context(|| {
                    format!("it has no label: there are only {} label pictures", files.len())
                })?;
                let labels = self.truth.rules.read(file)?;
                if (labels.width, labels.height) != size {
                    bail!(
                        "{} is {}x{}, the frame {}x{}",
                        file.display(),
                        labels.width,
                        labels.height,
                        size.0,
                        size.1
                    );
                }
                Some(labels.classes)
            }
        };
        let before = self.before.as_ref();
        if let Some(labels) = &labels {
            self.confusion.add(labels, &prediction);
            let labels_before = before.and_then(|before| before.labels.as_deref());
            self.labelled.add_labelled(&prediction, labels, labels_before);
        }
        match &mut self.other {
            Other::Nothing => {}
            Other::Record(recording) => recording.add(&prediction),
            Other::Compare(agreement) => agreement.add(&prediction)?,
        }
        let quiet = before.map(|before| still(&before.rgb, &rgb, self.tolerance)).unwrap_or_default();
        self.unlabelled.add(&prediction, |pixel| quiet.get(pixel).copied().unwrap_or(false), |_| true);
        self.before = Some(Before { rgb, labels });
        self.frames += 1;
        Ok(())
    }
}

fn mask_values(masks: &Masks) -> Result<((usize, usize), Vec<u16>)> {
    let read = masks.with_ids(|view| {
        let values = view.rows().flat_map(|row| (0..row.len()).filter_map(move |x| row.get(x)));
        ((view.width(), view.height()), values.collect())
    });
    read.context("its mask cannot be read")
}

impl Report {
    fn new(watch: &Watch) -> Report {
        let span = watch.span.filter(|_| watch.frames > 1);
        let frames = watch.frames.saturating_sub(1) as f64;
        Report {
            frames: watch.frames,
            seconds: watch.seconds,
            masks_per_second: span
                .map(|[(first, _), (last, _)]| frames / (last - first).as_secs_f64().max(1e-9)),
            cpu_ms_per_frame: span
                .map(|[(_, first), (_, last)]| 1e3 * last.saturating_sub(first).as_secs_f64() / frames),
            mvc8: watch.labelled.mean(8),
            mvc16: watch.labelled.mean(16),
            mean_iou: watch.confusion.mean_iou(),
            mean_iou_of_labelled: watch.confusion.mean_iou_of_truth(),
            classes: match watch.labels {
                Some(_) => classes(&watch.confusion, &watch.truth.labels),
                None => Vec::new(),
            },
            pixel_accuracy: watch.confusion.pixel_accuracy(),
            flicker: watch.unlabelled.flicker(2),
            still_vc8: watch.unlabelled.mean(8),
            still_vc16: watch.unlabelled.mean(16),
            tokens_worked_on: watch.tokens_worked_on,
            against_whole: None,
        }
    }

    fn print(&self) {
        let line = |name: &str, share: Option<f64>| say!("{name:<44} {:>8}", percent(share));
        line("mVC8, against labels", self.mvc8);
        line("mVC16, against labels", self.mvc16);
        line("mIoU, against labels", self.mean_iou);
        line("the same of the classes in the labels alone", self.mean_iou_of_labelled);
        line("pixel accuracy, against labels", self.pixel_accuracy);
        line("VC8 of pixels that stand still", self.still_vc8);
        line("VC16 of pixels that stand still", self.still_vc16);
        line("flicker: still pixels that change class", self.flicker);
        if let Some(share) = self.tokens_worked_on {
            line("tokens that were worked on", Some(share));
        }
        if let Some(whole) = &self.against_whole {
            line("agreement with the whole forward, mean", whole.agreement);
            line("agreement with the whole forward, worst frame", whole.worst_agreement);
            if whole.mean_iou.is_some() {
                line("mIoU of the whole forward", whole.mean_iou);
                line("the same of the classes in the labels alone", whole.mean_iou_of_labelled);
            }
            let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
            for (name, now, whole) in [
                ("masks a second, counting included", self.masks_per_second, whole.masks_per_second),
                ("CPU time a frame without counting, ms", self.cpu_ms_per_frame, whole.cpu_ms_per_frame),
            ] {
                say!("{name:<44} {:>8}, of the whole forward {}", number(now), number(whole));
            }
        }
        self.print_classes();
        say!(
            "\n{} frames in {:.1} s: {:.1} frames/s, start-up and counting included",
            self.frames,
            self.seconds,
            self.frames as f64 / self.seconds.max(1e-9)
        );
    }

    /// What each class got, where there are labels: of those that are in them, or that won a pixel in either run.
    fn print_classes(&self) {
        if self.classes.is_empty() {
            return;
        }
        let whole = self.against_whole.as_ref().map_or(&[][..], |whole| &whole.classes);
        let last = if whole.is_empty() { "" } else { "IoU, whole" };
        say!("\n{:<32} {:>8} {:>9} {:>9} {last:>11}", "class", "IoU", "labels", "found");
        let all: u64 = self.classes.iter().map(|class| class.truth_pixels).sum();
        let share = |pixels: u64| 100.0 * pixels as f64 / all.max(1) as f64;
        for (at, class) in self.classes.iter().enumerate() {
            let whole = whole.get(at);
            if class.iou.is_none() && whole.is_none_or(|whole| whole.iou.is_none()) {
                continue;
            }
            say!(
                "{:<32} {:>8} {:>7.3} % {:>7.3} % {:>11}",
                class.label,
                percent(class.iou),
                share(class.truth_pixels),
                share(class.predicted_pixels),
                whole.map(|whole| percent(whole.iou)).unwrap_or_default()
            );
        }
    }
}
