// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw u8 frames to the tower's input: resize, colour conversion, normalisation, on the model's device.
//!
//! The planes are resized as they are and colours converted at the tower's size, where there are far fewer
//! pixels. The resize is bilinear with antialiasing; planes that already have the right size keep their exact
//! values. Chroma is taken as centred between its luma pixels.

mod colour;
mod planes;
mod resize;
mod size;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

pub use size::{InputSize, MAX_PATCHES, network_size, scaled_size};

/// Layout of a packed frame: rows follow each other without padding, planes follow each other.
/// Chroma planes of I420 and NV12 are `ceil(width / 2) x ceil(height / 2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// 3 bytes a pixel.
    Rgb,
    Bgr,
    /// 4 bytes a pixel, the fourth ignored (RGBA and RGBx).
    Rgbx,
    Bgrx,
    /// 1 byte a pixel.
    Gray8,
    I420,
    Nv12,
    /// Y0 U Y1 V, `2 * ceil(width / 2) * 2` bytes a row.
    Yuy2,
}

/// How Y'CbCr becomes R'G'B'. Ignored for RGB formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colour {
    pub matrix: ColourMatrix,
    pub full_range: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMatrix {
    Bt601,
    #[default]
    Bt709,
    Bt2020,
}

/// One frame, as bytes in a flat u8 tensor on the CPU.
pub struct Picture {
    pub format: PixelFormat,
    pub width: usize,
    pub height: usize,
    pub colour: Colour,
    /// `[bytes]` u8, laid out as `format` says.
    pub data: Tensor,
}

/// Mean and standard deviation of R, G, B in 0..1 that the checkpoint was trained with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    pub mean: [f64; 3],
    pub std: [f64; 3],
}

impl Default for Normalisation {
    /// The values of OpenAI's CLIP, used by most checkpoints.
    fn default() -> Self {
        Normalisation { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] }
    }
}

impl Normalisation {
    /// What black becomes.
    fn shift(&self) -> [f64; 3] {
        std::array::from_fn(|channel| -self.mean[channel] / self.std[channel])
    }
}

/// Pictures as the tower reads them: `[N, 3, height, width]`, normalised, on `device` in `kind`.
/// `size` is (height, width), as [`network_size`] or [`scaled_size`] give it; pictures may differ in size and
/// format.
pub fn preprocess(
    pictures: &[&Picture],
    (height, width): (usize, usize),
    normalisation: &Normalisation,
    device: Device,
    kind: Kind,
) -> Result<Tensor> {
    let size = [height as i64, width as i64];
    let batch = pictures
        .iter()
        .map(|picture| {
            planes::normalised(picture, size, normalisation, device).with_context(|| {
                format!("cannot read a {}x{} {:?} picture", picture.width, picture.height, picture.format)
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if batch.is_empty() {
        bail!("an empty batch");
    }
    let batch = match &batch[..] {
        [only] => only.shallow_clone(),
        _ => Tensor::f_cat(&batch, 0)?, // N x [1, 3, H, W] -> [N, 3, H, W]
    };
    Ok(batch.f_to_kind(kind)?)
}
