// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a stream's helper looks: what it saw stands for the frames after, until it looks again.
//!
//! What belongs together changes more slowly than what there is, so a helper may look at every nth frame only, while CLIP looks
//! at all of them. A picture that has changed much as a whole (a cut) is looked at whatever its turn.

use std::sync::Arc;

use anyhow::Result;
use parking_lot::Mutex;
use tch::{Kind, Tensor};

/// Rows and columns of the thumbnail by which a cut is known.
const THUMBNAIL: [i64; 2] = [6, 8];
/// Mean difference of normalised thumbnails at a cut: about 24 of 255 grey levels.
const CUT: f64 = 0.35;

/// How a request's helper is asked.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Every nth frame of the stream.
    pub interval: u32,
    /// The stream's; `None`: each picture is looked at.
    pub memory: Option<Arc<Memory>>,
}

impl Default for Rate {
    fn default() -> Self {
        Rate { interval: 1, memory: None }
    }
}

impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.memory, &other.memory) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        same && self.interval == other.interval
    }
}

/// What a stream's frames leave behind for the next, by window. A new one is empty.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Vec<Option<Past>>>);

/// Which past goes with which picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Tells models apart.
    pub model: u64,
    /// Of the picture or the window.
    pub size: Vec<i64>,
    /// Which window it is, of how many.
    pub window: usize,
    pub windows: usize,
}

#[derive(Debug)]
struct Past {
    key: Key,
    /// What the helper saw, `[h' w', C]`.
    seen: Tensor,
    /// `[3, rows, columns]`
    thumbnail: Tensor,
    /// Frames since.
    age: u32,
}

impl Memory {
    /// What the helper saw last, if it is not its turn; `picture` is `[3, H, W]`.
    pub fn recall(&self, key: &Key, picture: &Tensor, interval: u32) -> Result<Option<Tensor>> {
        let mut pasts = self.0.lock();
        let past = pasts.get_mut(key.window).and_then(Option::as_mut);
        let Some(past) = past.filter(|past| past.key == *key && past.age + 1 < interval) else {
            return Ok(None);
        };
        let change = thumbnail(picture)?.f_sub(&past.thumbnail)?.f_abs()?.f_mean(Kind::Float)?;
        if change.f_double_value(&[])? > CUT {
            return Ok(None);
        }
        past.age += 1;
        Ok(Some(past.seen.shallow_clone()))
    }

    /// Keeps what the helper has just seen of `picture`, `[h' w', C]`.
    pub fn keep(&self, key: &Key, picture: &Tensor, seen: &Tensor) -> Result<()> {
        // A copy: a batch must not live on for the sake of one of its pictures.
        let past =
            Past { key: key.clone(), seen: seen.f_detach_copy()?, thumbnail: thumbnail(picture)?, age: 0 };
        let mut pasts = self.0.lock();
        pasts.truncate(key.windows);
        pasts.resize_with(key.windows.max(key.window + 1), || None);
        pasts[key.window] = Some(past);
        Ok(())
    }
}

fn thumbnail(picture: &Tensor) -> Result<Tensor> {
    Ok(picture.f_to_kind(Kind::Float)?.f_adaptive_avg_pool2d(THUMBNAIL)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (Kind, tch::Device) = (Kind::Float, tch::Device::Cpu);

    fn key(window: usize) -> Key {
        Key { model: 1, size: vec![3, 12, 16], window, windows: 2 }
    }

    #[test]
    fn a_look_stands_for_the_frames_until_its_turn() {
        let memory = Memory::default();
        let (picture, seen) = (Tensor::zeros([3, 12, 16], CPU), Tensor::ones([4, 2], CPU));
        let recall = |key: &Key, picture: &Tensor| memory.recall(key, picture, 3).unwrap().is_some();
        assert!(!recall(&key(0), &picture), "nothing has been seen yet");
        memory.keep(&key(0), &picture, &seen).unwrap();
        assert_eq!([(); 3].map(|()| recall(&key(0), &picture)), [true, true, false], "every third frame");
        memory.keep(&key(0), &picture, &seen).unwrap();
        assert!(!recall(&key(1), &picture), "another window");
        assert!(!recall(&Key { model: 2, ..key(0) }, &picture), "another model");
        assert!(!recall(&key(0), &(&picture + 1.0)), "a cut");
        assert!(recall(&key(0), &(&picture + 0.1)), "a cloud");
        assert!(memory.recall(&key(0), &picture, 1).unwrap().is_none(), "every frame");
    }
}
