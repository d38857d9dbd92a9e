// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stream's frames leave behind for the next, in the model's parts that remember.

use std::sync::Arc;
use std::time::Duration;

use super::anomaly::baseline;
use super::helper::rate;
use super::{InferOptions, gate, reuse, temporal};

/// One a stream; a stream that starts anew, after a flush or with another size, takes the [`successor`](Self::successor).
#[derive(Debug, Default)]
pub struct StreamMemory {
    temporal: Arc<temporal::Memory>,
    reuse: Arc<reuse::Memory>,
    gate: Arc<gate::Memory>,
    helper: Arc<rate::Memory>,
    anomalies: Arc<baseline::Memory>,
}

impl StreamMemory {
    /// An empty one that counts on.
    pub fn successor(&self) -> StreamMemory {
        StreamMemory {
            temporal: Arc::default(),
            reuse: Arc::new(self.reuse.successor()),
            gate: Arc::default(),
            helper: Arc::default(),
            anomalies: Arc::default(),
        }
    }

    /// What token reuse has spared.
    pub fn reuse_counts(&self) -> reuse::Counts {
        self.reuse.counts()
    }

    /// Makes a request of the stream's frame, which is shown `at`, take part in it.
    pub fn remember(&self, options: &mut InferOptions, at: Option<Duration>) {
        options.temporal.memory = (options.temporal.smoothing > 0.0).then(|| self.temporal.clone());
        options.helper.memory = (options.helper.interval > 1).then(|| self.helper.clone());
        // With reuse turned off too: the model then lets go of what is kept.
        options.reuse.memory = Some(self.reuse.clone());
        options.reuse.at = at;
        options.anomalies.memory = (options.anomalies.baseline > 0).then(|| self.anomalies.clone());
        options.gate.memory = options.gate.is_on().then(|| self.gate.clone());
    }
}
