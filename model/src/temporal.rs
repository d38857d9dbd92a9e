// SPDX-License-Identifier: MIT OR Apache-2.0
//! Steadier masks over the frames of one stream: a moving average of the cosines, patch by patch.
//!
//! `mean(t) = a * mean(t - 1) + (1 - a) * cosines(t)` with `a = smoothing * exp(-change / CHANGE)`: a patch whose
//! pixels stay keeps its past, one whose pixels change follows at once. At a cut nearly all patches change and the
//! past is forgotten as a whole, as it is when the queries or the size of the picture change.
//!
//! The past belongs to a stream and not to the model: every request of a stream carries the same [`Memory`].
//! Several frames of one stream in one batch are averaged in the order of the batch, and a memory changes only once
//! the whole batch has gone well, so that a batch that is tried again starts from the same past.

use std::sync::{Arc, Weak};

use anyhow::Result;
use parking_lot::Mutex;
use tch::{Kind, Tensor};

use super::look::Look;
use super::{Request, Vocabulary};

/// Mean difference of the normalised pixels of a patch at which a third (1/e) of the past is kept: about 14 of 255
/// grey levels. The noise of a camera (1 to 3 levels) keeps 80 % and more.
const CHANGE: f64 = 0.2;
/// When less of the past than this would be kept on average, it is a cut.
const CUT: f64 = 0.15;

/// How a request takes part in its stream's average.
#[derive(Clone, Debug, Default)]
pub struct Temporal {
    /// Share of the past in a patch that does not change, 0..1; 0 turns the average off.
    pub smoothing: f64,
    /// The stream's; `None` has no past.
    pub memory: Option<Arc<Memory>>,
}

impl PartialEq for Temporal {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.memory, &other.memory) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        same && self.smoothing == other.smoothing
    }
}

/// What a stream's frames leave behind for the next. A new one is empty.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<Past>>);

#[derive(Debug)]
struct Past {
    /// `[1, 3, H, W]`, the normalised picture.
    input: Tensor,
    /// The averaged cosines, as [`PatchLogits::patches`](super::decode::PatchLogits) gives them.
    mean: Tensor,
    /// The queries that the cosines are of.
    vocabulary: Weak<Vocabulary>,
}

impl Past {
    fn copy(&self) -> Past {
        Past {
            input: self.input.shallow_clone(),
            mean: self.mean.shallow_clone(),
            vocabulary: self.vocabulary.clone(),
        }
    }

    /// Whether the cosines of a look may be averaged with these.
    fn fits(&self, look: &Look, vocabulary: &Arc<Vocabulary>) -> bool {
        std::ptr::eq(self.vocabulary.as_ptr(), Arc::as_ptr(vocabulary))
            && self.input.size() == look.input.size()
            && self.input.device() == look.input.device()
            && self.mean.size() == look.logits.patches().size()
    }
}

/// What the memories of a batch's streams will be once it has gone well.
#[derive(Default)]
pub struct Pending(Vec<(Arc<Memory>, Past)>);

impl Pending {
    /// Averages the looks of a batch, in its order, with those before them in their streams.
    pub fn smooth(looks: &mut [Look], requests: &[Request]) -> Result<Pending> {
        let mut pending = Pending::default();
        for (look, request) in looks.iter_mut().zip(requests) {
            let temporal = &request.options.temporal;
            let Some(memory) = temporal.memory.as_ref().filter(|_| temporal.smoothing > 0.0) else {
                continue;
            };
            if let Some(past) = pending.past(memory).filter(|past| past.fits(look, &request.vocabulary)) {
                look.logits = look.logits.with_patches(mean(&past, look, temporal.smoothing)?);
            }
            let past = Past {
                // A copy: the batch's tensor must not live on for the sake of one of its pictures.
                input: look.input.f_detach_copy()?,
                mean: look.logits.patches().f_detach_copy()?,
                vocabulary: Arc::downgrade(&request.vocabulary),
            };
            pending.0.retain(|(of, _)| !Arc::ptr_eq(of, memory));
            pending.0.push((memory.clone(), past));
        }
        Ok(pending)
    }

    /// What the stream's newest frame left: in this batch, or before.
    fn past(&self, memory: &Arc<Memory>) -> Option<Past> {
        let here = self.0.iter().find(|(of, _)| Arc::ptr_eq(of, memory)).map(|(_, past)| past.copy());
        here.or_else(|| memory.0.lock().as_ref().map(Past::copy))
    }

    pub fn commit(self) {
        for (memory, past) in self.0 {
            *memory.0.lock() = Some(past);
        }
    }
}

/// The new mean; at a cut, what is seen now. It is decided where the pictures are: the host does not wait for a GPU.
fn mean(past: &Past, look: &Look, smoothing: f64) -> Result<Tensor> {
    let change = look.input.f_sub(&past.input)?.f_abs()?.f_mean_dim([1i64].as_slice(), true, Kind::Float)?;
    let kept = look.logits.per_patch(&change)?.f_mul_scalar(-1.0 / CHANGE)?.f_exp()?;
    let is_cut = kept.f_mean(Kind::Float)?.f_lt(CUT)?; // []
    let now = look.logits.patches().f_to_kind(Kind::Float)?;
    let before = past.mean.f_to_kind(Kind::Float)?;
    // now + a (before - now)
    let mean = before.f_sub(&now)?.f_mul(&kept.f_mul_scalar(smoothing)?)?.f_add(&now)?;
    Ok(now.f_where_self(&is_cut, &mean)?)
}

#[cfg(test)]
mod tests;
