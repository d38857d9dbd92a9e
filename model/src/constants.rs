// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small constant tensors on a GPU, kept: to bring one there, libtorch waits for everything before it.

use std::cell::RefCell;
use std::num::NonZeroUsize;

use anyhow::Result;
use lru::LruCache;
use tch::{Device, Tensor};

/// Those of a few formats, matrices and checkpoints at once.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

type Key = (usize, Vec<u32>);

thread_local! {
    /// Each thread's own, as tensors belong to threads. Models run on one thread each.
    static CONSTANTS: RefCell<LruCache<Key, Tensor>> = RefCell::new(LruCache::new(KEPT));
}

/// `[values]` f32 on `device`.
pub fn constant(values: &[f32], device: Device) -> Result<Tensor> {
    let Device::Cuda(index) = device else {
        return Ok(Tensor::f_from_slice(values)?);
    };
    let key = (index, values.iter().map(|value| value.to_bits()).collect());
    CONSTANTS.with_borrow_mut(|constants| {
        if let Some(known) = constants.get(&key) {
            return Ok(known.shallow_clone());
        }
        let made = Tensor::f_from_slice(values)?.f_to_device(device)?;
        constants.put(key, made.shallow_clone());
        Ok(made)
    })
}
