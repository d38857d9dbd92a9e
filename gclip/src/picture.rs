// SPDX-License-Identifier: MIT OR Apache-2.0
//! PNG and JPEG files to pictures for the model.

use std::path::Path;

use anyhow::{Context, Result};
use gstgclip::model::{Colour, Picture, PixelFormat};
use image::{ImageReader, Limits, RgbImage};

/// Longest side of a picture: what PNG and JPEG files of cameras and scanners have, and no decompression bomb.
const MAX_SIDE: u32 = 65_535;
/// Memory the decoder may take: a picture of 16k x 16k pixels.
const MAX_BYTES: u64 = 1 << 30;

/// Reads a picture; its contents, not its name, say which format it is.
pub fn read(path: &Path) -> Result<RgbImage> {
    let open = || -> Result<RgbImage> {
        let mut reader = ImageReader::open(path)?.with_guessed_format()?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE);
        limits.max_image_height = Some(MAX_SIDE);
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        reader.format().context("it is neither PNG nor JPEG")?;
        Ok(reader.decode()?.into_rgb8())
    };
    open().with_context(|| format!("cannot read the picture {}", path.display()))
}

/// The picture as the model takes it.
pub fn for_model(image: &RgbImage) -> Result<Picture> {
    Ok(Picture {
        format: PixelFormat::Rgb,
        width: image.width() as usize,
        height: image.height() as usize,
        colour: Colour::default(),
        data: tch::Tensor::f_from_slice(image.as_raw())?.into(), // [height x width x 3]
    })
}
