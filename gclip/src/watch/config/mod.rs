// SPDX-License-Identifier: MIT OR Apache-2.0
//! The config file: `raw` is what is written, `check` and `camera` what it means, `address` a URL with a password in it.
//! A mistake is one sentence that names file, line and key.

mod address;
mod camera;
mod check;
mod raw;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

pub use address::Address;
pub use raw::{Certificate, Masks, Protocols, What};

use crate::redact::Secrets;

/// What to watch, and where the results go. Everything in it has been checked, but for what only the model knows.
#[derive(Clone)]
pub struct Config {
    /// A folder or file that exists, or a Hugging Face id.
    pub model: String,
    pub metrics: Option<SocketAddr>,
    pub outputs: Vec<Output>,
    pub cameras: Vec<Camera>,
    pub secrets: Secrets,
}

#[derive(Clone)]
pub struct Output {
    pub name: String,
    pub what: What,
    /// Lines that wait at most; the oldest go when more come.
    pub buffer: usize,
    pub target: Target,
}

#[derive(Clone)]
pub enum Target {
    Stdout,
    File(PathBuf),
    /// `{camera}` in the topic stands for the camera's name.
    Mqtt {
        broker: Address,
        topic: String,
        /// For TLS: the certificates of those whose word for the broker counts, in PEM.
        trusted: Option<Vec<u8>>,
    },
}

#[derive(Clone)]
pub struct Camera {
    pub name: String,
    pub address: Address,
    /// Classes separated by `;`; those of a file too.
    pub prompts: String,
    pub background: String,
    pub zones: String,
    /// Indices of [`Config::outputs`].
    pub outputs: Vec<usize>,
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
    /// Frames a second that are looked at, at most, as a fraction.
    pub fps: Option<gst::Fraction>,
    /// Pixels, at most.
    pub width: Option<u32>,
    /// Further properties of gclipsegment, as `name=value`.
    pub segment: Vec<String>,
}

/// Reads and checks a config file. GStreamer and the plugin must have been started.
///
/// # Errors
/// One sentence with file, line and key.
pub fn load(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, path)
}

fn parse(text: &str, path: &Path) -> Result<Config> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = raw::parse(text).and_then(|file| check::config(file, folder));
    config.map_err(|mistake| anyhow!("{}", mistake.describe(&path.display().to_string(), text)))
}
