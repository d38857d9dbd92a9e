// SPDX-License-Identifier: MIT OR Apache-2.0
//! One region as a picture in text: an 8-bit grey PNG, 255 where the region is, in base64.

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

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
    // Flat areas: the fastest level already makes them small, and filters do not help.
    PngEncoder::new_with_quality(&mut file, CompressionType::Fast, FilterType::NoFilter)
        .write_image(&pixels, mask.width() as u32, mask.height() as u32, ExtendedColorType::L8)
        .context("cannot write the mask as PNG")?;
    Ok(STANDARD.encode(file))
}
