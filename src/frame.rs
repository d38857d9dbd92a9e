// SPDX-License-Identifier: MIT OR Apache-2.0
//! Video frame -> model picture (where it lies, or one copy), mask -> buffer (no copy). The only module that knows both
//! GStreamer and torch types; its `unsafe` code says at each use why it is sound.
//!
//! * `import`: the way from a buffer to the model's device
//! * `holds`: how often one memory may be held
//! * `pack`: rows without their padding, deep samples as bytes
//! * `cuda`: frames that are in the memory of a GPU already

pub mod cuda;
mod holds;
mod import;
mod pack;

use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst_video::prelude::*;
use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat};
use tch::{Device, Kind, Tensor};

pub use import::{Importer, Ways, caps, host_caps};

use holds::Hold;
use pack::pack;

use crate::model::cuda::{LentPixels, LentPlane};
use crate::model::preprocess::{ColourMatrix, plane_sizes};
use crate::model::{Colour, Ids, Picture, PixelFormat, Pixels, Segmentation};

/// Raw video formats that the model reads without a converter in front.
pub const FORMATS: [VideoFormat; 14] = [
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Gray8,
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yuy2,
    VideoFormat::Gray16Le,
    VideoFormat::I42010le,
    VideoFormat::I42012le,
    VideoFormat::P01010le,
];

/// Copies a mapped frame into a picture, once, whatever its strides.
/// Fails on a format outside [`FORMATS`] and on planes shorter than their strides promise.
pub fn picture(frame: &gst_video::VideoFrameRef<&gst::BufferRef>) -> Result<Picture> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let format = pixel_format(frame.format())?;
    let planes = plane_sizes(format, width, height);
    let bytes = planes.iter().map(|&(row, rows)| row * rows).sum::<usize>();
    let data = Tensor::f_empty([bytes as i64], (Kind::Uint8, Device::Cpu))?;
    // SAFETY: `data` is a fresh contiguous CPU tensor of exactly `bytes` u8 that nobody else can reach before
    // this function returns, and `target` does not outlive it. Bytes have no invalid values.
    let target = unsafe { std::slice::from_raw_parts_mut(data.data_ptr().cast::<u8>(), bytes) };
    pack(frame, &planes, target)?;
    Ok(Picture { format, width, height, colour: colour(&frame.info().colorimetry()), data: data.into() })
}

/// A frame in the memory of the host as a picture that reads it there, and holds it for so long.
/// Fails on a buffer that is no such frame, and on planes shorter than their strides promise.
fn lent(buffer: gst::Buffer, hold: Hold, info: &gst_video::VideoInfo) -> Result<Picture> {
    let size = buffer.size();
    let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info)
        .map_err(|_| anyhow!("a buffer of {size} bytes is no frame of {info:?}"))?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let format = pixel_format(frame.format())?;
    let plane = |(index, (row_bytes, rows)): (usize, (usize, usize))| -> Result<LentPlane> {
        let stride = frame.plane_stride().get(index).copied().context("the frame lacks a plane")?;
        let stride = usize::try_from(stride).context("frames with negative strides are not supported")?;
        let data = frame.plane_data(index as u32)?;
        let end = rows.saturating_sub(1) * stride + row_bytes;
        ensure!(stride >= row_bytes && end <= data.len(), "the frame is shorter than its stride says");
        Ok(LentPlane { address: data.as_ptr() as u64, stride, row_bytes, rows })
    };
    let planes =
        plane_sizes(format, width, height).into_iter().enumerate().map(plane).collect::<Result<_>>()?;
    let colour = colour(&frame.info().colorimetry());
    // SAFETY: `frame` keeps the buffer and its mapping for reading, so that nobody may write to this memory, and each
    // plane was found to lie inside it.
    let pixels = unsafe { LentPixels::new(Device::Cpu, planes, None, Box::new((frame, hold))) };
    Ok(Picture { format, width, height, colour, data: Pixels::Lent(pixels) })
}

/// The mask of a segmentation as a GRAY8 (up to 255 classes) or GRAY16_LE buffer with its `GstVideoMeta`.
/// The buffer reads the segmentation's own memory.
pub fn mask_buffer(segmentation: &Arc<Segmentation>) -> Result<gst::Buffer> {
    let (width, height) = (segmentation.width, segmentation.height);
    let (format, value_bytes) = match segmentation.ids {
        Ids::U8(_) => (VideoFormat::Gray8, 1),
        Ids::U16(_) => (VideoFormat::Gray16Le, 2),
    };
    let bytes = MaskBytes(segmentation.clone());
    ensure!(
        width > 0 && height > 0 && bytes.as_ref().len() == width * height * value_bytes,
        "a mask of {width}x{height} with {} bytes",
        bytes.as_ref().len()
    );
    let mut buffer = gst::Buffer::from_slice(bytes);
    gst_video::VideoMeta::add_full(
        buffer.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        format,
        width as u32,
        height as u32,
        &[0],
        &[i32::try_from(width * value_bytes)?],
    )?;
    Ok(buffer)
}

/// A segmentation that lends its mask values as bytes.
struct MaskBytes(Arc<Segmentation>);

impl AsRef<[u8]> for MaskBytes {
    fn as_ref(&self) -> &[u8] {
        match &self.0.ids {
            Ids::U8(values) => values,
            // SAFETY: any u16 is two readable bytes, u8 needs no alignment, and the slice borrows `values`.
            // GRAY16_LE asks for little-endian values, which is what this target stores (checked below).
            Ids::U16(values) => unsafe {
                std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), values.len() * 2)
            },
        }
    }
}

#[cfg(target_endian = "big")]
compile_error!("masks of more than 255 classes are written as GRAY16_LE in native byte order");

/// The layout that [`pack`] leaves a frame in: deep samples have become bytes.
fn pixel_format(format: VideoFormat) -> Result<PixelFormat> {
    Ok(match format {
        VideoFormat::Rgb => PixelFormat::Rgb,
        VideoFormat::Bgr => PixelFormat::Bgr,
        VideoFormat::Rgba | VideoFormat::Rgbx => PixelFormat::Rgbx,
        VideoFormat::Bgra | VideoFormat::Bgrx => PixelFormat::Bgrx,
        VideoFormat::Gray8 | VideoFormat::Gray16Le => PixelFormat::Gray8,
        VideoFormat::I420 | VideoFormat::I42010le | VideoFormat::I42012le => PixelFormat::I420,
        VideoFormat::Nv12 | VideoFormat::P01010le => PixelFormat::Nv12,
        VideoFormat::Yuy2 => PixelFormat::Yuy2,
        other => bail!("video format {other} is not supported; put videoconvert in front"),
    })
}

fn colour(colorimetry: &gst_video::VideoColorimetry) -> Colour {
    let matrix = match colorimetry.matrix() {
        VideoColorMatrix::Bt709 | VideoColorMatrix::Smpte240m => ColourMatrix::Bt709,
        VideoColorMatrix::Bt2020 => ColourMatrix::Bt2020,
        _ => ColourMatrix::Bt601,
    };
    Colour { matrix, full_range: colorimetry.range() == VideoColorRange::Range0_255 }
}

#[cfg(test)]
mod tests;
