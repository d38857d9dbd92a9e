// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raw u8 frames to the tower's input: colour conversion, resize, normalisation, on the model's device.

use tch::Tensor;

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

/// Size at which the tower looks at a picture. Both sides are then rounded to whole patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputSize {
    /// The checkpoint's own short side.
    #[default]
    Model,
    /// Short side in pixels; the aspect ratio is kept.
    Short(usize),
    /// No resize beyond rounding to whole patches.
    Native,
}
