// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frame with a matte as its alpha.

use anyhow::{Result, ensure};
use gst_video::VideoFormat;

use crate::frame::Rows;

/// Formats of frames that a cut-out can be made of.
pub const FORMATS: [VideoFormat; 6] = [
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
];

/// Writes the colours of a frame's `pixels` as RGBA. `matte` calls back with the number and the alpha of each row.
pub fn cut_out(
    format: VideoFormat,
    pixels: Rows,
    matte: impl FnOnce(&mut dyn FnMut(usize, &[u8])),
    out: &mut [u8],
    out_stride: usize,
) -> Result<()> {
    ensure!(FORMATS.contains(&format), "no cut-out from {format:?}");
    matte(&mut |y, alpha| {
        let (pixels, out) = (&pixels.data[y * pixels.stride..], &mut out[y * out_stride..]);
        let out = out.as_chunks_mut().0;
        match format {
            VideoFormat::Rgb => packed(pixels, alpha, out, |rgb| rgb),
            VideoFormat::Bgr => packed(pixels, alpha, out, reversed),
            VideoFormat::Rgbx => padded(pixels, alpha, out, |rgb| rgb),
            VideoFormat::Bgrx => padded(pixels, alpha, out, reversed),
            VideoFormat::Rgba => with_alpha(pixels, alpha, out, |rgb| rgb),
            _ => with_alpha(pixels, alpha, out, reversed),
        }
    });
    Ok(())
}

// Below, a colour is a word with red in its lowest byte, as it lies in memory.

const COLOUR: u32 = 0x00ff_ffff;

fn reversed(bgr: u32) -> u32 {
    bgr.swap_bytes() >> 8
}

fn rgba(colour: u32, alpha: u8) -> [u8; 4] {
    (colour & COLOUR | u32::from(alpha) << 24).to_le_bytes()
}

/// Pixels of three bytes, four of them in three words: byte by byte takes three times as long.
fn packed(pixels: &[u8], alpha: &[u8], out: &mut [[u8; 4]], order: impl Fn(u32) -> u32) {
    let fours = pixels.as_chunks::<12>().0.iter().zip(alpha.as_chunks::<4>().0);
    for ((pixels, &[alpha0, alpha1, alpha2, alpha3]), out) in fours.zip(out.as_chunks_mut::<4>().0) {
        let &[a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] = pixels;
        let a = u32::from_le_bytes([a0, a1, a2, a3]);
        let b = u32::from_le_bytes([b0, b1, b2, b3]);
        let c = u32::from_le_bytes([c0, c1, c2, c3]);
        *out = [
            rgba(order(a & COLOUR), alpha0),
            rgba(order((a >> 24 | b << 8) & COLOUR), alpha1),
            rgba(order((b >> 16 | c << 16) & COLOUR), alpha2),
            rgba(order(c >> 8), alpha3),
        ];
    }
    let rest = alpha.len() / 4 * 4;
    let pixels = pixels.as_chunks::<3>().0.iter().skip(rest);
    for ((out, &[a, b, c]), &alpha) in out.iter_mut().skip(rest).zip(pixels).zip(&alpha[rest..]) {
        *out = rgba(order(u32::from_le_bytes([a, b, c, 0])), alpha);
    }
}

fn padded(pixels: &[u8], alpha: &[u8], out: &mut [[u8; 4]], order: impl Fn(u32) -> u32) {
    for ((out, &pixel), &alpha) in out.iter_mut().zip(pixels.as_chunks().0).zip(alpha) {
        *out = rgba(order(u32::from_le_bytes(pixel) & COLOUR), alpha);
    }
}

/// Where the frame has its own alpha, the product of both counts.
fn with_alpha(pixels: &[u8], alpha: &[u8], out: &mut [[u8; 4]], order: impl Fn(u32) -> u32) {
    for ((out, &pixel), &alpha) in out.iter_mut().zip(pixels.as_chunks().0).zip(alpha) {
        let product = (u32::from(pixel[3]) * u32::from(alpha) + 127) / 255;
        *out = rgba(order(u32::from_le_bytes(pixel) & COLOUR), product as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length takes each pixel once, whichever way it goes.
    #[test]
    fn pixels_keep_their_colours() {
        for width in 1..20usize {
            let alpha: Vec<u8> = (0..width).map(|x| 200 + x as u8).collect();
            let colour = |x: usize| [x as u8, 40 + x as u8, 80 + x as u8];
            let expected: Vec<[u8; 4]> =
                (0..width).map(|x| [colour(x)[0], colour(x)[1], colour(x)[2], alpha[x]]).collect();
            let flat = |reverse: bool, padding: Option<u8>| -> Vec<u8> {
                let pixel = |x| {
                    let mut pixel = colour(x);
                    if reverse {
                        pixel.reverse();
                    }
                    pixel.into_iter().chain(padding)
                };
                (0..width).flat_map(pixel).collect()
            };
            let mut out = vec![[0; 4]; width];
            packed(&flat(false, None), &alpha, &mut out, |rgb| rgb);
            assert_eq!(out, expected);
            packed(&flat(true, None), &alpha, &mut out, reversed);
            assert_eq!(out, expected);
            padded(&flat(true, Some(7)), &alpha, &mut out, reversed);
            assert_eq!(out, expected);
            with_alpha(&flat(false, Some(255)), &alpha, &mut out, |rgb| rgb);
            assert_eq!(out, expected);
            with_alpha(&flat(true, Some(0)), &alpha, &mut out, reversed);
            assert!(out.iter().all(|pixel| pixel[3] == 0));
        }
    }
}
