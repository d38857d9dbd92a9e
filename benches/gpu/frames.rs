// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of NV12 that look like something and compress to nothing: moving gradients with noise.

use gstgclip::model::cuda::Uploader;
use gstgclip::model::preprocess::plane_sizes;
use gstgclip::model::{Colour, Picture, PixelFormat};
use tch::{Device, Tensor};

use crate::Result;

/// Luma, then chroma, rows without padding. `width` and `height` are even.
pub fn nv12(width: usize, height: usize, number: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(width * height * 3 / 2);
    let mut noise = 12345 + number as u32;
    for y in 0..height {
        for x in 0..width {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slope = (x * 160 / width + y * 40 / height + 7 * number) % 200;
            bytes.push(20 + slope as u8 + (noise >> 28) as u8);
        }
    }
    for y in 0..height / 2 {
        for x in 0..width / 2 {
            bytes.push((60 + (x * 260 / width + 5 * number) % 130) as u8);
            bytes.push((60 + (y * 260 / height + 9 * number) % 130) as u8);
        }
    }
    bytes
}

pub fn nv12_picture(width: usize, height: usize, number: usize) -> Result<Picture> {
    let data = Tensor::f_from_slice(&nv12(width, height, number))?.into();
    Ok(Picture { format: PixelFormat::Nv12, width, height, colour: Colour::default(), data })
}

/// The same in the memory of `device`.
pub fn nv12_picture_on(device: Device, width: usize, height: usize, number: usize) -> Result<Picture> {
    let mut picture = nv12_picture(width, height, number)?;
    if let Device::Cuda(index) = device {
        let bytes = nv12(width, height, number);
        let planes = plane_sizes(PixelFormat::Nv12, width, height);
        let pixels = Uploader::shared(index)?.upload(&planes, |target| {
            target.copy_from_slice(&bytes);
            Ok(())
        })?;
        picture.data = gstgclip::model::Pixels::Lent(pixels);
    }
    Ok(picture)
}
