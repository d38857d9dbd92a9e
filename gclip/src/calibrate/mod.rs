// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip calibrate`: limits from material of which is known what it does not show.

mod absent;
mod histogram;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::model_args::{LookArgs, ModelArgs, WordArgs};
use crate::segment::PromptArgs;

/// The limits are for these prompts together, with this model and method: a probability is a share among all of them. With other
/// prompts, calibrate again.
#[derive(clap::Args)]
pub struct Args {
    /// A video that shows none of the classes: prints `prompt-thresholds` that keep all but --share of its places from each.
    #[arg(long, value_name = "VIDEO")]
    absent: PathBuf,
    /// Share of the places that may be given to a class that is not there.
    #[arg(long, default_value_t = 0.001)]
    share: f64,
    /// Every nth frame is looked at.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    look: LookArgs,
}

pub fn run(args: &Args) -> Result<()> {
    ensure!((0.0..1.0).contains(&args.share), "--share is {}; it must be from 0 to 1", args.share);
    absent::run(args)
}
