// SPDX-License-Identifier: MIT OR Apache-2.0
//! Y'CbCr to R'G'B' as one affine map (ITU-R BT.601, BT.709, BT.2020 non-constant luminance).

use super::{Colour, ColourMatrix};

/// R, G, B (0..255) = `matrix` x (Y, Cb, Cr as bytes) + `offset`, before clamping.
pub struct YuvToRgb {
    pub matrix: [[f64; 3]; 3],
    pub offset: [f64; 3],
}

impl YuvToRgb {
    pub fn new(colour: Colour) -> YuvToRgb {
        let (kr, kb) = match colour.matrix {
            ColourMatrix::Bt601 => (0.299, 0.114),
            ColourMatrix::Bt709 => (0.2126, 0.0722),
            ColourMatrix::Bt2020 => (0.2627, 0.0593),
        };
        let kg = 1.0 - kr - kb;
        // Limited range: luma 16..235, chroma 16..240 around 128.
        let (black, luma, chroma) =
            if colour.full_range { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        let (red, blue) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        let matrix = [[luma, 0.0, red], [luma, -blue * kb / kg, -red * kr / kg], [luma, blue, 0.0]];
        let offset = matrix.map(|[y, cb, cr]| -(y * black + (cb + cr) * 128.0));
        YuvToRgb { matrix, offset }
    }
}
