// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip pull`: fetches a checkpoint from the Hugging Face hub into the local cache, checked and resumable.

mod fetch;
mod hub;
mod listing;
mod plan;
mod verify;

use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::HumanBytes;

use crate::progress;
use crate::say::say;
use fetch::Fetcher;
use hub::Hub;
use listing::{Listing, RemoteFile};

/// Environment: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME, HF_HUB_CACHE, as in huggingface_hub.
#[derive(clap::Args)]
pub struct Args {
    /// Model id, such as openai/clip-vit-base-patch16.
    id: String,
    /// Branch, tag or commit.
    #[arg(long, default_value = "main")]
    revision: String,
    /// Tries without progress before a file is given up.
    #[arg(long, default_value_t = 5)]
    retries: u32,
}

pub fn run(args: &Args) -> Result<()> {
    hub::check_id(&args.id)?;
    let hub = Hub::from_env(&args.id, &args.revision)?;
    if hub.offline {
        let folder = hub.cached_snapshot()?;
        say!("{} is in the cache: {}", args.id, folder.display());
        return Ok(());
    }
    let listing = hub.listing()?;
    let mut files = plan::small_files(&listing);
    let fetcher = Fetcher::new(&hub, args.retries)?;

    // The weights' index names the shards, so it comes before them.
    let (weights, source) = match plan::weights(&listing) {
        Some(weights) => (weights, None),
        None => {
            let converted = hub.converted_listing()?;
            let weights = converted.as_ref().and_then(plan::weights);
            (weights.with_context(|| no_weights(&args.id, &listing))?, converted)
        }
    };
    let mut shards = Vec::new();
    let weight_listing = source.as_ref().unwrap_or(&listing);
    for file in weights {
        let path = get(&fetcher, &listing, weight_listing, &file)?;
        if file.name.ends_with(".index.json") {
            shards = plan::shards(&path, weight_listing)?;
        }
    }
    for file in &shards {
        get(&fetcher, &listing, weight_listing, file)?;
    }
    files.retain(|file| !shards.contains(file));
    for file in &files {
        get(&fetcher, &listing, &listing, file)?;
    }
    hub.write_reference(&listing)?;
    say!("{} is in {}", args.id, hub.snapshot(&listing.commit).display());
    say!("use it with: --model {}", args.id);
    Ok(())
}

/// One file of `from`, linked into the snapshot of `listing`, with a progress bar.
fn get(fetcher: &Fetcher, listing: &Listing, from: &Listing, file: &RemoteFile) -> Result<PathBuf> {
    let bar = progress::bytes(&file.name, file.size.unwrap_or(0))?;
    let outcome = fetcher.get(listing, from, file, &bar);
    bar.finish_and_clear();
    let (path, fresh) = outcome.with_context(|| format!("cannot fetch {}", file.name))?;
    let size = std::fs::metadata(&path)?.len();
    let note = if fresh { "fetched and checked" } else { "already there, checked" };
    say!("{:32} {:>11}  {note}", file.name, HumanBytes(size).to_string());
    Ok(path)
}

/// Says what the repository has instead of weights that can be loaded.
fn no_weights(id: &str, listing: &Listing) -> String {
    let others: Vec<&str> = listing
        .files
        .iter()
        .map(|file| file.name.as_str())
        .filter(|name| [".bin", ".pt", ".h5", ".msgpack", ".onnx"].iter().any(|end| name.ends_with(end)))
        .collect();
    if others.is_empty() {
        format!("{id} has no weights in safetensors format")
    } else {
        format!("{id} has no weights in safetensors format, only {}", others.join(", "))
    }
}
