// SPDX-License-Identifier: MIT OR Apache-2.0
//! Video frame -> model picture (where it lies, or one copy), mask -> buffer (no copy). The only module that knows both
//! GStreamer and torch types; its `unsafe` code says at each use why it is sound.
//!
//! * `geometry`: which pixels of what a buffer stores are the frame, and which are to be shown
//! * `mapped`: frames whose planes lie inside their memory, whatever their metadata say
//! * `import`: the way from a buffer to the model's device
//! * `holds`: how often one memory may be held
//! * `pack`: rows without their padding, deep samples as bytes
//! * `cuda`: frames that are in the memory of a GPU already

pub mod cuda;
mod geometry;
mod holds;
mod import;
mod mapped;
mod pack;

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use gst_video::video_frame::IsVideoFrame;
use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoTransferFunction};
use tch::{Device, Kind, Tensor};

pub use geometry::{Area, Geometry, refuse_crop_metadata};
pub use import::{Importer, Ways, caps, host_caps};
pub use mapped::{Component, Mapped};
pub use pack::{Rows, Samples};

use holds::Hold;
use mapped::Extent;
use pack::pack;

use crate::model::cuda::{LentPixels, LentPlane};
use crate::model::preprocess::{ColourMatrix, Transfer, plane_sizes};
use crate::model::{AnomalyMap, Colour, Ids, Picture, PixelFormat, Pixels, Segmentation};

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

/// Whether the model reads frames of a format, in the memory of the host or of a GPU; which of them, the pads say.
pub fn is_read(format: VideoFormat) -> bool {
    FORMATS.contains(&format) || cuda::FORMATS.contains(&format)
}

/// Copies a mapped frame into a picture, once, whatever its strides.
/// Fails on a format outside [`FORMATS`].
pub fn picture<F: IsVideoFrame>(frame: &Mapped<F>) -> Result<Picture> {
    let (width, height) = (frame.width(), frame.height());
    let format = pixel_format(frame.info().format())?;
    let planes = plane_sizes(format, width, height);
    let bytes = planes.iter().map(|&(row, rows)| row * rows).sum::<usize>();
    let data = Tensor::f_empty([bytes as i64], (Kind::Uint8, Device::Cpu))?;
    // SAFETY: `data` is a fresh contiguous CPU tensor of exactly `bytes` u8 that nobody else can reach before
    // this function returns, and `target` does not outlive it. Bytes have no invalid values.
    let target = unsafe { std::slice::from_raw_parts_mut(data.data_ptr().cast::<u8>(), bytes) };
    pack(frame.info().format(), |plane| frame.rows(plane), &planes, target)?;
    Ok(Picture { format, width, height, colour: colour(&frame.info().colorimetry()), data: data.into() })
}

/// What is shown of a frame in the memory of the host as a picture that reads it there, and holds it for so long.
/// Fails on a buffer that is no such frame, and on one whose memory is smaller than its metadata say.
fn lent(buffer: gst::Buffer, hold: Hold, info: &gst_video::VideoInfo) -> Result<Picture> {
    let frame = Mapped::hold_shown(buffer, info)?;
    let (width, height) = (frame.width(), frame.height());
    let format = pixel_format(info.format())?;
    let planes = lent_planes(frame.extents(), &plane_sizes(format, width, height), false)?;
    let colour = colour(&info.colorimetry());
    // SAFETY: `frame` keeps the buffer and its mapping for reading, so that nobody may write to this memory, and each
    // plane was found to lie inside it.
    let pixels = unsafe { LentPixels::new(Device::Cpu, planes, None, Box::new((frame, hold))) };
    Ok(Picture { format, width, height, colour, data: Pixels::Lent(pixels) })
}

/// Planes of so many samples a row and rows where they lie; of words, their upper bytes are what is read.
fn lent_planes(extents: &[Extent], sizes: &[(usize, usize)], words: bool) -> Result<Vec<LentPlane>> {
    let plane = |(index, &size): (usize, &(usize, usize))| {
        let &Extent { address, length, stride } = extents.get(index).context("the frame lacks a plane")?;
        let plane = match words {
            true => LentPlane::of_upper_bytes(address as u64, stride, size),
            false => LentPlane::of_bytes(address as u64, stride, size),
        };
        let end = size.1.saturating_sub(1) * stride + plane.stored();
        ensure!(
            stride >= plane.stored() && end <= length,
            "plane {index} of the frame is shorter than its rows"
        );
        Ok(plane)
    };
    sizes.iter().enumerate().map(plane).collect()
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

/// A map of patches as a GRAY8 buffer with its `GstVideoMeta`; 1 is 255.
pub fn map_buffer(map: &AnomalyMap) -> Result<gst::Buffer> {
    ensure!(map.values.len() == map.rows * map.columns && !map.values.is_empty(), "a map without values");
    let bytes: Vec<u8> =
        map.values.iter().map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
    let mut buffer = gst::Buffer::from_slice(bytes);
    gst_video::VideoMeta::add_full(
        buffer.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::Gray8,
        map.columns as u32,
        map.rows as u32,
        &[0],
        &[i32::try_from(map.columns)?],
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
        VideoFormat::Nv12 | VideoFormat::P01010le | VideoFormat::P016Le => PixelFormat::Nv12,
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
    let transfer = match colorimetry.transfer() {
        VideoTransferFunction::Smpte2084 => Transfer::Pq,
        VideoTransferFunction::AribStdB67 => Transfer::Hlg,
        _ => Transfer::Sdr,
    };
    Colour { matrix, full_range: colorimetry.range() == VideoColorRange::Range0_255, transfer }
}

#[cfg(test)]
mod tests;
