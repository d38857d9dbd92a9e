// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON lines. Each begins with `time`, `camera`, `type`, `run` and `event`, and, from a worker of a fleet, `worker` and
//! `epoch`; what follows depends on the type.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::fleet::Claim;

/// One run of the program: with its name and a line's number a reader knows each line from all others, and one that
/// arrives twice.
pub struct Run {
    name: String,
    lines: AtomicU64,
}

impl Run {
    pub fn begin() -> Run {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Two programs do not start in the same nanosecond with the same number.
        let name = format!("{:x}-{:x}", since.as_nanos(), std::process::id());
        Run { name, lines: AtomicU64::new(0) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Serialize)]
struct Head<'a> {
    /// Wall clock, UTC, when the line was made.
    time: String,
    camera: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    run: &'a str,
    event: u64,
    /// Who has said it, with which claim to the camera, where there are several who could: what has a lower epoch than
    /// another line of the camera is to be dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    /// When the picture was taken, by the camera's clock in UTC, where it tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    captured: Option<String>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(flatten)]
    body: T,
}

/// A prompt has entered or left the picture, or a zone of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Presence {
    pub state: String,
    pub label: String,
    /// `null`: the whole picture.
    pub zone: Option<String>,
    /// Share of the picture or zone.
    pub area: f64,
    pub score: f64,
    pub generation: u64,
    pub pts: Option<u64>,
    pub stream_time: Option<u64>,
    pub running_time: Option<u64>,
}

/// A thing that is looked at for damage has become damaged, or sound again.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Anomaly {
    /// `damaged` or `sound`.
    pub state: String,
    pub label: String,
    /// 0..1, and from which on it is damaged.
    pub score: f64,
    pub threshold: f64,
    pub generation: u64,
    pub pts: Option<u64>,
    pub stream_time: Option<u64>,
    pub running_time: Option<u64>,
}

/// The camera has come or gone.
#[derive(Serialize)]
pub struct Connection<'a> {
    pub state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// Makes the lines of one camera.
pub struct Maker<'a> {
    pub run: &'a Run,
    pub camera: &'a str,
    pub claim: Option<&'a Claim>,
    /// Nanoseconds since 1970, UTC, when the line is made.
    pub time: u64,
    /// Nanoseconds since 1970 by the camera's clock.
    pub captured: Option<u64>,
}

impl Maker<'_> {
    /// One frame, from the line that gclipmeta2json made of it. `None` if that is no object.
    pub fn frame(&self, json: &[u8]) -> Option<Vec<u8>> {
        let mut line = serde_json::to_vec(&self.head("frame")).ok()?;
        line.pop();
        line.push(b',');
        line.extend_from_slice(json.strip_prefix(b"{")?.trim_ascii_end());
        line.push(b'\n');
        Some(line)
    }

    pub fn presence(&self, change: &Presence) -> Option<Vec<u8>> {
        self.whole("presence", change)
    }

    pub fn anomaly(&self, change: &Anomaly) -> Option<Vec<u8>> {
        self.whole("anomaly", change)
    }

    pub fn connection(&self, connection: &Connection) -> Option<Vec<u8>> {
        self.whole("camera", connection)
    }

    fn whole(&self, kind: &str, body: impl Serialize) -> Option<Vec<u8>> {
        let mut line = serde_json::to_vec(&Line { head: self.head(kind), body }).ok()?;
        line.push(b'\n');
        Some(line)
    }

    fn head<'b>(&'b self, kind: &'b str) -> Head<'b> {
        let event = self.run.lines.fetch_add(1, Ordering::Relaxed);
        let captured = self.captured.and_then(utc);
        Head {
            time: utc(self.time).unwrap_or_default(),
            camera: self.camera,
            kind,
            run: &self.run.name,
            event,
            worker: self.claim.map(|claim| claim.worker.as_ref()),
            epoch: self.claim.map(|claim| claim.epoch),
            captured,
        }
    }
}

/// Nanoseconds since 1970, now.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970 of a time in the form of RFC 3339.
pub fn micros(text: &str) -> Option<i64> {
    let utc = glib::TimeZone::utc();
    let time = glib::DateTime::from_iso8601(text, Some(&utc)).ok()?;
    Some(time.to_unix() * 1_000_000 + i64::from(time.microsecond()))
}

/// A time in the form of RFC 3339.
pub fn utc_of(time: SystemTime) -> Option<String> {
    utc(u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_nanos()).ok()?)
}

/// Nanoseconds since 1970 in the form of RFC 3339, with microseconds.
fn utc(nanoseconds: u64) -> Option<String> {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).ok()?;
    let text = glib::DateTime::from_unix_utc(seconds).ok()?.format("%Y-%m-%dT%H:%M:%S").ok()?;
    Some(format!("{text}.{:06}Z", nanoseconds / 1000 % 1_000_000))
}

/// A time of an element message.
fn nanoseconds(structure: &gst::StructureRef, name: &str) -> Option<u64> {
    structure.get::<Option<gst::ClockTime>>(name).ok().flatten().map(gst::ClockTime::nseconds)
}

impl Anomaly {
    /// From the element message `gclip-anomaly`; `None` if a field is missing.
    pub fn from_structure(structure: &gst::StructureRef) -> Option<Anomaly> {
        Some(Anomaly {
            state: structure.get("state").ok()?,
            label: structure.get("label").ok()?,
            score: structure.get("score").ok()?,
            threshold: structure.get("threshold").ok()?,
            generation: structure.get("generation").ok()?,
            pts: nanoseconds(structure, "pts"),
            stream_time: nanoseconds(structure, "stream-time"),
            running_time: nanoseconds(structure, "running-time"),
        })
    }
}

impl Presence {
    /// From the element message `gclip-presence`; `None` if a field is missing.
    pub fn from_structure(structure: &gst::StructureRef) -> Option<Presence> {
        Some(Presence {
            state: structure.get("state").ok()?,
            label: structure.get("label").ok()?,
            zone: structure.get::<Option<String>>("zone").ok().flatten(),
            area: structure.get("area").ok()?,
            score: structure.get("score").ok()?,
            generation: structure.get("generation").ok()?,
            pts: nanoseconds(structure, "pts"),
            stream_time: nanoseconds(structure, "stream-time"),
            running_time: nanoseconds(structure, "running-time"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_number_of_its_own_and_the_time_of_its_picture() {
        let run = Run::begin();
        let maker = Maker {
            run: &run,
            camera: "gate",
            claim: None,
            time: 1_764_399_601_000_001_999,
            captured: Some(1_764_399_600_123_456_789),
        };
        let frame = maker.frame(b"{\"pts\":1}\n").unwrap();
        let next = Maker { captured: None, ..maker }
            .connection(&Connection { state: "lost", reason: Some("x") })
            .unwrap();
        let read = |line: &[u8]| -> serde_json::Value {
            assert!(line.ends_with(b"\n") && !line.ends_with(b"\n\n"));
            serde_json::from_slice(line).unwrap()
        };
        let (frame, next) = (read(&frame), read(&next));
        assert_eq!((&frame["event"], &next["event"]), (&0.into(), &1.into()));
        assert_eq!((&frame["run"], &frame["pts"]), (&run.name().into(), &1.into()));
        assert_eq!(frame["time"], "2025-11-29T07:00:01.000001Z");
        assert_eq!(micros(frame["time"].as_str().unwrap()), Some(1_764_399_601_000_001));
        assert_eq!(micros("2025-11-29T08:00:01+01:00"), Some(1_764_399_601_000_000));
        assert_eq!((micros("yesterday"), micros("")), (None, None));
        assert_eq!(frame["captured"], "2025-11-29T07:00:00.123456Z");
        assert!(next.get("captured").is_none() && next["reason"] == "x");
        assert!(maker.frame(b"[]").is_none());
    }
}
