// SPDX-License-Identifier: MIT OR Apache-2.0
//! In the place of `int8/` on processors that it is not written for.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

pub fn int8_is_available() -> bool {
    false
}

pub type Pair<'a> = (&'a Tensor, &'a Tensor);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    Silu,
    Gelu,
    GeluTanh,
}

#[expect(dead_code, reason = "only the kernels for x86-64 read it")]
pub struct Parts<'a> {
    pub ln_1: Pair<'a>,
    pub ln_2: Pair<'a>,
    pub eps: f64,
    pub in_proj: Pair<'a>,
    pub out_proj: Pair<'a>,
    pub c_fc: Pair<'a>,
    pub c_proj: Pair<'a>,
    pub curve: Curve,
    pub output_scale: &'a Tensor,
}

/// Never made: [`int8_is_available`] says no.
pub struct Int8Block;

impl Int8Block {
    pub fn new(_: &Parts) -> Result<Int8Block> {
        bail!("no product in 8 bits on this processor")
    }

    pub fn joined_qkv(&self, x: &Tensor, _: Kind) -> Result<Tensor> {
        bail!("no product in 8 bits on this processor, given tokens {:?}", x.size())
    }

    pub fn residual(&self, x: &Tensor, _: &Tensor) -> Result<Tensor> {
        bail!("no product in 8 bits on this processor, given tokens {:?}", x.size())
    }
}
