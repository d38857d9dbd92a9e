// SPDX-License-Identifier: MIT OR Apache-2.0
//! The JSON lines. Each begins with `time`, `camera` and `type`; what follows depends on the type.

use serde::Serialize;

use super::console::now;

#[derive(Serialize)]
struct Head<'a> {
    /// Wall clock, UTC, when the line was made.
    time: String,
    camera: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl<'a> Head<'a> {
    fn new(camera: &'a str, kind: &'a str) -> Head<'a> {
        Head { time: now("%Y-%m-%dT%H:%M:%S.%fZ"), camera, kind }
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(flatten)]
    body: T,
}

/// A prompt has entered or left the picture, or a zone of it.
#[derive(Debug, PartialEq, Serialize)]
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

/// The camera has come or gone.
#[derive(Serialize)]
pub struct Connection<'a> {
    pub state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
}

/// One frame, from the line that gclipmeta2json made of it. `None` if that is no object.
pub fn frame(camera: &str, json: &[u8]) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(&Head::new(camera, "frame")).ok()?;
    line.pop();
    line.push(b',');
    line.extend_from_slice(json.strip_prefix(b"{")?);
    Some(line)
}

pub fn presence(camera: &str, change: &Presence) -> Option<Vec<u8>> {
    whole(camera, "presence", change)
}

pub fn connection(camera: &str, connection: &Connection) -> Option<Vec<u8>> {
    whole(camera, "camera", connection)
}

fn whole(camera: &str, kind: &str, body: impl Serialize) -> Option<Vec<u8>> {
    let mut line = serde_json::to_vec(&Line { head: Head::new(camera, kind), body }).ok()?;
    line.push(b'\n');
    Some(line)
}

impl Presence {
    /// From the element message `gclip-presence`; `None` if a field is missing.
    pub fn from_structure(structure: &gst::StructureRef) -> Option<Presence> {
        let time = |name| structure.get::<Option<gst::ClockTime>>(name).ok().flatten();
        let nanoseconds = |name| time(name).map(gst::ClockTime::nseconds);
        Some(Presence {
            state: structure.get("state").ok()?,
            label: structure.get("label").ok()?,
            zone: structure.get::<Option<String>>("zone").ok().flatten(),
            area: structure.get("area").ok()?,
            score: structure.get("score").ok()?,
            generation: structure.get("generation").ok()?,
            pts: nanoseconds("pts"),
            stream_time: nanoseconds("stream-time"),
            running_time: nanoseconds("running-time"),
        })
    }
}
