// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the stream has told so far, and the JSON line it makes of a buffer.

use anyhow::{Context, Result};

use super::imp::Settings;
use crate::meta::Masks;
use crate::meta::json::{Frame, Size, Times};

#[derive(Default)]
pub struct State {
    /// Whether the source pad has its caps.
    pub negotiated: bool,
    size: Option<Size>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// The last frame written, for `only-changes`.
    last: Option<Frame>,
}

impl State {
    pub fn set_caps(&mut self, caps: &gst::CapsRef) {
        let dimension = |name| {
            let value = caps.structure(0)?.get::<i32>(name).ok()?;
            u32::try_from(value).ok()
        };
        self.size = dimension("width").zip(dimension("height")).map(|(width, height)| Size { width, height });
    }

    /// Only a segment in time gives stream and running times.
    pub fn set_segment(&mut self, segment: &gst::Segment) {
        self.segment = segment.downcast_ref::<gst::ClockTime>().cloned();
    }

    /// After a flush nothing was written yet.
    pub fn flush(&mut self) {
        self.segment = None;
        self.last = None;
    }

    /// The line for a buffer; `None` if it carries no masks, or the same as before and only changes are wanted.
    pub fn line(&mut self, buffer: &gst::BufferRef, settings: Settings) -> Result<Option<Vec<u8>>> {
        let size = self.size.map(|size| (size.width, size.height));
        let Some(masks) = Masks::found_on(buffer, size) else { return Ok(None) };
        let pts = buffer.pts();
        let segment = self.segment.as_ref();
        let times = Times {
            pts,
            stream: segment.and_then(|segment| segment.to_stream_time(pts)),
            running: segment.and_then(|segment| segment.to_running_time(pts)),
        };
        let frame = Frame::new(&masks, times, self.size, settings.mask)
            .context("the mask cannot be mapped for reading")?;
        if settings.only_changes && self.last.as_ref().is_some_and(|last| last.same_content(&frame)) {
            return Ok(None);
        }
        let line = frame.to_line().context("cannot write JSON")?;
        self.last = settings.only_changes.then_some(frame);
        Ok(Some(line))
    }
}
