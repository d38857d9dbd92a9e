// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masks and frame to one output frame.

use anyhow::{Context, Result};
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef};

use super::cutout;
use super::resample::{self, Axis, Matte};
use super::settings::Settings;
use super::{Edges, Mode};
use crate::frame::Rows;
use crate::meta::{LabelFilter, MaskRow, MaskView, Masks, Rect};

/// Fills the output; its format and size are those that were negotiated for the mode. `rect` is the part of the output
/// that the mask covers. `frame`, the pixels of one of the output's size, is looked at only for a cut-out.
pub fn render(
    settings: &Settings,
    masks: &Masks,
    rect: Rect,
    frame: Option<(VideoFormat, Rows)>,
    out: &mut VideoFrameRef<&mut gst::BufferRef>,
) -> Result<()> {
    let view = masks.view().context("the mask cannot be mapped for reading")?;
    let (width, height) = (out.width() as usize, out.height() as usize);
    let wide = out.format() == VideoFormat::Gray16Le;
    let stride = stride(out.plane_stride())?;
    let rows = Axis::new(height, view.height(), rect.y, rect.h);
    let columns = Axis::new(width, view.width(), rect.x, rect.w);
    let out = out.plane_data_mut(0)?;
    if settings.mode == Mode::Ids {
        resample::ids(|y| view.row(y), (&rows, &columns), wide, out, stride);
        return Ok(());
    }
    let cells = chosen(&view, masks, &settings.only);
    let matte = match settings.edges {
        Edges::Soft => Matte::soft(cells, view.width()),
        Edges::Hard => Matte::hard(cells, view.width()),
    };
    if settings.mode == Mode::Matte {
        matte.rows(&rows, &columns, |y, row| out[y * stride..][..width].copy_from_slice(row));
        return Ok(());
    }
    let (format, pixels) = frame.context("a cut-out needs the frame")?;
    cutout::cut_out(format, pixels, |row| matte.rows(&rows, &columns, row), out, stride)
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
