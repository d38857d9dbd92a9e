// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cameras cost beside the model: memory of each, the time of an idle one, and what a change of prompts on one
//! does to the others.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_app::AppSrc;
use parking_lot::Mutex;

use gclip_testing::usage;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A pipeline of cameras that share the model, fed with one picture again and again.
pub struct Cameras {
    pipeline: gst::Pipeline,
    sources: Vec<AppSrc>,
    pub segments: Vec<gst::Element>,
    picture: gst::Buffer,
    /// Camera, and how long its frame was on its way to the sink.
    delays: Arc<Mutex<Vec<(usize, Duration)>>>,
}

impl Cameras {
    pub fn new(model: &str, count: usize, (width, height): (u32, u32)) -> Result<Cameras> {
        let caps = gst_video::VideoCapsBuilder::new()
            .format(gst_video::VideoFormat::I420)
            .width(width as i32)
            .height(height as i32)
            .framerate(gst::Fraction::new(25, 1))
            .build();
        let pipeline = gst::Pipeline::new();
        let delays = Arc::new(Mutex::new(Vec::new()));
        let (mut sources, mut segments) = (Vec::new(), Vec::new());
        for camera in 0..count {
            let source = AppSrc::builder().caps(&caps).format(gst::Format::Time).block(true).build();
            // One frame at most: what waits here is not the camera's.
            source.set_max_bytes(1);
            let segment = gst::ElementFactory::make("gclipsegment")
                .property("model", model)
                .property("model-instance-id", "cameras")
                .property("prompts", "ball; person; car; road")
                // The model is to keep up: it is not what is measured here.
                .property("input-size", "64")
                .property("batch-size", 8u32)
                .build()?;
            let sink = gst::ElementFactory::make("fakesink").property("sync", false).build()?;
            pipeline.add_many([source.upcast_ref(), &segment, &sink])?;
            gst::Element::link_many([source.upcast_ref(), &segment, &sink])?;
            let (noted, clock) = (delays.clone(), pipeline.downgrade());
            let pad = sink.static_pad("sink").ok_or("a sink has a pad")?;
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let now = clock.upgrade().and_then(|pipeline| pipeline.current_running_time());
                if let Some((now, pts)) = now.zip(info.buffer().and_then(|buffer| buffer.pts())) {
                    noted.lock().push((camera, now.saturating_sub(pts).into()));
                }
                gst::PadProbeReturn::Ok
            });
            sources.push(source);
            segments.push(segment);
        }
        pipeline.set_state(gst::State::Playing)?;
        let picture = gst::Buffer::from_slice(vec![90u8; (width * height * 3 / 2) as usize]);
        Ok(Cameras { pipeline, sources, segments, picture, delays })
    }

    /// Feeds every camera at a rate, evenly spread, while `during` runs.
    pub fn play<R>(&self, frames_per_second: f64, during: impl FnOnce() -> R) -> R {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let step = Duration::from_secs_f64(1.0 / frames_per_second / self.sources.len() as f64);
                let start = Instant::now();
                for turn in 0u32.. {
                    std::thread::sleep((step * turn).saturating_sub(start.elapsed()));
                    let mut buffer = self.picture.copy();
                    if let Some(fresh) = buffer.get_mut() {
                        fresh.set_pts(self.pipeline.current_running_time());
                    }
                    let source = &self.sources[turn as usize % self.sources.len()];
                    if stop.load(Ordering::Relaxed) || source.push_buffer(buffer).is_err() {
                        return;
                    }
                }
            });
            let result = during();
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    /// Waits until a second has passed without a frame at any sink.
    fn until_quiet(&self) {
        loop {
            let before = self.delays.lock().len();
            std::thread::sleep(Duration::from_secs(1));
            if self.delays.lock().len() == before {
                return;
            }
        }
    }

    /// Delays since the last time, but for the first camera's.
    fn delays_of_others(&self) -> Vec<Duration> {
        let all = std::mem::take(&mut *self.delays.lock());
        all.into_iter().filter(|(camera, _)| *camera > 0).map(|(_, delay)| delay).collect()
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        // Nothing to do if it fails: the measurement is over.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

const FULL_HD: (u32, u32) = (1920, 1080);

/// Resident memory of one 1080p camera more, beside others.
pub fn memory(model: &str) -> Result<()> {
    let with = |count: usize| -> Result<u64> {
        let cameras = Cameras::new(model, count, FULL_HD)?;
        // More than the model takes: every queue fills.
        cameras.play(25.0, || {
            let mut most = 0;
            for _ in 0..40 {
                std::thread::sleep(Duration::from_millis(100));
                most = most.max(usage::memory("VmRSS:").ok_or("no VmRSS")?);
            }
            Ok(most)
        })
    };
    with(1)?;
    let (few, many) = (with(2)?, with(10)?);
    let each = (many as f64 - few as f64) / 8.0 / f64::from(1 << 20);
    println!(
        "memory: {each:.1} MiB for each camera of 1080p more (8 more than 2); target 60, {}",
        verdict(each < 60.0)
    );
    Ok(())
}

/// Processor time of 16 cameras that send nothing.
pub fn idle(model: &str) -> Result<()> {
    let cameras = Cameras::new(model, 16, (640, 360))?;
    cameras.play(5.0, || std::thread::sleep(Duration::from_secs(2)));
    cameras.until_quiet();
    let before = processor_time()?;
    std::thread::sleep(Duration::from_secs(5));
    let share = (processor_time()? - before).as_secs_f64() / 5.0;
    println!(
        "idle: 16 playing elements without frames take {:.2} % of a core; target 0.1, {}",
        100.0 * share,
        verdict(share <= 0.001)
    );
    Ok(())
}

/// Delays of 15 cameras while the 16th changes its prompts, twice a second, to names that nobody knows yet.
pub fn prompts(model: &str) -> Result<()> {
    const FPS: f64 = 2.0;
    let cameras = Cameras::new(model, 16, (640, 360))?;
    let (usual, changing) = cameras.play(FPS, || {
        std::thread::sleep(Duration::from_secs(3));
        cameras.delays_of_others();
        std::thread::sleep(Duration::from_secs(20));
        let usual = cameras.delays_of_others();
        for change in 0..40 {
            cameras.segments[0].set_property("prompts", format!("new thing {change}; other {change}"));
            std::thread::sleep(Duration::from_millis(500));
        }
        (usual, cameras.delays_of_others())
    });
    let p99 = |mut delays: Vec<Duration>| {
        delays.sort();
        delays.get(delays.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    };
    let (frames, usual, changing) = (changing.len(), p99(usual), p99(changing));
    println!(
        "prompts: p99 of the 15 other cameras {:.1} ms, usually {:.1} ms ({frames} frames); {}",
        1e3 * changing.as_secs_f64(),
        1e3 * usual.as_secs_f64(),
        verdict(changing <= usual.mul_f64(1.05))
    );
    Ok(())
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// User and system time of the process; the kernel counts in hundredths of a second.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind_name = stat.rsplit(')').next().ok_or("no stat")?;
    let ticks =
        |at: usize| -> Result<u64> { Ok(behind_name.split_whitespace().nth(at).ok_or("no ticks")?.parse()?) };
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}
