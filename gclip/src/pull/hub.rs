// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hub as the environment describes it: where it is, what a repository holds, where its files are cached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use gstgclip::model::weights::hub_cache;
use serde::Deserialize;

use super::listing::{Listing, RemoteFile};
use super::plan;
use super::verify::Digest;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Author and title of the pull requests that offer safetensors weights where the main branch has only pickles.
const CONVERTER: (&str, &str) = ("SFconvertbot", "Adding `safetensors` variant of this model");
const ANSWER_TIME: Duration = Duration::from_secs(60);

pub struct Hub {
    pub offline: bool,
    pub token: Option<String>,
    endpoint: String,
    id: String,
    revision: String,
    /// The folder of all models, and in it that of this one: blobs/HASH, snapshots/COMMIT/NAME, refs/REVISION.
    cache: PathBuf,
    agent: ureq::Agent,
}

/// The parts of the hub's answer to `/api/models/ID/revision/REV?blobs=true` that are read.
#[derive(Deserialize)]
struct RepositoryInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Discussions {
    discussions: Vec<Discussion>,
}

#[derive(Deserialize)]
struct Discussion {
    num: u64,
    title: String,
    author: Option<Author>,
}

#[derive(Deserialize)]
struct Author {
    name: String,
}

impl Hub {
    pub fn from_env(id: &str, revision: &str) -> Result<Hub> {
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        let endpoint = endpoint.trim_end_matches('/').to_string();
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            bail!("HF_ENDPOINT is {endpoint}, which is no http:// or https:// address");
        }
        let token = variable("HF_TOKEN").or_else(stored_token);
        let cache = std::path::absolute(hub_cache()).context("the current folder cannot be found")?;
        let offline = variable("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_TIME))
            .user_agent(concat!("gclip/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Hub { offline, token, endpoint, id: id.into(), revision: revision.into(), cache, agent })
    }

    /// Asks the hub for the files of the revision with their sizes and hashes.
    pub fn listing(&self) -> Result<Listing> {
        self.listing_of(&self.revision)
    }

    fn listing_of(&self, revision: &str) -> Result<Listing> {
        let url = format!("{}/api/models/{}/revision/{}", self.endpoint, self.id, in_address(revision));
        let info: RepositoryInfo = self.ask(&url, ("blobs", "true"))?;
        if !is_plain_name(&info.sha) {
            bail!("{} answers with an impossible commit name for {}", self.endpoint, self.id);
        }
        let files = info.siblings.into_iter().filter(|sibling| is_plain_name(&sibling.rfilename));
        let files = files.map(Sibling::into_file).collect::<Result<_>>()?;
        Ok(Listing { commit: info.sha, revision: revision.into(), files })
    }

    /// The hub's own conversion of old checkpoints to safetensors waits in a pull request; finds that revision.
    pub fn converted_listing(&self) -> Result<Option<Listing>> {
        let url = format!("{}/api/models/{}/discussions", self.endpoint, self.id);
        // A hub without discussions (a mirror) has no conversions either.
        let Ok(answer) = self.ask::<Discussions>(&url, ("p", "0")) else { return Ok(None) };
        let converted = answer.discussions.into_iter().find(|discussion| {
            let author = discussion.author.as_ref().map(|author| author.name.as_str());
            author == Some(CONVERTER.0) && discussion.title == CONVERTER.1
        });
        converted.map(|found| self.listing_of(&format!("refs/pr/{}", found.num))).transpose()
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, url: &str, (key, value): (&str, &str)) -> Result<T> {
        let mut request = self.agent.get(url).query(key, value);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let answer = request.call().map_err(|error| anyhow!("cannot reach {}: {error}", self.endpoint))?;
        check_status(answer.status().as_u16(), &self.id, &self.endpoint)?;
        answer.into_body().read_json().map_err(|error| {
            anyhow!("{} answers about {} with no readable JSON: {error}", self.endpoint, self.id)
        })
    }

    pub fn url(&self, revision: &str, name: &str) -> String {
        format!("{}/{}/resolve/{}/{name}", self.endpoint, self.id, in_address(revision))
    }

    fn folder(&self) -> PathBuf {
        self.cache.join(format!("models--{}", self.id.replace('/', "--")))
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder().join("blobs").join(digest.hex())
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    fn reference(&self) -> PathBuf {
        self.folder().join("refs").join(&self.revision)
    }

    /// Makes the revision's name point to its commit: the last step, so that a half-fetched model is never found.
    pub fn write_reference(&self, listing: &Listing) -> Result<()> {
        let reference = self.reference();
        // A revision may hold slashes, and is in folders of its own then.
        let folders = reference.parent().unwrap_or(&self.cache);
        std::fs::create_dir_all(folders)
            .and_then(|()| std::fs::write(&reference, &listing.commit))
            .with_context(|| format!("cannot write to the cache {}", self.cache.display()))
    }

    /// The snapshot in the cache, complete or an error.
    pub fn cached_snapshot(&self) -> Result<PathBuf> {
        let commit = std::fs::read_to_string(self.reference()).unwrap_or_default();
        let folder =
            Some(commit.trim()).filter(|commit| is_plain_name(commit)).map(|commit| self.snapshot(commit));
        folder.filter(|folder| plan::is_complete(folder)).with_context(|| {
            format!(
                "{} is not complete in the cache {} and HF_HUB_OFFLINE forbids the network",
                self.id,
                self.cache.display()
            )
        })
    }
}

impl Sibling {
    fn into_file(self) -> Result<RemoteFile> {
        let (size, digest) = match self.lfs {
            Some(lfs) => (lfs.size.or(self.size), Some(Digest::sha256(&lfs.sha256)?)),
            None => (self.size, self.blob_id.as_deref().map(Digest::git).transpose()?),
        };
        Ok(RemoteFile { name: self.rfilename, size, digest })
    }
}

/// An answer's status as one sentence about what to do.
pub fn check_status(status: u16, id: &str, endpoint: &str) -> Result<()> {
    match status {
        200..=299 => Ok(()),
        401 | 403 => bail!("{endpoint} refuses {id}: no such model, or it needs access (set HF_TOKEN)"),
        404 => bail!("{endpoint} has no model {id} of that revision"),
        status => bail!("{endpoint} answers {status} for {id}"),
    }
}

/// Only `name` or `owner/name`: anything else would become a path outside the cache or another address.
pub fn check_id(id: &str) -> Result<()> {
    let parts: Vec<&str> = id.split('/').collect();
    let plain = |part: &&str| {
        is_plain_name(part) && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if parts.len() > 2 || !parts.iter().all(plain) {
        bail!("{id} is no model id (one looks like openai/clip-vit-base-patch16)");
    }
    Ok(())
}

/// A file name without a folder: what a hub names must not lead out of the snapshot.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// A revision as one part of an address.
fn in_address(revision: &str) -> String {
    revision.replace('/', "%2F")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The token a log-in left: in `HF_TOKEN_PATH`, else `token` in `HF_HOME`, `$XDG_CACHE_HOME/huggingface` or
/// `~/.cache/huggingface`.
fn stored_token() -> Option<String> {
    let home = || {
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
        variable("HF_HOME").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("huggingface")))
    };
    let file =
        variable("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home().map(|home| home.join("token")))?;
    let text = std::fs::read_to_string(file).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}
