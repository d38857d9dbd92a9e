// SPDX-License-Identifier: MIT OR Apache-2.0
//! The UTC time of a frame.

use std::time::{SystemTime, UNIX_EPOCH};

use gst::prelude::*;

use super::TimeSource;

/// Seconds from 1900, where NTP starts (RFC 5905), to 1970.
const NTP_TO_UNIX: gst::ClockTime = gst::ClockTime::from_seconds(2_208_988_800);

/// Maps running time to UTC; once found, the map stays for as long as the element plays, so that frames keep their distances.
#[derive(Debug, Default)]
pub struct Clock {
    start: Option<Start>,
}

/// UTC at running time 0. A pause moves it: running time stands still, and the base time is another afterwards.
#[derive(Clone, Copy, Debug)]
struct Start {
    utc: gst::ClockTime,
    base_time: Option<gst::ClockTime>,
}

impl Clock {
    /// UTC of a frame with the running time `running`, which may be unknown.
    pub fn utc(
        &mut self,
        source: TimeSource,
        element: &gst::Element,
        buffer: &gst::BufferRef,
        running: Option<gst::ClockTime>,
    ) -> gst::ClockTime {
        if let Some(own) = reference_time(buffer) {
            return own;
        }
        let Some(running) = running else { return now() };
        let start = match source {
            TimeSource::RunningTime => gst::ClockTime::ZERO,
            TimeSource::ClockTime => element.base_time().unwrap_or_default(),
            TimeSource::Clock => match self.start(element, running) {
                Some(start) => start,
                // Nobody knows when it will be shown; the frames after it will.
                None => return now(),
            },
        };
        start.saturating_add(running)
    }

    /// `None` as long as time does not run.
    fn start(&mut self, element: &gst::Element, running: gst::ClockTime) -> Option<gst::ClockTime> {
        let base_time = element.base_time();
        if let Some(known) = self.start.filter(|known| known.base_time == base_time) {
            return Some(known.utc);
        }
        if element.current_state() != gst::State::Playing {
            return None;
        }
        // Without a clock the frame is taken to be shown at once.
        let utc = now().saturating_sub(element.current_running_time().unwrap_or(running));
        self.start = Some(Start { utc, base_time });
        Some(utc)
    }
}

/// Says so on the buffer itself, where `onvifmetadataparse` looks for it.
pub fn add_reference(buffer: &mut gst::BufferRef, utc: gst::ClockTime) {
    let caps = gst::Caps::new_empty_simple("timestamp/x-unix");
    gst::ReferenceTimestampMeta::add(buffer, &caps, utc, gst::ClockTime::NONE);
}

fn now() -> gst::ClockTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gst::ClockTime::from_nseconds(u64::try_from(since.as_nanos()).unwrap_or(0))
}

/// What the frame itself says, if it says it in a time that UTC follows from.
fn reference_time(buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
    buffer.iter_meta::<gst::ReferenceTimestampMeta>().find_map(|meta| {
        match meta.reference().structure(0)?.name().as_str() {
            "timestamp/x-unix" => Some(meta.timestamp()),
            "timestamp/x-ntp" => meta.timestamp().checked_sub(NTP_TO_UNIX),
            _ => None,
        }
    })
}
