// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what the user typed to files: a folder, a file, or an id in the Hugging Face cache.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The files of one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// `config.json` beside one or several safetensors files.
    HuggingFace { folder: PathBuf },
    /// `open_clip_config.json` beside `open_clip_model.safetensors`.
    OpenClip { folder: PathBuf },
    /// OpenAI's TorchScript archive.
    TorchScript { file: PathBuf },
}

impl Files {
    /// The folder that holds the checkpoint (and its tokenizer, if it brings one).
    pub fn folder(&self) -> &Path {
        match self {
            Files::HuggingFace { folder } | Files::OpenClip { folder } => folder,
            Files::TorchScript { file } => file.parent().unwrap_or(Path::new(".")),
        }
    }
}

/// Finds the checkpoint that `model` names.
pub fn locate(model: &str) -> Result<Files> {
    if model.is_empty() {
        bail!("no model given: name a checkpoint folder, a .pt file or a Hugging Face id");
    }
    let path = Path::new(model);
    if path.is_dir() {
        return in_folder(path);
    }
    if path.exists() {
        return file(path);
    }
    if is_id(model) {
        let cache = hub_cache();
        return match in_hub_cache(&cache, model)? {
            Some(folder) => in_folder(&folder),
            None => bail!(
                "no model {model}: there is no such file or folder, and the Hugging Face cache {} does not hold it \
                 (fetch it with: gclip pull {model})",
                cache.display()
            ),
        };
    }
    bail!("no model {model}: there is no such file or folder")
}

fn in_folder(folder: &Path) -> Result<Files> {
    if folder.join("open_clip_config.json").is_file() && folder.join("open_clip_model.safetensors").is_file()
    {
        return Ok(Files::OpenClip { folder: folder.into() });
    }
    if folder.join("config.json").is_file() {
        return Ok(Files::HuggingFace { folder: folder.into() });
    }
    bail!(
        "{} is no CLIP checkpoint: it holds neither config.json nor open_clip_config.json with \
         open_clip_model.safetensors",
        folder.display()
    )
}

fn file(path: &Path) -> Result<Files> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pt") => Ok(Files::TorchScript { file: path.into() }),
        Some("safetensors" | "json") => in_folder(match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        }),
        _ => bail!("{} is no CLIP checkpoint: give a folder, a .safetensors or a .pt file", path.display()),
    }
}

/// `owner/name`, as Hugging Face spells it.
fn is_id(model: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    matches!(model.split_once('/'), Some((owner, name)) if part(owner) && part(name))
}

/// Where Hugging Face's tools keep models: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
pub fn hub_cache() -> PathBuf {
    let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("HF_HUB_CACHE")
        .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| folder("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .unwrap_or_else(|| PathBuf::from("huggingface/hub"))
}

/// The snapshot of `id` that `refs/main` points at, or the only one there is.
fn in_hub_cache(cache: &Path, id: &str) -> Result<Option<PathBuf>> {
    let repository = cache.join(format!("models--{}", id.replace('/', "--")));
    let snapshots = repository.join("snapshots");
    if let Ok(commit) = fs::read_to_string(repository.join("refs/main")) {
        let snapshot = snapshots.join(commit.trim());
        if !commit.trim().is_empty() && snapshot.is_dir() {
            return Ok(Some(snapshot));
        }
    }
    if !snapshots.is_dir() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&snapshots).with_context(|| format!("cannot list {}", snapshots.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", snapshots.display()))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop()),
        several => bail!(
            "{} holds {several} snapshots of {id} and refs/main names none of them: give the folder of one",
            snapshots.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        assert!(is_id("openai/clip-vit-base-patch16"));
        for path in
            ["clip", "/openai/clip", "./clip", "../clip", "a/b/c", "openai/", "open ai/clip", ".hidden/clip"]
        {
            assert!(!is_id(path), "{path}");
        }
    }

    #[test]
    fn the_cache_is_searched_by_branch_then_by_the_only_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--owner--clip");
        let find = || in_hub_cache(cache.path(), "owner/clip");
        assert_eq!(find().unwrap(), None);
        fs::create_dir_all(repository.join("snapshots/aaa")).unwrap();
        assert_eq!(find().unwrap(), Some(repository.join("snapshots/aaa")));
        fs::create_dir_all(repository.join("snapshots/bbb")).unwrap();
        assert!(find().unwrap_err().to_string().contains("2 snapshots of owner/clip"));
        fs::create_dir_all(repository.join("refs")).unwrap();
        fs::write(repository.join("refs/main"), "bbb\n").unwrap();
        assert_eq!(find().unwrap(), Some(repository.join("snapshots/bbb")));
    }
}
