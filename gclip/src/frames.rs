// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frames of a video file, one after the other, as pictures.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gstgclip::frame::Mapped;
use gstgclip::picture::RgbImage;

use crate::trouble::readable;
use crate::video::{UPRIGHT, uri_of};

/// Frames that are decoded before somebody takes them.
const AHEAD: usize = 2;

/// A video that plays as fast as its frames are taken. Dropping it ends it.
pub struct Frames {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    /// `None` while it ends, so that nobody waits for room.
    frames: Option<Receiver<Result<RgbImage>>>,
    /// Whether all that will come has been sent.
    ended: bool,
}

impl Frames {
    /// Every `every`th frame of a file. GStreamer must have been started.
    ///
    /// # Errors
    /// The file cannot be read, or an element is missing.
    pub fn of(video: &Path, every: usize) -> Result<Frames> {
        let description = format!(
            "uridecodebin name=source ! videoconvert ! {UPRIGHT} ! videoconvert ! video/x-raw,format=RGB \
             ! fakesink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&description)
            .context("a GStreamer element is missing (scripts/setup.sh installs them all)")?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow!("the description is not a pipeline"))?;
        let element =
            |name: &str| pipeline.by_name(name).with_context(|| format!("the pipeline has no {name}"));
        let path = video.to_str().with_context(|| format!("the path {} is not UTF-8", video.display()))?;
        element("source")?.set_property("uri", uri_of(path)?);
        let pad = element("sink")?.static_pad("sink").context("the sink has no pad")?;
        let (sender, frames) = sync_channel(AHEAD);
        let number = AtomicUsize::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) else {
                return gst::PadProbeReturn::Ok;
            };
            if number.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.max(1)) {
                // Whoever took the frames may have had enough.
                let _ = sender.send(picture(buffer, &caps));
            }
            gst::PadProbeReturn::Ok
        });
        let bus = pipeline.bus().context("the pipeline has no bus")?;
        pipeline.set_state(gst::State::Playing).map_err(|_| crate::trouble::first_error(&bus))?;
        Ok(Frames { pipeline, bus, frames: Some(frames), ended: false })
    }

    /// How long the video is, where it says so.
    pub fn seconds(&self) -> Option<f64> {
        let length = self.pipeline.query_duration::<gst::ClockTime>()?;
        Some(length.nseconds() as f64 / 1e9)
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// The video breaks off.
    pub fn next(&mut self) -> Result<Option<RgbImage>> {
        let Some(frames) = &self.frames else { return Ok(None) };
        while !self.ended {
            match frames.recv_timeout(Duration::from_millis(50)) {
                Ok(frame) => return frame.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let message = self.bus.pop_filtered(&[gst::MessageType::Eos, gst::MessageType::Error]);
            match message.as_ref().map(|message| message.view()) {
                Some(gst::MessageView::Eos(_)) => self.ended = true,
                Some(gst::MessageView::Error(error)) => return Err(readable(error)),
                _ => {}
            }
        }
        frames.try_recv().ok().transpose()
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.frames = None;
        // A state change to NULL cannot fail.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn picture(buffer: &gst::BufferRef, caps: &gst::Caps) -> Result<RgbImage> {
    let ((width, height), rgb) = packed_rgb(buffer, caps)?;
    match RgbImage::from_raw(width, height, rgb) {
        Some(image) => Ok(image),
        None => bail!("a frame is shorter than its size says"),
    }
}

/// Width and height, and the pixels without padding.
pub fn packed_rgb(buffer: &gst::BufferRef, caps: &gst::Caps) -> Result<((usize, usize), Vec<u8>)> {
    let info = gst_video::VideoInfo::from_caps(caps).context("its caps are no video")?;
    let frame = Mapped::read(buffer, &info).context("it cannot be read")?;
    let (width, height) = (frame.width(), frame.height());
    let pixels = frame.rows(0).context("it has no pixels")?;
    let rows = pixels.data.chunks(pixels.stride);
    Ok(((width, height), rows.flat_map(|row| &row[..width * 3]).copied().collect()))
}
