// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file as it is written: its keys and their types. Where a mistake was made is kept for the messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use crate::redact;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub model: Spanned<String>,
    pub metrics: Option<SocketAddr>,
    pub web: Option<Spanned<Web>>,
    pub history: Option<History>,
    pub fleet: Option<Spanned<Fleet>>,
    /// Properties of gclipsegment, for all cameras.
    #[serde(default)]
    pub segment: Properties,
    /// Keys that cameras need not repeat.
    #[serde(default)]
    pub defaults: Camera,
    /// By name.
    #[serde(default)]
    pub output: BTreeMap<String, Spanned<Output>>,
    #[serde(default)]
    pub camera: Vec<Spanned<Camera>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Web {
    pub listen: SocketAddr,
    pub token: Option<Spanned<String>>,
    pub user: Option<Spanned<String>>,
    /// As `gclip watch --hash-password` prints it.
    pub password: Option<Spanned<String>>,
    pub certificate: Option<Spanned<String>>,
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub behind_proxy: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct History {
    pub folder: Option<Spanned<String>>,
    pub days: Option<Spanned<u32>>,
    pub megabytes: Option<Spanned<u32>>,
    pub snapshot_days: Option<Spanned<u32>>,
    pub snapshot_megabytes: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fleet {
    pub servers: Option<Spanned<Texts>>,
    pub credentials: Option<Spanned<String>>,
    pub nkey: Option<Spanned<String>>,
    pub ca: Option<Spanned<String>>,
    pub bucket: Option<Spanned<String>>,
    pub name: Option<Spanned<String>>,
    pub capacity: Option<Spanned<u32>>,
    /// Seconds.
    pub ttl: Option<Spanned<f64>>,
    #[serde(default)]
    pub when_alone: WhenAlone,
}

/// One text, or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    pub fn all(&self) -> &[String] {
        match self {
            Texts::One(text) => std::slice::from_ref(text),
            Texts::Several(texts) => texts,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum WhenAlone {
    #[default]
    Hold,
    GoOn,
}

pub type Properties = BTreeMap<String, Spanned<toml::Value>>;

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Camera {
    pub name: Option<Spanned<String>>,
    pub url: Option<Spanned<String>>,
    pub prompts: Option<Spanned<String>>,
    pub background: Option<Spanned<String>>,
    pub prompt_thresholds: Option<Spanned<String>>,
    pub zones: Option<Spanned<String>>,
    pub outputs: Option<Vec<Spanned<String>>>,
    pub enabled: Option<bool>,
    pub masks: Option<Masks>,
    pub protocols: Option<Protocols>,
    pub certificate: Option<Certificate>,
    /// Milliseconds.
    pub latency: Option<Spanned<u32>>,
    /// Seconds.
    pub timeout: Option<Spanned<f64>>,
    pub retry_min: Option<Spanned<f64>>,
    pub retry_max: Option<Spanned<f64>>,
    pub retry_login: Option<Spanned<f64>>,
    pub decode: Option<Decode>,
    /// Frames a second.
    pub fps: Option<Spanned<f64>>,
    /// Pixels.
    pub width: Option<Spanned<u32>>,
    #[serde(default)]
    pub segment: Properties,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Protocols {
    #[default]
    Tcp,
    Udp,
    UdpMcast,
    /// Whatever works, UDP first.
    Any,
}

/// What is decoded, and by what.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// By programs, whatever hardware there is.
    #[default]
    Software,
    /// By hardware where GStreamer has a decoder for it.
    Auto,
    /// Key frames alone, by programs.
    Keyframes,
}

/// Which certificates an `rtsps://` camera may show.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Certificate {
    /// One of this host's that the system trusts.
    #[default]
    Trusted,
    /// Any at all, as cameras make themselves: what is said is encrypted, but nobody knows to whom.
    Any,
}

/// How a region's shape is written, as the property `mask` of gclipmeta2json.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Masks {
    #[default]
    None,
    Rle,
    Polygon,
    Png,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Output {
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default)]
    pub what: What,
    pub buffer: Option<Spanned<usize>>,
    pub path: Option<Spanned<String>>,
    pub broker: Option<Spanned<String>>,
    pub topic: Option<Spanned<String>>,
    pub ca: Option<Spanned<String>>,
    pub availability: Option<Spanned<String>>,
    pub retain_presence: Option<Spanned<bool>>,
    pub discovery: Option<Spanned<String>>,
    pub url: Option<Spanned<String>>,
    pub secret: Option<Spanned<String>>,
    pub authorization: Option<Spanned<String>>,
    pub servers: Option<Spanned<Texts>>,
    pub credentials: Option<Spanned<String>>,
    pub nkey: Option<Spanned<String>>,
    pub stream: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Stdout,
    File,
    Mqtt,
    Nats,
    Webhook,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Who enters and leaves, and which camera comes and goes.
    #[default]
    Changes,
    /// That, and the regions of every frame.
    All,
}

/// Something in the file that cannot be.
#[derive(Debug)]
pub struct Mistake {
    /// Bytes of the file.
    pub at: Option<Range<usize>>,
    /// Such as `camera[0].url`; may be empty.
    pub key: String,
    pub what: String,
}

impl Mistake {
    pub fn new(at: Range<usize>, key: impl Into<String>, what: impl Into<String>) -> Mistake {
        Mistake { at: Some(at), key: key.into(), what: what.into() }
    }

    /// `key: what is wrong`, without secrets.
    pub fn of_key(&self) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        redact::urls(&format!("{key}{}", self.what.trim().replace('\n', " ")))
    }

    /// `file:line: key: what is wrong`, without secrets.
    pub fn describe(&self, file: &str, text: &str) -> String {
        let place = match &self.at {
            Some(at) => format!("{file}:{}", 1 + text[..at.start.min(text.len())].matches('\n').count()),
            None => file.to_string(),
        };
        redact::urls(&format!("{place}: {}", self.of_key()))
    }
}

/// # Errors
/// No TOML, an unknown or missing key, or a value of another type.
pub fn parse(text: &str) -> Result<File, Mistake> {
    let of_toml = |error: &toml::de::Error, key: String| Mistake {
        at: error.span(),
        key,
        what: error.message().to_string(),
    };
    let file = toml::de::Deserializer::parse(text).map_err(|error| of_toml(&error, String::new()))?;
    serde_path_to_error::deserialize(file).map_err(|error| of_toml(error.inner(), key_of(error.path())))
}

/// The path as the user knows it, without the helpers that keep the places.
fn key_of(path: &serde_path_to_error::Path) -> String {
    let parts = path.iter().map(|part| part.to_string());
    let mut key = String::new();
    for part in
        parts.filter(|part| !part.contains("__serde_spanned") && !part.contains("__spanned") && part != "?")
    {
        if !key.is_empty() && !part.starts_with('[') {
            key.push('.');
        }
        key.push_str(&part);
    }
    key
}
