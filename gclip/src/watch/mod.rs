// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip watch`: many cameras, one model, for months.
//!
//! ```text
//! config/    the file: cameras, prompts, outputs; every mistake with file, line and key
//! camera     one camera's thread: connect, watch, wait, again    retry  how long    trouble  what went wrong
//! pipeline   one connection: rtspsrc ! decodebin ! ... ! gclipsegment   report what it tells  line  as JSON
//! heap       memory of ended connections
//! queue      lines on their way; never blocks a camera    output  stdout and files    mqtt  a broker
//! state      what is known about a camera -> console (stderr, status lines) and metrics (Prometheus)
//! ```
//!
//! A mistake in the config ends the program before anything starts; after that nothing but a signal does.

mod camera;
mod config;
mod console;
mod doubt;
mod heap;
mod line;
mod metrics;
mod mqtt;
mod output;
mod pipeline;
mod queue;
mod report;
mod retry;
mod state;
mod stop;
mod thin;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use parking_lot::Mutex;

use camera::Watcher;
use config::Config;
use console::{Console, StatusLines};
use output::Output;
use report::Reporter;
use state::CameraState;
use stop::Stop;

use crate::say::say;

/// Status lines and metrics are this fresh.
const REFRESH: Duration = Duration::from_millis(500);
/// Cameras and outputs may take this long to end, each.
const GRACE: Duration = Duration::from_secs(4);

#[derive(clap::Args)]
pub struct Args {
    /// Cameras, prompts and outputs, in TOML; pipelines/cameras.toml is an example, docs/watch.md explains the keys.
    config: PathBuf,
    /// Only check the file, with the model and all prompts, and say what is in it.
    #[arg(long)]
    check: bool,
}

/// The running connections' elements, in the order of the cameras.
type Segments = Vec<Arc<Mutex<Option<gst::Element>>>>;

pub fn run(args: &Args) -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstgclip::plugin_register_static().context("the gclip plugin does not register")?;
    let config = config::load(&args.config)?;
    let console = Arc::new(Console::new(config.secrets.clone()));
    // Held to the end: the model stays loaded while no camera is there.
    let model = Holder::load(&config, &console).with_context(|| args.config.display().to_string())?;
    if args.check {
        let (cameras, outputs) = (config.cameras.len(), config.outputs.len());
        say!("{}: cameras: {cameras}, outputs: {outputs}, no mistake found", args.config.display());
        return Ok(());
    }
    if let Some(address) = config.metrics {
        metrics::serve(address)?;
    }
    let stop = Stop::on_signals()?;
    let opened = config.outputs.iter().map(|output| Output::open(output, &console, &stop));
    let outputs = opened.collect::<Result<Vec<Output>>>()?;

    let states: Vec<_> =
        config.cameras.iter().map(|camera| Arc::new(CameraState::new(&camera.name))).collect();
    let segments: Segments = config.cameras.iter().map(|_| Arc::default()).collect();
    let threads = start(&config, &console, &outputs, &states, &segments, &stop)?;
    let mut lines = console.is_terminal().then(|| StatusLines::new(&console, &states)).transpose()?;
    while !stop.is_requested() {
        if let Some(lines) = &mut lines {
            lines.refresh(&states);
        }
        if config.metrics.is_some() {
            metrics::publish(&states, &outputs, statistics(&segments).as_ref());
        }
        stop.wait(REFRESH);
    }

    if let Some(lines) = lines {
        lines.clear(&console);
    }
    console.log("gclip", "stopping");
    let deadline = Instant::now() + GRACE;
    for thread in &threads {
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let deadline = Instant::now() + GRACE;
    for output in outputs {
        let name = output.name.clone();
        match output.close(deadline) {
            0 => {}
            left => console.log(&format!("output.{name}"), &format!("{left} lines could not be delivered")),
        }
    }
    drop(model);
    Ok(())
}

/// An element that keeps the shared model loaded.
struct Holder(gst::Element);

impl Holder {
    /// Loads the model and encodes every camera's prompts, by the element that will use them.
    fn load(config: &Config, console: &Console) -> Result<Holder> {
        let mut holder = None;
        for camera in &config.cameras {
            let element = Holder(pipeline::segment(camera, &config.model)?);
            let bus = gst::Bus::new();
            element.0.set_bus(Some(&bus));
            if element.0.set_state(gst::State::Ready).is_err() {
                let error = bus.pop_filtered(&[gst::MessageType::Error]);
                let why = match error.as_ref().map(|message| message.view()) {
                    Some(gst::MessageView::Error(error)) => error.error().to_string(),
                    _ => "gclipsegment does not start".into(),
                };
                bail!("{} (camera.{})", console.hide(&why), camera.name);
            }
            element.0.set_bus(None);
            holder.get_or_insert(element);
        }
        holder.context("there is no camera")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // A state change to NULL cannot fail.
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn start(
    config: &Config,
    console: &Arc<Console>,
    outputs: &[Output],
    states: &[Arc<CameraState>],
    segments: &Segments,
    stop: &Stop,
) -> Result<Vec<JoinHandle<()>>> {
    let start_one = |((camera, state), segment): ((&config::Camera, &Arc<CameraState>), &Arc<Mutex<_>>)| {
        let wanted = camera.outputs.iter().filter_map(|index| outputs.get(*index));
        let queues = wanted.map(|output| (output.what, output.queue.clone())).collect();
        let watcher = Watcher {
            camera: camera.clone(),
            model: config.model.clone(),
            reporter: Arc::new(Reporter::new(state.clone(), console.clone(), queues)),
            stop: stop.clone(),
            segment: segment.clone(),
        };
        let thread = std::thread::Builder::new().name(camera.name.clone());
        Ok(thread.spawn(move || watcher.run())?)
    };
    config.cameras.iter().zip(states).zip(segments).map(start_one).collect()
}

/// Statistics of any running element: those of the model are the same in all.
fn statistics(segments: &Segments) -> Option<gst::Structure> {
    let segment = segments.iter().find_map(|segment| segment.lock().clone())?;
    Some(segment.property::<gst::Structure>("stats"))
}
