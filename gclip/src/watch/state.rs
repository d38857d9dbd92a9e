// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known about one camera: written by its threads, read as a [`Status`], from which the status line and the
//! metrics are made. Counters only grow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use gstgclip::meta::{Masks, Region};

/// Rates are measured over this long at least.
const SPAN: Duration = Duration::from_secs(2);
/// Failures of a camera that are remembered.
const FAILURES: usize = 10;

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

/// A camera at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    pub name: Arc<str>,
    pub phase: Phase,
    /// Width and height of the frames that the model sees.
    pub size: (u32, u32),
    /// What the newest masks show, in words.
    pub seen: String,
    /// Since the newest frame, or since connecting began.
    pub silence: Duration,
    /// Since the frame was there that the newest masks are made from; `None` before the first ones.
    pub mask_age: Option<Duration>,
    /// Why the last connection failed or ended, and how long ago.
    pub last_failure: Option<(String, Duration)>,
    /// The latest failures, oldest first: when, and why.
    pub failures: Vec<(SystemTime, Arc<str>)>,
    /// In the order of [`COUNTERS`].
    pub counts: [u64; COUNTERS.len()],
    /// A second: frames that the camera sends, and masks that are made.
    pub source_rate: f64,
    pub mask_rate: f64,
}

impl Status {
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Playing
    }

    /// Whether it is known if the camera is there.
    pub fn has_been_tried(&self) -> bool {
        self.phase != Phase::Connecting || self.last_failure.is_some()
    }
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    size: (u32, u32),
    seen: String,
    alive: Instant,
    /// Time of the frame that the newest masks are made from, in the stream and on the clock.
    mask_of: Option<gst::ClockTime>,
    mask_at: Option<Instant>,
    last_failure: Option<(String, Instant)>,
    failures: VecDeque<(SystemTime, Arc<str>)>,
    rates: Rates,
}

/// Counts at the begin of a span, and what it brought a second.
#[derive(Debug)]
struct Rates {
    since: Instant,
    counts: [u64; 2],
    a_second: [f64; 2],
}

pub struct CameraState {
    pub name: Arc<str>,
    now: Mutex<Now>,
    /// Each with its name in the metrics and what it counts.
    counters: [Arc<AtomicU64>; COUNTERS.len()],
}

/// What is counted: name in the metrics without `_total`, and its description.
pub const COUNTERS: [(&str, &str); 9] = [
    ("gclip_camera_source_frames", "Frames that the camera has sent"),
    ("gclip_camera_frames", "Frames that came out with masks or without"),
    ("gclip_camera_masks", "Masks that the model has made"),
    ("gclip_camera_reused", "Frames with a mask that an earlier one had"),
    ("gclip_camera_skipped", "Frames whose own mask was not waited for"),
    ("gclip_camera_dropped", "Decoded frames that were dropped before the model"),
    ("gclip_camera_changes", "Prompts that entered or left the picture or a zone"),
    ("gclip_camera_connections", "Connections that gave a picture"),
    ("gclip_camera_failures", "Connections that failed or broke off"),
];

/// Index into [`COUNTERS`].
#[derive(Clone, Copy)]
pub enum Count {
    Source,
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
        let start = Instant::now();
        let now = Now {
            phase: Phase::Connecting,
            size: (0, 0),
            seen: String::new(),
            alive: start,
            mask_of: None,
            mask_at: None,
            last_failure: None,
            failures: VecDeque::new(),
            rates: Rates { since: start, counts: [0; 2], a_second: [0.0; 2] },
        };
        CameraState { name: name.into(), now: Mutex::new(now), counters: Default::default() }
    }

    /// To be called about every half second: it measures the rates.
    pub fn status(&self) -> Status {
        let counts: [u64; COUNTERS.len()] =
            std::array::from_fn(|index| self.counters[index].load(Ordering::Relaxed));
        let mut now = self.now.lock();
        now.rates.measure([counts[Count::Source as usize], counts[Count::Masks as usize]]);
        let failure = now.last_failure.as_ref();
        Status {
            name: self.name.clone(),
            phase: now.phase.clone(),
            size: now.size,
            seen: now.seen.clone(),
            silence: now.alive.elapsed(),
            mask_age: now.mask_at.map(|at| at.elapsed()),
            last_failure: failure.map(|(why, at)| (why.clone(), at.elapsed())),
            failures: now.failures.iter().cloned().collect(),
            counts,
            source_rate: now.rates.a_second[0],
            mask_rate: now.rates.a_second[1],
        }
    }

    pub fn count(&self, what: Count) {
        self.counters[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// For who counts on another thread.
    pub fn counter(&self, what: Count) -> Arc<AtomicU64> {
        self.counters[what as usize].clone()
    }

    /// Frames that have come out so far.
    pub fn frames(&self) -> u64 {
        self.counters[Count::Frames as usize].load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.now.lock().phase == Phase::Playing
    }

    /// Since the newest frame, or since connecting began.
    pub fn silence(&self) -> Duration {
        self.now.lock().alive.elapsed()
    }

    pub fn enter(&self, phase: Phase) {
        let mut now = self.now.lock();
        match &phase {
            Phase::Connecting => now.alive = Instant::now(),
            Phase::Waiting { why, .. } => {
                now.last_failure = Some((why.clone(), Instant::now()));
                if now.failures.len() == FAILURES {
                    now.failures.pop_front();
                }
                now.failures.push_back((SystemTime::now(), why.as_str().into()));
            }
            Phase::Playing | Phase::Stopped => {}
        }
        now.phase = phase;
    }

    /// A frame has come out. Returns whether it is the first of its connection.
    pub fn frame(&self, size: (u32, u32), pts: Option<gst::ClockTime>, masks: Option<&Masks>) -> bool {
        self.count(Count::Frames);
        let came = Instant::now();
        let mut now = self.now.lock();
        if let Some(masks) = masks {
            // Under load every mask is of an earlier frame; it is new as long as no frame had it before.
            let of = pts.map(|pts| pts.saturating_sub(masks.age));
            let new = std::mem::replace(&mut now.mask_of, of) != of || of.is_none();
            self.count(if new { Count::Masks } else { Count::Reused });
            now.mask_at = came.checked_sub(masks.age.into()).or(Some(came));
            now.seen = words(masks);
        }
        (now.alive, now.size) = (came, size);
        let first = now.phase == Phase::Connecting;
        if first {
            now.phase = Phase::Playing;
            self.count(Count::Connections);
        }
        first
    }
}

fn words(masks: &Masks) -> String {
    if masks.regions.is_empty() {
        return "nothing".into();
    }
    let of = |region: &Region| format!("{} {:.1} %", region.label, 100.0 * region.area);
    masks.regions.iter().map(of).collect::<Vec<_>>().join(", ")
}

impl Rates {
    fn measure(&mut self, counts: [u64; 2]) {
        let passed = self.since.elapsed();
        if passed >= SPAN {
            let rate =
                |index: usize| counts[index].saturating_sub(self.counts[index]) as f64 / passed.as_secs_f64();
            self.a_second = [rate(0), rate(1)];
            (self.since, self.counts) = (Instant::now(), counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_counts_once_however_late_it_is() {
        gst::init().unwrap();
        let state = CameraState::new("gate");
        let time = gst::ClockTime::from_mseconds;
        let show = |pts: u64, age: u64| {
            let masks = Masks { age: time(age), ..Masks::new(1, gst::Buffer::new(), vec![]) };
            state.frame((160, 90), Some(time(pts)), Some(&masks))
        };
        assert!(show(1000, 0), "the first of the connection");
        assert!(!show(1100, 100) && !show(1200, 50) && !show(1300, 150) && !show(1400, 100));
        state.frame((160, 90), Some(time(1500)), None);
        let status = state.status();
        let count = |what: Count| status.counts[what as usize];
        // Made from the frames at 1000, 1150 and 1300.
        assert_eq!((count(Count::Frames), count(Count::Masks), count(Count::Reused)), (6, 3, 2));
        assert!(status.is_up() && status.mask_age.is_some_and(|age| age >= Duration::from_millis(100)));
        assert_eq!(status.seen, "nothing");
        state.enter(Phase::Waiting { until: Instant::now(), why: "gone".into() });
        let status = state.status();
        assert!(!status.is_up() && status.last_failure.is_some_and(|(why, _)| why == "gone"));
        for number in 0..2 * FAILURES {
            state.enter(Phase::Waiting { until: Instant::now(), why: number.to_string() });
        }
        let failures = state.status().failures;
        assert_eq!((failures.len(), &*failures[0].1, &*failures[9].1), (FAILURES, "10", "19"));
    }
}
