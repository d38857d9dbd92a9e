// SPDX-License-Identifier: MIT OR Apache-2.0
//! Some rows of a matrix, and how many of them are multiplied at a time.

use anyhow::{Context, Result};
use tch::{Device, Tensor};

/// Rows of one picture, in order, each once.
pub struct Rows {
    list: Vec<i64>,
    /// The same on the model's device.
    index: Tensor,
    /// They are all there are.
    all: bool,
}

impl Rows {
    /// Some of `total`.
    pub fn new(list: Vec<i64>, total: usize, device: Device) -> Result<Rows> {
        let index = Tensor::f_from_slice(&list)?.f_to_device(device)?;
        Ok(Rows { all: list.len() == total, list, index })
    }

    pub fn list(&self) -> &[i64] {
        &self.list
    }

    pub fn index(&self) -> &Tensor {
        &self.index
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Puts `values` in the place of these rows along `axis`; where they are all rows, `slot` becomes a copy of them.
    pub fn put(&self, slot: &mut Option<Tensor>, axis: i64, values: &Tensor) -> Result<()> {
        if self.all {
            *slot = Some(values.f_contiguous()?.f_detach_copy()?);
            return Ok(());
        }
        let kept =
            slot.as_mut().context("a picture is to be changed in part that was never seen as a whole")?;
        let _ = kept.f_index_copy_(axis, &self.index, values)?;
        Ok(())
    }
}

/// oneDNN prepares a kernel for every number of rows: they are filled up to one of few numbers.
pub fn padded(rows: usize) -> usize {
    let step = match rows {
        0..=256 => 16,
        257..=1024 => 64,
        _ => 256,
    };
    rows.next_multiple_of(step)
}

/// Memory that a tensor takes.
pub fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}
