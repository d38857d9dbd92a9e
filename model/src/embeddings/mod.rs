// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text features computed once: a cache in memory and on disk, and files of embeddings that a user makes.
//!
//! A feature depends on the weights, the templates and the name, and that is its key. Looking one up goes from
//! memory (shared in the process, least recently used out first) to the file of that model and template set
//! (shared between processes) to the text encoder. A file that is damaged, or that cannot be read or written, is as
//! good as none: the cache then works in memory and says so once.

mod disk;
mod file;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail};
use lru::LruCache;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

use super::vocabulary::{Templates, name_features};
pub(super) use disk::floats;
pub use file::Embeddings;
pub(super) use file::write_whole;

/// Names kept in memory: 64 MiB of features 512 wide.
const NAMES_IN_MEMORY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(32_767);

static SHARED: Lazy<EmbeddingCache> = Lazy::new(|| EmbeddingCache::new(default_folder().as_deref()));

/// Which features are meant: those of one text tower in one set of templates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FeatureSet {
    /// The weights' hash, as in [`super::ModelInfo::hash`].
    model: String,
    /// [`Templates::id`].
    templates: String,
    dim: usize,
}

/// How many names were found where, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    pub memory_hits: u64,
    pub disk_hits: u64,
    /// Names that had to be encoded (each in every template).
    pub misses: u64,
}

type Memory = LruCache<(Arc<FeatureSet>, String), Arc<[f32]>>;

pub struct EmbeddingCache {
    folder: Option<PathBuf>,
    memory: Mutex<Memory>,
    /// One lock per set, held while its missing names are read or encoded, so that two callers who miss the same
    /// name encode it once. Never taken under `memory`.
    sets: Mutex<HashMap<FeatureSet, Arc<SetLock>>>,
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
    warning: Mutex<Warning>,
}

struct SetLock {
    set: Arc<FeatureSet>,
    filling: Mutex<()>,
}

/// The first thing that went wrong with the disk is told once.
enum Warning {
    NoneYet,
    Waiting(String),
    Told,
}

impl EmbeddingCache {
    /// The cache of this process, with its files in `$XDG_CACHE_HOME/gclip` (or `~/.cache/gclip`).
    pub fn shared() -> &'static EmbeddingCache {
        &SHARED
    }

    /// A cache of its own; without a folder it works in memory alone.
    pub fn new(folder: Option<&Path>) -> EmbeddingCache {
        EmbeddingCache {
            folder: folder.map(Path::to_path_buf),
            memory: Mutex::new(LruCache::new(NAMES_IN_MEMORY)),
            sets: Mutex::new(HashMap::new()),
            memory_hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            warning: Mutex::new(Warning::NoneYet),
        }
    }

    /// Features of `names`, `[names, dim]` row-major, each row of unit length; `encode` sees only texts of names
    /// that neither memory nor disk has. `model` is the hash of the weights that `encode` runs on.
    ///
    /// May block on the disk and on another thread that encodes the same set; no lock of this cache but that
    /// set's is held while `encode` runs.
    pub fn features(
        &self,
        model: &str,
        templates: &Templates,
        dim: usize,
        names: &[String],
        encode: &mut dyn FnMut(&[String]) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        if dim == 0 {
            bail!("text features of width 0");
        }
        let lock = self.set(model, templates, dim);
        let mut found: Vec<Option<Arc<[f32]>>> = vec![None; names.len()];
        self.look_up(&lock.set, names, &mut found);
        if found.iter().any(Option::is_none) {
            let _filling = lock.filling.lock();
            self.fill(&lock.set, templates, names, &mut found, encode)?;
        }
        let mut features = Vec::with_capacity(names.len() * dim);
        for (name, row) in names.iter().zip(&found) {
            let Some(row) = row else { bail!("no feature for \"{name}\"") };
            features.extend_from_slice(row);
        }
        Ok(features)
    }

    pub fn counters(&self) -> CacheCounters {
        CacheCounters {
            memory_hits: self.memory_hits.load(Ordering::Relaxed),
            disk_hits: self.disk_hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// Why the disk is not used, one sentence, the first time this is asked after it happened.
    pub fn take_warning(&self) -> Option<String> {
        let mut warning = self.warning.lock();
        match std::mem::replace(&mut *warning, Warning::Told) {
            Warning::Waiting(sentence) => Some(sentence),
            Warning::NoneYet => {
                *warning = Warning::NoneYet;
                None
            }
            Warning::Told => None,
        }
    }

    fn set(&self, model: &str, templates: &Templates, dim: usize) -> Arc<SetLock> {
        let set = FeatureSet { model: model.to_string(), templates: templates.id(), dim };
        let mut sets = self.sets.lock();
        let lock = sets
            .entry(set.clone())
            .or_insert_with(|| Arc::new(SetLock { set: Arc::new(set), filling: Mutex::new(()) }));
        Arc::clone(lock)
    }

    fn look_up(&self, set: &Arc<FeatureSet>, names: &[String], found: &mut [Option<Arc<[f32]>>]) {
        let mut memory = self.memory.lock();
        let mut hits = 0;
        for (name, place) in names.iter().zip(found).filter(|(_, place)| place.is_none()) {
            *place = memory.get(&(Arc::clone(set), name.clone())).cloned();
            hits += u64::from(place.is_some());
        }
        self.memory_hits.fetch_add(hits, Ordering::Relaxed);
    }

    fn remember(&self, set: &Arc<FeatureSet>, name: String, feature: Arc<[f32]>) {
        self.memory.lock().put((Arc::clone(set), name), feature);
    }

    /// What memory lacks: from the file, and what that lacks from the encoder.
    fn fill(
        &self,
        set: &Arc<FeatureSet>,
        templates: &Templates,
        names: &[String],
        found: &mut [Option<Arc<[f32]>>],
        encode: &mut dyn FnMut(&[String]) -> Result<Vec<f32>>,
    ) -> Result<()> {
        // Another caller may have filled them while this one waited.
        self.look_up(set, names, found);
        if found.iter().any(Option::is_none)
            && let Some(folder) = &self.folder
        {
            let mut stored = disk::read(folder, set);
            for (name, place) in names.iter().zip(&mut *found).filter(|(_, place)| place.is_none()) {
                if let Some(feature) = stored.remove(name) {
                    let feature: Arc<[f32]> = feature.into();
                    self.remember(set, name.clone(), Arc::clone(&feature));
                    self.disk_hits.fetch_add(1, Ordering::Relaxed);
                    *place = Some(feature);
                }
            }
        }
        let missing: Vec<usize> = (0..names.len()).filter(|&index| found[index].is_none()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = missing.iter().map(|&index| names[index].clone()).collect();
        let features = name_features(&texts, templates, set.dim, encode)?;
        self.misses.fetch_add(texts.len() as u64, Ordering::Relaxed);
        for (&index, feature) in missing.iter().zip(features.chunks(set.dim)) {
            let feature: Arc<[f32]> = feature.into();
            self.remember(set, names[index].clone(), Arc::clone(&feature));
            found[index] = Some(feature);
        }
        if let Some(folder) = &self.folder
            && let Err(error) = disk::add(folder, set, &texts, &features)
        {
            self.warn(format!("text embeddings are not kept in {}: {error:#}", folder.display()));
        }
        Ok(())
    }

    fn warn(&self, sentence: String) {
        let mut warning = self.warning.lock();
        if matches!(*warning, Warning::NoneYet) {
            *warning = Warning::Waiting(sentence);
        }
    }
}

/// `$XDG_CACHE_HOME/gclip`, else `~/.cache/gclip`. The XDG specification asks to ignore relative paths.
fn default_folder() -> Option<PathBuf> {
    let absolute = |variable| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("gclip"))
}
