// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures against labelled pictures: mIoU, pixel accuracy, speed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gstgclip::model::{InferOptions, Request, Segmentation};
use gstgclip::picture::{self, Opened, RgbImage, Turn};

use super::Args;
use super::confusion::Confusion;
use super::labels::Labels;
use super::pairs::{self, Pair, Pairs};
use super::report::{self, Report, Timing};
use super::truth::Truth;
use super::values;
use crate::model_args::Ready;
use crate::progress;
use crate::say::complain;
use gstgclip::gallery::labels_of;

pub fn run(args: &Args, images: &Path, labels: &Path, truth: &Truth) -> Result<()> {
    let options = InferOptions { gate: args.gate.gate()?, ..args.look.options()? };
    let only = args.list.as_deref().map(pairs::read_list).transpose()?;
    let Pairs { mut pairs, unlabelled } = pairs::find(images, labels, only.as_ref())?;
    pairs.truncate(args.limit.unwrap_or(usize::MAX));
    if pairs.is_empty() {
        bail!("--limit 0 leaves no picture");
    }
    let pictured = args.words.pictures.wanted(args.look.size);
    let mut prompts = truth.prompts.clone();
    if let Some(wanted) = pictured.as_ref().filter(|_| args.exemplars_alone) {
        let labels = labels_of(&wanted.source)?;
        prompts.classes.retain(|class| !labels.contains(&class.label));
    }
    let mut ready = Ready::load(&args.model, &args.words, &prompts, args.look.size)?;
    // Classes by pictures alone stand behind the others.
    let truth = &match pictured {
        Some(_) => truth.with_labels(&ready.vocabulary.labels),
        None => truth.clone(),
    };

    let mut confusion = Confusion::new(truth.labels.len());
    let mut timing = Timing { model: Duration::ZERO, whole: Duration::ZERO };
    let start = Instant::now();
    let bar = progress::counter(pairs.len())?;
    for batch in pairs.chunks(usize::from(args.batch_size)) {
        let (truths, answers, time) = look(batch, &mut ready, truth, &options)?;
        timing.model += time;
        for (labels, answer) in truths.iter().zip(&answers) {
            confusion.add(&labels.classes, &predicted(truth, answer, labels)?);
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
            picture: picture::for_model(&read(&pair.picture)?)?,
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

/// As stored, and not as EXIF says: the labels follow the stored pixels.
pub fn read(path: &Path) -> Result<RgbImage> {
    let Opened { image, doubt } = picture::read(path, Turn::AsStored)?;
    if let Some(doubt) = doubt {
        complain!("gclip: {}: {doubt}", path.display());
    }
    Ok(image)
}

fn predicted(truth: &Truth, answer: &Segmentation, labels: &Labels) -> Result<Vec<u16>> {
    truth.classes(&values(&answer.ids), (answer.width, answer.height), (labels.width, labels.height))
}
