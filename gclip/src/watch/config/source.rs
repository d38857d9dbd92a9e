// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a camera's pictures come from: its `url`.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, ensure};

use crate::address::Address;
use crate::eval::files_below;
use crate::trouble;

/// Endings of files that are pictures and no videos.
pub const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A camera in the network.
    Rtsp(Address),
    /// A camera of this machine, such as /dev/video0.
    Device(PathBuf),
    /// A video, at its own pace, again and again.
    Video(PathBuf),
    /// A picture, or a folder of them, one after the other, again and again.
    Pictures(PathBuf),
}

impl Source {
    /// # Errors
    /// No such URL, or no such file. The error repeats no password.
    pub fn parse(text: &str) -> Result<Source> {
        if text.starts_with("file:") {
            let path = glib::filename_from_uri(text).map(|(path, _)| path);
            return Source::file(&path.context("this is no URL such as file:///folder/street.mp4")?);
        }
        if let Some(device) = text.strip_prefix("v4l2://") {
            ensure!(device.starts_with('/'), "this is no URL such as v4l2:///dev/video0");
            return Ok(Source::Device(device.into()));
        }
        Address::parse(text, &["rtsp", "rtsps"]).map(Source::Rtsp)
    }

    fn file(path: &Path) -> Result<Source> {
        let kind = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
        let is_picture = ending.is_some_and(|ending| PICTURES.contains(&ending.as_str()));
        if kind.is_dir() {
            let holds = !files_below(path, &PICTURES)?.is_empty();
            ensure!(holds, "the folder {} holds no PNG or JPEG picture", path.display());
        }
        Ok(if kind.is_dir() || is_picture {
            Source::Pictures(path.into())
        } else {
            Source::Video(path.into())
        })
    }

    pub fn address(&self) -> Option<&Address> {
        match self {
            Source::Rtsp(address) => Some(address),
            _ => None,
        }
    }

    /// An error of a pipeline that reads it, as one sentence. GStreamer's own words pass `hide` first.
    pub fn explain(&self, error: &gst::message::Error, hide: &dyn Fn(&str) -> String) -> Error {
        match self {
            Source::Rtsp(address) => trouble::explain(error, address, hide),
            _ => anyhow!("{self}: {}", trouble::sentence(error)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Rtsp(address) => address.fmt(f),
            Source::Device(path) | Source::Video(path) | Source::Pictures(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a street.mp4", "one.JPG"] {
            std::fs::write(path(name), "").unwrap();
        }
        let url = |path: &Path| glib::filename_to_uri(path, None).unwrap().to_string();
        assert_eq!(Source::parse(&url(&path("a street.mp4"))).unwrap(), Source::Video(path("a street.mp4")));
        assert_eq!(Source::parse(&url(&path("one.JPG"))).unwrap(), Source::Pictures(path("one.JPG")));
        assert_eq!(Source::parse(&url(folder.path())).unwrap(), Source::Pictures(folder.path().into()));
        assert_eq!(Source::parse("v4l2:///dev/video0").unwrap(), Source::Device("/dev/video0".into()));
        let camera = Source::parse("rtsp://me:secret@h/x").unwrap();
        assert_eq!((camera.to_string().as_str(), camera.address().is_some()), ("rtsp://h/x", true));
        for (text, words) in [
            (url(&path("none.mp4")).as_str(), "none.mp4: No such file"),
            ("file:x", "file:///folder"),
            ("v4l2://x", "v4l2:///dev/video0"),
            ("http://h/x", "rtsp://"),
        ] {
            let why = format!("{:#}", Source::parse(text).unwrap_err());
            assert!(why.contains(words), "{why}");
        }
    }
}
