// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw u8 frames to the tower's input: resize, colour conversion, normalisation, on the model's device.
//!
//! The planes are resized as they are and colours converted at the tower's size, where there are far fewer
//! pixels. The resize is bilinear with antialiasing; a picture that already has the right size keeps its exact
//! values. Chroma is taken as centred between its luma pixels.

mod colour;
mod planes;
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
    let rgb = pictures
        .iter()
        .map(|picture| {
            planes::rgb(picture, size, device).with_context(|| {
                format!("cannot read a {}x{} {:?} picture", picture.width, picture.height, picture.format)
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if rgb.is_empty() {
        bail!("an empty batch");
    }
    let rgb = Tensor::f_cat(&rgb, 0)?; // N x [1, 3, H, W] -> [N, 3, H, W], 0..255
    let three = |values: [f64; 3]| -> Result<Tensor> {
        let values = values.map(|value| value as f32);
        Ok(Tensor::f_from_slice(&values)?.f_to_device(device)?.f_view([1, 3, 1, 1])?)
    };
    let unit = rgb.f_div_scalar(255.0)?;
    Ok(unit.f_sub(&three(normalisation.mean)?)?.f_div(&three(normalisation.std)?)?.f_to_kind(kind)?)
}
