// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counts since the start and times over a bounded window of the latest samples.

use std::time::Duration;

/// Samples a [`Window`] keeps.
const WINDOW: usize = 512;

/// The latest durations of something, at most 512 of them.
#[derive(Clone, Debug, Default)]
pub struct Window {
    samples: Vec<Duration>,
    /// Where the next sample goes once the window is full.
    next: usize,
}

impl Window {
    pub fn push(&mut self, sample: Duration) {
        if self.samples.len() < WINDOW {
            self.samples.push(sample);
        } else {
            self.samples[self.next] = sample;
            self.next = (self.next + 1) % WINDOW;
        }
    }

    /// Median and 95th percentile (nearest rank); zero when there are no samples.
    pub fn quantiles(&self) -> Quantiles {
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        Quantiles { p50: rank(50), p95: rank(95) }
    }
}

/// The middle and the slow end of a distribution of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    pub p50: Duration,
    pub p95: Duration,
}

/// What a batcher has done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchStats {
    /// Batches handed to the function since the start.
    pub batches: u64,
    /// Requests in them.
    pub requests: u64,
    /// Requests among them that failed.
    pub failed: u64,
    /// Mean requests per batch since the start; 0 before the first.
    pub mean_fill: f64,
    /// From `submit` until the batch was closed.
    pub queue_wait: Quantiles,
    /// Time the function took per batch.
    pub run: Quantiles,
}

/// The running counts behind [`BatchStats`].
#[derive(Clone, Default)]
pub(super) struct Counters {
    batches: u64,
    requests: u64,
    failed: u64,
    wait: Window,
    run: Window,
    /// How often the worker went to sleep; an idle batcher does not add to it.
    pub sleeps: u64,
}

impl Counters {
    pub fn taken(&mut self, waits: impl Iterator<Item = Duration>) {
        self.batches += 1;
        for wait in waits {
            self.requests += 1;
            self.wait.push(wait);
        }
    }

    pub fn ran(&mut self, took: Duration, failed: u64) {
        self.run.push(took);
        self.failed += failed;
    }

    pub fn summary(&self) -> BatchStats {
        BatchStats {
            batches: self.batches,
            requests: self.requests,
            failed: self.failed,
            mean_fill: if self.batches == 0 { 0.0 } else { self.requests as f64 / self.batches as f64 },
            queue_wait: self.wait.quantiles(),
            run: self.run.quantiles(),
        }
    }
}
