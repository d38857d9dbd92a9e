// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files of a repository make a checkpoint.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::listing::{Listing, RemoteFile};

/// Configuration, tokenizer and preprocessor, Hugging Face and open_clip.
const SMALL_FILES: [&str; 9] = [
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
];

/// Weights by preference. A sharded checkpoint is found by its index.
const WEIGHTS: [&str; 3] =
    ["model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors"];

pub fn small_files(listing: &Listing) -> Vec<RemoteFile> {
    SMALL_FILES.iter().filter_map(|name| find(listing, name)).collect()
}

/// The weights to fetch first: one file, or the index of several. `None` when there are none in safetensors.
pub fn weights(listing: &Listing) -> Option<Vec<RemoteFile>> {
    // With both, open_clip's own file goes with open_clip's own configuration.
    let open_clip = find(listing, "config.json").is_none();
    let mut names = WEIGHTS;
    if open_clip {
        names.reverse();
    }
    names.iter().find_map(|name| find(listing, name)).map(|file| vec![file])
}

/// The shards that an index names.
pub fn shards(index: &Path, listing: &Listing) -> Result<Vec<RemoteFile>> {
    let names = shard_names(index)?;
    names
        .iter()
        .map(|name| {
            find(listing, name)
                .with_context(|| format!("the index names {name}, which the hub does not have"))
        })
        .collect()
}

fn shard_names(index: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(index).with_context(|| format!("cannot read {}", index.display()))?;
    let json: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", index.display()))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let names: BTreeSet<String> = map
        .with_context(|| format!("{} has no weight_map", index.display()))?
        .values()
        .filter_map(|name| name.as_str().map(str::to_string))
        .collect();
    if names.is_empty() {
        bail!("{} names no shard", index.display());
    }
    Ok(names)
}

/// Whether a cached snapshot has a configuration and all of its weights.
pub fn is_complete(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    if !has("config.json") && !has("open_clip_config.json") {
        return false;
    }
    if has("model.safetensors") || has("open_clip_model.safetensors") {
        return true;
    }
    shard_names(&folder.join("model.safetensors.index.json"))
        .is_ok_and(|names| names.iter().all(|name| has(name)))
}

fn find(listing: &Listing, name: &str) -> Option<RemoteFile> {
    listing.files.iter().find(|file| file.name == name).cloned()
}
