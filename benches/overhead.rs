// SPDX-License-Identifier: MIT OR Apache-2.0
//! What does the element itself cost a frame, when the model costs nothing? And what do others cost?
//!
//! The same RGB frames go `appsrc ! ELEMENT ! fakesink sync=false`: through `identity`, which does nothing, through
//! two of GStreamer's queues, which hand a frame from thread to thread as often as `gclipsegment` does, through `gclipsegment` with a model that answers at once with a mask for every frame, and through `onnxinference` of
//! GStreamer 1.28 and newer, where it is installed, with models that take one value out of the picture, as f32 and as
//! bytes. CPU time of the process a frame, less that of `identity`; time on the clock likewise. They take turns; the
//! median of the rounds counts.
//!
//! Run with `cargo bench --bench overhead`. For the comparison, `bash benches/compare/overhead.sh` runs it in a Debian
//! with GStreamer 1.28 and makes the models: `GCLIP_BENCH_ONNX=folder` holds `WIDTHxHEIGHT/{float,bytes}.onnx`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use gclip_testing::playing::{ENDS, ended, fake_model, median};
use gst::prelude::*;
use gst_app::AppSrc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SIZES: [(u32, u32); 2] = [(640, 360), (1920, 1080)];
const FRAMES: u64 = 1000;
const WARM_UP: u64 = 20;
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run with: cargo bench --bench overhead");
        return Ok(());
    }
    gst::init()?;
    gstgclip::plugin_register_static()?;
    let _engine = fake_model("instant", Duration::ZERO)?;
    println!("GStreamer {}.{}, microseconds a frame above identity", gst::version().0, gst::version().1);
    for size in SIZES {
        let elements = elements(size);
        let mut times = vec![Vec::new(); elements.len()];
        for _ in 0..ROUNDS {
            for ((_, element), times) in elements.iter().zip(&mut times) {
                times.push(run(element, size)?);
            }
        }
        println!("\n{}x{} RGB {:>33} {:>10}", size.0, size.1, "CPU time", "clock");
        let nothing = [0, 1].map(|which| median(times[0].iter().map(|time| time[which])));
        for ((name, _), times) in elements.iter().zip(&times) {
            let [cpu, clock] =
                [0, 1].map(|which| median(times.iter().map(|time| time[which])) - nothing[which]);
            println!("  {name:<36} {cpu:>8.1} {clock:>10.1}");
        }
        println!("  (identity itself: {:.1} and {:.1})", nothing[0], nothing[1]);
    }
    Ok(())
}

/// Names and descriptions; `identity` first.
fn elements((width, height): (u32, u32)) -> Vec<(String, String)> {
    let ours = |batch: u32, more: &str| {
        let element = format!(
            "gclipsegment model=instant model-instance-id=instant prompts=thing prompt-template=none batch-size={batch} \
             max-in-flight={}{more}",
            2 * batch
        );
        (format!("gclipsegment batch-size={batch}{more}"), element)
    };
    let nothing = ("identity".to_owned(), "identity".to_owned());
    let queue = "queue max-size-buffers=1 max-size-bytes=0 max-size-time=0";
    let threads = ("two queues of one frame".to_owned(), format!("{queue} ! {queue}"));
    let mut elements = vec![nothing, threads, ours(1, ""), ours(4, ""), ours(4, " meta=0"), ours(16, "")];
    let folder = std::env::var_os("GCLIP_BENCH_ONNX").map(PathBuf::from);
    let there = gst::ElementFactory::find("onnxinference").is_some();
    for kind in ["float", "bytes"] {
        let file = folder.as_ref().map(|folder| folder.join(format!("{width}x{height}/{kind}.onnx")));
        match file.filter(|file| there && file.exists()) {
            Some(file) => {
                let element = format!("onnxinference model-file={}", file.display());
                elements.push((format!("onnxinference, {kind}"), element));
            }
            None => println!("onnxinference, {kind}, {width}x{height}: not here"),
        }
    }
    elements
}

/// Microseconds a frame: CPU time of the process, and the clock's.
fn run(element: &str, (width, height): (u32, u32)) -> Result<[f64; 2]> {
    let pipeline =
        gst::parse::launch(&format!("appsrc name=source format=time ! {element} ! fakesink sync=false"))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    let source = pipeline.by_name("source").and_downcast::<AppSrc>().ok_or("no source")?;
    let info =
        gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height).fps((25, 1)).build()?;
    source.set_caps(Some(&info.to_caps()?));
    let picture = gst::Buffer::from_slice(vec![90u8; info.size()]);
    // Pushed from the streaming thread itself: the source hands nothing from thread to thread.
    let (mut number, started) = (0, Arc::new(OnceLock::new()));
    let start = started.clone();
    source.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                // The first ones load and allocate.
                if number == WARM_UP {
                    start.get_or_init(|| (ProcessTime::now(), Instant::now()));
                }
                // A refusal is the pipeline's to report.
                let _ = if number < WARM_UP + FRAMES {
                    // The pixels are shared: only times are set.
                    let mut buffer = picture.copy();
                    buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(40 * number));
                    source.push_buffer(buffer)
                } else {
                    source.end_of_stream()
                };
                number += 1;
            })
            .build(),
    );
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ENDS);
    let (cpu, clock) = started.get().ok_or("the source was never asked")?;
    let times = [cpu.elapsed(), clock.elapsed()].map(|time| 1e6 * time.as_secs_f64() / FRAMES as f64);
    pipeline.set_state(gst::State::Null)?;
    match ended(message.as_ref()) {
        Ok(()) => Ok(times),
        Err(error) => Err(format!("{element}: {error}").into()),
    }
}
