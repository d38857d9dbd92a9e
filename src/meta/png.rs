// SPDX-License-Identifier: MIT OR Apache-2.0
//! One region as a picture in text: an 8-bit grey PNG, 255 where the region is, in base64.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use png::{BitDepth, ColorType, Compression, Encoder, Filter};

use super::view::{MaskRow, MaskView};

/// # Errors
/// A mask too large for PNG.
pub fn encode(mask: &MaskView, value: u16) -> Result<String> {
    let mut pixels = Vec::with_capacity(mask.width() * mask.height());
    let ink = |on: bool| if on { 255 } else { 0 };
    for row in mask.rows() {
        match row {
            MaskRow::U8(values) => pixels.extend(values.iter().map(|&v| ink(u16::from(v) == value))),
            MaskRow::U16(values) => {
                pixels.extend(values.iter().map(|&v| ink(u16::from_le_bytes(v) == value)))
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, mask.width() as u32, mask.height() as u32);
    encoder.set_color(ColorType::Grayscale);
    encoder.set_depth(BitDepth::Eight);
    // Flat areas: the fastest level already makes them small, and filters do not help.
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::NoFilter);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&pixels)?;
        writer.finish()
    });
    written.context("cannot write the mask as PNG")?;
    Ok(STANDARD.encode(file))
}
