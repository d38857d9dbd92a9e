// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pipelines: `appsrc ! gclipsegment ! fakesink`, from one stream to hundreds that share a model.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::{Value, json};

use crate::card::{peak_mib, quantile, used_mib};
use crate::feed::{Pace, Settings, Stream};
use crate::{Plan, Result, cuda_frames, frames};
use gclip_testing::playing::{ENDS, ended};

/// Different pictures that come round and round.
const PICTURES: usize = 8;
/// Refreshes a second of each live stream.
const LIVE_RATE: f64 = 8.0;

/// How the streams of a pipeline are fed.
#[derive(Clone, Copy, PartialEq)]
enum Feeding {
    Full,
    OneAtATime,
    /// Frames a second and stream; the streams take turns.
    Live(f64),
}

impl Feeding {
    fn pace(self, stream: usize, streams: usize) -> Pace {
        match self {
            Feeding::Full => Pace::Full,
            Feeding::OneAtATime => Pace::OneAtATime,
            Feeding::Live(rate) => {
                let period = Duration::from_secs_f64(1.0 / rate);
                Pace::Clock { phase: period.mul_f64(stream as f64 / streams as f64), period }
            }
        }
    }

    fn offered(self, streams: usize) -> Option<f64> {
        match self {
            Feeding::Live(rate) => Some(rate * streams as f64),
            _ => None,
        }
    }
}

/// One pipeline, and how it is fed.
struct Run<'a> {
    streams: usize,
    caps: &'a gst::Caps,
    buffers: &'a [gst::Buffer],
    settings: Settings,
    feeding: Feeding,
    time: Duration,
}

/// Throughput by streams and kind of memory, latency alone and live, and the memory that it takes.
pub fn measure(plan: &Plan) -> Result<Value> {
    let (width, height) = if plan.quick { (640, 360) } else { (1920, 1080) };
    let (caps, host) = host_frames(width, height)?;
    let settings = |batch: usize, in_flight: usize| Settings {
        model: plan.model.clone(),
        device: plan.device_name.clone(),
        instance: "bench-gpu".into(),
        short_side: if plan.quick { 224 } else { 336 },
        batch,
        in_flight,
    };
    // Holds the shared model from run to run, and its CUDA context.
    let keeper = Keeper::new(&settings(1, 2), &caps)?;
    let mut kinds = vec![("host", caps.clone(), host.clone())];
    let mut notes = Vec::new();
    match keeper.on_device(&caps, &host) {
        Ok(Some((caps, buffers))) => kinds.push(("cuda", caps, buffers)),
        Ok(None) => notes.push("no frames in CUDA memory: the element takes none here".to_owned()),
        Err(error) => notes.push(format!("no frames in CUDA memory: {error}")),
    }
    let counts: &[usize] = if plan.quick { &[1, 2] } else { &[16, 1, 256, 64, 4] };
    let batch = if plan.quick { 2 } else { 32 };
    let time = Duration::from_millis(if plan.quick { 1500 } else { 4000 });
    // The targets first: hundreds of live streams, then one frame at a time.
    let (live_streams, rate, live_time) = match plan.quick {
        true => (2, 1.0, Duration::from_secs(4)),
        false => (256, LIVE_RATE, Duration::from_secs(8)),
    };
    let mut live = Vec::new();
    for (memory, caps, buffers) in kinds.iter().rev() {
        if plan.goes_on() {
            let run = Run {
                streams: live_streams,
                caps,
                buffers,
                settings: settings(batch, 8),
                feeding: Feeding::Live(rate),
                time: live_time,
            };
            live.push(result(memory, &run));
        }
    }
    let (memory, caps, buffers) = kinds.last().ok_or("no frames")?;
    let feeding = Feeding::OneAtATime;
    let one = Run { streams: 1, caps, buffers, settings: settings(1, 1), feeding, time };
    let alone = result(memory, &one);
    let mut throughput = Vec::new();
    for &streams in counts {
        for (memory, caps, buffers) in kinds.iter().rev() {
            if plan.goes_on() {
                let in_flight = (3 * batch / streams).max(2);
                let settings = settings(batch, in_flight);
                let run = Run { streams, caps, buffers, settings, feeding: Feeding::Full, time };
                throughput.push(result(memory, &run));
            }
        }
    }
    Ok(json!({
        "frame": [height, width],
        "throughput": throughput,
        "alone": alone,
        "live": live,
        "notes": notes,
        "host_peak_mib": peak_mib(),
        "device_used_mib": used_mib(plan.device),
    }))
}

/// A run that fails says why in the place of numbers.
fn result(memory: &str, run: &Run) -> Value {
    let failed =
        |error: Box<dyn std::error::Error>| json!({ "streams": run.streams, "error": error.to_string() });
    let mut numbers = run.measure().unwrap_or_else(failed);
    numbers["memory"] = json!(memory);
    numbers
}

impl Run<'_> {
    fn measure(&self) -> Result<Value> {
        let pipeline = gst::Pipeline::new();
        let live = matches!(self.feeding, Feeding::Live(_));
        let streams = (0..self.streams)
            .map(|_| Stream::add(&pipeline, self.caps, live, &self.settings))
            .collect::<Result<Vec<_>>>()?;
        pipeline.set_state(gst::State::Playing)?;
        let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
        let before = batches(&streams);
        let stop = AtomicBool::new(false);
        // Frames from before that do not count.
        let warm_up = self.time / 3;
        let (message, window) = std::thread::scope(|scope| {
            for (number, stream) in streams.iter().enumerate() {
                let pace = self.feeding.pace(number, self.streams);
                let (stop, buffers) = (&stop, self.buffers);
                scope.spawn(move || stream.feed(buffers, pace, stop));
            }
            let start = Instant::now() + warm_up;
            std::thread::sleep(warm_up + self.time);
            let end = Instant::now();
            stop.store(true, Ordering::Relaxed);
            let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ENDS);
            if !matches!(message.as_ref().map(|message| message.view()), Some(gst::MessageView::Eos(_))) {
                // Ends the feeders, which may be waiting at a full queue.
                let _ = pipeline.set_state(gst::State::Null);
            }
            (message, (start, end))
        });
        ended(message.as_ref())?;
        let numbers = self.numbers(&streams, window, before);
        pipeline.set_state(gst::State::Null)?;
        Ok(numbers)
    }

    fn numbers(&self, streams: &[Stream], (start, end): (Instant, Instant), before: (u64, u64)) -> Value {
        let within = |time: &Instant| (start..end).contains(time);
        let (mut frames, mut latencies, mut least) = (0, Vec::new(), u64::MAX);
        for stream in streams {
            let times = stream.times.lock();
            let arrived = times.arrived.iter().filter(|time| within(time)).count() as u64;
            frames += arrived;
            least = least.min(arrived);
            let pairs = times.sent.iter().zip(&times.arrived).filter(|(_, arrived)| within(arrived));
            latencies.extend(pairs.map(|(sent, arrived)| arrived.duration_since(*sent)));
        }
        latencies.sort();
        let time = end.duration_since(start).as_secs_f64();
        let sum = |name| streams.iter().map(|stream| stream.stat(name)).sum::<u64>();
        let first = streams.first().map(|stream| stream.segment.property::<gst::Structure>("stats"));
        let after = batches(streams);
        let of_model = |name: &str| first.as_ref().and_then(|stats| stats.get::<u64>(name).ok());
        json!({
            "streams": self.streams,
            "batch": self.settings.batch,
            "frames_per_s": frames as f64 / time,
            "least_frames_of_a_stream": least,
            "offered_per_s": self.feeding.offered(self.streams),
            "latency_ms": {
                "p50": quantile(&latencies, 0.5),
                "p99": quantile(&latencies, 0.99),
                "largest": quantile(&latencies, 1.0),
            },
            "mean_batch_fill": (after.1 - before.1) as f64 / ((after.0 - before.0) as f64).max(1.0),
            "stage_p50_us": {
                "preprocess": of_model("preprocess-p50").map(|time| time / 1000),
                "forward": of_model("forward-p50").map(|time| time / 1000),
                "decode": of_model("decode-p50").map(|time| time / 1000),
                "batch_run": of_model("batch-run-p50").map(|time| time / 1000),
            },
            "host_copies": sum("host-copies"),
            "device_frames": sum("device-frames"),
            "device_copies": sum("device-copies"),
            "frames": sum("frames"),
        })
    }
}

/// Batches that the shared model has run, and frames in them.
fn batches(streams: &[Stream]) -> (u64, u64) {
    streams.first().map_or((0, 0), |stream| (stream.stat("batches"), stream.stat("batched-frames")))
}

/// An element that has the shared model loaded.
struct Keeper {
    pipeline: gst::Pipeline,
    stream: Stream,
}

impl Keeper {
    fn new(settings: &Settings, caps: &gst::Caps) -> Result<Keeper> {
        let pipeline = gst::Pipeline::new();
        let stream = Stream::add(&pipeline, caps, false, settings)?;
        // READY loads the model, and no frame is waited for.
        if let Err(error) = pipeline.set_state(gst::State::Ready) {
            let message = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
            return match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Error(message)) => Err(message.error().to_string().into()),
                _ => Err(error.into()),
            };
        }
        Ok(Keeper { pipeline, stream })
    }

    /// The frames in the memory of the model's GPU, if the element takes such.
    fn on_device(
        &self,
        caps: &gst::Caps,
        host: &[gst::Buffer],
    ) -> Result<Option<(gst::Caps, Vec<gst::Buffer>)>> {
        match self.stream.segment.context("gst.cuda.context") {
            Some(context) => cuda_frames::on_device(&context, caps, host).map(Some),
            None => Ok(None),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Nothing runs in it; a failure leaves nothing behind that matters at the end of the bench.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn host_frames(width: usize, height: usize) -> Result<(gst::Caps, Vec<gst::Buffer>)> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Nv12)
        .width(i32::try_from(width)?)
        .height(i32::try_from(height)?)
        .framerate(gst::Fraction::new(25, 1))
        .build();
    let buffer = |number| gst::Buffer::from_slice(frames::nv12(width, height, number));
    Ok((caps, (0..PICTURES).map(buffer).collect()))
}
