// SPDX-License-Identifier: MIT OR Apache-2.0
//! The drawing as a `GstVideoOverlayComposition` on the buffer: whoever shows or encodes the frame blends it.

use super::colour::Palette;
use super::draw::Drawer;
use super::layout::FrameLayout;
use super::settings::Settings;
use crate::meta::Masks;
use anyhow::Context;
use gst_video::{VideoOverlayComposition, VideoOverlayCompositionMeta, VideoOverlayFormatFlags};

/// Draws on transparent pictures of the frame's size.
pub struct Compositor {
    drawer: Drawer,
    width: u32,
    height: u32,
}

impl Compositor {
    pub fn new(width: u32, height: u32) -> Self {
        let layout = FrameLayout::transparent(width as usize, height as usize);
        Self { drawer: Drawer::new(layout), width, height }
    }

    /// Adds the drawing to the buffer, on top of a composition that it already has. The pixels stay untouched.
    pub fn attach(
        &mut self,
        masks: &Masks,
        settings: &Settings,
        palette: &mut Palette,
        buffer: &mut gst::BufferRef,
    ) -> anyhow::Result<()> {
        let stride = self.width as usize * 4;
        let mut pixels = vec![0u8; stride * self.height as usize];
        self.drawer.draw(masks, settings, palette, &mut vec![(&mut pixels, stride)])?;
        let format = match cfg!(target_endian = "big") {
            false => gst_video::VideoFormat::Bgra,
            // The format of compositions is a number per pixel, 0xAARRGGBB.
            true => {
                pixels.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| pixel.reverse());
                gst_video::VideoFormat::Argb
            }
        };
        let mut picture = gst::Buffer::from_mut_slice(pixels);
        gst_video::VideoMeta::add(
            picture.make_mut(),
            gst_video::VideoFrameFlags::empty(),
            format,
            self.width,
            self.height,
        )?;
        let rectangle = gst_video::VideoOverlayRectangle::new_raw(
            &picture,
            0,
            0,
            self.width,
            self.height,
            VideoOverlayFormatFlags::PREMULTIPLIED_ALPHA,
        );
        let before = buffer.meta::<VideoOverlayCompositionMeta>().map(|meta| meta.overlay_owned());
        let under = before.iter().flat_map(|overlay| overlay.iter());
        let rectangles: Vec<_> = under.chain(std::iter::once(rectangle)).collect();
        let overlay =
            VideoOverlayComposition::new(&rectangles).context("cannot make an overlay composition")?;
        match buffer.meta_mut::<VideoOverlayCompositionMeta>() {
            Some(mut meta) => meta.set_overlay(&overlay),
            None => drop(VideoOverlayCompositionMeta::add(buffer, &overlay)),
        }
        Ok(())
    }
}
