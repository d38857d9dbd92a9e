// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks and frame to one output frame.

use anyhow::{Context, Result};
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef};

use super::Mode;
use super::resample::{self, Axis};
use crate::meta::{LabelFilter, MaskRow, MaskView, Masks, Rect};

/// Formats of frames that a cut-out can be made of.
pub const CUTOUT_FORMATS: [VideoFormat; 6] = [
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
];

/// Fills the output; its format and size are those that were negotiated for `mode`. `rect` is the part of the output
/// that the mask covers. `frame` is looked at only for a cut-out.
pub fn render(
    mode: Mode,
    only: &LabelFilter,
    masks: &Masks,
    rect: Rect,
    frame: Option<&VideoFrameRef<&gst::BufferRef>>,
    out: &mut VideoFrameRef<&mut gst::BufferRef>,
) -> Result<()> {
    let view = masks.view().context("the mask cannot be mapped for reading")?;
    let (width, height) = (out.width() as usize, out.height() as usize);
    let wide = out.format() == VideoFormat::Gray16Le;
    let stride = stride(out.plane_stride())?;
    let rows = Axis::new(height, view.height(), rect.y, rect.h);
    let columns = Axis::new(width, view.width(), rect.x, rect.w);
    let axes = (&rows, &columns);
    match mode {
        Mode::Ids => resample::ids(|y| view.row(y), axes, wide, out.plane_data_mut(0)?, stride),
        Mode::Matte => {
            resample::matte(&chosen(&view, masks, only), view.width(), axes, out.plane_data_mut(0)?, stride);
        }
        Mode::Cutout => {
            let frame = frame.context("a cut-out needs the frame")?;
            let mut alpha = vec![0; width * height];
            resample::matte(&chosen(&view, masks, only), view.width(), axes, &mut alpha, width);
            cut_out(frame, &alpha, out.plane_data_mut(0)?, stride)?;
        }
    }
    Ok(())
}

fn stride(strides: &[i32]) -> Result<usize> {
    strides
        .first()
        .and_then(|&stride| usize::try_from(stride).ok())
        .context("a frame with rows from bottom to top")
}

/// `[height, width]` of the mask: 255 where a chosen label is.
fn chosen(view: &MaskView, masks: &Masks, only: &LabelFilter) -> Vec<u8> {
    let values =
        masks.regions.iter().filter(|region| only.contains(&region.label)).map(|region| region.value);
    let mut ink = vec![0u8; 1 << 16];
    values.for_each(|value| {
        if let Some(ink) = ink.get_mut(value as usize).filter(|_| value != 0) {
            *ink = 255;
        }
    });
    let mut matte = Vec::with_capacity(view.width() * view.height());
    for row in view.rows() {
        match row {
            MaskRow::U8(values) => matte.extend(values.iter().map(|&value| ink[usize::from(value)])),
            MaskRow::U16(values) => {
                matte.extend(values.iter().map(|&value| ink[usize::from(u16::from_le_bytes(value))]));
            }
        }
    }
    matte
}

/// The frame's colours with `alpha`; where the frame has its own alpha, the product of both.
fn cut_out(
    frame: &VideoFrameRef<&gst::BufferRef>,
    alpha: &[u8],
    out: &mut [u8],
    out_stride: usize,
) -> Result<()> {
    let (width, in_stride, pixels) =
        (frame.width() as usize, stride(frame.plane_stride())?, frame.plane_data(0)?);
    let rows = pixels.chunks(in_stride).zip(alpha.chunks(width)).zip(out.chunks_mut(out_stride));
    for ((pixels, alpha), out) in rows {
        let out = out.as_chunks_mut::<4>().0;
        match frame.format() {
            VideoFormat::Rgb => row(pixels.as_chunks().0, alpha, out, |&[r, g, b], a| [r, g, b, a]),
            VideoFormat::Bgr => row(pixels.as_chunks().0, alpha, out, |&[b, g, r], a| [r, g, b, a]),
            VideoFormat::Rgbx => row(pixels.as_chunks().0, alpha, out, |&[r, g, b, _], a| [r, g, b, a]),
            VideoFormat::Bgrx => row(pixels.as_chunks().0, alpha, out, |&[b, g, r, _], a| [r, g, b, a]),
            VideoFormat::Rgba => {
                row(pixels.as_chunks().0, alpha, out, |&[r, g, b, own], a| [r, g, b, both(own, a)])
            }
            VideoFormat::Bgra => {
                row(pixels.as_chunks().0, alpha, out, |&[b, g, r, own], a| [r, g, b, both(own, a)])
            }
            format => anyhow::bail!("no cut-out from {format:?}"),
        }
    }
    Ok(())
}

fn row<const N: usize>(
    pixels: &[[u8; N]],
    alpha: &[u8],
    out: &mut [[u8; 4]],
    mix: impl Fn(&[u8; N], u8) -> [u8; 4],
) {
    for ((out, pixel), &alpha) in out.iter_mut().zip(pixels).zip(alpha) {
        *out = mix(pixel, alpha);
    }
}

fn both(a: u8, b: u8) -> u8 {
    ((u32::from(a) * u32::from(b) + 127) / 255) as u8
}
