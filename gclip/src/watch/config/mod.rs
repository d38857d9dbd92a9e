// SPDX-License-Identifier: MIT OR Apache-2.0
//! The config file: `raw` is what is written, `check` with `camera`, `output` and `values` what it means.
//! A mistake is one sentence that names file, line and key.

mod camera;
mod check;
mod nats;
mod output;
mod raw;
mod source;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

pub use nats::is_of_bucket;
pub use raw::{Certificate, Decode, Masks, Protocols, What};
pub use source::{PICTURES, Source};

use crate::address::Address;
use crate::fleet;
use crate::nats::Servers;
use crate::redact::Secrets;
use crate::watch::tls;
use gstgclip::model::Thresholds;
use gstgclip::presence::Zones;

/// What to watch, and where the results go. Everything in it has been checked, but for what only the model knows.
#[derive(Clone)]
pub struct Config {
    /// A folder or file that exists, or a Hugging Face id.
    pub model: String,
    pub metrics: Option<SocketAddr>,
    pub web: Option<Web>,
    pub history: Option<History>,
    /// Where the cameras come from, if not from the file.
    pub fleet: Option<fleet::Settings>,
    /// Properties of gclipsegment that all cameras share, as `name=value`.
    pub segment: Vec<String>,
    pub outputs: Vec<Output>,
    pub cameras: Vec<Camera>,
    pub secrets: Secrets,
}

/// The page, and the interface behind it.
#[derive(Clone, PartialEq)]
pub struct Web {
    pub listen: SocketAddr,
    /// What who asks has to know: this, or the other.
    pub token: Option<String>,
    pub login: Option<Login>,
    pub tls: Option<tls::Files>,
    /// Whether browsers speak TLS, if not with this program.
    pub behind_proxy: bool,
}

#[derive(Clone, PartialEq)]
pub struct Login {
    pub user: String,
    /// Of the password, by Argon2id.
    pub hash: String,
}

/// What is kept of what has happened, and for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub folder: PathBuf,
    /// Of events and statistics; older ones go.
    pub age: Duration,
    /// Of the database.
    pub bytes: u64,
    pub snapshot_age: Duration,
    /// 0: none are taken.
    pub snapshot_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    pub name: String,
    pub what: What,
    /// Lines that wait at most; the oldest go when more come.
    pub buffer: usize,
    pub target: Target,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Stdout,
    File(PathBuf),
    Mqtt(MqttTarget),
    Nats(NatsTarget),
    Webhook(WebhookTarget),
}

#[derive(Clone, PartialEq)]
pub struct MqttTarget {
    pub broker: Address,
    /// Of the lines; `{camera}` stands for the camera's name.
    pub topic: String,
    /// For TLS: the certificates of those whose word for the broker counts, in PEM.
    pub trusted: Option<Vec<u8>>,
    /// Where it stands whether the program is there.
    pub availability: Option<String>,
    /// Whether the broker keeps who is in the picture.
    pub retain_presence: bool,
    /// Where Home Assistant looks for what there is.
    pub discovery: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NatsTarget {
    pub servers: Servers,
    /// Which keeps the lines; made where it is not there.
    pub stream: String,
    /// What the subjects of the lines begin with.
    pub subject: String,
}

#[derive(Clone, PartialEq)]
pub struct WebhookTarget {
    pub address: Address,
    /// What the lines are signed with.
    pub secret: Option<String>,
    /// Value of the header.
    pub authorization: Option<String>,
}

// Secrets and certificates are not for reading.
impl fmt::Debug for MqttTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MqttTarget({} {})", self.broker, self.topic)
    }
}

impl fmt::Debug for WebhookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookTarget({})", self.address)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    pub name: String,
    pub source: Source,
    /// Classes separated by `;`; those of a file too.
    pub prompts: String,
    pub background: String,
    /// Of single classes, by label.
    pub prompt_thresholds: Thresholds,
    /// What of the words will not do what it says.
    pub doubts: Vec<String>,
    pub zones: String,
    /// What can be seen, in the order of the prompts.
    pub labels: Vec<String>,
    /// Names of [`Config::outputs`].
    pub outputs: Vec<String>,
    /// Whether it is watched at all.
    pub enabled: bool,
    pub masks: Masks,
    pub protocols: Protocols,
    pub certificate: Certificate,
    /// Of the jitter buffer.
    pub latency: Duration,
    /// Without a picture for this long the camera is given up and tried again.
    pub timeout: Duration,
    /// Before the first retry, and at most; each wait is about twice the one before.
    pub retry_min: Duration,
    pub retry_max: Duration,
    /// At least, before the next try with a user or password that was refused.
    pub retry_login: Duration,
    pub decode: Decode,
    /// Frames a second that are looked at, at most, as a fraction.
    pub fps: Option<gst::Fraction>,
    /// Pixels, at most.
    pub width: Option<u32>,
    /// Further properties of gclipsegment, as `name=value`.
    pub segment: Vec<String>,
}

impl Camera {
    /// Whether a connection by the one is a connection by the other: the outputs do not matter to it.
    pub fn is_like(&self, other: &Camera) -> bool {
        let outputs = other.outputs.clone();
        *other == Camera { outputs, ..self.clone() }
    }

    /// Whether a connection by the one becomes one by the other while it plays: only what is looked for has changed.
    pub fn differs_in_words(&self, other: &Camera) -> bool {
        let Camera { prompts, background, prompt_thresholds, doubts, zones, labels, .. } = other.clone();
        let words = Camera { prompts, background, prompt_thresholds, doubts, zones, labels, ..self.clone() };
        !self.is_like(other) && other.is_like(&words)
    }

    pub fn zone_names(&self) -> Vec<String> {
        let zones: Zones = self.zones.parse().unwrap_or_default();
        zones.0.into_iter().map(|zone| zone.name).collect()
    }
}

/// Reads and checks a config file. GStreamer and the plugin must have been started.
///
/// # Errors
/// One sentence with file, line and key.
pub fn load(path: &Path) -> Result<(Config, String)> {
    let text = read(path)?;
    Ok((parse(&text, path)?, text))
}

/// # Errors
/// Which file cannot be read, and why.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// # Errors
/// One sentence with file, line and key.
pub fn parse(text: &str, path: &Path) -> Result<Config> {
    checked(text, path, false)
        .map_err(|mistake| anyhow!("{}", mistake.describe(&path.display().to_string(), text)))
}

/// One camera of those that a file does not name, by its settings there. `text` is all that the file says.
///
/// # Errors
/// One sentence with the key.
pub fn camera_of(text: &str, path: &Path, camera: toml_edit::Table) -> Result<Camera, String> {
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|error| format!("the file cannot be read: {error}"))?;
    let mut cameras = toml_edit::ArrayOfTables::new();
    cameras.push(camera);
    document.insert("camera", toml_edit::Item::ArrayOfTables(cameras));
    let config = checked(&document.to_string(), path, true).map_err(|mistake| mistake.of_key())?;
    config.cameras.into_iter().next().ok_or_else(|| "there is no camera".into())
}

/// What the file would say after a change that is not in it yet.
///
/// # Errors
/// One sentence with the key.
pub fn parse_change(text: &str, path: &Path) -> Result<Config, String> {
    checked(text, path, false).map_err(|mistake| mistake.of_key())
}

fn checked(text: &str, path: &Path, with_camera: bool) -> Result<Config, raw::Mistake> {
    let folder = path.parent().unwrap_or(Path::new(""));
    raw::parse(text).and_then(|file| check::config(file, folder, with_camera))
}
