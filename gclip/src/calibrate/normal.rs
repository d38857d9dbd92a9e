// SPDX-License-Identifier: MIT OR Apache-2.0
//! The score above which a video of sound things raises no more than so many alarms an hour.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use gstgclip::model::anomaly::{Pair, States, baseline};
use gstgclip::model::embeddings::EmbeddingCache;
use gstgclip::model::{AnomalyScore, Model, Vocabulary};
use gstgclip::picture;

use super::Args;
use crate::frames::Frames;
use crate::say::{complain, say};
use crate::{progress, start};

pub fn run(args: &Args, video: &Path) -> Result<()> {
    start::gstreamer()?;
    let thing = args.anomaly.as_deref().unwrap_or_default().trim();
    ensure!(!thing.is_empty(), "give the name of the thing with --anomaly");
    ensure!(
        args.alarms_per_hour >= 0.0,
        "--alarms-per-hour is {}; it must be 0 or more",
        args.alarms_per_hour
    );
    let states = args.anomaly_states.as_deref().map(States::read).transpose()?.unwrap_or_default();
    let Model { info, vision, text } = args.model.load()?;
    let mut text = text.with_context(|| format!("{} has no text tower", args.model.model))?;
    let (cache, names) = (EmbeddingCache::shared(), [thing.to_string()]);
    let pair = Pair::new(&states, |templates| {
        cache.features(&info.hash, templates, info.embed_dim, &names, &mut |texts| text.encode(texts))
    })?;

    let (memory, nobody) = (baseline::Memory::default(), Arc::new(Vocabulary::default()));
    let (mut scores, mut looked) = (Vec::new(), 0u32);
    let mut frames = Frames::of(video, args.every as usize)?;
    let bar = progress::counter(0)?;
    while let Some(frame) = frames.next().with_context(|| format!("cannot read {}", video.display()))? {
        let frame = picture::for_model(&frame)?;
        let map = vision.anomalies(&frame, args.look.size, AnomalyScore::Dense, Some(&pair), None)?;
        let mut maps = [map];
        if args.anomaly_baseline > 0 {
            memory.judge(&mut maps, &nobody, (args.anomaly_baseline, 0.0), None);
        }
        looked += 1;
        if looked > args.anomaly_baseline {
            scores.extend(maps.iter().map(|map| map.score));
        }
        bar.set_position(looked.into());
    }
    bar.finish_and_clear();
    ensure!(
        !scores.is_empty(),
        "{} has {looked} frames to look at, no more than --anomaly-baseline takes",
        video.display()
    );
    let hours = frames.seconds().unwrap_or(0.0) / 3600.0 * scores.len() as f64 / f64::from(looked);
    let allowed = (args.alarms_per_hour * hours).floor() as usize;
    let limit = limit(&scores, allowed);
    say!("{} of {looked} frames of {}, {:.4} h", scores.len(), video.display(), hours);
    say!("highest score {:.4}", scores.iter().copied().fold(0.0, f64::max));
    say!("{} alarms above {limit:.4}, of {} an hour", alarms(&scores, limit), args.alarms_per_hour);
    if args.alarms_per_hour * hours < 1.0 {
        complain!(
            "gclip: note: {hours:.4} h of video say little about {} alarms an hour",
            args.alarms_per_hour
        );
    }
    Ok(())
}

/// How often the score comes to the limit or above it from below.
fn alarms(scores: &[f64], limit: f64) -> usize {
    let before = std::iter::once(f64::NEG_INFINITY).chain(scores.iter().copied());
    scores.iter().zip(before).filter(|(now, before)| **now >= limit && *before < limit).count()
}

/// The lowest limit from which on upwards there are no more than `allowed` alarms.
fn limit(scores: &[f64], allowed: usize) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    sorted.dedup();
    // Just above the highest there is none.
    let mut limit = sorted.first().map_or(1.0, |highest| highest.next_up());
    for &score in &sorted {
        if alarms(scores, score) > allowed {
            break;
        }
        limit = score;
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_lasts_until_the_score_falls() {
        let scores = [0.9, 0.1, 0.6, 0.7, 0.1, 0.8];
        assert_eq!(alarms(&scores, 0.5), 3);
        assert_eq!(alarms(&scores, 0.75), 2);
        assert_eq!(alarms(&scores, 1.0), 0);
    }

    #[test]
    fn the_lowest_limit_that_keeps_the_rate() {
        let scores = [0.1, 0.6, 0.7, 0.1, 0.8, 0.2];
        assert_eq!(limit(&scores, 1), 0.8);
        assert_eq!(limit(&scores, 2), 0.1, "below 0.2 all is one long alarm, and above it two");
        assert!(limit(&scores, 0) > 0.8 && limit(&scores, 0) < 0.81);
        assert_eq!(limit(&[0.5; 4], 1), 0.5);
    }
}
