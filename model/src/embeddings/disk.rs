// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file per model and template set: `<hash>-<templates>.safetensors` in the cache folder.
//!
//! Readers take no lock: a file is only ever replaced whole, by a rename. Writers hold a lock file, read what is
//! there, add their own and replace it, so that nothing another process wrote is lost. A checksum tells a damaged
//! file, which then counts as absent and is replaced by the next write.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use sha2::{Digest, Sha256};

use super::FeatureSet;

const FORMAT: &str = "gclip text features 1";
/// Names one file holds at most; the newest stay.
const NAMES_ON_DISK: usize = 32_768;
/// A lock held longer than this belongs to a process that hangs; features are then kept in memory only.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Everything stored for a set; empty when there is no usable file.
pub fn read(folder: &Path, set: &FeatureSet) -> HashMap<String, Vec<f32>> {
    let (names, features) = read_rows(&path(folder, set), set).unwrap_or_default();
    names.into_iter().zip(features.chunks(set.dim).map(<[f32]>::to_vec)).collect()
}

/// Adds names with their `[names, dim]` features to the file of a set.
pub fn add(folder: &Path, set: &FeatureSet, names: &[String], features: &[f32]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let path = path(folder, set);
    let lock = lock(&path.with_extension("lock"))?;
    let (mut all_names, mut all_features) = read_rows(&path, set).unwrap_or_default();
    let known: HashSet<String> = all_names.iter().cloned().collect();
    for (name, feature) in names.iter().zip(features.chunks(set.dim)) {
        if !known.contains(name) {
            all_names.push(name.clone());
            all_features.extend_from_slice(feature);
        }
    }
    let surplus = all_names.len().saturating_sub(NAMES_ON_DISK);
    let bytes = to_bytes(set, &all_names[surplus..], &all_features[surplus * set.dim..])?;
    // Only the holder of the lock writes this file, so one name is enough and a leftover is overwritten.
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, &path)?;
    drop(lock);
    Ok(())
}

fn path(folder: &Path, set: &FeatureSet) -> PathBuf {
    // The hash is hex; anything else a caller may pass must not become part of a path.
    let model: String = set.model.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    folder.join(format!("{model}-{}.safetensors", set.templates))
}

fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    let give_up = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
            Err(fs::TryLockError::WouldBlock) if Instant::now() > give_up => {
                bail!("another process holds {}", path.display())
            }
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

type Rows = (Vec<String>, Vec<f32>);

fn read_rows(path: &Path, set: &FeatureSet) -> Result<Rows> {
    let bytes = fs::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let header = header.metadata().as_ref().context("no metadata")?;
    let file = SafeTensors::deserialize(&bytes)?;
    let (names, features) = (file.tensor("names")?, file.tensor("features")?);
    let expected = [("format", FORMAT), ("model", &set.model), ("templates", &set.templates)];
    if expected.iter().any(|(key, value)| header.get(*key).is_none_or(|found| found != value)) {
        bail!("made for something else");
    }
    if header.get("sha256") != Some(&checksum(names.data(), features.data())) {
        bail!("damaged");
    }
    let names: Vec<String> = serde_json::from_slice(names.data())?;
    if features.dtype() != Dtype::F32 || features.shape() != [names.len(), set.dim] {
        bail!("of another shape");
    }
    Ok((names, floats(features.data())))
}

fn to_bytes(set: &FeatureSet, names: &[String], features: &[f32]) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(names)?;
    let features: Vec<u8> = features.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header = HashMap::from([
        ("format".to_string(), FORMAT.to_string()),
        ("model".to_string(), set.model.clone()),
        ("templates".to_string(), set.templates.clone()),
        ("sha256".to_string(), checksum(&json, &features)),
    ]);
    let tensors = [
        ("names", TensorView::new(Dtype::U8, vec![json.len()], &json)?),
        ("features", TensorView::new(Dtype::F32, vec![names.len(), set.dim], &features)?),
    ];
    Ok(serialize(tensors, Some(header))?)
}

/// Little-endian f32, as safetensors stores them.
pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn checksum(names: &[u8], features: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update((names.len() as u64).to_le_bytes());
    hash.update(names);
    hash.update(features);
    format!("{:x}", hash.finalize())
}
