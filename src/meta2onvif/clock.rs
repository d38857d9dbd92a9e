// SPDX-License-Identifier: MIT OR Apache-2.0
//! The UTC time of a frame.

use std::time::{SystemTime, UNIX_EPOCH};

use gst::prelude::*;

use super::TimeSource;

/// Seconds from 1900, where NTP starts (RFC 5905), to 1970.
const NTP_TO_UNIX: gst::ClockTime = gst::ClockTime::from_seconds(2_208_988_800);

/// Maps running time to UTC; once found, the map stays for the whole stream, so that frames keep their distances.
#[derive(Debug, Default)]
pub struct Clock {
    /// UTC at running time 0.
    start: Option<gst::ClockTime>,
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
            TimeSource::Clock => *self.start.get_or_insert_with(|| {
                // Without a clock the frame is taken to be shown at once.
                now().saturating_sub(element.current_running_time().unwrap_or(running))
            }),
        };
        start.saturating_add(running)
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
