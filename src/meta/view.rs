// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mask, mapped for reading.

use gst_video::VideoFormat;

/// Where the values of a mask lie in its buffer, checked against the buffer's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskLayout {
    pub format: VideoFormat,
    pub width: usize,
    pub height: usize,
    pub offset: usize,
    pub stride: usize,
}

impl MaskLayout {
    /// From the buffer's `GstVideoMeta`; `None` if there is none, its format is neither GRAY8 nor GRAY16_LE,
    /// or the buffer is too small for it.
    pub fn of(mask: &gst::BufferRef) -> Option<MaskLayout> {
        let format = mask.meta::<gst_video::VideoMeta>()?.format();
        MaskLayout::of_values(mask, bytes_per_value(format)?)
    }

    /// The same for any format of one plane with so many bytes per value.
    pub fn of_values(mask: &gst::BufferRef, bytes: usize) -> Option<MaskLayout> {
        let meta = mask.meta::<gst_video::VideoMeta>()?;
        let layout = MaskLayout {
            format: meta.format(),
            width: meta.width() as usize,
            height: meta.height() as usize,
            offset: *meta.offset().first()?,
            stride: usize::try_from(*meta.stride().first()?).ok()?,
        };
        let row = layout.width.checked_mul(bytes)?;
        let last_row = layout.stride.checked_mul(layout.height.checked_sub(1)?)?;
        let end = layout.offset.checked_add(last_row)?.checked_add(row)?;
        (row > 0 && row <= layout.stride && end <= mask.size()).then_some(layout)
    }
}

fn bytes_per_value(format: VideoFormat) -> Option<usize> {
    match format {
        VideoFormat::Gray8 => Some(1),
        VideoFormat::Gray16Le => Some(2),
        _ => None,
    }
}

/// A mapped mask: `height` rows of `width` values, 0 = background, n = nth class.
pub struct MaskView<'a> {
    map: gst::BufferMap<'a, gst::buffer::Readable>,
    layout: MaskLayout,
}

/// One row of values, as they lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskRow<'a> {
    U8(&'a [u8]),
    /// Little endian, of any alignment: `u16::from_le_bytes` reads each.
    U16(&'a [[u8; 2]]),
}

impl<'a> MaskView<'a> {
    pub(super) fn new(mask: &'a gst::BufferRef) -> Option<Self> {
        let layout = MaskLayout::of(mask)?;
        Some(MaskView { map: mask.map_readable().ok()?, layout })
    }

    pub fn width(&self) -> usize {
        self.layout.width
    }

    pub fn height(&self) -> usize {
        self.layout.height
    }

    /// GRAY8 or GRAY16_LE.
    pub fn format(&self) -> VideoFormat {
        self.layout.format
    }

    /// The values of row `y` without the padding behind them; empty below the last row.
    pub fn row(&self, y: usize) -> MaskRow<'_> {
        let MaskLayout { format, width, height, offset, stride } = self.layout;
        let row = |bytes: usize| {
            if y >= height {
                return &[][..];
            }
            let start = offset + y * stride;
            self.map.get(start..start + width * bytes).unwrap_or(&[])
        };
        match format {
            VideoFormat::Gray16Le => MaskRow::U16(row(2).as_chunks().0),
            _ => MaskRow::U8(row(1)),
        }
    }

    /// All rows, top to bottom.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = MaskRow<'_>> {
        (0..self.height()).map(|y| self.row(y))
    }

    /// The value in column `x` of row `y`; `None` outside the mask.
    pub fn get(&self, x: usize, y: usize) -> Option<u16> {
        self.row(y).get(x)
    }
}

impl<'a> MaskRow<'a> {
    pub fn len(self) -> usize {
        match self {
            MaskRow::U8(values) => values.len(),
            MaskRow::U16(values) => values.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn get(self, x: usize) -> Option<u16> {
        match self {
            MaskRow::U8(values) => values.get(x).map(|&value| u16::from(value)),
            MaskRow::U16(values) => values.get(x).map(|&value| u16::from_le_bytes(value)),
        }
    }

    /// Calls `found` with each column in which another row of the same mask has another value, left to right.
    pub(super) fn for_each_difference(self, other: MaskRow, mut found: impl FnMut(usize)) {
        match (self, other) {
            (MaskRow::U8(a), MaskRow::U8(b)) => differences(a, b, &mut found),
            (MaskRow::U16(a), MaskRow::U16(b)) => differences(a, b, &mut found),
            _ => {}
        }
    }

    /// Copies the row, widened to 16 bits, over `out`; stops at the shorter end.
    pub fn copy_to(self, out: &mut [u16]) {
        match self {
            MaskRow::U8(values) => out.iter_mut().zip(values).for_each(|(out, &value)| *out = value.into()),
            MaskRow::U16(values) => {
                out.iter_mut().zip(values).for_each(|(out, &value)| *out = u16::from_le_bytes(value));
            }
        }
    }
}

/// Equal blocks are skipped as a whole: masks are mostly flat.
fn differences<T: PartialEq>(a: &[T], b: &[T], found: &mut impl FnMut(usize)) {
    const BLOCK: usize = 32;
    for (block, (a, b)) in a.chunks(BLOCK).zip(b.chunks(BLOCK)).enumerate() {
        if a != b {
            let columns = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
            columns.for_each(|(x, _)| found(block * BLOCK + x));
        }
    }
}
