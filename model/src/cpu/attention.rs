// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attention in bf16 with sums and softmax in f32, several times as fast as libtorch's on processors with AVX512-BF16, and
//! again where there is AMX.
//! The mean map over the heads, which GCLIP wants of some blocks, comes out of the same pass.
//!
//! libtorch goes by blocks of queries and keys through general matrix products, each of which lays its operands out
//! anew. Here keys and values of a head are laid out once, and the scores of a strip of queries stay in the cache.
//!
//! Shapes: N pictures, L tokens, H heads of width D / H.

use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;

use anyhow::{Result, bail};
use parking_lot::Mutex;
use tch::{Device, Kind, Tensor};

use super::panels::{Head, Panels};
use super::strips::{OnMapped, Scratch, strip_rows};
use super::team::{self, nth};
use super::tile::LANES;

/// What comes out: bf16 `[N, H, L, D / H]`, if values went in, and f32 `[N, L, L]`, if it was asked for.
pub struct Attended {
    pub gathered: Option<Tensor>,
    pub mean_map: Option<Tensor>,
}

static PROCESSOR: LazyLock<bool> = LazyLock::new(|| {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bf16")
        && team::is_available()
});

/// Whether queries such as these can go through [`attention`].
pub fn attention_is_available(q: &Tensor) -> bool {
    let &[_, _, tokens, width] = q.size().as_slice() else { return false };
    q.device() == Device::Cpu
        && q.kind() == Kind::BFloat16
        && tokens > 0
        && width > 0
        && width % LANES as i64 == 0
        && *PROCESSOR
}

/// `softmax(q k^T / sqrt(D / H)) v` of `[N, H, L, D / H]` each, which may be views; there may be fewer or more queries.
///
/// # Errors
/// The tensors differ in shape, or are not what [`attention_is_available`] asks for.
pub fn attention(q: &Tensor, k: &Tensor, v: Option<&Tensor>, with_map: bool) -> Result<Attended> {
    let (n, heads, _, width) = q.size4()?;
    let (_, _, tokens, _) = k.size4()?;
    let fits = |tensor: &Tensor| tensor.size() == [n, heads, tokens, width] && attention_is_available(tensor);
    if !attention_is_available(q) || !fits(k) || !v.is_none_or(fits) {
        bail!("attention of {:?} needs keys and values of that shape, in bf16 on the CPU", q.size());
    }
    let keys = Keys::Views(Heads::of(k)?, v.map(Heads::of).transpose()?);
    attend(q, tokens as usize, &keys, v.is_some(), with_map)
}

/// Keys and values of one picture in the kernel's own layout, for tokens that change one by one.
pub struct LaidOut {
    /// One a head.
    heads: Vec<Panels>,
    tokens: usize,
    width: usize,
}

impl LaidOut {
    /// For `tokens` tokens of `heads` heads `width` wide each, all zero.
    pub fn new(heads: usize, tokens: usize, width: usize) -> LaidOut {
        let panels = (0..heads).map(|_| Panels::new(tokens, width)).collect();
        LaidOut { heads: panels, tokens, width }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|panels| 4 * (panels.k.len() + panels.v.len())).sum()
    }

    /// Puts keys and values, `[1, H, R, D / H]` in bf16, in the places of the tokens `rows`.
    ///
    /// # Errors
    /// The tensors have other sizes, or there is no such token.
    pub fn put(&mut self, rows: &[i64], k: &Tensor, v: &Tensor) -> Result<()> {
        let expected = [1, self.heads.len() as i64, rows.len() as i64, self.width as i64];
        let tokens = 0..self.tokens as i64;
        if rows.is_empty() || !rows.iter().all(|row| tokens.contains(row)) {
            bail!("keys of {} tokens do not go into {}", rows.len(), self.tokens);
        }
        if ![k, v].iter().all(|tensor| tensor.size() == expected && attention_is_available(tensor)) {
            bail!("keys of size {:?} do not go into places of size {expected:?}", k.size());
        }
        let (k, v) = (Heads::of(k)?, Heads::of(v)?);
        let heads: Vec<Mutex<&mut Panels>> = self.heads.iter_mut().map(Mutex::new).collect();
        let next = AtomicUsize::new(0);
        team::run(&|| {
            while let Some((head, panels)) = nth(&heads, &next) {
                let (panels, k, v) = (&mut *panels.lock(), k.head(0, head), v.head(0, head));
                if rows.len() == panels.tokens && rows.is_sorted() {
                    panels.pack(k, Some(v));
                    continue;
                }
                for (index, &row) in rows.iter().enumerate() {
                    panels.put_key(row as usize, k.row(index));
                    panels.put_value(row as usize, v.row(index));
                }
            }
        })
    }

    /// Attention of other queries, `[1, H, R, D / H]`, with these keys and values: `[1, H, R, D / H]` and `[1, R, L]`.
    ///
    /// # Errors
    /// The queries are not what [`attention_is_available`] asks for, or of other heads.
    pub fn attend(&self, q: &Tensor, with_map: bool) -> Result<Attended> {
        let (n, heads, _, width) = q.size4()?;
        if !attention_is_available(q) || (n, heads, width) != (1, self.heads.len() as i64, self.width as i64)
        {
            bail!(
                "queries of size {:?} do not go with {} heads of {}",
                q.size(),
                self.heads.len(),
                self.width
            );
        }
        attend(q, self.tokens, &Keys::LaidOut(self), true, with_map)
    }
}

enum Keys<'a> {
    /// To be laid out by each task for itself.
    Views(Heads<'a>, Option<Heads<'a>>),
    LaidOut(&'a LaidOut),
}

fn attend(q: &Tensor, tokens: usize, keys: &Keys, with_values: bool, with_map: bool) -> Result<Attended> {
    let (n, heads, queries, width) = q.size4()?;
    let q_heads = Heads::of(q)?;
    // Token by token, as the output projection wants it.
    let gathered = match with_values {
        false => None,
        true => Some(Tensor::f_empty([n, queries, heads, width], (Kind::BFloat16, Device::Cpu))?),
    };
    let mean_map = match with_map {
        false => None,
        true => Some(Tensor::f_zeros([n, queries, tokens as i64], (Kind::Float, Device::Cpu))?),
    };
    let out = Out {
        gathered: gathered.as_ref().map(|tensor| tensor.data_ptr().cast()),
        map: mean_map.as_ref().map(|tensor| tensor.data_ptr().cast()),
    };
    let [n, heads, queries, width] = [n, heads, queries, width].map(|side| side as usize);
    // Where each task has to lay the keys out first, few rows are not worth it.
    let least_rows = if matches!(keys, Keys::LaidOut(_)) { 12 } else { 48 };
    let tasks = Tasks::split(n, heads, queries, with_map, least_rows);
    let next = AtomicUsize::new(0);
    team::run(&|| {
        let out = &out;
        let mut scratch = Scratch::new(tokens, width);
        let mut own = matches!(keys, Keys::Views(..)).then(|| Panels::new(tokens, width));
        while let Some((_, task)) = nth(&tasks.0, &next) {
            for head in task.heads.clone() {
                let panels = match (keys, &mut own) {
                    (Keys::LaidOut(laid_out), _) => &laid_out.heads[head],
                    (Keys::Views(k, v), Some(own)) => {
                        own.pack(k.head(task.picture, head), v.as_ref().map(|v| v.head(task.picture, head)));
                        &*own
                    }
                    (Keys::Views(..), None) => continue, // made above
                };
                let mut gathered = |row: usize, numbers: &[u16]| {
                    let Some(target) = out.gathered else { return };
                    let at = ((task.picture * queries + row) * heads + head) * width;
                    // SAFETY: the tensor is `[n, queries, heads, width]`, and each of its rows belongs to one task.
                    unsafe { std::slice::from_raw_parts_mut(target.add(at), width) }.copy_from_slice(numbers);
                };
                let share = (heads as f32).recip();
                let mut mapped = |row: usize, exponentials: &[f32], sum: f32| {
                    let Some(target) = out.map else { return };
                    let at = (task.picture * queries + row) * tokens;
                    // SAFETY: the tensor is `[n, queries, tokens]`, and each of its rows belongs to one task.
                    let target = unsafe { std::slice::from_raw_parts_mut(target.add(at), tokens) };
                    let factor = share / sum;
                    target.iter_mut().zip(exponentials).for_each(|(target, value)| *target += factor * value);
                };
                let mapped: Option<OnMapped> = if out.map.is_some() { Some(&mut mapped) } else { None };
                let rows = task.rows.clone();
                let q = q_heads.head(task.picture, head);
                // SAFETY: the processor has the instructions, which `attention_is_available` asked.
                unsafe { scratch.attend(q, rows, panels, out.gathered.is_some(), &mut gathered, mapped) };
            }
        }
    })?;
    let gathered = gathered.map(|gathered| gathered.f_transpose(1, 2)).transpose()?;
    Ok(Attended { gathered, mean_map })
}

/// Where the tasks write, each its own rows.
struct Out {
    gathered: Option<*mut u16>,
    map: Option<*mut f32>,
}

// SAFETY: the threads that share it write to different rows, and the tensors outlive the threads.
unsafe impl Sync for Out {}

struct Task {
    picture: usize,
    heads: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

struct Tasks(Vec<Task>);

impl Tasks {
    /// A head of a picture each, or, for a map, which sums over the heads, some rows of all heads; in smaller parts, but
    /// not below `least_rows`, where there are many threads.
    fn split(n: usize, heads: usize, tokens: usize, with_map: bool, least_rows: usize) -> Tasks {
        let wanted = 4 * tch::get_num_threads().max(1) as usize;
        let per_task = if with_map { heads } else { 1 };
        let whole = n * heads / per_task;
        let parts = wanted.div_ceil(whole).min(tokens.div_ceil(least_rows));
        let rows = tokens.div_ceil(parts).next_multiple_of(strip_rows());
        let mut tasks = Vec::new();
        for picture in 0..n {
            for head in (0..heads).step_by(per_task) {
                for first in (0..tokens).step_by(rows) {
                    let rows = first..tokens.min(first + rows);
                    tasks.push(Task { picture, heads: head..head + per_task, rows });
                }
            }
        }
        Tasks(tasks)
    }
}

/// The numbers of a bf16 tensor `[N, H, L, D / H]`.
struct Heads<'a> {
    data: &'a [u16],
    strides: [usize; 3],
    width: usize,
}

impl Heads<'_> {
    fn of(tensor: &Tensor) -> Result<Heads<'_>> {
        let (sizes, strides) = (tensor.size(), tensor.stride());
        let (&[n, h, l, width], &[of_n, of_h, of_l, 1]) = (sizes.as_slice(), strides.as_slice()) else {
            bail!("attention of a tensor with strides {strides:?}");
        };
        if [of_n, of_h, of_l].iter().any(|&stride| stride < 0) {
            bail!("attention of a tensor with strides {strides:?}");
        }
        let length = (n - 1) * of_n + (h - 1) * of_h + (l - 1) * of_l + width;
        // SAFETY: the tensor is bf16 on the CPU, as checked before; sizes and strides say how far its numbers reach from
        // the first. Nobody writes to it while it is borrowed.
        let data = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u16>(), length as usize) };
        let strides = [of_n, of_h, of_l].map(|stride| stride as usize);
        Ok(Heads { data, strides, width: width as usize })
    }

    fn head(&self, picture: usize, head: usize) -> Head<'_> {
        let [of_n, of_h, of_l] = self.strides;
        Head { data: &self.data[picture * of_n + head * of_h..], stride: of_l, width: self.width }
    }
}
