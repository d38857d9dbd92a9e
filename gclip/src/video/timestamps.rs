// SPDX-License-Identifier: MIT OR Apache-2.0
//! Time stamps that rise, as encoders and containers need them, from files in which they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use gst::prelude::*;
use parking_lot::Mutex;

/// How long a frame lasts that does not say it, nor do its caps.
const USUAL: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// A frame whose time stamp is missing or does not lie behind that of the frame before starts where that one ends.
/// Counts them.
pub fn make_rise(element: &gst::Element) -> Result<Arc<AtomicU64>> {
    let pad = element.static_pad("sink").context("the element has no sink pad")?;
    let (mended, times) = (Arc::new(AtomicU64::new(0)), Mutex::new(Times::default()));
    let count = mended.clone();
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Segment => {
                *times.lock() = Times::default();
            }
            Some(gst::PadProbeData::Buffer(buffer)) => {
                let duration = buffer.duration().filter(|duration| !duration.is_zero());
                let usual = || frame_duration(pad).unwrap_or(USUAL);
                let pts = times.lock().next(buffer.pts(), duration, usual);
                if buffer.pts() != Some(pts) {
                    buffer.make_mut().set_pts(pts);
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    Ok(mended)
}

/// Start of the frame before, and how long it lasts, if it said so.
#[derive(Default)]
struct Times(Option<(gst::ClockTime, Option<gst::ClockTime>)>);

impl Times {
    fn next(
        &mut self,
        pts: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
        usual: impl Fn() -> gst::ClockTime,
    ) -> gst::ClockTime {
        let rising = pts.filter(|pts| self.0.is_none_or(|(start, _)| *pts > start));
        let end = || self.0.map(|(start, lasts)| start.saturating_add(lasts.unwrap_or_else(usual)));
        let pts = rising.or_else(end).unwrap_or_default();
        self.0 = Some((pts, duration));
        pts
    }
}

fn frame_duration(pad: &gst::Pad) -> Option<gst::ClockTime> {
    let caps = pad.current_caps()?;
    frame_duration_at(gst_video::VideoInfo::from_caps(&caps).ok()?.fps())
}

/// `None`: the rate varies.
fn frame_duration_at(fps: gst::Fraction) -> Option<gst::ClockTime> {
    let (frames, seconds) = (u64::try_from(fps.numer()).ok()?, u64::try_from(fps.denom()).ok()?);
    if frames == 0 { None } else { gst::ClockTime::SECOND.mul_div_floor(seconds, frames) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_rise_follows_the_frame_before() {
        let given = [None, Some(120), Some(120), Some(40), Some(160), None, Some(400), Some(401)];
        let mut times = Times::default();
        let mut next = |pts: Option<u64>| {
            let time = gst::ClockTime::from_mseconds;
            times.next(pts.map(time), Some(time(40)), || time(1)).mseconds()
        };
        assert_eq!(given.map(&mut next), [0, 120, 160, 200, 240, 280, 400, 401]);
        let usual = || gst::ClockTime::SECOND;
        let last = times.next(Some(gst::ClockTime::MAX), None, usual);
        assert_eq!(times.next(None, None, usual), last, "no later time is there");
        let mut times = Times::default();
        times.next(None, None, usual);
        assert_eq!(times.next(None, None, usual), usual(), "a frame that does not say how long it lasts");
    }

    #[test]
    fn a_rate_that_varies_says_no_duration() {
        let duration = |frames, seconds| frame_duration_at(gst::Fraction::new(frames, seconds));
        assert_eq!(duration(30, 1), Some(gst::ClockTime::from_nseconds(33_333_333)));
        assert_eq!(duration(0, 1), None);
    }
}
