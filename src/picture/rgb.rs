// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture in memory, and as PNG.

use std::io::Write;

use anyhow::Result;

/// Pixels of three bytes, red first, row by row without gaps. No side is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl RgbImage {
    /// None unless `data` holds exactly `width` x `height` pixels, and one at least.
    pub fn from_raw(width: usize, height: usize, data: Vec<u8>) -> Option<RgbImage> {
        let size = width.checked_mul(height)?.checked_mul(3)?;
        (size > 0 && size == data.len()).then_some(RgbImage { width, height, data })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn as_raw(&self) -> &[u8] {
        &self.data
    }

    pub fn pixels(&self) -> &[[u8; 3]] {
        self.data.as_chunks().0
    }

    pub fn pixels_mut(&mut self) -> &mut [[u8; 3]] {
        self.data.as_chunks_mut().0
    }

    pub fn write_png(&self, to: impl Write) -> Result<()> {
        let mut encoder = png::Encoder::new(to, self.width.try_into()?, self.height.try_into()?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_compression(png::Compression::Fast);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.data)?;
        Ok(writer.finish()?)
    }
}

/// For tests, those of the program too.
impl RgbImage {
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> RgbImage {
        RgbImage { width, height, data: colour.repeat(width * height) }
    }

    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels()[y * self.width + x]
    }
}
