// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thresholds of classes from labelled pictures: those with which each has the best intersection over union. What a threshold
//! takes from a class goes to none, so each class has its own best one, whatever those of the others are.

use std::path::Path;

use anyhow::{Context, Result};
use gstgclip::model::Thresholds;

use super::Args;
use super::histogram::{BINS, Histogram};
use super::probabilities::Probabilities;
use crate::eval::images;
use crate::eval::pairs::{self, Pairs};
use crate::eval::truth::Truth;
use crate::model_args::Ready;
use crate::progress;
use crate::say::{complain, say};

/// Pixels of one class.
#[derive(Clone, Default)]
struct Found {
    /// That it wins and are its own, and that it wins and are another's, by probability.
    right: Histogram,
    wrong: Histogram,
    /// That are its own.
    labelled: u64,
}

pub fn run(args: &Args, pictures: &Path, labels: &Path, prompts: &Path) -> Result<()> {
    let truth = Truth::new(prompts, &args.truth, &args.words.background)?;
    let options = args.look.options()?;
    let Pairs { pairs, .. } = pairs::find(pictures, labels, None)?;
    let mut ready = Ready::load(&args.model, &args.words, &truth.prompts, args.look.size)?;
    let truth = truth.with_labels(&ready.vocabulary.labels);
    let mut found = vec![Found::default(); truth.labels.len()];
    let bar = progress::counter(pairs.len())?;
    for pair in &pairs {
        let labels = truth.rules.read(&pair.labels)?;
        let image = images::read(&pair.picture)?;
        let seen = Probabilities::of(&mut ready, &image, &options, |sizes| sizes.model)?;
        let (height, width) = seen.size;
        let winners: Vec<(usize, f32)> = (0..seen.places()).map(|place| seen.winner(place)).collect();
        let values = winners.iter().map(|(value, _)| u16::try_from(*value));
        let values =
            values.collect::<Result<Vec<_>, _>>().context("more classes than a mask has values for")?;
        let to = (labels.width, labels.height);
        let classes = truth.classes(&values, (width, height), to)?;
        let places = truth.nearest((width, height), to);
        for ((&is, &seen), place) in labels.classes.iter().zip(&classes).zip(places) {
            let Some(own) = found.get_mut(usize::from(is)) else { continue }; // does not count
            own.labelled += 1;
            // What wins for the background has no threshold.
            let wins = found.get_mut(usize::from(seen)).filter(|_| winners[place].0 > 0);
            if let Some(wins) = wins {
                let counts = if seen == is { &mut wins.right } else { &mut wins.wrong };
                counts.add(winners[place].1);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    say!("{:<32} {:>9} {:>9} {:>9}", "class", "IoU", "limit", "then");
    let mut limits = Vec::new();
    for (label, found) in truth.labels.iter().zip(&found) {
        if found.labelled == 0 {
            complain!("gclip: note: no picture has the label of \"{label}\"");
            continue;
        }
        let (limit, then) = found.best();
        say!("{label:<32} {:>9.2} {limit:>9.3} {:>9.2}", 100.0 * found.iou(0), 100.0 * then);
        if limit > 0.0 {
            limits.push((label.clone(), limit));
        }
    }
    say!("\n{} pictures, {}\n", pairs.len(), ready.info.method);
    say!("prompt-thresholds=\"{}\"", Thresholds::new(limits)?);
    Ok(())
}

impl Found {
    /// Where only probabilities from this bin on are left.
    fn iou(&self, bin: usize) -> f64 {
        let (right, wrong) = (self.right.from(bin), self.wrong.from(bin));
        right as f64 / (self.labelled + wrong).max(1) as f64
    }

    /// The lowest limit, in thousandths, with which the intersection over union is best; and that.
    fn best(&self) -> (f64, f64) {
        let all = (0..=BINS).map(|bin| (bin as f64 / BINS as f64, self.iou(bin)));
        all.fold((0.0, f64::NEG_INFINITY), |best, this| if this.1 > best.1 { this } else { best })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_limit_takes_what_is_mostly_wrong() {
        let mut found = Found { labelled: 4, ..Found::default() };
        assert_eq!(found.best(), (0.0, 0.0), "it is never won");
        [0.9, 0.8, 0.3].into_iter().for_each(|probability| found.right.add(probability));
        [0.5, 0.4, 0.4].into_iter().for_each(|probability| found.wrong.add(probability));
        // 3 of 7 without a limit, 2 of 4 above what is wrong: the lowest such limit is just above one half.
        assert_eq!(found.iou(0), 3.0 / 7.0);
        assert_eq!(found.best(), (0.501, 0.5));
        // With one wrong place alone, at the bottom, all that is right stays.
        let mut found = Found { labelled: 3, ..Found::default() };
        [0.9, 0.8, 0.3].into_iter().for_each(|probability| found.right.add(probability));
        found.wrong.add(0.1);
        assert_eq!(found.best(), (0.101, 1.0));
    }
}
