// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys and values of one block for the tokens of one picture, changed token by token.

use anyhow::{Context, Result};
use tch::Tensor;

use super::rows::{Rows, bytes};
use crate::cpu::{self, Attended, LaidOut};
use crate::transformer::{NOT_ATTENDED, Qkv, attend, attention_map, mean_attention_map};

/// Shapes: H heads, L tokens of the picture, R of them that queries are asked for, D width.
pub enum Keys {
    /// As the CPU's own attention kernel reads them.
    LaidOut(LaidOut),
    /// `[1, H, L, D / H]` each.
    Plain { k: Tensor, v: Tensor },
}

impl Keys {
    /// Of all `tokens` of a picture. `plain` where maps of every head are wanted, which the kernel does not give.
    pub fn new(qkv: &Qkv, tokens: usize, plain: bool) -> Result<Keys> {
        let Qkv { q, k, v } = qkv;
        if plain || !cpu::attention_is_available(q) {
            // Copies: views would keep the whole batch.
            let copy = |x: &Tensor| x.f_contiguous()?.f_detach_copy();
            return Ok(Keys::Plain { k: copy(k)?, v: copy(v)? });
        }
        let (_, heads, _, width) = q.size4()?;
        let mut laid_out = LaidOut::new(heads as usize, tokens, width as usize);
        let every: Vec<i64> = (0..tokens as i64).collect();
        laid_out.put(&every, k, v)?;
        Ok(Keys::LaidOut(laid_out))
    }

    /// Takes over the keys and values of some tokens: `[1, H, R, D / H]`.
    pub fn put(&mut self, rows: &Rows, qkv: &Qkv) -> Result<()> {
        match self {
            Keys::LaidOut(laid_out) => laid_out.put(rows.list(), &qkv.k, &qkv.v),
            Keys::Plain { k, v } => {
                let _ = k.f_index_copy_(2, rows.index(), &qkv.k)?;
                let _ = v.f_index_copy_(2, rows.index(), &qkv.v)?;
                Ok(())
            }
        }
    }

    /// What the queries `[1, H, R, D / H]` gather, `[1, H, R, D / H]`.
    pub fn attend(&self, q: &Tensor) -> Result<Tensor> {
        match self {
            Keys::LaidOut(laid_out) => laid_out.attend(q, false)?.gathered.context(NOT_ATTENDED),
            Keys::Plain { k, v } => attend(q, k, v, false),
        }
    }

    /// With their rows of the mean map, `[1, R, L]`.
    pub fn attend_with_mean_map(&self, q: &Tensor) -> Result<(Tensor, Tensor)> {
        match self {
            Keys::LaidOut(laid_out) => {
                let Attended { gathered, mean_map } = laid_out.attend(q, true)?;
                gathered.zip(mean_map).context(NOT_ATTENDED)
            }
            Keys::Plain { k, v } => Ok((attend(q, k, v, false)?, mean_attention_map(q, k)?)),
        }
    }

    /// With their rows of every head's map, `[1, H, R, L]`.
    pub fn attend_with_head_maps(&self, q: &Tensor) -> Result<(Tensor, Tensor)> {
        let Keys::Plain { k, v } = self else { anyhow::bail!(NOT_ATTENDED) };
        let maps = attention_map(q, k)?;
        Ok((maps.f_to_kind(v.kind())?.f_matmul(v)?, maps))
    }

    pub fn bytes(&self) -> usize {
        match self {
            Keys::LaidOut(laid_out) => laid_out.bytes(),
            Keys::Plain { k, v } => bytes(k) + bytes(v),
        }
    }
}
