// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip jobs`: an archive of files over many workers, or over one machine.
//!
//! ```text
//! collect    files and folders -> jobs        job  one file with what is to be done, and its id
//! queue      what a worker asks of a queue
//!   remote     on NATS servers, for any number of workers    reactor  the thread of its connection
//!   local      in this process, with a journal               alone    starts it again when it goes down
//! policy     when a job is tried again, alone, or no more    gate  how many run at a time
//! work       a worker: take, look, put in place, settle
//!   look       one file to its results, one model for all
//!   place      where results go: beside, then renamed; or a store    http  its way there
//! status     how far it is
//! ```
//!
//! Each job ends once. Its results are in their place before its end is told, and the same again if it is run again.

mod alone;
mod collect;
mod gate;
mod http;
mod job;
mod local;
mod look;
mod place;
mod policy;
mod queue;
mod reactor;
mod remote;
#[cfg(test)]
mod simulation;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;

use crate::nats::args::Args as NatsArgs;
use crate::say::{complain, say};
use crate::{progress, property, redact, segment, start};
use job::{Job, Settings};
use local::Local;
use queue::{Done, Priority, Queue, Taken};
use remote::Remote;
use status::Shown;
use work::{Teller, Work};

/// The journal of `gclip jobs run` in the folder of the results.
const JOURNAL: &str = ".gclip-jobs.jsonl";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Take files that wait out of a queue, and stop those that are run
    Cancel(CancelArgs),
    /// Do it all on this machine, without a server; the same command again goes on where it was
    Run(RunArgs),
    /// Tell how many files wait, run, are done and are set aside
    Status(StatusArgs),
    /// Put files on a queue, a job each
    Submit(SubmitArgs),
    /// Take jobs from a queue and do them; any number of these on any number of machines
    Work(WorkArgs),
}

#[derive(clap::Args)]
struct QueueArgs {
    /// Name of the queue: an archive of its own
    #[arg(long, default_value = "jobs", value_name = "NAME")]
    queue: String,
    #[command(flatten)]
    nats: NatsArgs,
}

#[derive(clap::Args)]
struct FileArgs {
    /// Videos and pictures (PNG, JPEG), folders of them, http:// and https:// addresses. A worker has to see them by the
    /// same path.
    #[arg(required = true)]
    files: Vec<String>,
    /// Checkpoint folder or file, or a Hugging Face id that is in the local cache of each worker.
    #[arg(long)]
    model: String,
    /// What to look for: classes separated by `;`, synonyms by `,`. Or `@FILE`, one class a line.
    #[arg(long)]
    prompts: String,
    /// Names that compete for pixels and stay undrawn, separated by `,`.
    #[arg(long, default_value = "")]
    background: String,
    /// Where the results go: a folder, which is made if missing, or an object store, s3://BUCKET/FOLDER (keys and endpoint from
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT).
    #[arg(long, value_name = "FOLDER|URL")]
    out: String,
    /// Also leave each video with its masks drawn (.mp4 and .png), each picture tinted (.png).
    #[arg(long)]
    overlay: bool,
    /// Any other property of gclipsegment, such as `input-size=448`; may be repeated.
    #[arg(long = "set", value_name = "PROPERTY=VALUE")]
    settings: Vec<String>,
    /// With --overlay, any property of gclipoverlay, such as `mode=contour`; may be repeated.
    #[arg(long = "draw", value_name = "PROPERTY=VALUE", requires = "overlay")]
    drawing: Vec<String>,
    /// Also files that are done, set aside or cancelled: once more from the beginning.
    #[arg(long)]
    again: bool,
}

#[derive(clap::Args)]
struct SubmitArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Files of a higher one are begun first.
    #[arg(long, value_enum, default_value_t)]
    priority: Priority,
    /// A worker of which nothing is heard for so long is taken for gone, and its files go to others; of the whole queue, from
    /// now on [default: 20, or as it is]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    patience: Option<u64>,
    #[command(flatten)]
    queue: QueueArgs,
}

#[derive(clap::Args)]
struct WorkArgs {
    /// Files at a time, all on one model.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// End when every file of the queue is done, instead of waiting for more.
    #[arg(long)]
    until_empty: bool,
    #[command(flatten)]
    queue: QueueArgs,
}

#[derive(clap::Args)]
struct StatusArgs {
    /// Show a bar until every file is done; with --json a line for each change.
    #[arg(long)]
    watch: bool,
    /// One JSON object, with all files that were set aside and why.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    queue: QueueArgs,
}

#[derive(clap::Args)]
struct CancelArgs {
    /// The files, as they were handed in.
    #[arg(required_unless_present = "all")]
    files: Vec<String>,
    /// All files of the queue that are not done.
    #[arg(long, conflicts_with = "files")]
    all: bool,
    #[command(flatten)]
    queue: QueueArgs,
}

#[derive(clap::Args)]
struct RunArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Files at a time, all on one model.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// What is done already stands here [default: .gclip-jobs.jsonl in the folder of --out]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Submit(args) => submit(args),
        Command::Work(args) => work(args),
        Command::Status(args) => {
            status::show(&args.queue.open()?, &Shown { json: args.json, watch: args.watch })
        }
        Command::Cancel(args) => cancel(args),
        Command::Run(args) => alone::supervise(|| run_here(args)),
    }
}

impl QueueArgs {
    fn open(&self) -> Result<Remote> {
        Remote::find(&self.nats.servers()?, &self.queue)
    }
}

impl FileArgs {
    /// A job for each file. What would fail for each of them fails here.
    fn jobs(&self) -> Result<Vec<Job>> {
        start::gstreamer()?;
        let prompts = segment::prompts(&self.prompts, &self.background)?;
        // Workers may have another current folder.
        let model = match Path::new(&self.model).exists() {
            true => collect::source(Path::new(&self.model))?,
            false => self.model.clone(),
        };
        let settings = Settings {
            model,
            prompts: prompts.to_string(),
            background: self.background.clone(),
            set: self.settings.clone(),
            draw: self.overlay.then(|| self.drawing.clone()),
        };
        look::element(&settings)?;
        let overlay =
            gst::ElementFactory::make("gclipoverlay").build().context("there is no gclipoverlay")?;
        property::set_all(&overlay, &self.drawing)?;
        collect::collect(&self.files, &place::written(&self.out)?, &settings)
    }
}

fn submit(args: &SubmitArgs) -> Result<()> {
    let servers = args.queue.nats.servers()?;
    let jobs = args.files.jobs()?;
    let patience = args.patience.map(Duration::from_secs);
    let queue = Remote::make(&servers, &args.queue.queue, patience)?;
    let bar = progress::counter(jobs.len())?;
    let handed_in = queue.hand_in(&jobs, args.priority, args.files.again, &|count| bar.inc(count))?;
    bar.finish_and_clear();
    say!("{} handed in", files(handed_in.new));
    if handed_in.known > 0 {
        let hint = if args.files.again { "" } else { " (--again: those that have ended once more)" };
        say!("{} were there already{hint}", handed_in.known);
    }
    Ok(())
}

fn work(args: &WorkArgs) -> Result<()> {
    let servers = args.queue.nats.servers()?;
    start::gstreamer()?;
    let queue = Remote::make(&servers, &args.queue.queue, None)?;
    let work = Work {
        queue: &queue,
        at_once: args.at_once.into(),
        until_empty: args.until_empty,
        teller: &Lines::default(),
    };
    work::work(&work)
}

fn cancel(args: &CancelArgs) -> Result<()> {
    let known = |file: &String| match file.contains("://") && !file.starts_with("file://") {
        true => Ok(file.clone()),
        false => collect::source(Path::new(file)),
    };
    let sources = args.files.iter().map(known).collect::<Result<Vec<String>>>()?;
    let cancelled = args.queue.open()?.cancel((!args.all).then_some(&sources))?;
    say!("{} cancelled", files(cancelled));
    Ok(())
}

/// The whole of it in this process.
fn run_here(args: &RunArgs) -> Result<()> {
    let jobs = args.files.jobs()?;
    let out = place::written(&args.files.out)?;
    let journal = match &args.journal {
        Some(path) => path.clone(),
        None if out.contains("://") => bail!("--journal FILE is needed where the results go to a store"),
        None => Path::new(&out).join(JOURNAL),
    };
    // Before anything is looked at; a journal of what is nowhere does no good either.
    place::Place::open(&out)?;
    let queue = Local::open(&journal, jobs, args.files.again)?;
    let counts = queue.counts()?;
    if counts.done > 0 {
        say!("{} of {} files are done already", counts.done, counts.total());
    }
    let bar = status::bar(&counts)?;
    let teller = Lines { bar: Some((&queue, bar.clone())) };
    let work = Work { queue: &queue, at_once: args.at_once.into(), until_empty: true, teller: &teller };
    let worked = work::work(&work);
    bar.finish_and_clear();
    let counts = queue.counts()?;
    let goes_on = format!("{} of {} files are done; the same command goes on", counts.done, counts.total());
    worked.with_context(|| goes_on.clone())?;
    ensure!(counts.is_over(), "stopped: {goes_on}");
    say!("{} done", files(usize::try_from(counts.done).unwrap_or(usize::MAX)));
    ensure!(counts.set_aside == 0, "{} of {} files were set aside", counts.set_aside, counts.total());
    Ok(())
}

/// Tells a line a file, above the bar if there is one.
#[derive(Default)]
struct Lines<'a> {
    bar: Option<(&'a dyn Queue, ProgressBar)>,
}

impl Lines<'_> {
    fn tell(&self, say: impl FnOnce()) {
        let Some((queue, bar)) = &self.bar else { return say() };
        bar.suspend(say);
        if let Ok(counts) = queue.counts() {
            status::update(bar, &counts);
        }
    }
}

impl Teller for Lines<'_> {
    fn done(&self, taken: &Taken, done: &Done) {
        let (source, rate) = (redact::urls(&taken.job.source), done.frames as f64 / done.seconds.max(1e-9));
        let text = match taken.job.is_picture() {
            true => format!("{source}: done in {:.1} s", done.seconds),
            false => format!("{source}: {} frames in {:.1} s ({rate:.1}/s)", done.frames, done.seconds),
        };
        self.tell(|| say!("{text}"));
    }

    fn set_aside(&self, taken: &Taken, why: &str) {
        let source = redact::urls(&taken.job.source);
        self.tell(|| complain!("gclip: {source} is set aside: {why}"));
    }

    fn remark(&self, text: &str) {
        self.tell(|| complain!("gclip: {text}"));
    }
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

/// This process, as others are told of it.
fn worker() -> String {
    format!("{}-{}", glib::host_name(), std::process::id())
}
