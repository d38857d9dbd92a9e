// SPDX-License-Identifier: MIT OR Apache-2.0
//! At most so many frames a second, by their times alone. GStreamer's `videorate` wants a frame rate that both sides
//! agree on: of a camera that announces none it ends the program (1.22), and one that announces less never plays.

use anyhow::{Context, Result};
use gst::prelude::*;
use parking_lot::Mutex;

/// A time that lies so far behind the last one, or before it, is the begin of another count.
const JUMP: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// Lets `fps` frames a second through this pad at most.
pub fn limit(pad: &gst::Pad, fps: gst::Fraction) -> Result<()> {
    let gate = Mutex::new(Gate::new(period(fps)?));
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |pad, info| {
        match &mut info.data {
            Some(gst::PadProbeData::Buffer(buffer)) => {
                // A frame without a time is judged by when it comes.
                let time = buffer.pts().or_else(|| pad.parent_element()?.current_running_time());
                if time.is_some_and(|time| !gate.lock().passes(time)) {
                    // Not Drop: after gstreamer-rs has freed the buffer, GStreamer would try to free it once more.
                    return gst::PadProbeReturn::Handled;
                }
            }
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view()
                    && let Some(slower) = slower(caps.caps(), fps)
                {
                    *event = gst::event::Caps::builder(&slower).seqnum(event.seqnum()).build();
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Lets the frames that stand alone (key frames) through this pad of a decoder, and no others: `always`, or where they
/// come as often as `fps` asks for frames. What is not decoded costs nothing.
pub fn limit_to_keys(pad: &gst::Pad, fps: Option<gst::Fraction>, always: bool) -> Result<()> {
    let period = fps.map(period).transpose()?;
    let gate = Mutex::new(KeyGate::new(period, always));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer() else { return gst::PadProbeReturn::Ok };
        let time = buffer.pts().or_else(|| pad.parent_element()?.current_running_time());
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        match time.is_some_and(|time| !gate.lock().passes(time, is_key)) {
            // Not Drop: after gstreamer-rs has freed the buffer, GStreamer would try to free it once more.
            true => gst::PadProbeReturn::Handled,
            false => gst::PadProbeReturn::Ok,
        }
    });
    Ok(())
}

fn period(fps: gst::Fraction) -> Result<gst::ClockTime> {
    let (frames, seconds) = (u64::try_from(fps.numer())?, u64::try_from(fps.denom())?);
    gst::ClockTime::SECOND.mul_div_round(seconds, frames).context("no frame rate")
}

/// The caps with the rate that is left, where they announce a higher one: what follows reckons with it.
fn slower(caps: &gst::CapsRef, fps: gst::Fraction) -> Option<gst::Caps> {
    let announced = caps.structure(0)?.get::<gst::Fraction>("framerate").ok()?;
    let per_second = |rate: gst::Fraction| f64::from(rate.numer()) / f64::from(rate.denom().max(1));
    (per_second(announced) > per_second(fps)).then(|| {
        let mut caps = caps.to_owned();
        caps.make_mut().set("framerate", fps);
        caps
    })
}

/// Which frames pass.
struct Gate {
    period: gst::ClockTime,
    /// When the next frame is due.
    due: Option<gst::ClockTime>,
}

impl Gate {
    fn new(period: gst::ClockTime) -> Gate {
        Gate { period, due: None }
    }

    /// A frame may come a quarter of a period early, as cameras' times tremble; what one is late is not made up for
    /// by more than half a period, so that a pause is not followed by a rush.
    fn passes(&mut self, time: gst::ClockTime) -> bool {
        let due = self.due.unwrap_or(time);
        let jumped = time.saturating_add(JUMP).saturating_add(self.period) < due;
        if !jumped && time.saturating_add(self.period / 4) < due {
            return false;
        }
        let start = if jumped { time } else { due.max(time.saturating_sub(self.period / 2)) };
        self.due = Some(start.saturating_add(self.period));
        true
    }
}

/// Which frames are decoded.
struct KeyGate {
    always: bool,
    period: Option<gst::ClockTime>,
    /// Of the key frames that are enough.
    gate: Option<Gate>,
    /// When the last key frame came.
    last: Option<gst::ClockTime>,
    /// Whether key frames alone are enough; found anew at each of them.
    enough: bool,
}

impl KeyGate {
    fn new(period: Option<gst::ClockTime>, always: bool) -> KeyGate {
        KeyGate { always, period, gate: period.map(Gate::new), last: None, enough: always }
    }

    fn passes(&mut self, time: gst::ClockTime, is_key: bool) -> bool {
        if !is_key {
            return !self.enough;
        }
        let since = self.last.replace(time).and_then(|last| time.checked_sub(last));
        let often = since.zip(self.period).is_some_and(|(since, period)| since <= period + period / 4);
        self.enough = self.always || often;
        // Thinned only where all that follow it are left out too.
        let due = self.gate.as_mut().is_none_or(|gate| gate.passes(time));
        due || !self.enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 1000 frames, 10 a second, are decoded with a key frame every so many.
    fn decoded(keys: u64, fps: Option<i32>, always: bool) -> usize {
        let period = fps.map(|fps| period(gst::Fraction::new(fps, 1)).unwrap());
        let mut gate = KeyGate::new(period, always);
        let passes =
            |frame: &u64| gate.passes(gst::ClockTime::from_mseconds(frame * 100), frame.is_multiple_of(keys));
        (0..1000).filter(passes).count()
    }

    #[test]
    fn what_is_not_looked_at_is_not_decoded_where_it_can_be_left_out() {
        assert_eq!(decoded(10, None, false), 1000, "all are wanted");
        assert_eq!(decoded(50, Some(1), false), 1000, "key frames are too few");
        assert_eq!(decoded(10, Some(1), false), 109, "they are enough, as soon as that is known");
        assert_eq!(decoded(5, Some(1), false), 104, "more than enough");
        assert!((200..=201).contains(&decoded(1, Some(2), false)), "pictures that all stand alone");
        assert_eq!(decoded(50, None, true), 20, "no others, however few they are");
        assert_eq!(decoded(50, Some(5), true), 20);
    }

    const PERIOD: gst::ClockTime = gst::ClockTime::from_mseconds(100);

    /// How many of these times, in milliseconds, pass at 10 frames a second.
    fn passed(times: impl Iterator<Item = u64>) -> usize {
        let mut gate = Gate::new(PERIOD);
        times.filter(|time| gate.passes(gst::ClockTime::from_mseconds(*time))).count()
    }

    #[test]
    fn no_more_than_the_rate_and_no_less_than_there_are() {
        // Ten seconds of them: the last may be early.
        let hundred = |frames: usize, rate: &str| assert!((100..=101).contains(&frames), "{rate}: {frames}");
        assert_eq!(passed((0..100).map(|frame| frame * 200)), 100, "5 frames a second");
        assert_eq!(passed((0..100).map(|frame| frame * 100)), 100, "10");
        hundred(passed((0..150).map(|frame| frame * 1000 / 15)), "15");
        hundred(passed((0..120).map(|frame| frame * 1000 / 12)), "12");
        hundred(passed((0..1000).map(|frame| frame * 10)), "100");
        let trembling = (0..100).map(|frame| frame * 100 + [0, 20, 5, 18, 3][frame as usize % 5]);
        assert_eq!(passed(trembling), 100, "10, not quite evenly");
    }

    #[test]
    fn after_a_pause_there_is_no_rush() {
        let burst = (0..10).map(|frame| frame * 100).chain((0..20).map(|frame| 5000 + frame));
        assert!(passed(burst) <= 12);
    }

    #[test]
    fn times_that_jump_begin_anew() {
        let back = (0..10).map(|frame| 3_600_000 + frame * 100).chain((0..10).map(|frame| frame * 100));
        assert_eq!(passed(back), 20);
        let ahead = (0..10).map(|frame| frame * 100).chain((0..10).map(|frame| 3_600_000 + frame * 100));
        assert_eq!(passed(ahead), 20);
        assert_eq!(passed([0, 0, 0, 0].into_iter()), 1, "a clock that stands still");
        let mut gate = Gate::new(PERIOD);
        assert!(gate.passes(gst::ClockTime::MAX) && gate.passes(gst::ClockTime::ZERO));
    }
}
