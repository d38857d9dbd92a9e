// SPDX-License-Identifier: MIT OR Apache-2.0
//! In the place of `attention.rs` on processors that it is not written for: libtorch's attention is taken instead.

use anyhow::{Result, bail};
use tch::Tensor;

pub struct Attended {
    pub gathered: Option<Tensor>,
    pub mean_map: Option<Tensor>,
}

pub fn attention_is_available(_: &Tensor) -> bool {
    false
}

pub fn attention(q: &Tensor, _: &Tensor, _: Option<&Tensor>, _: bool) -> Result<Attended> {
    bail!("no attention kernel for this processor, asked for queries of {:?}", q.size())
}

/// Never made: [`attention_is_available`] says no.
pub struct LaidOut;

impl LaidOut {
    pub fn new(_: usize, _: usize, _: usize) -> LaidOut {
        LaidOut
    }

    pub fn bytes(&self) -> usize {
        0
    }

    pub fn put(&mut self, _: &[i64], k: &Tensor, _: &Tensor) -> Result<()> {
        bail!("no attention kernel for this processor, given keys of {:?}", k.size())
    }

    pub fn attend(&self, q: &Tensor, _: bool) -> Result<Attended> {
        bail!("no attention kernel for this processor, asked for queries of {:?}", q.size())
    }
}
