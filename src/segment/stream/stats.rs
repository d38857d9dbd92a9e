// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `stats` property.

use super::super::imp::Segment;

/// Counts since the element went to PAUSED.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames that left.
    pub frames: u64,
    /// Frames that the model has answered for.
    pub inferred: u64,
    /// Frames that left with an earlier mask, by the interval or because they were late.
    pub reused: u64,
    /// Frames that did not leave.
    pub dropped: u64,
    /// Frames that the model was not asked for, or not waited for, because they were late.
    pub skipped: u64,
    /// Frames that the model failed on.
    pub errors: u64,
}

impl Segment {
    pub fn stats(&self) -> gst::Structure {
        let (counts, generation, level) = {
            let state = self.stream.state.lock();
            let generation = state.prompts.active.as_ref().map_or(0, |active| active.generation);
            (state.counts, generation, state.frames as u64)
        };
        let stats = gst::Structure::builder("application/x-gclip-stats")
            .field("frames", counts.frames)
            .field("inferred", counts.inferred)
            .field("reused", counts.reused)
            .field("dropped", counts.dropped)
            .field("skipped-late", counts.skipped)
            .field("errors", counts.errors)
            .field("prompt-generation", generation)
            .field("queue-level", level);
        stats.build()
    }
}
