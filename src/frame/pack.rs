// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planes of a mapped frame without their padding, one byte a sample.

use anyhow::{Context, Result};
use gst_video::VideoFormat;

/// The rows of a plane; the last one ends without padding.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [u8],
    pub stride: usize,
}

/// How the samples of a format are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Samples {
    Bytes,
    /// 16-bit little-endian words whose lowest `u32` bits are below what a byte holds.
    Words(u32),
}

impl Samples {
    pub fn of(format: VideoFormat) -> Samples {
        match format {
            // The bits of P010 are the highest ten of its words.
            VideoFormat::Gray16Le | VideoFormat::P01010le | VideoFormat::P016Le => Samples::Words(8),
            VideoFormat::I42010le => Samples::Words(2),
            VideoFormat::I42012le => Samples::Words(4),
            _ => Samples::Bytes,
        }
    }

    fn size(self) -> usize {
        match self {
            Samples::Bytes => 1,
            Samples::Words(_) => 2,
        }
    }

    /// `source` holds as many samples as `target`.
    fn copy(self, source: &[u8], target: &mut [u8]) {
        match self {
            Samples::Bytes => target.copy_from_slice(source),
            // A shift that the compiler knows becomes vector code.
            Samples::Words(8) => round::<8>(source, target),
            Samples::Words(4) => round::<4>(source, target),
            Samples::Words(_) => round::<2>(source, target),
        }
    }
}

fn round<const BELOW: u32>(source: &[u8], target: &mut [u8]) {
    for (word, byte) in source.chunks_exact(2).zip(target) {
        let value = u32::from(u16::from_le_bytes([word[0], word[1]]));
        *byte = ((value + (1 << (BELOW - 1))) >> BELOW).min(255) as u8;
    }
}

/// Whether the model can read frames of this format as they are.
pub fn has_samples_of_a_byte(format: VideoFormat) -> bool {
    Samples::of(format) == Samples::Bytes
}

/// Whether the samples are words whose upper byte is what the model reads, but for the last rounding.
pub fn has_samples_of_upper_bytes(format: VideoFormat) -> bool {
    Samples::of(format) == Samples::Words(8)
}

/// Copies planes into `target`, one after the other. `sizes` are the bytes per row and the rows that each has there;
/// `rows` gives the rows of a plane.
pub fn pack<'a>(
    format: VideoFormat,
    rows: impl Fn(usize) -> Option<Rows<'a>>,
    sizes: &[(usize, usize)],
    target: &mut [u8],
) -> Result<()> {
    let samples = Samples::of(format);
    let mut rest = target;
    for (index, &(row_bytes, count)) in sizes.iter().enumerate() {
        let (plane, after) = rest.split_at_mut(row_bytes * count);
        let Rows { data, stride } = rows(index).context("the frame lacks a plane")?;
        pack_plane(data, stride, samples, plane, row_bytes)?;
        rest = after;
    }
    Ok(())
}

fn pack_plane(
    source: &[u8],
    stride: usize,
    samples: Samples,
    target: &mut [u8],
    row_bytes: usize,
) -> Result<()> {
    let stored = row_bytes * samples.size();
    if stride == stored {
        let packed = source.get(..target.len() * samples.size());
        samples.copy(packed.context("the frame is shorter than its size says")?, target);
        return Ok(());
    }
    for (row, target) in target.chunks_exact_mut(row_bytes).enumerate() {
        let start = row * stride;
        let packed =
            source.get(start..start + stored).context("the frame is shorter than its stride says")?;
        samples.copy(packed, target);
    }
    Ok(())
}
