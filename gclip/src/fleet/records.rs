// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in the buckets: names of keys, and values in JSON.

use anyhow::{Context, Error, Result};
use async_nats::jetstream::{self, kv, kv::CreateErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::member::Session;
use crate::nats;
use crate::nats::keys::{name, token};

/// Of everything below; another version's is not touched.
const FORMAT: &str = "1";
pub const FORMAT_KEY: &str = "format";

/// The two buckets of a fleet, by its name.
fn buckets(fleet: &str) -> [String; 2] {
    [format!("{fleet}-fleet"), format!("{fleet}-cameras")]
}

/// The subject on which workers are asked how they are; no stream of results keeps it.
pub fn status_subject(fleet: &str) -> String {
    format!("{fleet}-fleet.status")
}

/// A key of the first bucket. All but the beats are told to all workers.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Worker(String),
    Beat(String),
    Claim(String),
    /// It is there while the worker is to have no cameras.
    Drain(String),
}

/// What is told of that bucket: the format too, so that there is always something.
pub const TOLD: [&str; 4] = ["worker.*", "claim.*", "drain.*", FORMAT_KEY];

impl Key {
    pub fn parse(key: &str) -> Option<Key> {
        let (kind, of) = key.split_once('.')?;
        let of = name(of)?;
        Some(match kind {
            "worker" => Key::Worker(of),
            "beat" => Key::Beat(of),
            "claim" => Key::Claim(of),
            "drain" => Key::Drain(of),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, of) = match self {
            Key::Worker(of) => ("worker", of),
            Key::Beat(of) => ("beat", of),
            Key::Claim(of) => ("claim", of),
            Key::Drain(of) => ("drain", of),
        };
        write!(f, "{kind}.{}", token(of))
    }
}

/// A worker's key.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Worker {
    pub session: String,
    pub capacity: u32,
    pub host: String,
    pub version: String,
}

/// A camera's claim.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Claim {
    pub worker: String,
    pub session: String,
}

impl From<Claim> for Session {
    fn from(claim: Claim) -> Session {
        Session { worker: claim.worker, id: claim.session }
    }
}

impl From<&Session> for Claim {
    fn from(session: &Session) -> Claim {
        Claim { worker: session.worker.clone(), session: session.id.clone() }
    }
}

/// A camera's settings: the keys of its `[[camera]]`, without its name.
pub type Camera = Map<String, Value>;

/// How a worker is, and its cameras.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Report {
    pub worker: String,
    pub session: String,
    pub cameras: Vec<CameraReport>,
    /// Whether its lines wait until the servers answer again.
    pub holds: bool,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct CameraReport {
    pub camera: String,
    pub epoch: u64,
    /// `connecting`, `playing`, `waiting`, `stopped`, or `mistake`.
    pub state: String,
    /// Why it is not played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Seconds since the frame was there that the newest masks are made from.
    pub mask_age: Option<f64>,
}

/// What is there is of another version of the program.
#[derive(Debug)]
pub struct Foreign(String);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Foreign {}

fn check_format(found: &[u8], bucket: &str) -> Result<(), Foreign> {
    let found = String::from_utf8_lossy(found);
    if found == FORMAT {
        return Ok(());
    }
    Err(Foreign(format!(
        "the bucket {bucket} was written by another version of gclip (format {found}, this one writes {FORMAT}): use that \
         version, or another `bucket`"
    )))
}

/// Opens the two buckets of a fleet: of its workers, and of its cameras. They are made where they are not there.
///
/// # Errors
/// One cannot be made, or is [`Foreign`].
pub async fn open(context: &jetstream::Context, fleet: &str) -> Result<[kv::Store; 2]> {
    let [of_fleet, of_cameras] = buckets(fleet);
    Ok([
        open_one(context, &of_fleet, "Workers of gclip and who has which camera").await?,
        open_one(context, &of_cameras, "Cameras of gclip").await?,
    ])
}

async fn open_one(context: &jetstream::Context, bucket: &str, what: &str) -> Result<kv::Store> {
    let store = nats::bucket(context, bucket, what).await?;
    // Who is the first writes it.
    if store.get(FORMAT_KEY).await?.is_none() {
        let written = store.create(FORMAT_KEY, FORMAT.into()).await;
        if let Err(error) = written
            && error.kind() != CreateErrorKind::AlreadyExists
        {
            return Err(Error::from(error).context(format!("the bucket {bucket} cannot be written")));
        }
    }
    let found =
        store.get(FORMAT_KEY).await?.with_context(|| format!("the bucket {bucket} loses what is written"))?;
    check_format(&found, bucket)?;
    Ok(store)
}

/// # Errors
/// It is not what it should be.
pub fn read<T: for<'a> Deserialize<'a>>(value: &[u8], key: &str) -> Result<T> {
    serde_json::from_slice(value).with_context(|| format!("the key {key} holds nothing that can be read"))
}

pub fn write(value: &impl Serialize) -> Vec<u8> {
    // These are maps of texts and numbers, which JSON can hold.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        for key in [
            Key::Worker("w.1".into()),
            Key::Beat("ü".into()),
            Key::Claim("a b".into()),
            Key::Drain("x".into()),
        ] {
            assert_eq!(Key::parse(&key.to_string()), Some(key));
        }
        assert_eq!(Key::Claim("a.b".into()).to_string(), "claim.a=2Eb");
        for wrong in ["format", "worker.", "worker.=", "other.x"] {
            assert_eq!(Key::parse(wrong), None, "{wrong}");
        }
        assert!(check_format(b"1", "b").is_ok());
        assert!(check_format(b"2", "b").unwrap_err().to_string().contains("another version"));
    }
}
