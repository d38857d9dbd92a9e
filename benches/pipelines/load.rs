// SPDX-License-Identifier: MIT OR Apache-2.0
//! One measurement: so many pipelines from a file, on one model, for so long.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Result;
use gclip_testing::usage;

const BATCH: u32 = 4;
const PROMPTS: &str = "ball; person; car; road; tree; sky; building; grass";
const FORWARD: &str = "model: forward";

#[derive(Serialize, Deserialize)]
pub struct Load {
    pub model: PathBuf,
    pub video: PathBuf,
    pub streams: usize,
    /// At 10 frames a second, late masks being replaced by the newest; else as fast as it goes.
    pub paced: bool,
    /// `max-threads` of each decoder.
    pub decoder_threads: u32,
    /// Time that is measured, after a warm-up that is not.
    pub seconds: u64,
}

#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub frames_per_second: f64,
    pub masks_per_second: f64,
    pub busy_cores: f64,
    /// CPU time a frame, in milliseconds, by stage.
    pub stages: Vec<(String, f64)>,
}

impl Measured {
    pub fn cpu_ms(&self) -> f64 {
        self.stages.iter().map(|(_, milliseconds)| milliseconds).sum()
    }

    pub fn forward_ms(&self) -> f64 {
        self.stages.iter().find(|(stage, _)| stage == FORWARD).map_or(0.0, |(_, milliseconds)| *milliseconds)
    }
}

/// What the threads of these pipelines do. A streaming thread is named after the pad that drives it, and threads that
/// OpenMP starts inherit the name of the thread that started them.
fn kind(name: &str) -> &'static str {
    match name {
        _ if name.starts_with("gclip-model") => "model",
        _ if name.starts_with("av:") => "decoder's threads",
        _ if name.starts_with("decode") => "reading, parsing, decoder",
        _ if name.starts_with("queue") => "into gclipsegment",
        _ if name.starts_with("segment") => "out of it, with metadata",
        _ => "others",
    }
}

fn by_kind() -> BTreeMap<&'static str, f64> {
    let mut seconds = BTreeMap::new();
    for (name, time) in usage::threads() {
        *seconds.entry(kind(&name)).or_default() += time;
    }
    seconds
}

/// A moment in a run.
struct Moment {
    time: Instant,
    /// CPU seconds so far, by what the threads do.
    threads: BTreeMap<&'static str, f64>,
    frames: u64,
    masks: u64,
}

impl Load {
    pub fn measure(&self) -> Result<Measured> {
        gst::init()?;
        gstgclip::plugin_register_static()?;
        let frames = Arc::new(AtomicU64::new(0));
        let pipelines = (0..self.streams).map(|_| self.pipeline(&frames)).collect::<Result<Vec<_>>>()?;
        let segments: Vec<gst::Element> =
            pipelines.iter().filter_map(|pipeline| pipeline.by_name("segment")).collect();
        for pipeline in &pipelines {
            pipeline.set_state(gst::State::Playing)?;
        }
        let moment = || Moment {
            time: Instant::now(),
            threads: by_kind(),
            frames: frames.load(Ordering::Relaxed),
            masks: segments.iter().map(|segment| count(segment, "inferred")).sum(),
        };
        // Masks come a batch at a time: both ends lie just behind a batch, or its frames would count by chance.
        let after_masks = |wanted: u64| -> Result<Moment> {
            let started = Instant::now();
            loop {
                let now = moment();
                if now.masks >= wanted {
                    return Ok(now);
                }
                if started.elapsed() > Duration::from_secs(60) {
                    return Err("no masks within a minute".into());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        // The first batches are not yet what follows.
        let first = after_masks(2 * u64::from(BATCH))?;
        std::thread::sleep(Duration::from_secs(self.seconds));
        let last = after_masks(moment().masks + 1)?;
        let stats = segments.first().ok_or("no pipeline")?.property::<gst::Structure>("stats");
        for pipeline in &pipelines {
            pipeline.set_state(gst::State::Null)?;
        }
        measured(&first, &last, &stats)
    }

    fn pipeline(&self, frames: &Arc<AtomicU64>) -> Result<gst::Pipeline> {
        let pace = if self.paced { "! videorate ! video/x-raw,framerate=10/1 ! clocksync" } else { "" };
        let policy = if self.paced { "reuse" } else { "wait" };
        let pipeline = gst::parse::launch(&format!(
            "filesrc name=source ! qtdemux name=decode ! h264parse ! avdec_h264 max-threads={} {pace} \
             ! queue name=queue max-size-buffers=2 ! gclipsegment name=segment model-instance-id=bench \
             prompt-template=none batch-size={BATCH} max-in-flight={} late-policy={policy} \
             ! fakesink name=sink sync=false",
            self.decoder_threads,
            (3 * BATCH as usize).div_ceil(self.streams).max(2),
        ))?;
        let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
        let named = |name: &str| pipeline.by_name(name).ok_or("an element is missing");
        named("source")?.set_property("location", self.video.to_str().ok_or("a path without a name")?);
        let segment = named("segment")?;
        segment.set_property("model", self.model.to_str().ok_or("a path without a name")?);
        segment.set_property("prompts", PROMPTS);
        let frames = frames.clone();
        let pad = named("sink")?.static_pad("sink").ok_or("a sink has a pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            frames.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        Ok(pipeline)
    }
}

fn count(segment: &gst::Element, field: &str) -> u64 {
    segment.property::<gst::Structure>("stats").get(field).unwrap_or(0)
}

fn measured(first: &Moment, last: &Moment, stats: &gst::Structure) -> Result<Measured> {
    let seconds = last.time.duration_since(first.time).as_secs_f64();
    let frames = last.frames.saturating_sub(first.frames) as f64;
    if frames == 0.0 {
        return Err("the video is too short, or no frame arrived".into());
    }
    let mut stages = Vec::new();
    let mut busy = 0.0;
    for (kind, &now) in &last.threads {
        let cpu = now - first.threads.get(kind).copied().unwrap_or(0.0);
        busy += cpu;
        let milliseconds = 1000.0 * cpu / frames;
        if *kind == "model" {
            stages.extend(inside_model(milliseconds, stats));
        } else {
            stages.push((kind.to_string(), milliseconds));
        }
    }
    Ok(Measured {
        frames_per_second: frames / seconds,
        masks_per_second: last.masks.saturating_sub(first.masks) as f64 / seconds,
        busy_cores: busy / seconds,
        stages,
    })
}

/// The model's time, by the medians of its stages. What is not threaded takes less of it than of the clock.
fn inside_model(milliseconds: f64, stats: &gst::Structure) -> Vec<(String, f64)> {
    let of = |stage: &str| stats.get::<u64>(&format!("{stage}-p50")).unwrap_or(0) as f64;
    let stages = ["preprocess", "forward", "decode"];
    let known: f64 = stages.into_iter().map(of).sum();
    let whole = of("batch-run").max(known);
    let share = |time: f64| milliseconds * time / whole;
    let mut shares: Vec<(String, f64)> =
        stages.into_iter().map(|stage| (format!("model: {stage}"), share(of(stage)))).collect();
    shares.push(("model: the rest".into(), share(whole - known)));
    shares
}
