// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip calibrate`: limits from material of which is known what it shows, or does not.

mod absent;
mod histogram;
mod labelled;
mod normal;
mod probabilities;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};

use crate::eval::truth::TruthArgs;
use crate::model_args::{LookArgs, ModelArgs, WordArgs};

/// The limits are for these prompts together, with this model and method: a probability is a share among all of them. With other
/// prompts, calibrate again.
#[derive(clap::Args)]
pub struct Args {
    /// A video that shows none of the classes: prints `prompt-thresholds` that keep all but --share of its places from each.
    #[arg(long, value_name = "VIDEO", required_unless_present_any = ["normal", "labels"])]
    absent: Option<PathBuf>,
    /// Folder of label PNGs to the pictures of --images, as `gclip eval` takes them: prints the `prompt-thresholds` with which each class
    /// has the best IoU on them.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["absent", "normal"], requires_all = ["images", "prompts_file"])]
    labels: Option<PathBuf>,
    /// Folder of pictures, with --labels.
    #[arg(long, value_name = "FOLDER", requires = "labels")]
    images: Option<PathBuf>,
    /// With --labels: one class a line, synonyms after commas; line k (from 0) is label value k.
    #[arg(long, value_name = "FILE", requires = "labels", conflicts_with = "prompts")]
    prompts_file: Option<PathBuf>,
    #[command(flatten)]
    truth: TruthArgs,
    /// A video of sound things: prints the score above which they raise no more than --alarms-per-hour.
    #[arg(long, value_name = "VIDEO", conflicts_with = "absent", requires = "anomaly")]
    normal: Option<PathBuf>,
    /// Name of the thing that is looked at for damage.
    #[arg(long, value_name = "NAME", requires = "normal")]
    anomaly: Option<String>,
    /// Alarms that may be false: each time the score rises above the limit.
    #[arg(long, default_value_t = 1.0, requires = "normal", value_name = "RATE")]
    alarms_per_hour: f64,
    /// Frames that say what is usual, as the property of that name; they are not counted.
    #[arg(long, default_value_t = 0, requires = "normal", value_name = "FRAMES")]
    anomaly_baseline: u32,
    /// File of sentences with {}, below the headings [normal] and [abnormal].
    #[arg(long, value_name = "FILE", requires = "normal")]
    anomaly_states: Option<PathBuf>,
    /// Share of the places that may be given to a class that is not there.
    #[arg(long, default_value_t = 0.001)]
    share: f64,
    /// Every nth frame is looked at.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// What to look for, with --absent: classes separated by `;`, synonyms by `,`. Or `@FILE`, one class a line.
    #[arg(long, required_unless_present_any = ["normal", "labels"])]
    prompts: Option<String>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    look: LookArgs,
}

pub fn run(args: &Args) -> Result<()> {
    ensure!((0.0..1.0).contains(&args.share), "--share is {}; it must be from 0 to 1", args.share);
    if let (Some(labels), Some(images), Some(prompts)) = (&args.labels, &args.images, &args.prompts_file) {
        return labelled::run(args, images, labels, prompts);
    }
    match (&args.normal, &args.absent, &args.prompts) {
        (Some(video), ..) => normal::run(args, video),
        (None, Some(video), Some(prompts)) => absent::run(args, video, prompts),
        _ => bail!(
            "give --absent VIDEO with --prompts, --labels with --images and --prompts-file, or --normal VIDEO with --anomaly"
        ),
    }
}
