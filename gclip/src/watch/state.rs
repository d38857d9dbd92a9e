// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about one camera, for the status line and the metrics. Counters only grow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use gstgclip::meta::{Masks, Region};

#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    Connecting,
    Playing,
    /// Not there; why, and when it is tried again.
    Waiting {
        until: Instant,
        why: String,
    },
    Stopped,
}

#[derive(Clone, Debug)]
pub struct Now {
    pub phase: Phase,
    /// Width and height of the frames that the model sees.
    pub size: (u32, u32),
    /// What the newest masks show, in words.
    pub seen: String,
    /// Time of the frame that the newest masks were made from.
    pub mask_of: Option<gst::ClockTime>,
    /// When the newest frame came, or the connection was begun.
    pub alive: Instant,
}

pub struct CameraState {
    pub name: String,
    now: Mutex<Now>,
    /// Each with its name in the metrics and what it counts.
    counters: [AtomicU64; COUNTERS.len()],
}

/// What is counted: name in the metrics, and its description.
pub const COUNTERS: [(&str, &str); 8] = [
    ("gclip_camera_frames_total", "Frames that came out with masks or without"),
    ("gclip_camera_masks_total", "Masks that the model has made"),
    ("gclip_camera_reused_total", "Frames with a mask that an earlier one had"),
    ("gclip_camera_skipped_total", "Frames whose own mask was not waited for"),
    ("gclip_camera_dropped_total", "Decoded frames that were dropped before the model"),
    ("gclip_camera_changes_total", "Prompts that entered or left the picture or a zone"),
    ("gclip_camera_connections_total", "Connections that gave a picture"),
    ("gclip_camera_failures_total", "Connections that failed or broke off"),
];

/// Index into [`COUNTERS`].
#[derive(Clone, Copy)]
pub enum Count {
    Frames,
    Masks,
    Reused,
    Skipped,
    Dropped,
    Changes,
    Connections,
    Failures,
}

impl CameraState {
    pub fn new(name: &str) -> CameraState {
        let now = Now {
            phase: Phase::Connecting,
            size: (0, 0),
            seen: String::new(),
            mask_of: None,
            alive: Instant::now(),
        };
        CameraState { name: name.into(), now: Mutex::new(now), counters: Default::default() }
    }

    pub fn now(&self) -> Now {
        self.now.lock().clone()
    }

    pub fn count(&self, what: Count) {
        self.counters[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn frames(&self) -> u64 {
        self.counters[Count::Frames as usize].load(Ordering::Relaxed)
    }

    /// In the order of [`COUNTERS`].
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.counters.iter().map(|counter| counter.load(Ordering::Relaxed))
    }

    pub fn is_up(&self) -> bool {
        self.now.lock().phase == Phase::Playing
    }

    pub fn enter(&self, phase: Phase) {
        let mut now = self.now.lock();
        if phase == Phase::Connecting {
            now.alive = Instant::now();
        }
        now.phase = phase;
    }

    /// A frame has come out. Returns whether it is the first of its connection.
    pub fn frame(&self, size: (u32, u32), pts: Option<gst::ClockTime>, masks: Option<&Masks>) -> bool {
        self.count(Count::Frames);
        let seen = masks.map(|masks| {
            // Under load every mask is of an earlier frame; it is new as long as no frame had it before.
            let of = pts.map(|pts| pts.saturating_sub(masks.age));
            let new = std::mem::replace(&mut self.now.lock().mask_of, of) != of || of.is_none();
            self.count(if new { Count::Masks } else { Count::Reused });
            if masks.regions.is_empty() {
                return "nothing".into();
            }
            let of = |region: &Region| format!("{} {:.1} %", region.label, 100.0 * region.area);
            masks.regions.iter().map(of).collect::<Vec<_>>().join(", ")
        });
        let mut now = self.now.lock();
        (now.alive, now.size) = (Instant::now(), size);
        if let Some(seen) = seen {
            now.seen = seen;
        }
        let first = now.phase == Phase::Connecting;
        if first {
            now.phase = Phase::Playing;
        }
        drop(now);
        if first {
            self.count(Count::Connections);
        }
        first
    }
}
