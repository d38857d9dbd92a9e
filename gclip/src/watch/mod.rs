// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip watch`: many cameras, one model, for months.
//!
//! ```text
//! config/    the file: cameras, prompts, outputs; every mistake with file, line and key
//! shard      which of them are this program's, where several share them
//! fleet      the cameras that are watched; one is added, changed, removed while the others play
//! camera     one camera's thread: connect, watch, wait, again    retry  how long
//! pipeline   one connection: rtspsrc ! decodebin ! ... ! gclipsegment    thin  which frames are looked at
//! report     what a camera tells    line  as JSON    heap  memory of ended connections
//! queue      lines on their way; never blocks a camera    output/  stdout, files, brokers, webhooks
//! state      what is known about a camera -> console (stderr, status lines) and metrics (Prometheus)
//! desk       changes while cameras are watched    web/  the page, and the interface behind it
//! http       a thread that listens, for the page and the metrics
//! view       a camera's pictures, for who looks    feed  what has happened lately
//! notify     what a service manager is told
//! connect    --check --connect: what each camera sends, and whether each output can be reached
//! ```
//!
//! A mistake in the config ends the program before anything starts; after that nothing but a signal does.

mod camera;
mod config;
mod connect;
mod console;
mod desk;
mod feed;
mod fleet;
mod heap;
mod http;
mod line;
mod metrics;
mod notify;
mod output;
mod pipeline;
mod queue;
mod report;
mod retry;
mod shard;
mod state;
mod stop;
mod thin;
mod view;
mod web;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};

use crate::failure::Failure;
use crate::say::say;
use config::Config;
use console::{Console, StatusLines};
use desk::Desk;
use fleet::Fleet;
use metrics::Board;
use notify::Service;
use shard::Shard;
use stop::Signals;

/// Status lines and metrics are this fresh.
const REFRESH: Duration = Duration::from_millis(500);
/// A signal is heeded after this long.
const LOOK: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct Args {
    /// Cameras, prompts and outputs, in TOML; pipelines/cameras.toml is an example, docs/watch.md explains the keys.
    config: PathBuf,
    /// Only check the file, with the model and all prompts, and say what is in it.
    #[arg(long)]
    check: bool,
    /// With --check: also try every camera and output, and say what each camera sends.
    #[arg(long, requires = "check")]
    connect: bool,
    /// Only a part of the cameras, where N programs with the same file share them: the I-th, counted from 0, or `hostname`
    /// for the number at the end of this host's name [environment: GCLIP_SHARD]
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// What the file says, for this program's part of the cameras.
struct Loaded {
    config: Config,
    text: String,
    shard: Option<Shard>,
    /// How many cameras there are in all.
    all: usize,
}

impl Args {
    fn load(&self) -> Result<Loaded> {
        let shard = Shard::chosen(self.shard).map_err(|why| anyhow!("{why}"))?;
        let (mut config, text) = config::load(&self.config)?;
        let all = config.cameras.len();
        if let Some(shard) = shard {
            shard.keep_own(&mut config.cameras);
        }
        Ok(Loaded { config, text, shard, all })
    }
}

/// How many cameras there are, and of how many.
fn of_all(config: &Config, all: usize) -> String {
    match config.cameras.len() {
        own if own == all => own.to_string(),
        own => format!("{own} of {all}"),
    }
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let started = Instant::now();
    gst::init().context("GStreamer does not start")?;
    gstgclip::plugin_register_static().context("the gclip plugin does not register")?;
    let Loaded { config, text, shard, all } = args.load().map_err(Failure::of_config)?;
    let console = Arc::new(Console::default());
    // Before the model, which takes its time: who stops the program meanwhile is heeded.
    let signals = Signals::catch()?;
    let mut fleet = Fleet::new(&config.model, &console);
    let checked = fleet.check(&config).with_context(|| args.config.display().to_string());
    checked.map_err(Failure::of_config)?;
    if args.check {
        for camera in &config.cameras {
            camera.doubts.iter().for_each(|doubt| console.log(&camera.name, &format!("note: {doubt}")));
        }
        let (cameras, outputs) = (of_all(&config, all), config.outputs.len());
        say!("{}: cameras: {cameras}, outputs: {outputs}, no mistake found", args.config.display());
        if args.connect {
            connect::try_all(&config, &console)?;
        }
        return Ok(());
    }
    let board = Board::new(SystemTime::now());
    if let Some(address) = config.metrics {
        metrics::serve(address, board.clone())?;
    }
    let (mut desk, bell) = Desk::new(&args.config, shard, text);
    if let Some(web) = &config.web {
        web::serve(web, web::House::new(bell, &board, &fleet))?;
        console.log("gclip", &format!("the cameras are shown at http://{}", web.listen));
    }
    fleet.apply(&config)?;
    console.log("gclip", &format!("cameras: {}, run {}", of_all(&config, all), fleet.run_name()));
    let mut service = Service::ready();
    if let Err(error) = &service {
        console
            .log("gclip", &format!("the service manager cannot be told that cameras are watched: {error}"));
    }
    let mut changes = Changes { fleet: &mut fleet, desk: &mut desk, config: &config };
    let why = stay(&mut changes, &console, &signals, &board, service.as_mut().ok())?;

    if let Ok(service) = &service {
        service.stopping();
    }
    console.log("gclip", &format!("stopping: {why}"));
    let unheard = fleet.is_unheard();
    fleet.close();
    let seconds = started.elapsed().as_secs();
    console.log("gclip", &format!("stopped after {} h {} min: {why}", seconds / 3600, seconds / 60 % 60));
    if unheard {
        return Err(Failure::of_output(anyhow!("stopped: {why}")));
    }
    if gstgclip::engine::gpu_fault().is_some() {
        return Err(anyhow!("stopped: {why}").into());
    }
    Ok(())
}

/// Until it is time to stop; returns why.
fn stay(
    changes: &mut Changes,
    console: &Console,
    signals: &Signals,
    board: &Board,
    mut service: Option<&mut Service>,
) -> Result<String> {
    let mut lines = console.is_terminal().then(StatusLines::new).transpose()?;
    let mut refreshed = None::<Instant>;
    let why = loop {
        if let Some(signal) = signals.stop() {
            break signal.to_string();
        }
        if changes.fleet.is_unheard() {
            break "nobody reads any output any more".to_string();
        }
        // A GPU that has failed stays so for this process: its service manager is to start another.
        if let Some(fault) = gstgclip::engine::gpu_fault() {
            break fault.to_string();
        }
        if signals.reload() {
            changes.reload(console);
        }
        changes.wished(console);
        let fleet = &mut *changes.fleet;
        if refreshed.is_none_or(|at| at.elapsed() >= REFRESH) {
            refreshed = Some(Instant::now());
            let snapshot = fleet.snapshot();
            if let Some(lines) = &mut lines {
                lines.refresh(console, &snapshot.cameras);
            }
            let model =
                |field| snapshot.model.as_ref().and_then(|stats| stats.get::<u64>(field).ok()).unwrap_or(0);
            if let Some(service) = &mut service {
                service.alive(Instant::now(), model("batches"), model("queue-level"));
            }
            board.put(snapshot);
            fleet.tell_losses();
        }
        std::thread::sleep(LOOK);
    };
    if let Some(lines) = lines {
        lines.clear(console);
    }
    Ok(why)
}

/// What changes while cameras are watched.
struct Changes<'a> {
    fleet: &'a mut Fleet,
    desk: &'a mut Desk,
    /// As the program was started.
    config: &'a Config,
}

impl Changes<'_> {
    fn reload(&mut self, console: &Console) {
        let path = self.desk.path().display().to_string();
        match self.desk.reload(self.fleet, self.config) {
            Ok(changes) => console.log("gclip", &format!("{path} read again: {changes}")),
            Err(error) => {
                let why = console.hide(&format!("{error:#}"));
                console.log("gclip", &format!("read again, and nothing changed: {why}"));
            }
        }
    }

    fn wished(&mut self, console: &Console) {
        for done in self.desk.work(self.fleet, self.config) {
            console.log("gclip", &format!("by the web: {done}"));
        }
    }
}
