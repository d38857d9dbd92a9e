// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decode, segment, draw, encode: the pipeline of one video, of a recording by itself or of one among many.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

use super::shape::{self, playable};
use crate::rtsp::Counter;
use crate::{property, rtsp};

/// Turns pictures as the file says: phones store them as their sensor lies, with a display matrix or an orientation tag beside.
/// Costs nothing where neither is there.
pub const UPRIGHT: &str = "videoflip video-direction=auto";

/// What to look for in what.
pub struct Look<'a> {
    /// A file, a URI or a camera.
    pub source: &'a str,
    pub model: &'a str,
    /// Classes, or `@FILE`.
    pub prompts: &'a str,
    pub background: &'a str,
    /// Other properties of gclipsegment, and those of gclipoverlay, as `NAME=VALUE`.
    pub settings: &'a [String],
    pub drawing: &'a [String],
}

/// Where its results are written.
pub struct Files {
    /// One object a frame.
    pub json: PathBuf,
    /// Whether the objects hold the masks.
    pub masks: bool,
    /// With the masks drawn.
    pub video: Option<PathBuf>,
    /// Without them.
    pub plain: Option<PathBuf>,
}

/// The whole pipeline. Each branch has a queue, so that decoding, the model, drawing and encoding run beside
/// each other; the queues' names become the threads' names, by which the report tells CPU time apart.
/// The encoder looks seconds ahead, so the sinks must not wait for each other's first buffer (async=false).
///
/// # Errors
/// An element is missing, the source is not there, or a property does not take its value.
pub fn build(look: &Look, files: &Files) -> Result<gst::Pipeline> {
    let is_camera = look.source.starts_with("/dev/video");
    // A sound track stays unlinked: GStreamer then stops that stream alone.
    let source = if is_camera { "v4l2src name=source" } else { "uridecodebin name=source" };
    const ENCODE: &str = "x264enc speed-preset=veryfast bitrate=4096 ! h264parse ! mp4mux";
    let drawn = match files.video {
        Some(_) => format!(
            " masks. ! queue name=draw ! gclipoverlay name=overlay ! queue name=encode max-size-bytes=0 \
             ! {} ! {ENCODE} ! filesink name=video async=false",
            playable("even")
        ),
        None => String::new(),
    };
    let plain = match files.plain {
        Some(_) => format!(
            " masks. ! queue name=plain max-size-bytes=0 ! {} ! {ENCODE} ! filesink name=plain_video async=false",
            playable("even_plain")
        ),
        None => String::new(),
    };
    let description = format!(
        "{source} ! videoconvert ! {UPRIGHT} ! queue name=decode max-size-buffers=8 max-size-bytes=0 max-size-time=0 \
         ! gclipsegment name=segment ! tee name=masks{drawn} \
         masks. ! queue name=json ! gclipmeta2json name=lines ! filesink name=json_file async=false{plain}"
    );
    let pipeline = launch(&description)?;
    let element = |name: &str| part(&pipeline, name);
    element("json_file")?.set_property("location", path_text(&files.json)?);
    if files.masks {
        element("lines")?.set_property_from_str("mask", "rle");
    }
    if let Some(path) = &files.video {
        element("video")?.set_property("location", path_text(path)?);
        shape::make_even(&pipeline, "even")?;
        property::set_all(&element("overlay")?, look.drawing)?;
    }
    if let Some(path) = &files.plain {
        element("plain_video")?.set_property("location", path_text(path)?);
        shape::make_even(&pipeline, "even_plain")?;
    }
    if is_camera {
        element("source")?.set_property("device", look.source);
    } else {
        let source = element("source")?;
        source.set_property("uri", uri_of(look.source)?);
        source.connect("source-setup", false, |arguments| {
            // Nobody asks what is counted.
            rtsp::guard(&arguments.get(1)?.get().ok()?, Counter::default());
            None
        });
    }
    look.set_up(&element("segment")?)?;
    Ok(pipeline)
}

impl Look<'_> {
    /// Tells a gclipsegment what to look for, and how.
    ///
    /// # Errors
    /// A property does not take its value.
    pub fn set_up(&self, segment: &gst::Element) -> Result<()> {
        segment.set_property("model", self.model);
        match self.prompts.strip_prefix('@') {
            Some(file) => segment.set_property("prompts-file", file),
            None => segment.set_property("prompts", self.prompts),
        }
        if !self.background.is_empty() {
            segment.set_property("background", self.background);
        }
        property::set_all(segment, self.settings)
    }
}

/// # Errors
/// An element is missing.
pub fn launch(description: &str) -> Result<gst::Pipeline> {
    gst::parse::launch(description)
        .context("a GStreamer element is missing (scripts/setup.sh installs them all)")?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("the description is not a pipeline"))
}

/// The element of that name.
///
/// # Errors
/// There is none.
pub fn part(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element> {
    pipeline.by_name(name).with_context(|| format!("the pipeline has no {name}"))
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))
}

pub fn uri_of(source: &str) -> Result<String> {
    if source.contains("://") {
        return Ok(source.to_string());
    }
    let path = std::fs::canonicalize(source).with_context(|| format!("cannot read the video {source}"))?;
    Ok(glib::filename_to_uri(&path, None)?.to_string())
}
