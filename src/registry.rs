// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instance id -> the one shared value under that id, alive while anyone uses it.
//!
//! Lock order: the map of ids -> the entry of one id. The map is locked only to find an entry, never while a
//! value loads; an entry is locked while its value loads, so two askers of one id load once and askers of other
//! ids do not notice.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use anyhow::{Result, bail};
use parking_lot::Mutex;

/// What a value is made from.
pub trait Spec: Clone + PartialEq {
    /// What differs between the two, for an error message: `method: gclip vs clip`, this one's side first.
    fn difference(&self, other: &Self) -> String;
}

/// One id's value, as long as somebody holds it.
struct Entry<S, V> {
    spec: S,
    owner: String,
    value: Weak<V>,
}

/// `None` before the first load and after a failed one.
type Slot<S, V> = Arc<Mutex<Option<Entry<S, V>>>>;

/// Values of type `V`, each made from a spec of type `S` and shared under an id.
/// Each id has its own lock: loading one model does not block another.
pub struct Registry<S, V> {
    slots: Mutex<BTreeMap<String, Slot<S, V>>>,
}

impl<S: Spec, V> Default for Registry<S, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Spec, V> Registry<S, V> {
    pub const fn new() -> Self {
        Registry { slots: Mutex::new(BTreeMap::new()) }
    }

    /// The value under `id`, made by `load` if nobody holds one. `owner` is the asking element's name; a live
    /// value made from another spec is an error that names both owners and what differs.
    ///
    /// Blocks while somebody else loads the value of this id. `load` must not ask for the same id.
    ///
    /// # Errors
    /// Another spec under the same id; or what `load` says, and then the id is as free as before.
    pub fn get_or_load(
        &self,
        id: &str,
        spec: &S,
        owner: &str,
        load: impl FnOnce() -> Result<V>,
    ) -> Result<Arc<V>> {
        let slot = self.slot(id);
        let mut entry = slot.lock();
        if let Some(entry) = entry.as_ref()
            && let Some(value) = entry.value.upgrade()
        {
            if entry.spec != *spec {
                bail!(
                    "{owner} and {} share the model instance \"{id}\" but ask for different models \
                     ({}); give them the same settings or different ids",
                    entry.owner,
                    spec.difference(&entry.spec)
                );
            }
            return Ok(value);
        }
        *entry = None;
        let value = Arc::new(load()?);
        *entry = Some(Entry { spec: spec.clone(), owner: owner.to_owned(), value: Arc::downgrade(&value) });
        Ok(value)
    }

    /// Says that the value under `id` is now one of another spec: who asks next has to ask for that. Nothing happens
    /// if another value has come under the id.
    pub fn respecify(&self, id: &str, value: &V, spec: &S) {
        let slot = self.slot(id);
        let mut entry = slot.lock();
        if let Some(entry) = entry.as_mut()
            && std::ptr::eq(entry.value.as_ptr(), value)
        {
            entry.spec = spec.clone();
        }
    }

    fn slot(&self, id: &str) -> Slot<S, V> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(id) {
            return slot.clone();
        }
        // Forgets ids that nobody uses, so that ids that come and go for months leave nothing behind. A count
        // of one means that nobody loads, and under the map's lock nobody can begin to.
        slots.retain(|_, slot| {
            Arc::strong_count(slot) > 1
                || slot.lock().as_ref().is_some_and(|entry| entry.value.strong_count() > 0)
        });
        slots.entry(id.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests;
