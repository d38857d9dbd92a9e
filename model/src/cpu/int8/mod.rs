// SPDX-License-Identifier: MIT OR Apache-2.0
//! A block's linear layers in 8 bits, on processors with AVX512-VNNI, faster where there is AMX too: weights by output
//! channel, tokens one by one.
//!
//! Everything but the attention goes by tokens, so a few of them at a time go through it as a whole, and what is between
//! the products (norms, scales, activation, the next product's numbers in 8 bits, sums) never leaves the cache. A token's
//! result does not depend on which others it is computed with.
//!
//! Shapes: D width, tokens in any number of dimensions.

mod curve;
mod layout;
mod matrix;
mod product;
mod rows;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use tch::{Device, Kind, Tensor};

use super::{amx, team};
use amx::Shapes;
pub use curve::Curve;
use layout::rows as rows_at_a_time;
use matrix::Matrix;
use product::{Target, multiply};
use rows::{Norm, Rows};
use tokens::{Tokens, Written, readable};

/// Tokens that go through a block together: few enough for the caches, enough for the weights to be read seldom. Tiles
/// multiply several times as fast as registers, so that the weights' way from beyond the caches weighs more.
fn together() -> usize {
    if amx::is_available() { 4 * rows_at_a_time() } else { 6 * rows_at_a_time() }
}

static PROCESSOR: LazyLock<bool> = LazyLock::new(|| {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && team::is_available()
});

/// Whether this processor has the instructions.
pub fn int8_is_available() -> bool {
    *PROCESSOR
}

/// A weight and a bias in f32.
pub type Pair<'a> = (&'a Tensor, &'a Tensor);

/// What a block is made of, on the CPU in f32.
pub struct Parts<'a> {
    pub ln_1: Pair<'a>,
    pub ln_2: Pair<'a>,
    /// Of both norms.
    pub eps: f64,
    pub in_proj: Pair<'a>,
    pub out_proj: Pair<'a>,
    pub c_fc: Pair<'a>,
    pub c_proj: Pair<'a>,
    pub curve: Curve,
    /// What each channel of the MLP is multiplied by as it is added, `[D]`.
    pub output_scale: &'a Tensor,
}

pub struct Int8Block {
    ln_1: Norm,
    ln_2: Norm,
    in_proj: Matrix,
    out_proj: Matrix,
    c_fc: Matrix,
    c_proj: Matrix,
    curve: Curve,
    /// One each, for what attention gathered.
    ones: Vec<f32>,
    output_scale: Vec<f32>,
}

impl Int8Block {
    /// # Errors
    /// The processor lacks the instructions, or a weight is not finite.
    pub fn new(parts: &Parts) -> Result<Int8Block> {
        if !int8_is_available() {
            bail!("no product in 8 bits on this processor");
        }
        let numbers = |tensor: &Tensor| Vec::<f32>::try_from(tensor);
        let norm = |(weight, bias): Pair| -> Result<Norm> {
            Ok(Norm { weight: numbers(weight)?, bias: numbers(bias)?, eps: parts.eps as f32 })
        };
        let matrix =
            |name: &str, (weight, bias): Pair| Matrix::new(weight, bias).with_context(|| name.to_owned());
        let output_scale = numbers(parts.output_scale)?;
        let block = Int8Block {
            ln_1: norm(parts.ln_1)?,
            ln_2: norm(parts.ln_2)?,
            in_proj: matrix("in_proj", parts.in_proj)?,
            out_proj: matrix("out_proj", parts.out_proj)?,
            c_fc: matrix("c_fc", parts.c_fc)?,
            c_proj: matrix("c_proj", parts.c_proj)?,
            curve: parts.curve,
            ones: vec![1.0; output_scale.len()],
            output_scale,
        };
        let width = block.width();
        let fits = [&block.ln_1.bias, &block.ln_2.weight, &block.ln_2.bias, &block.output_scale]
            .iter()
            .all(|numbers| numbers.len() == width)
            && [block.in_proj.columns, block.out_proj.columns, block.c_proj.columns]
                == [3 * width, width, width]
            && [&block.in_proj, &block.out_proj, &block.c_fc].iter().all(|matrix| matrix.takes(width))
            && block.c_proj.takes(block.c_fc.columns);
        if !fits {
            bail!("the parts of a block {width} wide do not fit together");
        }
        Ok(block)
    }

    fn width(&self) -> usize {
        self.ln_1.weight.len()
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        [&self.in_proj, &self.out_proj, &self.c_fc, &self.c_proj].iter().map(|matrix| matrix.bytes()).sum()
    }

    /// Queries, keys and values side by side, in f32 or bf16: `[..., D] -> [..., 3 D]`.
    pub fn joined_qkv(&self, x: &Tensor, kind: Kind) -> Result<Tensor> {
        let (width, columns) = (self.width(), self.in_proj.columns);
        let (x, mut size) = (readable(&x.f_to_kind(Kind::Float)?)?, x.size());
        let tokens = self.count(&x)?;
        match size.last_mut() {
            Some(last) => *last = columns as i64,
            None => bail!("tokens without a width"),
        }
        let joined = Tensor::f_empty(&size[..], (kind, Device::Cpu))?;
        let (x, out) = (Tokens::of(&x), Written::of(&joined));
        self.by_tokens(tokens, |first, count, scratch| {
            let Scratch { tiles, row: wide, narrow, .. } = scratch;
            // SAFETY: int8_is_available was asked for the instructions, and every token is handed to one thread.
            unsafe {
                for row in 0..count {
                    self.ln_1.apply(x.row(first + row, width, &mut []), wide);
                    narrow.put(row, wide);
                }
                let (first, length) = (first * columns, count * columns);
                let target = match out.kind {
                    Kind::BFloat16 => Target::Short(out.short(first, length)),
                    _ => Target::Whole(out.whole(first, length)),
                };
                multiply(tiles.as_ref(), narrow, count, &self.in_proj, target);
            }
        })?;
        Ok(joined)
    }

    /// Adds what attention gathered, in f32 or bf16, and then the MLP: twice `[..., D] -> [..., D]` in f32.
    pub fn residual(&self, x: &Tensor, gathered: &Tensor) -> Result<Tensor> {
        let width = self.width();
        if gathered.numel() != x.numel() {
            bail!("attention gathered {:?} for tokens {:?}", gathered.size(), x.size());
        }
        let sum = Tensor::f_empty(x.size(), (Kind::Float, Device::Cpu))?;
        let (x, gathered) = (readable(&x.f_to_kind(Kind::Float)?)?, readable(gathered)?);
        let tokens = self.count(&x)?;
        let (x, gathered, out) = (Tokens::of(&x), Tokens::of(&gathered), Written::of(&sum));
        self.by_tokens(tokens, |first, count, scratch| {
            let Scratch { tiles, row: wide, narrow, hidden, hidden_narrow } = scratch;
            let tiles = tiles.as_ref();
            // SAFETY: int8_is_available was asked for the instructions, and every token is handed to one thread.
            unsafe {
                let sum = out.whole(first * width, count * width);
                for (row, target) in sum.chunks_exact_mut(width).enumerate() {
                    target.copy_from_slice(x.row(first + row, width, &mut []));
                    narrow.put(row, gathered.row(first + row, width, wide));
                }
                multiply(tiles, narrow, count, &self.out_proj, Target::Added(sum, &self.ones));
                for (row, numbers) in sum.chunks_exact(width).enumerate() {
                    self.ln_2.apply(numbers, wide);
                    narrow.put(row, wide);
                }
                let inside = self.c_fc.columns;
                let hidden = &mut hidden[..count * inside];
                multiply(tiles, narrow, count, &self.c_fc, Target::Curved(hidden, self.curve));
                for (row, numbers) in hidden.chunks_exact(inside).enumerate() {
                    hidden_narrow.put(row, numbers);
                }
                multiply(tiles, hidden_narrow, count, &self.c_proj, Target::Added(sum, &self.output_scale));
            }
        })?;
        Ok(sum)
    }

    /// How many tokens as wide as the block.
    fn count(&self, x: &Tensor) -> Result<usize> {
        let width = self.width();
        if x.size().last() != Some(&(width as i64)) {
            bail!("tokens {:?} for a block {width} wide", x.size());
        }
        Ok(x.numel() / width)
    }

    /// Hands all tokens out to libtorch's threads, some at a time: the first of them and how many.
    fn by_tokens(&self, tokens: usize, work: impl Fn(usize, usize, &mut Scratch) + Sync) -> Result<()> {
        let shares = 4 * tch::get_num_threads().max(1) as usize;
        let together = tokens.div_ceil(shares).clamp(1, together()).next_multiple_of(rows_at_a_time());
        let next = AtomicUsize::new(0);
        team::run(&|| {
            let mut scratch: Option<Scratch> = None;
            loop {
                let first = next.fetch_add(together, Ordering::Relaxed);
                if first >= tokens {
                    break;
                }
                let scratch = scratch.get_or_insert_with(|| Scratch::new(self, together));
                work(first, together.min(tokens - first), scratch);
            }
        })
    }
}

/// What one thread needs while it works.
struct Scratch {
    /// Where there are any, the thread's tiles.
    tiles: Option<Shapes>,
    /// A token.
    row: Vec<f32>,
    narrow: Rows,
    /// The MLP's inside, `[tokens, MLP width]`.
    hidden: Vec<f32>,
    hidden_narrow: Rows,
}

impl Scratch {
    fn new(block: &Int8Block, tokens: usize) -> Scratch {
        let (width, inside) = (block.width(), block.c_fc.columns);
        Scratch {
            tiles: Shapes::new(),
            row: vec![0.0; width],
            narrow: Rows::new(tokens, width),
            hidden: vec![0.0; tokens * inside],
            hidden_narrow: Rows::new(tokens, inside),
        }
    }
}
