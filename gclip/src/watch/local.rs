// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is on this machine, in the place of a camera in the network: raw video as from a live camera, of one source pad.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;

use super::config::{PICTURES, Source};
use crate::eval::files_below;
use crate::rtsp::Counter;
use crate::video::UPRIGHT;
use gstgclip::picture::{self, RgbImage, Turn};

/// A picture comes this often, as often as it is looked at.
const INTERVAL: Duration = Duration::from_millis(200);
/// Each of several pictures stays for so long.
const STAY: Duration = Duration::from_secs(5);

/// Its pictures are counted.
///
/// # Errors
/// It cannot be read, an element is missing, or it is not on this machine.
pub fn source(source: &Source, frames: Counter) -> Result<gst::Element> {
    let element = match source {
        Source::Rtsp(address) => bail!("{address} is in the network"),
        Source::Device(path) => {
            bin("v4l2src name=read ! decodebin ! videoconvert name=raw", ("device", path))?
        }
        // What keeps it at its own pace also says that it is live: who is late does not hold it up.
        Source::Video(path) => bin(
            &format!("filesrc name=read ! decodebin ! videoconvert ! {UPRIGHT} ! clocksync name=raw"),
            ("location", path),
        )?,
        Source::Pictures(path) => slides(path)?,
    };
    let pad = element.static_pad("src").context("there is no source pad")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        frames.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    Ok(element)
}

fn bin(description: &str, (property, path): (&str, &Path)) -> Result<gst::Element> {
    // Not with ghosts of all pads that are not linked: some are not linked yet.
    let bin = gst::parse::bin_from_description(description, false);
    let bin = bin.context("a GStreamer element is missing (scripts/setup.sh installs them all)")?;
    let raw =
        bin.by_name("raw").and_then(|element| element.static_pad("src")).context("nothing comes out")?;
    bin.add_pad(&gst::GhostPad::builder_with_target(&raw)?.name("src").build())?;
    let path = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
    bin.by_name("read").context("nothing reads it")?.set_property(property, path);
    Ok(bin.upcast())
}

/// Shows a video from its beginning.
///
/// # Errors
/// It cannot be rewound, as a pipe cannot.
pub fn rewind(pipeline: &gst::Pipeline) -> Result<()> {
    let rewound =
        pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT, gst::ClockTime::ZERO);
    rewound.context("it cannot be shown again from its beginning")
}

/// Pictures one after the other.
struct Slides {
    files: Vec<PathBuf>,
    next: usize,
    shown: Option<(gst::Sample, Instant)>,
}

fn slides(path: &Path) -> Result<gst::Element> {
    let files = if path.is_dir() {
        files_below(path, &PICTURES)?.into_iter().map(|file| path.join(file)).collect()
    } else {
        vec![path.to_path_buf()]
    };
    ensure!(!files.is_empty(), "the folder {} holds no PNG or JPEG picture", path.display());
    let mut slides = Slides { files, next: 0, shown: None };
    let source =
        gst_app::AppSrc::builder().is_live(true).format(gst::Format::Time).do_timestamp(true).build();
    let callbacks = gst_app::AppSrcCallbacks::builder().need_data(move |source, _| {
        if slides.shown.is_some() {
            std::thread::sleep(INTERVAL);
        }
        match slides.now() {
            // Who does not want it any more is being stopped.
            Ok(sample) => drop(source.push_sample(&sample)),
            Err(error) => {
                gst::element_error!(source, gst::ResourceError::Read, ("{error:#}"));
                // The same.
                let _ = source.end_of_stream();
            }
        }
    });
    source.set_callbacks(callbacks.build());
    Ok(source.upcast())
}

impl Slides {
    /// # Errors
    /// There is no picture that can be read; why the last cannot.
    fn now(&mut self) -> Result<gst::Sample> {
        let stays = |since: &Instant| self.files.len() == 1 || since.elapsed() < STAY;
        if let Some((sample, since)) = &self.shown
            && stays(since)
        {
            return Ok(sample.clone());
        }
        // A bad picture among many is passed over.
        let mut last = None;
        for _ in 0..self.files.len() {
            let file = &self.files[self.next % self.files.len()];
            self.next += 1;
            match picture::read(file, Turn::AsShown).and_then(|opened| sample(&opened.image)) {
                Ok(sample) => {
                    self.shown = Some((sample.clone(), Instant::now()));
                    return Ok(sample);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow!("there is no picture")))
    }
}

fn sample(image: &RgbImage) -> Result<gst::Sample> {
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(1000 / INTERVAL.as_millis() as i32, 1))
        .build()?;
    let mut buffer = gst::Buffer::with_size(info.size())?;
    {
        let mut bytes = buffer.get_mut().context("the buffer is shared")?.map_writable()?;
        // Rows of GStreamer begin at multiples of four bytes.
        let (stride, row) = (info.stride()[0] as usize, 3 * image.width());
        for (to, from) in bytes.chunks_exact_mut(stride).zip(image.as_raw().chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
    }
    Ok(gst::Sample::builder().buffer(&buffer).caps(&info.to_caps()?).build())
}
