// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip eval`: masks against ground truth. Pictures: mIoU, pixel accuracy, speed. Video: steadiness over time.

mod confusion;
mod labels;
mod pairs;
mod report;
mod truth;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstgclip::model::{Ids, InferOptions, Request, Segmentation};

use crate::model_args::{LookArgs, ModelArgs, Ready, WordArgs};
use crate::{picture, progress};
use confusion::Confusion;
use labels::Labels;
pub use pairs::files_below;
use pairs::{Pair, Pairs};
use report::{Report, Timing};
use truth::Truth;

/// Line k of the prompts file (from 0) is label value k; with --reduce-zero-label, value k + 1. A pixel that no class
/// wins (below the threshold, or won by a name of --background) counts as missed, unless --background-label
/// names the label value that means background.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of pictures (VOC, ADE20K, Cityscapes and CamVid layouts are known).
    #[arg(long)]
    images: PathBuf,
    /// Folder of label PNGs: grey values, palette indices, or colours with --label-colors.
    #[arg(long)]
    labels: PathBuf,
    #[command(flatten)]
    truth: truth::TruthArgs,
    /// Only the pictures this file names, one a line (VOC's ImageSets).
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Only the first N pictures.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Pictures that go through the model together.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    batch_size: u16,
    /// Write the numbers as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    words: WordArgs,
    #[command(flatten)]
    look: LookArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let options = args.look.options()?;
    let truth = Truth::new(&args.truth, &args.words.background)?;
    let only = args.list.as_deref().map(pairs::read_list).transpose()?;
    let Pairs { mut pairs, unlabelled } = pairs::find(&args.images, &args.labels, only.as_ref())?;
    pairs.truncate(args.limit.unwrap_or(usize::MAX));
    if pairs.is_empty() {
        bail!("--limit 0 leaves no picture");
    }
    let mut ready = Ready::load(&args.model, &args.words, &truth.prompts)?;

    let mut confusion = Confusion::new(truth.labels.len());
    let mut timing = Timing { model: Duration::ZERO, whole: Duration::ZERO };
    let start = Instant::now();
    let bar = progress::counter(pairs.len())?;
    for batch in pairs.chunks(usize::from(args.batch_size)) {
        let (truths, answers, time) = look(batch, &mut ready, &truth, &options)?;
        timing.model += time;
        for (labels, answer) in truths.iter().zip(&answers) {
            confusion.add(&labels.classes, &truth.predicted(answer, (labels.width, labels.height))?);
        }
        bar.inc(batch.len() as u64);
        bar.set_message(format!("mIoU {}", report::percent(confusion.mean_iou())));
    }
    bar.finish_and_clear();
    timing.whole = start.elapsed();

    let counts = (pairs.len(), unlabelled);
    let report = Report::new(&confusion, &truth.labels, counts, &timing, &args.model.model, &ready);
    report.print();
    if let Some(path) = &args.json {
        report::write_json(&report, path)?;
    }
    Ok(())
}

/// Reads pictures and labels and runs the model on them.
fn look(
    batch: &[Pair],
    ready: &mut Ready,
    truth: &Truth,
    options: &InferOptions,
) -> Result<(Vec<Labels>, Vec<Segmentation>, Duration)> {
    let mut truths = Vec::with_capacity(batch.len());
    let mut requests = Vec::with_capacity(batch.len());
    for pair in batch {
        truths.push(truth.rules.read(&pair.labels)?);
        requests.push(Request {
            picture: picture::for_model(&picture::read(&pair.picture)?)?,
            vocabulary: ready.vocabulary.clone(),
            options: options.clone(),
        });
    }
    let start = Instant::now();
    let (answers, _) = ready.vision.infer(&requests).with_context(|| {
        let names: Vec<_> = batch.iter().map(|pair| pair.picture.display().to_string()).collect();
        format!("cannot segment {}", names.join(", "))
    })?;
    Ok((truths, answers, start.elapsed()))
}

/// Mask values as 16-bit numbers.
pub fn values(ids: &Ids) -> Vec<u16> {
    match ids {
        Ids::U8(values) => values.iter().map(|&value| u16::from(value)).collect(),
        Ids::U16(values) => values.clone(),
    }
}
