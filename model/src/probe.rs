// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture to try a model out with.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::{Colour, Picture, PixelFormat};

impl Picture {
    /// A square of one shade of grey, `side` pixels long.
    pub fn grey(side: usize, shade: u8) -> Result<Picture> {
        let size = [(side * side) as i64];
        let data = Tensor::f_full(size, i64::from(shade), (Kind::Uint8, Device::Cpu))?.into();
        Ok(Picture { format: PixelFormat::Gray8, width: side, height: side, colour: Colour::default(), data })
    }
}
