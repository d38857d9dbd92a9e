// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks at one file: a video as `gclip video` does, a picture as `gclip segment --json --rle`. The model stays loaded
//! from one job to the next.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail};
use gst::prelude::*;
use gstgclip::engine::Engine;
use gstgclip::meta::{self, MaskRow, Masks};
use gstgclip::model::{Ids, MethodSpec, ModelSpec, Region, Segmentation, Tag};
use gstgclip::picture::{self, Opened, RgbImage, Turn};
use parking_lot::Mutex;

use super::job::{Job, Settings, digest};
use super::place::Stage;
use super::policy::Trouble;
use super::queue::Done;
use crate::redact;
use crate::say::complain;
use crate::segment::{Record, paint};
use crate::video::{self, Fault, Files, Look, Of, Showcase};

/// A file of which nothing comes for so long never ends.
const STALLED: Duration = Duration::from_secs(300);
/// How strongly pictures are tinted, as by `gclip segment --overlay`.
const TINT: f64 = 0.5;

/// Looks at files, of one archive after another.
#[derive(Default)]
pub struct Looker {
    /// The model of the latest job.
    model: Mutex<Option<Arc<Loaded>>>,
}

/// A model under the id by which pipelines find it.
struct Loaded {
    id: String,
    engine: Arc<Engine>,
}

/// Why it stops in the middle, if it is to.
pub type Asked<'a> = &'a (dyn Fn() -> Option<Trouble> + Sync);

impl Looker {
    /// Writes the results into `stage`; they are not in their places yet.
    pub fn look(&self, job: &Job, stage: &mut Stage, asked: Asked) -> Result<Done, Trouble> {
        let started = Instant::now();
        let loaded = self.load(&job.settings)?;
        // What GStreamer says may name the place with its password.
        let why = |error: Error| redact::urls(&format!("{error:#}"));
        let looked = match job.is_picture() {
            true => picture(job, &loaded, stage, asked),
            false => recording(job, &loaded, stage, asked),
        };
        let frames = looked.map_err(|error| match error.downcast::<Interrupted>() {
            Ok(Interrupted(trouble)) => trouble,
            Err(error) => match error.downcast_ref::<Fault>().map(|fault| fault.of) {
                Some(Of::Reading) => Trouble::Reading(why(error)),
                Some(Of::Result) => Trouble::Result(why(error)),
                _ if error.chain().any(is_of_installation) => Trouble::Worker(why(error)),
                _ => Trouble::Source(why(error)),
            },
        })?;
        Ok(Done { results: vec![], frames, seconds: started.elapsed().as_secs_f64() })
    }

    /// The model that these settings name, loaded once for all jobs that want it.
    fn load(&self, settings: &Settings) -> Result<Arc<Loaded>, Trouble> {
        let element = element(settings).map_err(|error| Trouble::Source(format!("{error:#}")))?;
        let spec = model_of(&element).map_err(|error| Trouble::Source(format!("{error:#}")))?;
        let id = format!("gclip-jobs-{}", digest(&format!("{spec:?}"), 16));
        let mut latest = self.model.lock();
        if let Some(loaded) = latest.as_ref().filter(|loaded| loaded.id == id) {
            return Ok(loaded.clone());
        }
        // One at a time: two may be more than there is memory for.
        *latest = None;
        let engine = Engine::shared(&id, &spec, "gclip jobs").map_err(|error| {
            Trouble::Worker(format!("the model {} cannot be loaded: {error:#}", spec.model))
        })?;
        Ok(latest.insert(Arc::new(Loaded { id, engine })).clone())
    }
}

/// A stop in the middle, on its way through what only knows errors.
#[derive(Debug)]
struct Interrupted(Trouble);

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// A gclipsegment with these settings, checked but not started.
///
/// # Errors
/// A property does not take its value.
pub fn element(settings: &Settings) -> Result<gst::Element> {
    let element = gst::ElementFactory::make("gclipsegment").build().context("there is no gclipsegment")?;
    look(settings, "").set_up(&element)?;
    Ok(element)
}

fn look<'a>(settings: &'a Settings, source: &'a str) -> Look<'a> {
    Look {
        source,
        model: &settings.model,
        prompts: &settings.prompts,
        background: &settings.background,
        settings: &settings.set,
        drawing: settings.draw.as_deref().unwrap_or_default(),
    }
}

/// What such an element loads.
fn model_of(element: &gst::Element) -> Result<ModelSpec> {
    let text = |name: &str| element.property::<Option<String>>(name).unwrap_or_default();
    let nick = |name: &str| -> Result<String> {
        let value = element.property_value(name).serialize();
        Ok(value.with_context(|| format!("{name} has no value"))?.to_string())
    };
    Ok(ModelSpec {
        model: text("model").trim().into(),
        method: MethodSpec { name: text("method"), options: text("method-options") },
        helper: Some(text("helper-model")).filter(|helper| !helper.trim().is_empty()),
        device: text("device").parse()?,
        precision: nick("precision")?.parse()?,
        positions: nick("positions")?.parse()?,
    })
}

/// Looks at every frame; how many there were.
fn recording(job: &Job, loaded: &Loaded, stage: &mut Stage, asked: Asked) -> Result<u64> {
    let drawn = job.settings.draw.is_some();
    // Who sees the lines sees all that belongs to them: they go to their place last.
    let (video, picture) = match drawn {
        true => (Some(stage.file("mp4")), Some(stage.file("png"))),
        false => (None, None),
    };
    let files = Files { json: stage.file("jsonl"), masks: true, video, plain: None };
    if !job.source.contains("://") {
        File::open(&job.source).map_err(|error| unreadable(&error))?;
    }
    let pipeline = video::build(&look(&job.settings, &job.source), &files)?;
    let segment = video::part(&pipeline, "segment")?;
    segment.set_property("model-instance-id", &loaded.id);
    let showcase = Arc::new(Showcase::default());
    if drawn {
        Showcase::watch(&showcase, &video::part(&pipeline, "overlay")?)?;
    }
    video::make_rise(&segment)?;
    let frames = count_frames(&segment)?;
    let mut moved = (0, Instant::now());
    let mut each = |_: &video::Moment| -> Result<bool> {
        if let Some(trouble) = asked() {
            bail!(Interrupted(trouble));
        }
        let frames = frames.load(Ordering::Relaxed);
        if frames != moved.0 {
            moved = (frames, Instant::now());
        }
        if moved.1.elapsed() > STALLED {
            bail!("it has {frames} frames, and then nothing came for {} s", STALLED.as_secs());
        }
        Ok(false)
    };
    let count = || frames.load(Ordering::Relaxed);
    let played = video::play(&pipeline, &job.source, &count, &mut each);
    // Files are closed, whatever came of it.
    pipeline.set_state(gst::State::Null).context("the pipeline does not stop")?;
    played?;
    if count() == 0 {
        bail!("it holds no frame");
    }
    if let Some(path) = picture {
        showcase.write(&path, &path).map_err(unwritten)?;
    }
    Ok(count())
}

fn count_frames(segment: &gst::Element) -> Result<Arc<AtomicU64>> {
    let frames = Arc::new(AtomicU64::new(0));
    let (count, pad) = (frames.clone(), segment.static_pad("src").context("gclipsegment has no source pad")?);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    Ok(frames)
}

/// Looks at a picture as at a video of one frame.
fn picture(job: &Job, loaded: &Loaded, stage: &mut Stage, asked: Asked) -> Result<u64> {
    let path = Path::new(&job.source);
    let bytes = picture::bytes(path).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => unreadable(&error),
        Err(error) => error,
    })?;
    let Opened { image, doubt } = picture::decode(&bytes, Turn::AsShown)?;
    if let Some(doubt) = doubt {
        complain!("gclip: {}: {doubt}", job.source);
    }
    let pipeline =
        video::launch("appsrc name=source ! gclipsegment name=segment ! fakesink name=sink sync=false")?;
    let segment = video::part(&pipeline, "segment")?;
    look(&job.settings, &job.source).set_up(&segment)?;
    segment.set_property("model-instance-id", &loaded.id);
    segment.set_property_from_str("mask-size", "frame");
    let source = video::part(&pipeline, "source")?
        .downcast::<gst_app::AppSrc>()
        .map_err(|_| anyhow!("the source is no appsrc"))?;
    let seen = watch(&segment)?;
    let sample = sample(&image)?;
    source.set_caps(sample.caps().map(|caps| caps.to_owned()).as_ref());
    source.set_property_from_str("format", "time");
    let mut pushed = false;
    let mut each = |_: &video::Moment| -> Result<bool> {
        if let Some(trouble) = asked() {
            bail!(Interrupted(trouble));
        }
        if !std::mem::replace(&mut pushed, true) {
            source.push_sample(&sample).context("the pipeline takes no picture")?;
            source.end_of_stream().context("the pipeline takes no end")?;
        }
        Ok(false)
    };
    let played = video::play(&pipeline, &job.source, &|| 0, &mut each);
    pipeline.set_state(gst::State::Null).context("the pipeline does not stop")?;
    played?;
    let answer = seen.lock().take().context("the model gave no mask")?;
    if job.settings.draw.is_some() {
        let drawn = paint::paint(&image, &answer, TINT)?;
        write(&stage.file("png"), |file| drawn.write_png(file))?;
    }
    let prompts = crate::segment::prompts(&job.settings.prompts, &job.settings.background)?;
    let info = &loaded.engine.weights().info;
    let line = Record::new(job.source.clone(), &image, answer, None, &prompts, info, true).to_line()?;
    write(&stage.file("jsonl"), |file| Ok(writeln!(file, "{line}")?))?;
    Ok(1)
}

/// The stage sees to it that it is whole.
fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let written = || -> Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        fill(&mut file)?;
        Ok(file.flush()?)
    };
    written().with_context(|| format!("cannot write {}", path.display())).map_err(unwritten)
}

/// What is said of the next frame, at its own size.
fn watch(segment: &gst::Element) -> Result<Arc<Mutex<Option<Segmentation>>>> {
    let seen = Arc::new(Mutex::new(None));
    let (keep, pad) = (seen.clone(), segment.static_pad("src").context("gclipsegment has no source pad")?);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(masks) = info.buffer().and_then(|buffer| Masks::from_buffer(buffer)) {
            *keep.lock() = segmentation(&masks);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(seen)
}

fn segmentation(masks: &Masks) -> Option<Segmentation> {
    let (width, height, ids) = masks.with_ids(|view| {
        let mut wide = Vec::with_capacity(view.width() * view.height());
        for row in view.rows() {
            match row {
                MaskRow::U8(values) => wide.extend(values.iter().map(|value| u16::from(*value))),
                MaskRow::U16(values) => wide.extend(values.iter().map(|value| u16::from_le_bytes(*value))),
            }
        }
        (view.width(), view.height(), Ids::U16(wide))
    })?;
    let regions = masks.regions.iter().map(|region| {
        let meta::Region { value, ref label, score, area, x, y, w, h } = *region;
        Region { value, label: label.clone(), score, area, x, y, w, h }
    });
    let mut answer = Segmentation::new(width, height, ids, regions.collect());
    answer.tags = masks.tags.iter().map(|tag| Tag { label: tag.label.clone(), score: tag.score }).collect();
    Some(answer)
}

/// The picture as a frame.
fn sample(image: &RgbImage) -> Result<gst::Sample> {
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(0, 1))
        .build()?;
    let mut buffer = gst::Buffer::with_size(info.size())?;
    {
        let buffer = buffer.get_mut().context("the buffer is shared")?;
        buffer.set_pts(gst::ClockTime::ZERO);
        let mut bytes = buffer.map_writable()?;
        // Rows of GStreamer begin at multiples of four bytes.
        let (stride, row) = (usize::try_from(info.stride()[0])?, 3 * image.width());
        for (to, from) in bytes.chunks_exact_mut(stride).zip(image.as_raw().chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
    }
    Ok(gst::Sample::builder().buffer(&buffer).caps(&info.to_caps()?).build())
}

/// The file is not to blame.
fn unwritten(error: Error) -> Error {
    Error::new(Interrupted(Trouble::Result(format!("{error:#}"))))
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::new(Interrupted(Trouble::Reading(format!("it cannot be read: {error}"))))
}

/// Whether an element of GStreamer is missing here.
fn is_of_installation(cause: &(dyn std::error::Error + 'static)) -> bool {
    let error = cause.downcast_ref::<glib::Error>();
    error.is_some_and(|error| error.matches(gst::ParseError::NoSuchElement))
}
