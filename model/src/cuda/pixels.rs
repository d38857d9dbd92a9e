// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame that is read where it lies: in the memory of a GPU, or of the host.

use std::any::Any;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::Event;

/// Where a plane lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LentPlane {
    /// Address of the first byte.
    pub address: u64,
    /// From one row to the next, in bytes.
    pub stride: usize,
    /// Bytes of a row that are read.
    pub row_bytes: usize,
    pub rows: usize,
    /// From one byte that is read to the next: 2 where samples are words, of which the upper byte is read.
    pub step: usize,
}

impl LentPlane {
    /// A plane of bytes.
    pub fn of_bytes(address: u64, stride: usize, (row_bytes, rows): (usize, usize)) -> LentPlane {
        LentPlane { address, stride, row_bytes, rows, step: 1 }
    }

    /// A plane of little-endian words at `address`, as their upper bytes: `row_words` a row.
    pub fn of_upper_bytes(address: u64, stride: usize, (row_words, rows): (usize, usize)) -> LentPlane {
        LentPlane { address: address + 1, stride, row_bytes: row_words, rows, step: 2 }
    }

    /// Bytes from the first sample of a row to the end of the last.
    pub fn stored(&self) -> usize {
        self.row_bytes * self.step
    }
}

/// A frame's planes in the memory of `device` (that of the host for [`Device::Cpu`]), alive as long as this value is.
///
/// Whoever drops it has the results of everything that reads it, or does not want them: the memory may be written
/// again at once.
pub struct LentPixels {
    device: Device,
    planes: Vec<LentPlane>,
    /// When the pixels are there; `None`: they are.
    ready: Option<Event>,
    _owner: Box<dyn Any + Send>,
}

impl LentPixels {
    /// # Safety
    /// While `owner` lives, each plane is readable by `device`, for a GPU in its primary context, and nobody writes to it
    /// after `ready`.
    pub unsafe fn new(
        device: Device,
        planes: Vec<LentPlane>,
        ready: Option<Event>,
        owner: Box<dyn Any + Send>,
    ) -> LentPixels {
        LentPixels { device, planes, ready, _owner: owner }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn planes(&self) -> &[LentPlane] {
        &self.planes
    }

    /// The planes without padding, one after the other.
    ///
    /// # Errors
    /// They are in the memory of a GPU.
    pub(crate) fn to_packed(&self) -> Result<Vec<u8>> {
        ensure!(self.device == Device::Cpu, "the pixels are in the memory of a GPU");
        let mut packed = Vec::new();
        for index in 0..self.planes.len() {
            packed.extend(Vec::<u8>::try_from(&self.plane(index)?.f_contiguous()?.f_flatten(0, -1)?)?);
        }
        Ok(packed)
    }

    /// Lets the stream on which this thread computes wait for the pixels, before anything reads them.
    pub(crate) fn hold_compute(&self) -> Result<()> {
        match (&self.ready, self.device) {
            (Some(ready), Device::Cuda(device)) => ready.hold(ready.runtime().compute(device)?),
            _ => Ok(()),
        }
    }

    /// `[rows, row_bytes]` u8 over the frame's own memory. The tensor must not outlive this value.
    pub(crate) fn plane(&self, index: usize) -> Result<Tensor> {
        let plane = self.planes.get(index).context("the frame lacks a plane")?;
        ensure!(plane.address != 0 && plane.stride >= plane.stored(), "the frame has a plane of {plane:?}");
        let size = [plane.rows as i64, plane.row_bytes as i64];
        let strides = [plane.stride as i64, plane.step as i64];
        // SAFETY: the plane is readable as `new` was promised; the callers, in `preprocess`, let go of the tensor
        // before the picture; bytes have no invalid values, and nothing here writes through the tensor.
        Ok(unsafe {
            Tensor::f_from_blob(plane.address as *const u8, &size, &strides, Kind::Uint8, self.device)
        }?)
    }
}
