// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mapped frames whose planes lie inside their memory. A `GstVideoMeta` may come from anywhere and say anything, and GStreamer
//! maps what it says without a look at how large the memory is.

use anyhow::{Context, Result, anyhow, ensure};
use gst_video::ffi;
use gst_video::prelude::*;
use gst_video::video_frame::{IsVideoFrame, Readable};
use gst_video::{VideoFrame, VideoFrameRef, VideoInfo};

use super::geometry::{Area, Geometry};
use super::pack::{Rows, Samples};

/// A part of a frame, mapped.
pub struct Mapped<F> {
    frame: F,
    area: Area,
    planes: Vec<Extent>,
}

/// Where a plane of the part lies, from its first byte to the last of its last row.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub address: usize,
    pub length: usize,
    pub stride: usize,
}

/// The samples of one component: luma, a colour difference, red ...
#[derive(Clone, Copy)]
pub struct Component<'a> {
    pub data: &'a [u8],
    /// Bytes between rows, and between neighbours in a row.
    pub row_step: usize,
    pub pixel_step: usize,
    pub width: usize,
    pub height: usize,
    pub samples: Samples,
}

impl<'a> Mapped<VideoFrameRef<&'a gst::BufferRef>> {
    /// The frame that the caps describe, for reading.
    ///
    /// # Errors
    /// The buffer is no frame of `info`, or its memory is smaller than its metadata say.
    pub fn read(buffer: &'a gst::BufferRef, info: &VideoInfo) -> Result<Self> {
        let area = Geometry::of(buffer, info)?.frame;
        Self::read_area(buffer, info, area)
    }

    /// Of the frame the part that is to be shown.
    pub fn read_shown(buffer: &'a gst::BufferRef, info: &VideoInfo) -> Result<Self> {
        let area = Geometry::of(buffer, info)?.shown;
        Self::read_area(buffer, info, area)
    }

    fn read_area(buffer: &'a gst::BufferRef, info: &VideoInfo, area: Area) -> Result<Self> {
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|_| no_frame(buffer.size(), info))?;
        let planes = extents(frame.as_raw(), info, area)?;
        Ok(Mapped { frame, area, planes })
    }
}

impl Mapped<VideoFrame<Readable>> {
    /// Of the frame the part that is to be shown, for reading for as long as this value lives.
    pub fn hold_shown(buffer: gst::Buffer, info: &VideoInfo) -> Result<Self> {
        let (area, size) = (Geometry::of(&buffer, info)?.shown, buffer.size());
        let frame = VideoFrame::from_buffer_readable(buffer, info).map_err(|_| no_frame(size, info))?;
        let planes = extents(frame.as_raw(), info, area)?;
        Ok(Mapped { frame, area, planes })
    }
}

impl<'a> Mapped<VideoFrameRef<&'a mut gst::BufferRef>> {
    /// The frame that the caps describe, for writing.
    ///
    /// # Errors
    /// As of `read`; also where planes share memory.
    pub fn write(buffer: &'a mut gst::BufferRef, info: &VideoInfo) -> Result<Self> {
        let (area, size) = (Geometry::of(buffer, info)?.frame, buffer.size());
        let frame =
            VideoFrameRef::from_buffer_ref_writable(buffer, info).map_err(|_| no_frame(size, info))?;
        let planes = extents(frame.as_raw(), info, area)?;
        let mut ends: Vec<_> = planes.iter().map(|plane| (plane.address, plane.length)).collect();
        ends.sort_unstable();
        let apart = ends.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0);
        ensure!(apart, "its video metadata put several planes into the same memory");
        Ok(Mapped { frame, area, planes })
    }

    /// Every plane with its stride.
    pub fn planes_mut(&mut self) -> Vec<(&mut [u8], usize)> {
        let plane = |&Extent { address, length, stride }: &Extent| {
            // SAFETY: `extents` found these bytes inside the mapping for writing that `frame` keeps, which this value is
            // borrowed with; `write` found that no two planes share one. Bytes have no invalid values.
            let data = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) };
            (data, stride)
        };
        self.planes.iter().map(plane).collect()
    }
}

impl<F: IsVideoFrame> Mapped<F> {
    pub fn width(&self) -> usize {
        self.area.width as usize
    }

    pub fn height(&self) -> usize {
        self.area.height as usize
    }

    /// With the frame's format and colorimetry; the sizes are those of what is stored.
    pub fn info(&self) -> &VideoInfo {
        self.frame.info()
    }

    pub fn extents(&self) -> &[Extent] {
        &self.planes
    }

    /// Every component but alpha.
    pub fn colours(&self) -> Vec<Component<'_>> {
        let format = self.info().format_info();
        let samples = Samples::of(self.info().format());
        let component = |index: usize| {
            let Rows { data, stride } = self.rows(*format.plane().get(index)? as usize)?;
            let offset = usize::try_from(*format.poffset().get(index)?).ok()?;
            let side = |length: u32, sub: u32| length.div_ceil(1 << sub) as usize;
            Some(Component {
                data: data.get(offset..)?,
                row_step: stride,
                pixel_step: usize::try_from(*format.pixel_stride().get(index)?).ok()?,
                width: side(self.area.width, *format.w_sub().get(index)?),
                height: side(self.area.height, *format.h_sub().get(index)?),
                samples,
            })
        };
        (0..(format.n_components() as usize).min(3)).filter_map(component).collect()
    }

    /// `None` above the last plane.
    pub fn rows(&self, plane: usize) -> Option<Rows<'_>> {
        let &Extent { address, length, stride } = self.planes.get(plane)?;
        // SAFETY: `extents` found these bytes inside the mapping that `frame` keeps, and nobody writes to them while it is
        // mapped for reading, or, for writing, while this value is borrowed. Bytes have no invalid values.
        let data = unsafe { std::slice::from_raw_parts(address as *const u8, length) };
        Some(Rows { data, stride })
    }
}

fn no_frame(size: usize, info: &VideoInfo) -> anyhow::Error {
    anyhow!("a buffer of {size} bytes is no {:?} frame of {}x{}", info.format(), info.width(), info.height())
}

/// Where the planes of an area lie; an error unless all of them lie inside what was mapped.
pub fn extents(raw: &ffi::GstVideoFrame, info: &VideoInfo, area: Area) -> Result<Vec<Extent>> {
    let of_plane = |(index, (row, layout)): (usize, (usize, Layout))| -> Result<Extent> {
        // Without video metadata there is one mapping for all planes.
        let map = if raw.meta.is_null() { &raw.map[0] } else { &raw.map[index] };
        let start = (raw.data[index] as usize).checked_sub(map.data as usize);
        let stride =
            usize::try_from(raw.info.stride[index]).ok().context("its rows run from bottom to top")?;
        let (rows, mapped) = (layout.down(area.height) as usize, map.size);
        let first = (area.y as usize >> layout.h_sub) * stride + layout.before(area.x);
        let length = rows.saturating_sub(1).checked_mul(stride).and_then(|all| all.checked_add(row));
        let inside = |start: usize, length: usize| {
            start.checked_add(first)?.checked_add(length).filter(|&end| end <= mapped)
        };
        let (start, length) = start
            .zip(length)
            .filter(|&(start, length)| row <= stride && inside(start, length).is_some())
            .with_context(|| {
                format!(
                    "plane {index} has {mapped} bytes of memory, too few for {rows} rows {stride} bytes apart"
                )
            })?;
        Ok(Extent { address: map.data as usize + start + first, length, stride })
    };
    layouts(info)
        .into_iter()
        .map(|layout| (layout.across(area.width), layout))
        .enumerate()
        .map(of_plane)
        .collect()
}

/// How the samples of a plane lie.
#[derive(Clone, Copy)]
struct Layout {
    w_sub: u32,
    h_sub: u32,
    pixel_stride: usize,
}

impl Layout {
    /// Bytes of so many pixels of a row, whole samples.
    fn across(self, pixels: u32) -> usize {
        (pixels as usize).div_ceil(1 << self.w_sub) * self.pixel_stride
    }

    /// Bytes of a row before this pixel's sample: a sample that is shared with the pixel before counts for both.
    fn before(self, pixel: u32) -> usize {
        (pixel as usize >> self.w_sub) * self.pixel_stride
    }

    fn down(self, pixels: u32) -> u32 {
        pixels.div_ceil(1 << self.h_sub)
    }
}

/// Of each plane that of its widest samples: YUY2 keeps the luma of two pixels and their chroma in four bytes.
fn layouts(info: &VideoInfo) -> Vec<Layout> {
    let format = info.format_info();
    let component = |index: usize| Layout {
        w_sub: format.w_sub()[index],
        h_sub: format.h_sub()[index],
        pixel_stride: format.pixel_stride()[index].max(0) as usize,
    };
    let of_plane = |plane: u32| {
        let components = (0..format.n_components() as usize).filter(|&index| format.plane()[index] == plane);
        components.map(component).max_by_key(|layout| (layout.w_sub, layout.pixel_stride))
    };
    (0..format.n_planes()).filter_map(of_plane).collect()
}
