// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sliding windows: a picture in overlapping crops, their logits stitched by averaging.

use anyhow::{Result, bail};

/// Sliding windows over the resized picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Side of a square crop.
    pub size: usize,
    /// Step between crops; at most `size`, or pixels between crops would never be seen.
    pub stride: usize,
}

impl Window {
    /// The two numbers a user gives: `size` 0 means the whole picture at once.
    pub fn from_sizes(size: usize, stride: usize) -> Result<Option<Window>> {
        if size == 0 {
            return Ok(None);
        }
        if stride == 0 || stride > size {
            bail!("stride {stride} does not fit a window of {size}: it must be 1 to {size} pixels");
        }
        Ok(Some(Window { size, stride }))
    }
}
