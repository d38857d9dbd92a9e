// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long frames stay: measured, reported, and the deadline that follows from it.

use std::collections::VecDeque;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::imp::{CAT, Segment};
use super::super::settings::Policy;

/// The report covers the longest of this many latest frames.
const WINDOW: usize = 128;
/// A new report is this much above the longest measured, so that small variations need no other.
const HEADROOM: f64 = 1.25;
/// A report this much above the longest measured is lowered.
const EXCESS: f64 = 1.5;

/// A frame that waits to its deadline leaves this part of the reported latency before its end, so that the time it
/// takes to wake up and to reach the sink does not make it late.
const LEEWAY: u32 = 16;

/// Times from a frame's arrival to its mask, and the latency that is reported for them.
#[derive(Default)]
pub struct Measured {
    times: VecDeque<Duration>,
    reported: Option<Duration>,
}

impl Measured {
    /// Takes a time in, and says whether the report has changed.
    pub fn record(&mut self, time: Duration) -> bool {
        if self.times.len() == WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(time);
        let longest = self.times.iter().max().copied().unwrap_or(time);
        let holds = |reported: Duration| {
            // A short history says too little to lower the report.
            longest <= reported && (self.times.len() < WINDOW || longest.mul_f64(EXCESS) >= reported)
        };
        if self.reported.is_some_and(holds) {
            return false;
        }
        self.reported = Some(longest.mul_f64(HEADROOM));
        true
    }

    /// How long a frame may stay before it is overdue; `None` as long as nothing is known.
    pub fn deadline(&self, policy: &Policy, info: &gst_video::VideoInfo) -> Option<Duration> {
        // More than the element holds can only make upstream wait.
        let most = capacity(policy, info, 1);
        let allowed = match policy.latency {
            Some(latency) => Some(policy.batch_timeout.saturating_add(latency)),
            None => self.reported.map(|reported| reported.max(policy.batch_timeout)),
        };
        let longest = match (allowed, most) {
            (Some(allowed), Some(most)) => Some(allowed.min(most)),
            (allowed, most) => allowed.or(most),
        };
        longest.map(|longest| longest - longest / LEEWAY)
    }

    /// The latency to report for a live stream.
    fn total(&self, policy: &Policy, info: Option<&gst_video::VideoInfo>) -> Duration {
        if let Some(latency) = policy.latency {
            return policy.batch_timeout.saturating_add(latency);
        }
        let measured = self.reported.unwrap_or_default().max(policy.batch_timeout);
        match info.and_then(|info| capacity(policy, info, 1)) {
            Some(most) if policy.skips_when_late(true) => measured.min(most),
            _ => measured,
        }
    }
}

/// Time that `max-in-flight` frames less `spare` cover, if the caps know a frame rate.
fn capacity(policy: &Policy, info: &gst_video::VideoInfo, spare: u32) -> Option<Duration> {
    let (frames, per_seconds) = (info.fps().numer(), info.fps().denom());
    let one = (frames > 0).then(|| f64::from(per_seconds) / f64::from(frames))?;
    let held = policy.max_in_flight.saturating_sub(spare).max(1);
    Duration::try_from_secs_f64(one * f64::from(held)).ok()
}

impl Segment {
    /// Records how long a frame waited for its mask, and asks for a new latency when the report has changed.
    pub fn measured(&self, time: Duration, policy: &Policy) {
        let (changed, live) = {
            let mut state = self.stream.state.lock();
            (state.measured.record(time), state.input.live == Some(true))
        };
        if changed && live && policy.latency.is_none() {
            gst::debug!(CAT, imp = self, "frames now wait up to {time:?} for their masks");
            self.post_latency();
        }
    }

    /// Asks the pipeline to query the latency again.
    pub fn post_latency(&self) {
        let message = gst::message::Latency::builder().src(&*self.obj()).build();
        // Without a bus there is nobody to ask.
        let _ = self.obj().post_message(message);
    }

    pub fn answer_latency(&self, query: &mut gst::query::Latency) -> bool {
        let mut upstream = gst::query::Latency::new();
        if !self.sinkpad.peer_query(&mut upstream) {
            return false;
        }
        let (live, mut min, mut max) = upstream.result();
        let policy = self.settings.lock().policy.clone();
        let (own, held) = {
            let mut state = self.stream.state.lock();
            state.input.live = Some(live);
            let info = state.input.caps.as_ref();
            let own = state.measured.total(&policy, info);
            (own, info.and_then(|info| capacity(&policy, info, 0)).unwrap_or(own))
        };
        let clock_time = |time| gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::MAX);
        if live {
            min += clock_time(own);
        }
        max = max.map(|max| max.saturating_add(clock_time(held)));
        gst::debug!(CAT, imp = self, "latency: live {live}, min {min}, max {max:?}");
        if live && max.is_some_and(|max| min > max) {
            gst::warning!(
                CAT,
                imp = self,
                "the latency {min} is more than upstream and this element can hold, {max:?}: raise max-in-flight"
            );
        }
        query.set(live, min, max);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::LatePolicy;
    use super::super::super::settings::Settings;
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_report_covers_what_was_measured_by_at_most_half() {
        let mut measured = Measured::default();
        assert!(measured.record(MS(100)));
        assert_eq!(measured.reported, Some(MS(125)));
        assert!(!measured.record(MS(120)), "within the headroom");
        assert!(measured.record(MS(200)));
        assert_eq!(measured.reported, Some(MS(250)));
        for _ in 0..WINDOW - 1 {
            assert!(!measured.record(MS(100)), "the longest is still in the window");
        }
        assert!(measured.record(MS(100)), "the longest has left the window");
        assert_eq!(measured.reported, Some(MS(125)));
    }

    #[test]
    fn the_deadline_is_no_longer_than_what_the_element_holds() {
        gst::init().unwrap();
        let mut policy = Policy::clone(&Settings::default().policy);
        (policy.max_in_flight, policy.late) = (5, LatePolicy::Reuse);
        let info = |fps: i32| {
            let rate = gst::Fraction::new(fps, 1);
            gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 8, 8).fps(rate).build().unwrap()
        };
        let before = |ms| Some(MS(ms) - MS(ms) / LEEWAY);
        let mut measured = Measured::default();
        assert_eq!(measured.deadline(&policy, &info(0)), None);
        assert_eq!(measured.deadline(&policy, &info(10)), before(400));
        measured.record(MS(80));
        assert_eq!(measured.deadline(&policy, &info(10)), before(100));
        measured.record(MS(4000));
        assert_eq!(measured.deadline(&policy, &info(10)), before(400));
        assert_eq!(measured.deadline(&policy, &info(0)), before(5000));
        assert_eq!(measured.total(&policy, Some(&info(10))), MS(400));
        policy.late = LatePolicy::Wait;
        assert_eq!(measured.total(&policy, Some(&info(10))), MS(5000));
        policy.latency = Some(MS(30));
        assert_eq!(measured.deadline(&policy, &info(10)), before(50));
        assert_eq!(measured.total(&policy, Some(&info(10))), MS(50));
    }
}
