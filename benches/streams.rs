// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of the model's own throughput is left behind `gclipsegment`, and what does batching bring?
//!
//! Per batch size (1, 4, 8), the same 640x360 I420 pictures go through the bare model (`Segmenter::infer`, one batch
//! after the other), and through `appsrc ! gclipsegment ! fakesink sync=false`, as 1 stream and as 4 streams that
//! share the model. The three take turns, and of the rounds' ratios the median counts; the target is 95 %.
//! `fill` is the mean number of frames in a batch. Frames from the warm-up do not count.
//!
//! Run with `cargo bench --bench streams` (under 3 minutes on 2 cores with `models/demo`);
//! `GCLIP_BENCH_MODEL=/path/to/clip-vit-base-patch16` takes another checkpoint, `GCLIP_BENCH_PRECISION=f32` another
//! precision than `auto`. `cargo bench --bench streams -- --smoke` runs a few frames of each, to see that it works.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};
use gstgclip::frame;
use gstgclip::model::{
    InferOptions, Model, ModelSpec, Picture, Pixels, PrecisionChoice, Prompts, Request, Segmenter, Templates,
    Vocabulary,
};
use parking_lot::Mutex;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCHES: [usize; 3] = [1, 4, 8];
const STREAMS: [usize; 2] = [1, 4];
const PROMPTS: &str = "ball; person; car; road; tree; sky; building; grass";
/// Different pictures that come round and round.
const PICTURES: usize = 16;
const TARGET: f64 = 0.95;

fn main() -> Result<()> {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    // `cargo test --benches` asks only whether it builds and starts.
    if !has("--bench") && !has("--smoke") {
        println!("run with: cargo bench --bench streams");
        return Ok(());
    }
    let (rounds, round) = match has("--smoke") {
        true => (1, Duration::ZERO),
        false => (5, Duration::from_millis(2500)),
    };
    gst::init()?;
    gstgclip::plugin_register_static()?;
    let bench = Bench::new()?;
    let mut model = Model::load(&bench.spec)?;
    let vocabulary = bench.vocabulary(&mut model)?;
    println!(
        "{} on {} in {}; {} threads",
        bench.spec.model,
        model.info.device,
        model.info.precision,
        tch::get_num_threads()
    );
    println!("\nbatch  streams  bare frames/s  element frames/s  ratio   fill  target 95 %");
    let mut best = Vec::new();
    for batch in BATCHES {
        // How long a frame takes says how many make a round.
        let per_second = bench.bare(&mut model.vision, &vocabulary, batch, 2 * batch.max(4))?;
        let frames = (per_second * round.as_secs_f64()) as usize;
        let frames = frames.div_ceil(8 * batch).max(1) * 8 * batch;
        let (mut bare, mut element) = (Vec::new(), vec![Vec::new(); STREAMS.len()]);
        let mut fills = vec![0.0; STREAMS.len()];
        for _ in 0..rounds {
            bare.push(bench.bare(&mut model.vision, &vocabulary, batch, frames)?);
            for (index, streams) in STREAMS.into_iter().enumerate() {
                let (per_second, fill) = bench.element(streams, batch, frames)?;
                element[index].push(per_second);
                fills[index] = fill;
            }
        }
        for (index, streams) in STREAMS.into_iter().enumerate() {
            let ratio = median(element[index].iter().zip(&bare).map(|(element, bare)| element / bare));
            println!(
                "{batch:>5}  {streams:>7}  {:>13.1}  {:>16.1}  {:>4.1} %  {:>4.2}  {}",
                median(bare.iter().copied()),
                median(element[index].iter().copied()),
                100.0 * ratio,
                fills[index],
                if ratio >= TARGET { "met" } else { "missed" }
            );
        }
        best.push((median(bare.iter().copied()), median(element[0].iter().copied())));
    }
    if let (Some(one), Some(many)) = (best.first(), best.last()) {
        println!(
            "\nbatch {} against batch {}: bare model x{:.2}, element x{:.2}",
            BATCHES[BATCHES.len() - 1],
            BATCHES[0],
            many.0 / one.0,
            many.1 / one.1
        );
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Bench {
    spec: ModelSpec,
    precision: String,
    caps: gst::Caps,
    buffers: Vec<gst::Buffer>,
    pictures: Vec<Picture>,
}

impl Bench {
    fn new() -> Result<Bench> {
        let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo");
        let model = std::env::var("GCLIP_BENCH_MODEL").unwrap_or_else(|_| demo.to_owned());
        let precision = std::env::var("GCLIP_BENCH_PRECISION").unwrap_or_else(|_| "auto".to_owned());
        let choice: PrecisionChoice = precision.parse()?;
        let spec = ModelSpec { model, precision: choice, ..ModelSpec::default() };
        let (caps, buffers) = pictures()?;
        let info = gst_video::VideoInfo::from_caps(&caps)?;
        let picture = |buffer: &gst::Buffer| -> Result<Picture> {
            let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
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
                Pixels::Host(bytes) => bytes.shallow_clone().into(),
                Pixels::Device(_) => unreachable!("these frames are in the memory of the host"),
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
            let (source, segment) = self.add_stream(&pipeline, batch, &arrivals)?;
            sources.push(source);
            segments.push(segment);
        }
        // As many before the first that counts, and behind the last, as fit into the elements: between them the
        // model is never without work.
        let around = (2 * batch * streams).next_multiple_of(8 * batch);
        let each = (around + frames + around).div_ceil(streams);
        pipeline.set_state(gst::State::Playing)?;
        let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
        let buffers = &self.buffers;
        let message = std::thread::scope(|scope| {
            for source in &sources {
                scope.spawn(move || feed(source, buffers, each));
            }
            let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
            let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(600), &wanted);
            let stats = segments.first().map(|segment| segment.property::<gst::Structure>("stats"));
            let fill = stats.and_then(|stats| stats.get::<f64>("mean-batch-fill").ok());
            // Also ends the feeders if it went wrong.
            pipeline.set_state(gst::State::Null).map(|_| (message, fill.unwrap_or(f64::NAN)))
        });
        let (message, fill) = message?;
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => (),
            Some(gst::MessageView::Error(error)) => return Err(error.error().to_string().into()),
            _ => return Err("the streams do not end".into()),
        }
        let arrivals = arrivals.lock();
        let (first, last) = (arrivals.get(around - 1), arrivals.get(around + frames - 1));
        let time = last.zip(first).map(|(last, first): (&Instant, &Instant)| last.duration_since(*first));
        Ok((frames as f64 / time.ok_or("frames were lost")?.as_secs_f64(), fill))
    }

    fn add_stream(
        &self,
        pipeline: &gst::Pipeline,
        batch: usize,
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
            .property("max-in-flight", 2 * batch as u32)
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

/// Pushes frames as fast as they are taken, then the end.
fn feed(source: &AppSrc, buffers: &[gst::Buffer], frames: usize) {
    for number in 0..frames {
        // The pixels are shared: only times are set.
        let mut buffer = buffers[number % PICTURES].copy();
        buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(40 * number as u64));
        if source.push_buffer(buffer).is_err() {
            return;
        }
    }
    // Refused only when the pipeline has stopped, which its bus tells.
    let _ = source.end_of_stream();
}

/// A ball on its way, as `videotestsrc` draws it.
fn pictures() -> Result<(gst::Caps, Vec<gst::Buffer>)> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width(640)
        .height(360)
        .framerate(gst::Fraction::new(25, 1))
        .build();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("videotestsrc")
        .property("num-buffers", PICTURES as i32)
        .property_from_str("pattern", "ball")
        .build()?;
    let sink = AppSink::builder().caps(&caps).sync(false).build();
    pipeline.add_many([&source, sink.upcast_ref()])?;
    source.link(&sink)?;
    pipeline.set_state(gst::State::Playing)?;
    let buffers: Vec<gst::Buffer> =
        std::iter::from_fn(|| sink.pull_sample().ok()?.buffer_owned()).take(PICTURES).collect();
    let negotiated = sink.static_pad("sink").and_then(|pad| pad.current_caps());
    pipeline.set_state(gst::State::Null)?;
    match negotiated {
        Some(negotiated) if buffers.len() == PICTURES => Ok((negotiated, buffers)),
        _ => Err("videotestsrc gives no pictures".into()),
    }
}
