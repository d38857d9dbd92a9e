// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thresholds of classes from a video that shows none of them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use gstgclip::model::Thresholds;

use super::Args;
use super::histogram::Histogram;
use super::probabilities::Probabilities;
use crate::frames::Frames;
use crate::model_args::Ready;
use crate::say::{complain, say};
use crate::{progress, segment, start};

/// A class that wins so much of a video is probably in it.
const SUSPICIOUS: f64 = 0.05;

pub fn run(args: &Args, video: &Path, prompts: &str) -> Result<()> {
    start::gstreamer()?;
    let prompts = segment::prompts(prompts, &args.words.background)?;
    let options = args.look.options()?;
    let mut ready = Ready::load(&args.model, &args.words, &prompts, args.look.size)?;
    let labels = ready.vocabulary.labels.clone();
    let name = video.display();

    let mut counts = vec![Histogram::default(); labels.len()];
    let mut won = vec![0u64; labels.len() + 1];
    let (mut looked, mut places) = (0, 0);
    let mut frames = Frames::of(video, args.every as usize)?;
    let bar = progress::counter(0)?;
    while let Some(frame) = frames.next().with_context(|| format!("cannot read {name}"))? {
        let seen = Probabilities::of(&mut ready, &frame, &options, |sizes| sizes.grid)?;
        for (class, counts) in seen.of_classes().zip(&mut counts) {
            class.iter().for_each(|&probability| counts.add(probability));
        }
        (0..seen.places()).for_each(|place| won[seen.winner(place).0] += 1);
        looked += 1;
        places += seen.places() as u64;
        bar.set_position(looked);
    }
    bar.finish_and_clear();
    ensure!(looked > 0, "{name} has no frames");

    say!("{:<32} {:>9} {:>9} {:>9}", "class", "limit", "largest", "won");
    let mut limits: Vec<(String, f64)> = Vec::with_capacity(labels.len());
    for ((label, counts), &won) in labels.iter().zip(&counts).zip(&won[1..]) {
        let (limit, won) = (counts.limit(args.share), won as f64 / places as f64);
        say!("{label:<32} {limit:>9.3} {:>9.3} {:>7.2} %", counts.largest, 100.0 * won);
        if won > SUSPICIOUS {
            complain!(
                "gclip: note: \"{label}\" wins {:.0} % of {name}: is it not there after all?",
                100.0 * won
            );
        }
        // Of two classes of one name the higher limit counts.
        match limits.iter_mut().find(|(known, _)| known == label) {
            Some((_, known)) => *known = known.max(limit),
            None => limits.push((label.clone(), limit)),
        }
    }
    say!("\n{looked} frames of {name}, {}\n", ready.info.method);
    say!("prompt-thresholds=\"{}\"", Thresholds::new(limits)?);
    Ok(())
}
