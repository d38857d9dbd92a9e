// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures to try a model out with.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::vision::VisionTower;
use super::{Colour, Picture, PixelFormat};

impl Picture {
    /// A square of one shade of grey, `side` pixels long.
    pub fn grey(side: usize, shade: u8) -> Result<Picture> {
        let size = [(side * side) as i64];
        let data = Tensor::f_full(size, i64::from(shade), (Kind::Uint8, Device::Cpu))?.into();
        Ok(Picture { format: PixelFormat::Gray8, width: side, height: side, colour: Colour::default(), data })
    }
}

/// A picture at the trained size, `[1, 3, H, W]`, as normalised colours: soft gradients, with a disc and stripes whose
/// place and colour depend on the index. Only sines and comparisons, so it is the same everywhere.
pub fn built_in_picture(tower: &VisionTower, index: i64) -> Result<Tensor> {
    let (rows, columns) = tower.config.grid;
    let (height, width) = (rows * tower.config.patch_size, columns * tower.config.patch_size);
    let mut pixels = Vec::with_capacity((3 * height * width) as usize);
    let turn = 1.7 * index as f32;
    for channel in 0..3 {
        let hue = turn + 2.1 * channel as f32;
        for row in 0..height {
            for column in 0..width {
                let (y, x) = (row as f32 / height as f32, column as f32 / width as f32);
                let sky = (1.0 - y) * hue.sin();
                let (dy, dx) = (y - 0.5 - 0.2 * turn.sin(), x - 0.5 - 0.2 * turn.cos());
                let value = if dy * dy + dx * dx < 0.03 {
                    1.5 * (hue + 1.0).cos()
                } else if y > 0.7 && ((x * (8.0 + turn)) as i64) % 2 == 0 {
                    -1.2 * (hue + 0.5).sin()
                } else {
                    sky + 0.3 * (20.0 * x + hue).sin() * (14.0 * y).cos()
                };
                pixels.push(value);
            }
        }
    }
    let picture = Tensor::f_from_slice(&pixels)?.f_reshape([1, 3, height, width])?;
    Ok(picture.f_to_device(tower.device())?)
}
