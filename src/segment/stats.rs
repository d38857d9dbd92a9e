// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `stats` property.

use std::time::Duration;

use super::imp::Segment;
use crate::batch::Quantiles;
use crate::engine::EngineStats;
use crate::frame::Ways;

impl Segment {
    pub fn stats(&self) -> gst::Structure {
        let (counts, level) = self.stream.counts();
        let active = self.loaded.lock().as_ref().and_then(|loaded| loaded.client.active());
        let generation = active.map_or(0, |active| active.generation);
        let reuse = self.stream.memory().reuse_counts();
        let stats = gst::Structure::builder("application/x-gclip-stats")
            .field("frames", counts.frames)
            .field("inferred", counts.inferred)
            .field("reused", counts.reused)
            .field("dropped", counts.dropped)
            .field("skipped-late", counts.skipped)
            .field("skipped-static", counts.skipped_static)
            .field("whole-looks", reuse.whole)
            .field("partial-looks", reuse.partial)
            .field("token-share", reuse.share())
            .field("token-memory", reuse.bytes)
            .field("errors", counts.errors)
            .field("prompt-generation", generation)
            .field("queue-level", level as u64);
        let loaded = self
            .loaded
            .lock()
            .as_ref()
            .map(|loaded| (loaded.client.engine().clone(), loaded.importer.ways()));
        match loaded {
            Some((engine, ways)) => with_model(with_ways(stats, ways), &engine.stats()).build(),
            None => stats.build(),
        }
    }
}

/// Adds how frames came to the model's device, since the model was loaded.
fn with_ways(stats: gst::structure::Builder, ways: Ways) -> gst::structure::Builder {
    stats
        .field("host-frames", ways.host_frames)
        .field("host-copies", ways.host_copies)
        .field("device-frames", ways.device_frames)
        .field("device-copies", ways.device_copies)
}

/// Adds what the model has done, for all elements that share it. Times are in nanoseconds.
fn with_model(stats: gst::structure::Builder, model: &EngineStats) -> gst::structure::Builder {
    let EngineStats { batch, preprocess, forward, decode, cache_hits, cache_misses, texts_encoded, reloads } =
        *model;
    let mut stats = stats
        .field("batches", batch.batches)
        .field("batched-frames", batch.requests)
        .field("mean-batch-fill", batch.mean_fill)
        .field("cache-hits", cache_hits)
        .field("cache-misses", cache_misses)
        .field("texts-encoded", texts_encoded)
        .field("reloads", reloads);
    let stages = [
        ("queue-wait", batch.queue_wait),
        ("preprocess", preprocess),
        ("forward", forward),
        ("decode", decode),
        ("batch-run", batch.run),
    ];
    for (name, Quantiles { p50, p95 }) in stages {
        stats = stats.field(format!("{name}-p50"), nanoseconds(p50));
        stats = stats.field(format!("{name}-p95"), nanoseconds(p95));
    }
    stats
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
