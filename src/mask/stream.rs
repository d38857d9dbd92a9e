// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the stream has told so far, the caps that follow from it, and where output frames come from.

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::VideoFormat;

use super::render::render;
use super::settings::Settings;
use super::{Mode, Size};
use crate::frame::Mapped;
use crate::meta::{Masks, Rect};

#[derive(Default)]
pub struct State {
    frame: Option<FrameCaps>,
    output: Option<Output>,
    /// Serialized events that wait for our caps: with `size=mask` only the first mask tells them.
    pub pending: Vec<gst::Event>,
}

/// The caps of the frames.
#[derive(Clone)]
struct FrameCaps {
    caps: gst::Caps,
    width: u32,
    height: u32,
    /// For formats whose pixels can be read.
    info: Option<gst_video::VideoInfo>,
}

/// What was negotiated downstream.
struct Output {
    caps: gst::Caps,
    info: gst_video::VideoInfo,
    pool: gst::BufferPool,
}

impl Drop for Output {
    /// A pool that goes while active keeps its free buffers for ever.
    fn drop(&mut self) {
        if let Err(error) = self.pool.set_active(false) {
            gst::warning!(gst::CAT_DEFAULT, "pool of mask frames: {error}");
        }
    }
}

/// What an output has to be: one of some formats, in order of preference, and a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    formats: Vec<VideoFormat>,
    width: u32,
    height: u32,
}

impl State {
    /// New caps of the frames; the output is negotiated again.
    pub fn set_caps(&mut self, caps: &gst::Caps) -> Result<()> {
        let structure = caps.structure(0).context("empty caps")?;
        let side = |name| -> Result<u32> { Ok(u32::try_from(structure.get::<i32>(name)?)?) };
        self.frame = Some(FrameCaps {
            width: side("width")?,
            height: side("height")?,
            info: gst_video::VideoInfo::from_caps(caps).ok(),
            caps: caps.clone(),
        });
        self.output = None;
        Ok(())
    }

    /// Of the events that wait those stay that a pad keeps through a flush.
    pub fn flush(&mut self) {
        let ends = [gst::EventType::Segment, gst::EventType::Eos, gst::EventType::StreamGroupDone];
        self.pending.retain(|event| event.is_sticky() && !ends.contains(&event.type_()));
    }

    /// Width and height of the frames.
    pub fn frame_size(&self) -> Option<(u32, u32)> {
        self.frame.as_ref().map(|frame| (frame.width, frame.height))
    }

    /// What the output has to be for these masks; before the first masks, as far as it is known.
    pub fn wanted(&self, settings: &Settings, masks: Option<&Masks>) -> Option<Wanted> {
        let frame = self.frame.as_ref()?;
        let view = masks.and_then(Masks::view);
        let wide = view.as_ref().is_some_and(|view| view.format() == VideoFormat::Gray16Le);
        let formats = match settings.mode {
            Mode::Ids if wide => vec![VideoFormat::Gray16Le],
            Mode::Ids => vec![VideoFormat::Gray8, VideoFormat::Gray16Le],
            Mode::Matte => vec![VideoFormat::Gray8],
            Mode::Cutout => vec![VideoFormat::Rgba],
        };
        let (width, height) = match (at_frame_size(settings), view) {
            (true, _) => (frame.width, frame.height),
            (false, view) => view.map(|view| (view.width() as u32, view.height() as u32))?,
        };
        Some(Wanted { formats, width, height })
    }

    /// Whether what was negotiated will do.
    pub fn satisfies(&self, wanted: &Wanted) -> bool {
        self.output.as_ref().is_some_and(|Output { info, .. }| {
            wanted.formats.contains(&info.format())
                && (info.width(), info.height()) == (wanted.width, wanted.height)
        })
    }

    pub fn output_caps(&self) -> Option<&gst::Caps> {
        self.output.as_ref().map(|output| &output.caps)
    }

    pub fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Everything that may be sent downstream, best first.
    pub fn offered_caps(&self, wanted: &Wanted) -> Option<gst::Caps> {
        let frame = self.frame.as_ref()?;
        let from = frame.caps.structure(0)?;
        let mut caps = gst::Caps::new_empty();
        for format in &wanted.formats {
            let mut structure = gst::Structure::builder("video/x-raw")
                .field("format", format.to_str())
                .field("width", wanted.width as i32)
                .field("height", wanted.height as i32)
                .field("pixel-aspect-ratio", pixel_aspect(from, frame, wanted))
                .build();
            if let Ok(rate) = from.value("framerate") {
                structure.set_value("framerate", rate.clone());
            }
            caps.make_mut().append_structure(structure);
        }
        Some(caps)
    }

    /// Takes the caps that downstream agreed on.
    pub fn set_output(&mut self, caps: &gst::Caps) -> Result<()> {
        let info = gst_video::VideoInfo::from_caps(caps).context("the caps agreed on are no video")?;
        let pool = gst_video::VideoBufferPool::new().upcast::<gst::BufferPool>();
        let mut config = pool.config();
        config.set_params(Some(caps), u32::try_from(info.size())?, 0, 0);
        pool.set_config(config).context("a pool for mask frames")?;
        pool.set_active(true).context("a pool for mask frames")?;
        self.output = Some(Output { caps: caps.clone(), info, pool });
        Ok(())
    }

    /// The job of one frame, to be done without the lock.
    pub fn job(&self) -> Result<Job> {
        let Some(Output { info, pool, .. }) = &self.output else { bail!("nothing was negotiated") };
        let frame_info = self.frame.as_ref().and_then(|frame| frame.info.clone());
        Ok(Job { info: info.clone(), pool: pool.clone(), frame_info })
    }
}

/// A cut-out shows the frame, so it has its size.
pub fn at_frame_size(settings: &Settings) -> bool {
    settings.size == Size::Frame || settings.mode == Mode::Cutout
}

/// The shape of a pixel, so that the output covers the same picture as the frame.
fn pixel_aspect(from: &gst::StructureRef, frame: &FrameCaps, wanted: &Wanted) -> gst::Fraction {
    let own = from.get::<gst::Fraction>("pixel-aspect-ratio").unwrap_or(gst::Fraction::new(1, 1));
    let numerator = i64::from(own.numer()) * i64::from(frame.width) * i64::from(wanted.height);
    let denominator = i64::from(own.denom()) * i64::from(frame.height) * i64::from(wanted.width);
    let divisor = greatest_common_divisor(numerator, denominator).max(1);
    let terms = (i32::try_from(numerator / divisor), i32::try_from(denominator / divisor));
    match terms {
        (Ok(numerator), Ok(denominator)) if numerator > 0 && denominator > 0 => {
            gst::Fraction::new(numerator, denominator)
        }
        _ => own,
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// All that one output frame needs.
pub struct Job {
    info: gst_video::VideoInfo,
    pool: gst::BufferPool,
    frame_info: Option<gst_video::VideoInfo>,
}

impl Job {
    /// The output frame, with the times and flags of `frame` and the masks still attached.
    pub fn run(self, settings: &Settings, masks: &Masks, frame: &gst::Buffer) -> Result<gst::Buffer> {
        let mut output =
            self.pool.acquire_buffer(None).map_err(|flow| anyhow::anyhow!("no buffer: {flow:?}"))?;
        let writable = output.get_mut().context("the pool's buffer is in use")?;
        let readable = match (settings.mode, &self.frame_info) {
            (Mode::Cutout, Some(info)) => {
                Some(Mapped::read(frame, info).context("the frame cannot be read")?)
            }
            _ => None,
        };
        let pixels_in = readable.as_ref().and_then(|frame| Some((frame.info().format(), frame.rows(0)?)));
        let rect = if at_frame_size(settings) { masks.rect } else { Rect::FULL };
        {
            let mut pixels = gst_video::VideoFrameRef::from_buffer_ref_writable(writable, &self.info)
                .context("the output cannot be mapped for writing")?;
            render(settings, masks, rect, pixels_in, &mut pixels)?;
        }
        let copied = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS;
        frame.copy_into(writable, copied, ..).context("times cannot be copied")?;
        masks.attach(writable);
        Ok(output)
    }
}
