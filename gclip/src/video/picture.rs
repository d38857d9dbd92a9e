// SPDX-License-Identifier: MIT OR Apache-2.0
//! Picks the drawn frame that shows most and saves it as PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use gst_video::prelude::*;
use parking_lot::Mutex;

use gstgclip::meta::Masks;
use gstgclip::picture::RgbImage;

/// The best frame so far: most classes, then most of the picture named.
#[derive(Default)]
pub struct Showcase {
    best: Mutex<Option<Best>>,
}

struct Best {
    classes: usize,
    area: f64,
    sample: gst::Sample,
}

impl Showcase {
    /// Looks at every buffer that leaves `overlay`. Keeping one costs a reference, no copy.
    pub fn watch(this: &Arc<Self>, overlay: &gst::Element) -> Result<()> {
        let pad = overlay.static_pad("src").context("gclipoverlay has no source pad")?;
        let showcase = this.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let (Some(buffer), Some(caps)) = (info.buffer(), pad.current_caps()) {
                showcase.look(buffer, &caps);
            }
            gst::PadProbeReturn::Ok
        });
        Ok(())
    }

    fn look(&self, buffer: &gst::Buffer, caps: &gst::Caps) {
        let (classes, area) = Masks::from_buffer(buffer).map_or((0, 0.0), |masks| {
            // Specks do not make a picture richer: a class counts from half a percent of the frame.
            let visible = masks.regions.iter().filter(|region| region.area >= 0.005);
            visible.fold((0, 0.0), |(count, area), region| (count + 1, area + region.area))
        });
        let mut best = self.best.lock();
        if best.as_ref().is_none_or(|best| (classes, area) > (best.classes, best.area)) {
            *best = Some(Best {
                classes,
                area,
                sample: gst::Sample::builder().buffer(buffer).caps(caps).build(),
            });
        }
    }

    /// Writes the best frame, and flushes it to the disk, under another name than the one that it will have; nothing
    /// when no frame came by.
    pub fn write(&self, path: &Path, place: &Path) -> Result<()> {
        let Some(best) = self.best.lock().take() else { return Ok(()) };
        let caps = gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::Rgb).build();
        let sample = gst_video::convert_sample(&best.sample, &caps, Some(gst::ClockTime::from_seconds(10)))
            .context("cannot convert the picture to RGB")?;
        let info = gst_video::VideoInfo::from_caps(sample.caps().context("the picture has no caps")?)?;
        let buffer = sample.buffer().context("the picture has no buffer")?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
        let (width, height) = (info.width() as usize, info.height() as usize);
        let stride = usize::try_from(frame.plane_stride()[0])?;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for row in frame.plane_data(0)?.chunks(stride).take(height) {
            pixels.extend_from_slice(&row[..width * 3]);
        }
        let picture = RgbImage::from_raw(width, height, pixels).context("the picture has an odd size")?;
        let write = || picture.write_png(BufWriter::new(File::create(path)?));
        write().with_context(|| format!("cannot write {}", place.display()))
    }
}
