// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip watch`: many cameras, one model, for months.
//!
//! ```text
//! config/    the file: cameras, prompts, outputs; every mistake with file, line and key
//! shard      which of them are this program's, where several share them
//! roster     the cameras that are watched; one is added, changed, removed while the others play
//! camera     one camera's thread: connect, watch, wait, again    retry  how long
//! pipeline   one connection: rtspsrc ! decodebin ! ... ! gclipsegment    thin  which frames are looked at
//! local      a video, pictures or a device in the place of a camera in the network
//! report     what a camera tells    line  as JSON    heap  memory of ended connections
//! queue      lines on their way; never blocks a camera    output/  stdout, files, brokers, webhooks
//! state      what is known about a camera -> console (stderr, status lines) and metrics (Prometheus)
//! membership the cameras that a fleet gives to this program
//! desk       changes while cameras are watched    web/  the page, and the interface behind it
//! http       a thread that listens, for the page and the metrics
//! view       a camera's pictures, for who looks    drawn  as JPEG
//! history/   what has happened: the latest in memory, and on disk
//! tls        certificates to serve with    password  of the page, hashed
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
mod drawn;
mod heap;
mod history;
mod http;
mod line;
mod local;
mod membership;
mod metrics;
mod notify;
mod output;
mod password;
mod pipeline;
mod queue;
mod report;
mod retry;
mod roster;
mod shard;
mod state;
mod stop;
mod thin;
mod tls;
mod view;
mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Error, Result, anyhow};

use crate::failure::Failure;
use crate::fleet;
use crate::say::say;
use crate::start;
use config::Config;
use console::{Console, StatusLines};
use desk::{Desk, Part};
use history::History;
use membership::Membership;
use metrics::Board;
use notify::Service;
use roster::Roster;
use shard::Shard;
use stop::Signals;
pub use web::Results;

/// Status lines and metrics are this fresh.
const REFRESH: Duration = Duration::from_millis(500);
/// A signal is heeded after this long.
const LOOK: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct Args {
    /// Cameras, prompts and outputs, in TOML; pipelines/cameras.toml is an example, docs/watch.md explains the keys.
    #[arg(required_unless_present = "hash_password")]
    config: Option<PathBuf>,
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
    /// Ask for a password (or read it from stdin) and print the line for [web] that holds its hash
    #[arg(long, exclusive = true)]
    hash_password: bool,
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
    fn load(&self, path: &Path) -> Result<Loaded> {
        let shard = Shard::chosen(self.shard).map_err(|why| anyhow!("{why}"))?;
        let (mut config, text) = config::load(path)?;
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
    let Some(path) = &args.config else { return Ok(password::ask_and_print()?) };
    start::gstreamer()?;
    let mut loaded = args.load(path).map_err(Failure::of_config)?;
    if args.check {
        // Checking alone touches no folder.
        loaded.config.history = None;
    }
    let all = of_all(&loaded.config, loaded.all);
    let watch = Watch::begin(loaded, path, true)?;
    if args.check {
        for camera in &watch.config.cameras {
            let tell = |doubt: &String| watch.console.log(&camera.name, &format!("note: {doubt}"));
            camera.doubts.iter().for_each(tell);
        }
        let outputs = watch.config.outputs.len();
        say!("{}: cameras: {all}, outputs: {outputs}, no mistake found", path.display());
        if args.connect {
            connect::try_all(&watch.config, &watch.console)?;
        }
        return Ok(());
    }
    watch.run(&all, |_| {})
}

/// Watches what a text says that is in no file yet; saved, it goes to `path`. `shown` is called when its page is there.
pub fn try_out(text: String, path: &Path, shown: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
    start::gstreamer()?;
    let config = config::parse_change(&text, path).map_err(|why| Failure::of_config(anyhow!(why)))?;
    let all = config.cameras.len();
    let loaded = Loaded { config, text, shard: None, all };
    let all = of_all(&loaded.config, loaded.all);
    Watch::begin(loaded, path, false)?.run(&all, shown)
}

/// # Errors
/// What is wrong with a camera's settings, as far as it can be known without the model and the file of a worker.
pub fn check_camera(name: &str, settings: &fleet::Camera) -> Result<(), String> {
    start::gstreamer().map_err(|error| format!("{error:#}"))?;
    let mut table = desk::table(name, settings)?;
    // Which outputs there are is a worker's own, and perhaps the words.
    table.remove("outputs");
    config::camera_of("model = 'any'\n[defaults]\nprompts = 'any'", Path::new(""), table).map(|_| ())
}

/// The cameras of a config as they are written, with what its defaults say, by name.
///
/// # Errors
/// What is wrong with it.
pub fn cameras_of(text: &str) -> Result<BTreeMap<String, fleet::Camera>, String> {
    desk::cameras_of(text)
}

/// Whether a bucket of a fleet may be called so.
pub fn is_name_of_bucket(name: &str) -> bool {
    config::is_of_bucket(name)
}

/// Shows recorded results until a signal. `shown` is called when their page is there.
pub fn show_results(listen: SocketAddr, results: Results, shown: impl FnOnce(SocketAddr)) -> Result<()> {
    let signals = Signals::catch()?;
    shown(web::serve_results(listen, results)?);
    while signals.stop().is_none() {
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What is about to be watched: the model has taken it.
struct Watch {
    started: Instant,
    config: Config,
    text: String,
    path: PathBuf,
    is_in_file: bool,
    shard: Option<Shard>,
    console: Arc<Console>,
    signals: Signals,
    history: Arc<History>,
    roster: Roster,
}

impl Watch {
    fn begin(loaded: Loaded, path: &Path, is_in_file: bool) -> Result<Watch, Failure> {
        let started = Instant::now();
        let Loaded { config, text, shard, all: _ } = loaded;
        let console = Arc::new(Console::default());
        // Before the model, which takes its time: who stops the program meanwhile is heeded.
        let signals = Signals::catch()?;
        let history = Arc::new(History::new(config.history.as_ref(), &console)?);
        let mut roster = Roster::new(&config.model, &console, &history);
        let place = |error: Error| if is_in_file { error.context(path.display().to_string()) } else { error };
        roster.check(&config).map_err(|error| Failure::of_config(place(error)))?;
        Ok(Watch {
            started,
            config,
            text,
            path: path.into(),
            is_in_file,
            shard,
            console,
            signals,
            history,
            roster,
        })
    }

    /// Until it is time to stop. `shown` is called when the page is there.
    fn run(self, all: &str, shown: impl FnOnce(SocketAddr)) -> Result<(), Failure> {
        let Watch { started, config, text, path, is_in_file, shard, console, signals, history, mut roster } =
            self;
        let board = Board::new(SystemTime::now());
        if let Some(address) = config.metrics {
            metrics::serve(address, board.clone())?;
        }
        let part = match (&config.fleet, shard) {
            (Some(_), _) => Part::OfFleet,
            (None, Some(shard)) => Part::Shard(shard),
            (None, None) => Part::All,
        };
        let (mut desk, bell) = Desk::new(&path, is_in_file, part, text.clone());
        if let Some(web) = &config.web {
            let house = web::House::new(bell, &board, &roster, &history, !is_in_file);
            let place = web::serve(web, house, &console)?;
            let scheme = if web.tls.is_some() { "https" } else { "http" };
            console.log("gclip", &format!("the cameras are shown at {scheme}://{place}"));
            shown(place);
        }
        roster.apply(&config)?;
        console.log("gclip", &format!("cameras: {all}, run {}", roster.run_name()));
        let membership =
            config.fleet.clone().map(|fleet| Membership::join(fleet, &path, &text)).transpose()?;
        let mut service = Service::ready();
        if let Err(error) = &service {
            let what = format!("the service manager cannot be told that cameras are watched: {error}");
            console.log("gclip", &what);
        }
        let mut changes = Changes { roster: &mut roster, desk: &mut desk, config: &config, membership };
        let stayed = stay(&mut changes, &console, &signals, &board, service.as_mut().ok());
        let membership = changes.membership;
        let why = stayed.as_ref().map_or_else(|error| console.hide(&format!("{error:#}")), String::clone);

        if let Ok(service) = &service {
            service.stopping();
        }
        console.log("gclip", &format!("stopping: {why}"));
        let unheard = roster.is_unheard();
        membership.iter().for_each(Membership::leave);
        roster.close();
        if let Some(membership) = membership {
            membership.farewell();
        }
        let seconds = started.elapsed().as_secs();
        console.log("gclip", &format!("stopped after {} h {} min: {why}", seconds / 3600, seconds / 60 % 60));
        stayed?;
        if unheard {
            return Err(Failure::of_output(anyhow!("stopped: {why}")));
        }
        if gstgclip::engine::gpu_fault().is_some() {
            return Err(anyhow!("stopped: {why}").into());
        }
        Ok(())
    }
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
        if changes.roster.is_unheard() {
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
        changes.ordered(console)?;
        let roster = &mut *changes.roster;
        if refreshed.is_none_or(|at| at.elapsed() >= REFRESH) {
            refreshed = Some(Instant::now());
            let mut snapshot = roster.snapshot();
            if let Some(membership) = &changes.membership {
                membership.report(&snapshot.cameras);
                snapshot.fleet = Some(membership.standing());
            }
            if let Some(lines) = &mut lines {
                lines.refresh(console, &snapshot.cameras);
            }
            let model =
                |field| snapshot.model.as_ref().and_then(|stats| stats.get::<u64>(field).ok()).unwrap_or(0);
            if let Some(service) = &mut service {
                service.alive(Instant::now(), model("batches"), model("queue-level"));
            }
            board.put(snapshot);
            roster.tell_losses();
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
    roster: &'a mut Roster,
    desk: &'a mut Desk,
    /// As the program was started.
    config: &'a Config,
    membership: Option<Membership>,
}

impl Changes<'_> {
    fn reload(&mut self, console: &Console) {
        let path = self.desk.path().display().to_string();
        match self.desk.reload(self.roster, self.config) {
            Ok(changes) => console.log("gclip", &format!("{path} read again: {changes}")),
            Err(error) => {
                let why = console.hide(&format!("{error:#}"));
                console.log("gclip", &format!("read again, and nothing changed: {why}"));
            }
        }
    }

    /// What the fleet says, if there is one.
    fn ordered(&mut self, console: &Console) -> Result<()> {
        let Some(membership) = &mut self.membership else { return Ok(()) };
        membership.work(self.roster, self.config, console)
    }

    fn wished(&mut self, console: &Console) {
        for done in self.desk.work(self.roster, self.config) {
            console.log("gclip", &format!("by the web: {done}"));
        }
    }
}
