// SPDX-License-Identifier: MIT OR Apache-2.0
//! Do many live cameras on a model that is far too slow keep their promised latency, for as long as they run?
//!
//! 64 live sources of 1080p at 10 frames a second share a fake model that takes 160 ms for a batch of 8: a fraction
//! of what they ask for. Each goes `appsrc ! gclipsegment ! fakesink sync=true`. The delay of a frame is its arrival
//! at the sink, in running time, less its own time; a frame that arrives after the latency that the pipeline was
//! given is late. Printed for each tenth of the run, after a tenth that does not count: median and 99th percentile
//! of the delay, frames that were late, masks a second, resident memory. Targets: frames go on (95 % of those fed, in each tenth), p99 below the latency, neither
//! delay nor memory grows (last tenth against the second: at most a tenth more).
//!
//! The sources push one picture again and again, so that time goes into the elements and not into drawing.
//!
//! Run with `cargo bench --bench live` (5 minutes), `-- --seconds 120`, `-- --cameras 16`. The exit status tells
//! whether the targets were met.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gclip_testing::playing::fake_model;
use gclip_testing::usage;
use gst::prelude::*;
use gst_app::AppSrc;
use gstgclip::engine::Engine;
use parking_lot::Mutex;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIZE: (u32, u32) = (1920, 1080);
const FRAMES_PER_SECOND: u64 = 10;
const FORWARD: Duration = Duration::from_millis(160);
const BATCH: u32 = 8;
const TENTHS: u32 = 10;
/// Growth that is no growth.
const STEADY: f64 = 1.1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench --bench live");
        return ExitCode::SUCCESS;
    }
    let number = |flag: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == flag);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    match run(number("--cameras", 64) as usize, Duration::from_secs(number("--seconds", 300).max(10))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Delays of the frames that have arrived since the last look, all cameras together.
type Delays = Arc<Mutex<Vec<Duration>>>;

fn run(cameras: usize, length: Duration) -> Result<bool> {
    gst::init()?;
    gstgclip::plugin_register_static()?;
    let engine = fake_model("live", FORWARD)?;
    let pipeline = gst::Pipeline::new();
    let delays = Delays::default();
    let mut sources = Vec::new();
    for _ in 0..cameras {
        sources.push(add_camera(&pipeline, &delays)?);
    }
    pipeline.set_state(gst::State::Playing)?;
    let stop = AtomicBool::new(false);
    let met = std::thread::scope(|scope| {
        scope.spawn(|| feed(&pipeline, &sources, &stop));
        let fed = (cameras as u64 * FRAMES_PER_SECOND) as f64;
        let met = watch(&pipeline, &engine, &delays, fed, length);
        stop.store(true, Ordering::Relaxed);
        met
    });
    pipeline.set_state(gst::State::Null)?;
    met
}

/// One tenth of the run.
struct Tenth {
    median: Duration,
    p99: Duration,
    resident: u64,
    latency: Duration,
}

fn watch(
    pipeline: &gst::Pipeline,
    engine: &Engine,
    delays: &Delays,
    fed: f64,
    length: Duration,
) -> Result<bool> {
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    println!(" tenth  median ms  p99 ms  latency ms  late     frames/s  masks/s  resident MiB");
    let mut tenths: Vec<Tenth> = Vec::new();
    let mut masks = engine.stats().batch.requests;
    let (mut all_in_time, mut all_arrive) = (true, true);
    for tenth in 0..TENTHS {
        let start = Instant::now();
        let end = start + length / TENTHS;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let kinds = [gst::MessageType::Latency, gst::MessageType::Error];
            match bus.timed_pop_filtered(gst::ClockTime::try_from(left)?, &kinds).as_ref().map(|m| m.view()) {
                // As an application does: the elements say that their latency has changed.
                Some(gst::MessageView::Latency(_)) => pipeline.recalculate_latency()?,
                Some(gst::MessageView::Error(error)) => return Err(error.error().to_string().into()),
                _ => (),
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let latency = pipeline.latency().or_else(|| asked_latency(pipeline)).ok_or("no latency is known")?;
        let latency = Duration::from(latency);
        let mut delays = std::mem::take(&mut *delays.lock());
        delays.sort();
        if delays.is_empty() {
            return Err("no frame arrives".into());
        }
        let at = |share: f64| delays[((delays.len() - 1) as f64 * share) as usize];
        let late = delays.iter().filter(|delay| **delay > latency).count();
        let asked = engine.stats().batch.requests;
        let resident = usage::memory("VmRSS:").ok_or("no VmRSS")?;
        let now = Tenth { median: at(0.5), p99: at(0.99), resident, latency };
        println!(
            "{:>6}  {:>9.1}  {:>6.1}  {:>10.1}  {:>5.2} %  {:>8.1}  {:>7.1}  {:>12.1}",
            tenth + 1,
            1e3 * now.median.as_secs_f64(),
            1e3 * now.p99.as_secs_f64(),
            1e3 * latency.as_secs_f64(),
            100.0 * late as f64 / delays.len() as f64,
            delays.len() as f64 / seconds,
            (asked - masks) as f64 / seconds,
            now.resident as f64 / f64::from(1 << 20),
        );
        masks = asked;
        all_in_time &= tenth == 0 || now.p99 <= latency;
        all_arrive &= tenth == 0 || delays.len() as f64 / seconds >= 0.95 * fed;
        tenths.push(now);
    }
    let (Some(first), Some(last)) = (tenths.get(1), tenths.last()) else { return Err("too short".into()) };
    let grows = |first: f64, last: f64| last > first * STEADY;
    let delay_grows = grows(first.p99.as_secs_f64(), last.p99.as_secs_f64())
        && grows(first.latency.as_secs_f64(), last.p99.as_secs_f64());
    let memory_grows = grows(first.resident as f64, last.resident as f64);
    let verdict = |met: bool| if met { "met" } else { "missed" };
    println!("frames go on: {}", verdict(all_arrive));
    println!("p99 below the latency: {}", verdict(all_in_time));
    println!("delay does not grow: {}", verdict(!delay_grows));
    println!("memory does not grow: {}", verdict(!memory_grows));
    Ok(all_arrive && all_in_time && !delay_grows && !memory_grows)
}

/// The latency that the pipeline's sinks were given.
fn asked_latency(pipeline: &gst::Pipeline) -> Option<gst::ClockTime> {
    let mut query = gst::query::Latency::new();
    pipeline.query(&mut query).then(|| query.result().1)
}

fn add_camera(pipeline: &gst::Pipeline, delays: &Delays) -> Result<AppSrc> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width(SIZE.0 as i32)
        .height(SIZE.1 as i32)
        .framerate(gst::Fraction::new(FRAMES_PER_SECOND as i32, 1))
        .build();
    let source = AppSrc::builder().caps(&caps).format(gst::Format::Time).is_live(true).build();
    let segment = gst::ElementFactory::make("gclipsegment")
        .property("model", "live")
        .property("model-instance-id", "live")
        .property("prompts", "thing")
        .property("prompt-template", "none")
        .property("batch-size", BATCH)
        .build()?;
    let sink = gst::ElementFactory::make("fakesink").property("sync", true).property("qos", true).build()?;
    pipeline.add_many([source.upcast_ref(), &segment, &sink])?;
    gst::Element::link_many([source.upcast_ref(), &segment, &sink])?;
    let (delays, clock) = (delays.clone(), pipeline.downgrade());
    let pad = sink.static_pad("sink").ok_or("a sink has a pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let now = clock.upgrade().and_then(|pipeline| pipeline.current_running_time());
        if let Some((now, pts)) = now.zip(info.buffer().and_then(|buffer| buffer.pts())) {
            delays.lock().push(now.saturating_sub(pts).into());
        }
        gst::PadProbeReturn::Ok
    });
    Ok(source)
}

/// Pushes the frames of all cameras, each at its time and evenly spread.
fn feed(pipeline: &gst::Pipeline, sources: &[AppSrc], stop: &AtomicBool) {
    let picture = gst::Buffer::from_slice(vec![90u8; (SIZE.0 * SIZE.1 * 3 / 2) as usize]);
    let period = gst::ClockTime::SECOND / FRAMES_PER_SECOND;
    let step = period / sources.len() as u64;
    for turn in 0u64.. {
        let source = &sources[(turn % sources.len() as u64) as usize];
        let due = step * turn;
        while pipeline.current_running_time().is_none_or(|now| now < due) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let left = pipeline.current_running_time().map_or(period, |now| due.saturating_sub(now));
            std::thread::sleep(Duration::from(left.min(period)));
        }
        let mut buffer = picture.copy();
        if let Some(fresh) = buffer.get_mut() {
            fresh.set_pts(due);
            fresh.set_duration(period);
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = source.push_buffer(buffer) {
            eprintln!("{} takes no more frames: {error}", source.name());
            return;
        }
    }
}
