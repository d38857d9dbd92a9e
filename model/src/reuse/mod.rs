// SPDX-License-Identifier: MIT OR Apache-2.0
//! Token reuse over the frames of one stream: the tower works only on the tokens that have changed.
//!
//! For each block: a token is worked on when its input differs from the one that it was last worked on with (its
//! *reference*) by more than a share of the reference's length, `|x - reference| > threshold |reference|`. For these rows
//! only: norm, queries, keys and values; their rows of the attention, against all keys and values, old and new; the output
//! projection and the MLP. All other tokens keep what the block last gave. A block looks only at tokens that the block
//! before worked on: no other input can have changed. The attention maps that methods want are updated by rows too.
//! (Eventful Transformers, Dutson et al., ICCV 2023, arXiv 2308.13494, is the nearest of the published ways.)
//!
//! The whole picture is worked on when it is the stream's first, when more than a share of its patches has changed (a cut,
//! or a camera that moves), when the last such look is longer ago than [`Reuse::refresh`], so that no error lives long, and
//! when the model, the size, the windows, the threshold or the prompts are others. Where look after look has changed as a
//! whole, nothing is compared or kept for more and more looks, so that reuse costs nothing there.
//!
//! What a picture leaves behind belongs to its stream and not to the model: every request of a stream carries the same
//! [`Memory`]. The changed rows of all streams in a batch go through each product together. Frames of one stream in one
//! batch go one after the other, each compared with the one before it. A batch that fails forgets what its streams had.

mod keys;
mod pass;
mod rows;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Vocabulary, Window};
pub use pass::{Changes, Seen, State, features, pass};

/// Share of the patches above which all are worked on. Then half of the work would be spared at most, and the patches that
/// are kept have little around them that they were computed with.
pub const CUT: f64 = 0.5;
/// Most looks in a row for which nothing is compared or kept, where everything changes from look to look.
const LONGEST_REST: u32 = 15;

/// How a request takes part in its stream's reuse.
#[derive(Clone, Debug)]
pub struct Reuse {
    /// Share of a token's length that it must differ by to be worked on again; 0 turns reuse off.
    pub threshold: f64,
    /// Longest time between looks at the whole picture.
    pub refresh: Duration,
    /// When the frame is shown; `None` takes the time at which it is looked at.
    pub at: Option<Duration>,
    /// The stream's; `None` has no past.
    pub memory: Option<Arc<Memory>>,
}

impl Default for Reuse {
    fn default() -> Reuse {
        Reuse { threshold: 0.0, refresh: Duration::from_secs(10), at: None, memory: None }
    }
}

/// Whether two requests are looked at in the same way; their times do not matter.
impl PartialEq for Reuse {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.memory, &other.memory) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        same && self.threshold == other.threshold && self.refresh == other.refresh
    }
}

/// What has been looked at, since the memory was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Looks at pictures, or at windows of them, in which every token was worked on.
    pub whole: u64,
    /// Looks in which some were.
    pub partial: u64,
    /// Tokens worked on, summed over the blocks, in all looks.
    pub worked: u64,
    /// Tokens there were, summed likewise.
    pub tokens: u64,
    /// Bytes that the stream's pictures hold now.
    pub bytes: u64,
}

impl Counts {
    /// Share of the tokens that were worked on; 1 before the first look.
    pub fn share(&self) -> f64 {
        if self.tokens == 0 { 1.0 } else { self.worked as f64 / self.tokens as f64 }
    }
}

/// What a stream's frames leave behind for the next. A new one is empty.
#[derive(Default)]
pub struct Memory {
    inner: Mutex<Inner>,
    /// Of all memories that the stream has had.
    counts: Arc<Mutex<Counts>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Inner {
    /// By window; a picture that is looked at as a whole is its own only one.
    pasts: Vec<Option<Past>>,
    /// Looks in a row that were cuts, and how many more looks rest for that.
    cuts: u32,
    rest: u32,
}

/// A picture as it was last looked at.
pub struct Past {
    pub state: State,
    key: Key,
    /// When all of it was last looked at.
    whole: Moment,
}

/// What must be the same for a picture's past to be of use.
#[derive(Clone)]
pub struct Key {
    /// A number of the model's own.
    pub model: u64,
    /// `[3, H, W]` of what the tower sees.
    pub size: Vec<i64>,
    pub windows: Option<(Window, usize)>,
    pub threshold: f64,
    pub vocabulary: Weak<Vocabulary>,
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.model == other.model
            && self.size == other.size
            && self.windows == other.windows
            && self.threshold == other.threshold
            && Weak::ptr_eq(&self.vocabulary, &other.vocabulary)
    }
}

/// A time by the frames' clock, or by the machine's where they have none.
#[derive(Clone, Copy)]
enum Moment {
    Shown(Duration),
    Looked(Instant),
}

impl Moment {
    fn of(reuse: &Reuse) -> Moment {
        reuse.at.map_or_else(|| Moment::Looked(Instant::now()), Moment::Shown)
    }

    /// Time since `earlier`; `None` if the clock is another or has gone back.
    fn since(self, earlier: Moment) -> Option<Duration> {
        match (self, earlier) {
            (Moment::Shown(now), Moment::Shown(earlier)) => now.checked_sub(earlier),
            (Moment::Looked(now), Moment::Looked(earlier)) => now.checked_duration_since(earlier),
            _ => None,
        }
    }
}

impl Memory {
    pub fn counts(&self) -> Counts {
        let bytes = self.inner.lock().pasts.iter().flatten().map(|past| past.state.bytes() as u64).sum();
        Counts { bytes, ..*self.counts.lock() }
    }

    /// An empty one for the same stream, whose frames to come have nothing to do with those before; it counts on.
    pub fn successor(&self) -> Memory {
        Memory { inner: Mutex::default(), counts: self.counts.clone() }
    }

    /// Lets go of what the stream's frames have left; the counts stay.
    pub fn forget(&self) {
        let pasts = std::mem::take(&mut self.inner.lock().pasts);
        drop(pasts);
    }

    /// Whether the next look is not worth comparing, as all before it changed as a whole.
    pub fn rests(&self) -> bool {
        let inner = &mut *self.inner.lock();
        let rests = inner.rest > 0;
        inner.rest = inner.rest.saturating_sub(1);
        rests
    }

    /// Takes what a window left, if it is of use still.
    pub fn take(&self, window: usize, key: &Key, reuse: &Reuse) -> Option<Past> {
        let past = self.inner.lock().pasts.get_mut(window)?.take()?;
        let age = Moment::of(reuse).since(past.whole)?;
        (past.key == *key && age < reuse.refresh).then_some(past)
    }

    /// Keeps what a window leaves, after a look at the whole or at parts of it; `past` is the one that was taken before.
    pub fn keep(&self, window: usize, reuse: &Reuse, look: Looked) {
        let Looked { state, key, since, worked, tokens, whole } = look;
        let inner = &mut *self.inner.lock();
        let cut = whole && since.is_some();
        if inner.pasts.len() <= window {
            inner.pasts.resize_with(window + 1, || None);
        }
        self.count(whole, worked, tokens);
        inner.cuts = if cut { inner.cuts + 1 } else { inner.cuts * u32::from(since.is_none()) };
        // One cut is a cut; after two the camera moves.
        inner.rest = if cut { ((1 << inner.cuts.min(5)) / 4).min(LONGEST_REST) } else { 0 };
        let since = since.filter(|_| !whole).unwrap_or_else(|| Since(Moment::of(reuse)));
        if let Some(place) = inner.pasts.get_mut(window) {
            *place = (inner.rest == 0).then_some(Past { state, key, whole: since.0 });
        }
    }

    /// Counts a look at the whole of a picture for which nothing was compared or kept.
    pub fn count_whole(&self, tokens: u64) {
        self.count(true, tokens, tokens);
    }

    fn count(&self, whole: bool, worked: u64, tokens: u64) {
        let mut counts = self.counts.lock();
        match whole {
            true => counts.whole += 1,
            false => counts.partial += 1,
        }
        counts.worked += worked;
        counts.tokens += tokens;
    }
}

/// When a picture was last looked at as a whole.
pub struct Since(Moment);

impl Past {
    /// Its state, and since when it has been changed in parts only.
    pub fn open(self) -> (State, Since) {
        (self.state, Since(self.whole))
    }
}

/// One look at a picture, to be kept.
pub struct Looked {
    pub state: State,
    pub key: Key,
    /// Of the past that it was compared with, if there was one.
    pub since: Option<Since>,
    /// Tokens worked on and there, summed over the blocks.
    pub worked: u64,
    pub tokens: u64,
    pub whole: bool,
}
