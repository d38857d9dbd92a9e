// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one model has done, for all its streams together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::batch::{BatchStats, Quantiles, Window};
use crate::model::StageTimes;

/// Counts since the model was loaded; times over its latest 512 forwards. All zero before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineStats {
    pub batch: BatchStats,
    /// Time per forward: pixels to the tower's input.
    pub preprocess: Quantiles,
    /// Time per forward: vision tower and scoring.
    pub forward: Quantiles,
    /// Time per forward: scores to masks.
    pub decode: Quantiles,
    /// Names of prompts that were known already, in memory or on disk.
    pub cache_hits: u64,
    /// Names of prompts that had to be encoded.
    pub cache_misses: u64,
    /// Sentences that went through the text tower: each name that was missed, in every template.
    pub texts_encoded: u64,
    /// How often other weights have taken the place of those before.
    pub reloads: u64,
}

/// What all weights of one engine count together.
#[derive(Clone, Default)]
pub(super) struct Counters {
    pub stages: Arc<Mutex<Stages>>,
    pub text: Arc<TextCounters>,
    pub reloads: Arc<AtomicU64>,
}

/// The latest times of each stage.
#[derive(Clone, Default)]
pub(super) struct Stages {
    preprocess: Window,
    forward: Window,
    decode: Window,
}

impl Stages {
    pub fn push(&mut self, times: StageTimes) {
        self.preprocess.push(times.preprocess);
        self.forward.push(times.forward);
        self.decode.push(times.decode);
    }

    pub fn summary(&self, batch: BatchStats, counters: &Counters) -> EngineStats {
        let text = &counters.text;
        EngineStats {
            batch,
            preprocess: self.preprocess.quantiles(),
            forward: self.forward.quantiles(),
            decode: self.decode.quantiles(),
            cache_hits: text.hits.load(Ordering::Relaxed),
            cache_misses: text.misses.load(Ordering::Relaxed),
            texts_encoded: text.texts.load(Ordering::Relaxed),
            reloads: counters.reloads.load(Ordering::Relaxed),
        }
    }
}

/// How often this engine's text encoder was spared.
#[derive(Default)]
pub(super) struct TextCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    texts: AtomicU64,
}

impl TextCounters {
    /// `names` were asked for; for some of them `texts` sentences were encoded, `templates` for each.
    pub fn count(&self, names: usize, texts: usize, templates: usize) {
        let misses = texts / templates.max(1);
        self.hits.fetch_add(names.saturating_sub(misses) as u64, Ordering::Relaxed);
        self.misses.fetch_add(misses as u64, Ordering::Relaxed);
        self.texts.fetch_add(texts as u64, Ordering::Relaxed);
    }
}
