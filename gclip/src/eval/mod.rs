// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip eval`: masks against ground truth. Pictures: mIoU, pixel accuracy, speed. Video: steadiness over time.

mod agreement;
mod anomaly;
pub mod confusion;
mod consistency;
mod curve;
pub mod images;
pub mod labels;
pub mod pairs;
mod report;
pub mod truth;
mod video;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use gstgclip::model::Ids;

use crate::model_args::{GateArgs, LookArgs, ModelArgs, WordArgs};
pub use pairs::files_below;
use truth::Truth;

/// Line k of the prompts file (from 0) is label value k; with --reduce-zero-label, value k + 1. A pixel that no class
/// wins (below the threshold, or won by a name of --background) counts as missed, unless --background-label
/// names the label value that means background.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of pictures (VOC, ADE20K, Cityscapes and CamVid layouts are known). They are looked at as they are stored, as
    /// labels follow the stored pixels: EXIF orientation is not heeded.
    #[arg(long, value_name = "FOLDER", required_unless_present = "video", requires = "labels")]
    images: Option<PathBuf>,
    /// A video file, turned as it says: how steady its masks are. With --labels, one PNG a frame in the order of their names, mVC8 and
    /// mVC16; always the flicker of pixels that stand still.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["images", "list", "batch_size"])]
    video: Option<PathBuf>,
    /// Folder of label PNGs: grey values, palette indices, or colours with --label-colors.
    #[arg(long, value_name = "FOLDER")]
    labels: Option<PathBuf>,
    /// One class a line, synonyms after commas; line k (from 0; blank lines and comments do not count) is label value k.
    #[arg(long, value_name = "FILE", required_unless_present = "anomaly")]
    prompts_file: Option<PathBuf>,
    #[command(flatten)]
    truth: truth::TruthArgs,
    #[command(flatten)]
    anomaly: anomaly::AnomalyArgs,
    /// Only the pictures this file names, one a line (VOC's ImageSets).
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Only the first N pictures or frames.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Pictures that go through the model together.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch_size: u16,
    /// A pixel stands still when no channel changes by more than this (with --video).
    #[arg(long, default_value_t = 8, value_name = "0..255")]
    still: u8,
    /// Classes that have example pictures (--exemplars) are found by them alone, and not by their words too.
    #[arg(long, conflicts_with = "video")]
    exemplars_alone: bool,
    /// Any other property of gclipsegment, such as `inference-interval=2` (with --video); may be repeated.
    #[arg(long = "set", value_name = "PROPERTY=VALUE", requires = "video")]
    settings: Vec<String>,
    /// Play the video twice, first without token reuse, and report how far the masks agree, and both times (with --video).
    #[arg(long, value_enum, value_name = "RUN", requires = "video")]
    against: Option<Against>,
    /// Write the numbers as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    look: LookArgs,
    #[command(flatten)]
    gate: GateArgs,
}

/// What a run over a video is compared with.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Against {
    /// The same, every frame looked at as a whole.
    Whole,
}

pub fn run(args: &Args) -> Result<()> {
    if let (true, Some(images), Some(labels)) = (args.anomaly.is_wanted(), &args.images, &args.labels) {
        return anomaly::run(args, images, labels);
    }
    let file = args.prompts_file.as_deref().context("give --prompts-file")?;
    let truth = Truth::new(file, &args.truth, &args.words.background)?;
    match (&args.video, &args.images, &args.labels) {
        (Some(video), ..) => video::run(args, video, &truth),
        (None, Some(images), Some(labels)) => images::run(args, images, labels, &truth),
        _ => bail!("give --images and --labels, or --video"),
    }
}

/// Mask values as 16-bit numbers.
pub fn values(ids: &Ids) -> Vec<u16> {
    match ids {
        Ids::U8(values) => values.iter().map(|&value| u16::from(value)).collect(),
        Ids::U16(values) => values.clone(),
    }
}
