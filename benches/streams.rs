// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of the model's own throughput is left behind `gclipsegment`, what does batching bring, and what does it
//! cost to share a model between many streams?
//!
//! * `ratio`: per batch size (1, 4, 8), the same 640x360 I420 pictures go through the bare model (`Segmenter::infer`,
//!   one batch after the other) and through `appsrc ! gclipsegment ! fakesink sync=false`. They take turns, and of
//!   the rounds' ratios the median counts; the target is 95 %.
//! * `sharing`: 1, 4, 16 and 64 streams on one model, all at batch size 8, against one stream; the target is 95 %.
//! * `sharing-b16`: the same with the shapes of ViT-B/16 and random weights, batch size 4.
//! * `memory`, `idle`, `prompts`: what a camera more, an idle camera and a change of prompts cost.
//!
//! `fill` is the mean number of frames in a batch. Frames from the warm-up do not count.
//!
//! Run with `cargo bench --bench streams` (about 5 minutes on 2 free cores with `models/demo`), or with the parts that
//! are wanted: `cargo bench --bench streams -- ratio idle`. `GCLIP_BENCH_MODEL=/path/to/clip-vit-base-patch16` takes
//! another checkpoint, `GCLIP_BENCH_PRECISION=f32` another precision than `auto`. `-- --smoke` runs a few frames of
//! each, to see that it works.

#[path = "streams/cameras.rs"]
mod cameras;
#[path = "streams/checkpoint.rs"]
mod checkpoint;
#[path = "streams/pictures.rs"]
mod pictures;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gclip_testing::playing::{ENDS, ended, median};
use gst::prelude::*;
use gst_app::AppSrc;
use gstgclip::frame;
use gstgclip::model::{
    InferOptions, Model, ModelSpec, Picture, Pixels, PrecisionChoice, Prompts, Request, Segmenter, Templates,
    Vocabulary,
};
use parking_lot::Mutex;
use pictures::{PICTURES, feed, pictures};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCHES: [usize; 3] = [1, 4, 8];
const STREAMS: [usize; 4] = [1, 4, 16, 64];
const PARTS: [&str; 6] = ["ratio", "sharing", "sharing-b16", "memory", "idle", "prompts"];
const PROMPTS: &str = "ball; person; car; road; tree; sky; building; grass";
const TARGET: f64 = 0.95;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // `cargo test --benches` asks only whether it builds and starts.
    if !has("--bench") && !has("--smoke") {
        println!("run with: cargo bench --bench streams");
        return Ok(());
    }
    let all = !PARTS.into_iter().any(has);
    let effort = match has("--smoke") {
        true => Effort { rounds: 1, round: Duration::ZERO },
        false => Effort { rounds: 5, round: Duration::from_millis(1500) },
    };
    gst::init()?;
    gstgclip::plugin_register_static()?;
    let demo = gclip_testing::DEMO;
    let model = std::env::var("GCLIP_BENCH_MODEL").unwrap_or_else(|_| demo.to_owned());
    let wants = |part: &str| all || has(part);
    if wants("ratio") {
        Bench::new(&model)?.ratio(&effort)?;
    }
    if wants("sharing") {
        Bench::new(&model)?.sharing(8, &effort)?;
    }
    if wants("sharing-b16") {
        let folder = tempfile::tempdir()?;
        checkpoint::write(folder.path())?;
        let few = Effort { rounds: effort.rounds.min(2), ..effort };
        Bench::new(folder.path().to_str().ok_or("a temporary folder without a name")?)?.sharing(4, &few)?;
    }
    if wants("memory") {
        cameras::memory(&model)?;
    }
    if wants("idle") {
        cameras::idle(&model)?;
    }
    if wants("prompts") {
        cameras::prompts(&model)?;
    }
    Ok(())
}

/// How long a part takes.
struct Effort {
    rounds: usize,
    /// Time of one measurement, by the model's own speed.
    round: Duration,
}

impl Effort {
    fn frames(&self, per_second: f64, batch: usize) -> usize {
        let frames = (per_second * self.round.as_secs_f64()) as usize;
        frames.div_ceil(4 * batch).max(1) * 4 * batch
    }
}

impl Bench {
    fn ratio(&self, effort: &Effort) -> Result<()> {
        let mut model = Model::load(&self.spec)?;
        let vocabulary = self.vocabulary(&mut model)?;
        let Model { info, mut vision, .. } = model;
        println!(
            "{} on {} in {}; {} threads",
            self.spec.model,
            info.device,
            info.precision,
            tch::get_num_threads()
        );
        println!("\nbatch  bare frames/s  element frames/s  ratio   fill  target 95 %");
        let mut best = Vec::new();
        for batch in BATCHES {
            // How long a frame takes says how many make a round.
            let per_second = self.bare(&mut vision, &vocabulary, batch, 2 * batch.max(4))?;
            let frames = effort.frames(per_second, batch);
            let (mut bare, mut element, mut fill) = (Vec::new(), Vec::new(), 0.0);
            for _ in 0..effort.rounds {
                bare.push(self.bare(&mut vision, &vocabulary, batch, frames)?);
                let (per_second, filled) = self.element(1, batch, frames)?;
                element.push(per_second);
                fill = filled;
            }
            let ratio = median(element.iter().zip(&bare).map(|(element, bare)| element / bare));
            let (bare, element) = (median(bare), median(element));
            println!(
                "{batch:>5}  {bare:>13.1}  {element:>16.1}  {:>4.1} %  {fill:>4.2}  {}",
                100.0 * ratio,
                if ratio >= TARGET { "met" } else { "missed" }
            );
            best.push((bare, element));
        }
        if let (Some(one), Some(many)) = (best.first(), best.last()) {
            println!(
                "batch {} against batch {}: bare model x{:.2}, element x{:.2}",
                BATCHES[BATCHES.len() - 1],
                BATCHES[0],
                many.0 / one.0,
                many.1 / one.1
            );
        }
        Ok(())
    }

    fn sharing(&self, batch: usize, effort: &Effort) -> Result<()> {
        let (per_second, _) = self.element(1, batch, 4 * batch)?;
        let frames = effort.frames(per_second, batch);
        let mut rates = vec![Vec::new(); STREAMS.len()];
        let mut fills = vec![0.0; STREAMS.len()];
        for _ in 0..effort.rounds {
            for (index, streams) in STREAMS.into_iter().enumerate() {
                let (per_second, fill) = self.element(streams, batch, frames)?;
                rates[index].push(per_second);
                fills[index] = fill;
            }
        }
        println!(
            "\n{}, batch size {batch}\nstreams  masks/s  of one stream   fill  target 95 %",
            self.spec.model
        );
        for (index, streams) in STREAMS.into_iter().enumerate() {
            let ratio = median(rates[index].iter().zip(&rates[0]).map(|(many, one)| many / one));
            println!(
                "{streams:>7}  {:>7.1}  {:>11.1} %  {:>5.2}  {}",
                median(rates[index].iter().copied()),
                100.0 * ratio,
                fills[index],
                if ratio >= TARGET { "met" } else { "missed" }
            );
        }
        Ok(())
    }
}

/// Frames in each of the elements: two batches in all, and two in each.
fn in_flight(streams: usize, batch: usize) -> usize {
    (2 * batch).div_ceil(streams).max(2)
}

struct Bench {
    spec: ModelSpec,
    precision: String,
    caps: gst::Caps,
    buffers: Vec<gst::Buffer>,
    pictures: Vec<Picture>,
}

impl Bench {
    fn new(model: &str) -> Result<Bench> {
        let precision = std::env::var("GCLIP_BENCH_PRECISION").unwrap_or_else(|_| "auto".to_owned());
        let choice: PrecisionChoice = precision.parse()?;
        let spec = ModelSpec { model: model.to_owned(), precision: choice, ..ModelSpec::default() };
        let (caps, buffers) = pictures()?;
        let info = gst_video::VideoInfo::from_caps(&caps)?;
        let picture = |buffer: &gst::Buffer| -> Result<Picture> {
            let frame = frame::Mapped::read(buffer, &info)?;
            Ok(frame::picture(&frame)?)
        };
        let pictures = buffers.iter().map(picture).collect::<Result<_>>()?;
        Ok(Bench { spec, precision, caps, buffers, pictures })
    }

    fn vocabulary(&self, model: &mut Model) -> Result<Arc<Vocabulary>> {
        let text = model.text.as_mut().ok_or("the checkpoint has no text tower")?;
        let mut encode = |texts: &[String]| text.encode(texts);
        let prompts = Prompts::parse(PROMPTS, "")?;
        let vocabulary = Vocabulary::build(&prompts, &Templates::None, model.info.embed_dim, &mut encode)?;
        Ok(Arc::new(vocabulary))
    }

    /// Frames per second of the model alone, after one batch that does not count.
    fn bare(
        &self,
        vision: &mut Segmenter,
        vocabulary: &Arc<Vocabulary>,
        batch: usize,
        frames: usize,
    ) -> Result<f64> {
        // The same pixels under tensors of this run's own, for a thread may not share them.
        let copy = |&Picture { format, width, height, colour, ref data }: &Picture| Picture {
            format,
            width,
            height,
            colour,
            data: match data {
                Pixels::Packed(bytes) => bytes.shallow_clone().into(),
                Pixels::Lent(_) => unreachable!("these frames are in the memory of the host"),
            },
        };
        let pictures: Vec<Picture> = self.pictures.iter().map(copy).collect();
        let run = move || -> anyhow::Result<f64> {
            let request = |number: usize| Request {
                picture: copy(&pictures[number % PICTURES]),
                vocabulary: vocabulary.clone(),
                options: InferOptions::default(),
            };
            let mut start = Instant::now();
            for first in (0..batch + frames).step_by(batch) {
                if first == batch {
                    start = Instant::now();
                }
                let requests: Vec<Request> = (first..first + batch).map(request).collect();
                vision.infer(&requests)?;
            }
            Ok(frames as f64 / start.elapsed().as_secs_f64())
        };
        // On a thread of its own, as the element's model is: libtorch's helper threads belong to the asking thread.
        let result = std::thread::scope(|scope| scope.spawn(run).join());
        Ok(result.map_err(|_| "the model panicked")??)
    }

    /// Frames per second that arrive behind the elements, and the mean number of frames in a batch.
    fn element(&self, streams: usize, batch: usize, frames: usize) -> Result<(f64, f64)> {
        let pipeline = gst::Pipeline::new();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let (mut sources, mut segments) = (Vec::new(), Vec::new());
        for _ in 0..streams {
            let (source, segment) =
                self.add_stream(&pipeline, batch, in_flight(streams, batch), &arrivals)?;
            sources.push(source);
            segments.push(segment);
        }
        // As many before the first that counts, and behind the last, as fit into the elements: between them the model
        // is never without work.
        let around = (in_flight(streams, batch) * streams).next_multiple_of(batch) + batch;
        let each = (around + frames + around).div_ceil(streams);
        pipeline.set_state(gst::State::Playing)?;
        let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
        let buffers = &self.buffers;
        let message = std::thread::scope(|scope| {
            for source in &sources {
                scope.spawn(move || feed(source, buffers, each));
            }
            let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(600), &ENDS);
            let stats = segments.first().map(|segment| segment.property::<gst::Structure>("stats"));
            let fill = stats.and_then(|stats| stats.get::<f64>("mean-batch-fill").ok());
            // Also ends the feeders if it went wrong.
            pipeline.set_state(gst::State::Null).map(|_| (message, fill.unwrap_or(f64::NAN)))
        });
        let (message, fill) = message?;
        ended(message.as_ref())?;
        let arrivals = arrivals.lock();
        let (first, last) = (arrivals.get(around - 1), arrivals.get(around + frames - 1));
        let time = last.zip(first).map(|(last, first): (&Instant, &Instant)| last.duration_since(*first));
        Ok((frames as f64 / time.ok_or("frames were lost")?.as_secs_f64(), fill))
    }

    fn add_stream(
        &self,
        pipeline: &gst::Pipeline,
        batch: usize,
        in_flight: usize,
        arrivals: &Arc<Mutex<Vec<Instant>>>,
    ) -> Result<(AppSrc, gst::Element)> {
        let source = AppSrc::builder().caps(&self.caps).format(gst::Format::Time).block(true).build();
        let segment = gst::ElementFactory::make("gclipsegment")
            .property("model", &self.spec.model)
            .property("model-instance-id", "bench")
            .property("prompts", PROMPTS)
            .property("prompt-template", "none")
            .property_from_str("precision", &self.precision)
            .property("batch-size", batch as u32)
            .property("max-in-flight", in_flight as u32)
            .build()?;
        let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
        pipeline.add_many([source.upcast_ref(), &segment, &sink])?;
        gst::Element::link_many([source.upcast_ref(), &segment, &sink])?;
        let arrivals = arrivals.clone();
        let pad = sink.static_pad("sink").ok_or("a sink has a pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            arrivals.lock().push(Instant::now());
            gst::PadProbeReturn::Ok
        });
        Ok((source, segment))
    }
}
