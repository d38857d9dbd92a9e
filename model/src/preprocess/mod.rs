// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw u8 frames to the tower's input: resize, colour conversion, normalisation, on the model's device.
//!
//! The planes are resized as they are and colours converted at the tower's size, where there are far fewer
//! pixels. The resize is bilinear with antialiasing; planes that already have the right size keep their exact
//! values. Chroma is taken as centred between its luma pixels.

mod cells;
mod colour;
mod hdr;
mod planes;
mod resize;
mod size;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::cpu;
use super::cuda::LentPixels;

pub use cells::{Cells, cell_means};
pub use planes::plane_sizes;
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

/// How Y'CbCr becomes R'G'B' (ignored for RGB formats), and how much light R'G'B' stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colour {
    pub matrix: ColourMatrix,
    pub full_range: bool,
    pub transfer: Transfer,
}

/// From the values of a picture to light.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// Any of the curves of pictures whose white is the screen's: checkpoints were trained on such.
    #[default]
    Sdr,
    /// SMPTE ST 2084, "HDR10", with the primaries of BT.2020.
    Pq,
    /// Hybrid log-gamma (ARIB STD-B67), with the primaries of BT.2020.
    Hlg,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColourMatrix {
    Bt601,
    #[default]
    Bt709,
    Bt2020,
}

/// One frame.
pub struct Picture {
    pub format: PixelFormat,
    pub width: usize,
    pub height: usize,
    pub colour: Colour,
    pub data: Pixels,
}

/// Where the bytes of a frame are.
pub enum Pixels {
    /// `[bytes]` u8, laid out as [`PixelFormat`] says, in the memory of the host.
    Packed(Tensor),
    /// Where the frame's owner keeps them, in the memory of a GPU or of the host, each plane on its own and rows perhaps
    /// padded.
    Lent(LentPixels),
}

impl From<Tensor> for Pixels {
    fn from(data: Tensor) -> Pixels {
        Pixels::Packed(data)
    }
}

/// The packed bytes of a frame in the memory of the host.
impl TryFrom<&Pixels> for Vec<u8> {
    type Error = anyhow::Error;

    fn try_from(pixels: &Pixels) -> Result<Vec<u8>> {
        match pixels {
            Pixels::Packed(data) => Ok(Vec::try_from(data)?),
            Pixels::Lent(pixels) => pixels.to_packed(),
        }
    }
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
    let read = |pictures: &[&Picture]| {
        let read = || {
            let values = planes::normalised(pictures, size, normalisation, device)?;
            hdr::to_sdr(values, pictures[0].colour.transfer, normalisation)
        };
        read().with_context(|| {
            let Picture { width, height, format, .. } = pictures[0];
            format!("cannot read a {width}x{height} {format:?} picture")
        })
    };
    let runs: Vec<&[&Picture]> = alike(pictures, device).collect();
    let parts = match device.is_cuda() {
        true => runs.into_iter().map(read).collect(),
        false => cpu::each_alone(&runs, read)?.into_iter().collect::<Result<Vec<_>>>(),
    }?;
    let batch = match &parts[..] {
        [] => bail!("an empty batch"),
        [only] => only.shallow_clone(),
        _ => Tensor::f_cat(&parts, 0)?, // [n, 3, H, W] ... -> [N, 3, H, W]
    };
    Ok(batch.f_to_kind(kind)?)
}

/// Runs of pictures that go through the same steps. A GPU takes a run at once, as it would spend its time on starting
/// small steps else; a CPU takes one picture at a time, which its cache holds.
fn alike<'a>(pictures: &'a [&'a Picture], device: Device) -> impl Iterator<Item = &'a [&'a Picture]> {
    let same = move |a: &&Picture, b: &&Picture| {
        let steps = |picture: &Picture| (picture.format, picture.width, picture.height, picture.colour);
        device.is_cuda() && steps(a) == steps(b)
    };
    pictures.chunk_by(same)
}
