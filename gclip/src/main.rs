// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip`: text-prompted segmentation on the command line. One file per subcommand; the work is in the library.

// Printing may fail: `say` is for that.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
// What only the commands on the network take of the rest is no mistake.
#![cfg_attr(not(feature = "network"), allow(dead_code, unused_imports))]

mod address;
mod calibrate;
#[cfg(feature = "network")]
mod cameras;
mod eval;
mod exemplar;
mod failure;
#[cfg(feature = "network")]
mod fleet;
mod frames;
mod info;
#[cfg(feature = "network")]
mod jobs;
mod manual;
mod model_args;
#[cfg(feature = "network")]
mod nats;
mod output;
mod progress;
mod property;
#[cfg(feature = "network")]
mod pull;
#[cfg(feature = "network")]
mod random;
mod redact;
mod rtsp;
mod say;
mod segment;
mod start;
mod text;
mod trouble;
#[cfg(feature = "network")]
mod try_out;
mod usage;
mod video;
#[cfg(feature = "network")]
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;

/// Segment pictures and video by text.
#[derive(Parser)]
#[command(name = "gclip", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find limits in material that is known to be without the classes.
    Calibrate(Box<calibrate::Args>),
    /// Find the cameras of the network.
    #[cfg(feature = "network")]
    Cameras(cameras::Args),
    /// Print what completes gclip's arguments in a shell.
    Completions(manual::CompletionsArgs),
    /// Measure masks against labelled pictures: mIoU, pixel accuracy, speed.
    Eval(Box<eval::Args>),
    /// Make a file of classes by example pictures, which then need not be there.
    Exemplar(Box<exemplar::Args>),
    /// Cameras that many machines share: how they are, and which there are.
    #[cfg(feature = "network")]
    Fleet(fleet::Args),
    /// Describe a checkpoint: architecture, sizes, hash, what the method resolves to, what is missing.
    Info(info::Args),
    /// Look at an archive of files with many workers, or on this machine; each file's result once and whole.
    #[cfg(feature = "network")]
    Jobs(Box<jobs::Args>),
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Man(manual::ManArgs),
    /// Fetch a checkpoint from the Hugging Face hub into the local cache.
    #[cfg(feature = "network")]
    Pull(pull::Args),
    /// Segment pictures; write masks, overlays, JSON, logits.
    Segment(Box<segment::Args>),
    /// Encode prompts into a file of text embeddings.
    Text(text::Args),
    /// Try words on a video, pictures or a camera while looking at it, on a page in the browser; without a config.
    #[cfg(feature = "network")]
    Try(try_out::Args),
    /// Segment a video, an RTSP stream or a camera; write the overlay as video and picture, the masks as JSON.
    Video(video::Args),
    /// Watch RTSP cameras for months: one model, prompts per camera, results as JSON lines.
    #[cfg(feature = "network")]
    Watch(watch::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Calibrate(args) => calibrate::run(&args).map_err(Failure::from),
        #[cfg(feature = "network")]
        Command::Cameras(args) => cameras::run(&args).map_err(Failure::from),
        Command::Completions(args) => manual::completions(&args, Cli::command()).map_err(Failure::from),
        Command::Eval(args) => eval::run(&args).map_err(Failure::from),
        Command::Exemplar(args) => exemplar::run(&args).map_err(Failure::from),
        #[cfg(feature = "network")]
        Command::Fleet(args) => fleet::run(&args).map_err(Failure::from),
        Command::Info(args) => info::run(&args).map_err(Failure::from),
        #[cfg(feature = "network")]
        Command::Jobs(args) => jobs::run(&args).map_err(Failure::from),
        Command::Man(args) => manual::man(&args, Cli::command()).map_err(Failure::from),
        #[cfg(feature = "network")]
        Command::Pull(args) => pull::run(&args).map_err(Failure::from),
        Command::Segment(args) => segment::run(&args).map_err(Failure::from),
        Command::Text(args) => text::run(&args).map_err(Failure::from),
        #[cfg(feature = "network")]
        Command::Try(args) => try_out::run(&args),
        Command::Video(args) => video::run(&args).map_err(Failure::from),
        #[cfg(feature = "network")]
        Command::Watch(args) => watch::run(&args),
    };
    match result.and_then(|()| say::finish().map_err(Failure::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { error, code }) => {
            // One line, outermost context first: `what: why: root cause`.
            say::complain!("gclip: {error:#}");
            ExitCode::from(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// clap checks its definitions only when they are used, and then by a panic.
    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
