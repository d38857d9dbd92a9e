// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file from the hub into the cache: resumed where it stopped, checked before anything points to it.
//!
//! ```text
//! blobs/HASH.incomplete   grows; survives an interruption, and the next run goes on from its end
//! blobs/HASH              the whole file, its hash checked
//! snapshots/COMMIT/NAME   link to the blob
//! ```

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use indicatif::ProgressBar;

use super::hub::{Hub, check_status};
use super::listing::{Listing, RemoteFile};
use super::verify::Digest;

/// A server that sends nothing for this long is taken for dead; the transfer is then resumed.
const SILENCE: Duration = Duration::from_secs(30);

pub struct Fetcher<'a> {
    hub: &'a Hub,
    retries: u32,
    agent: ureq::Agent,
}

/// Why a transfer stopped: whether another try can help.
enum Stop {
    Fatal(anyhow::Error),
    Transient(anyhow::Error),
}

impl<'a> Fetcher<'a> {
    pub fn new(hub: &'a Hub, retries: u32) -> Result<Fetcher<'a>> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // The token goes to the hub, not to the storage host it redirects to.
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("gclip/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Fetcher { hub, retries, agent })
    }

    /// Brings `file` of `from` into the snapshot of `listing`: its path there, and whether it had to be fetched.
    pub fn get(
        &self,
        listing: &Listing,
        from: &Listing,
        file: &RemoteFile,
        bar: &ProgressBar,
    ) -> Result<(PathBuf, bool)> {
        let url = self.hub.url(&from.revision, &file.name);
        let digest = match &file.digest {
            Some(digest) => digest.clone(),
            None => self.ask_digest(&url)?,
        };
        let blob = self.hub.blob(&digest);
        let link = self.hub.snapshot(&listing.commit).join(&file.name);
        let fresh = self.fill(&url, &blob, &digest, file.size, bar)?;
        publish(&blob, &link)?;
        Ok((link, fresh))
    }

    /// Makes sure that `blob` is there and right. True when it had to be fetched.
    fn fill(
        &self,
        url: &str,
        blob: &Path,
        digest: &Digest,
        size: Option<u64>,
        bar: &ProgressBar,
    ) -> Result<bool> {
        if blob.is_file() && digest.matches(blob)? {
            return Ok(false);
        }
        let folder = blob.parent().context("the cache has no folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let partial = blob.with_extension("incomplete");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        // Two programs that pull the same model: the second waits, then finds the blob.
        file.lock().with_context(|| format!("cannot lock {}", partial.display()))?;
        if blob.is_file() && digest.matches(blob)? {
            return Ok(false);
        }
        let mut resumed = file.metadata()?.len() > 0;
        loop {
            self.transfer(url, &mut file, size, bar)?;
            file.sync_all().with_context(|| format!("cannot write {}", partial.display()))?;
            if digest.matches(&partial)? {
                break;
            }
            if !resumed {
                std::fs::remove_file(&partial)
                    .with_context(|| format!("cannot remove {}", partial.display()))?;
                bail!("what arrived is corrupted (its hash is not {}) and was thrown away", digest.hex());
            }
            // The part that an earlier run left may be what is wrong: once more from the start.
            file.set_len(0).with_context(|| format!("cannot write {}", partial.display()))?;
            resumed = false;
        }
        std::fs::rename(&partial, blob).with_context(|| format!("cannot write {}", blob.display()))?;
        Ok(true)
    }

    /// Fetches the rest of the file, again and again while that brings progress.
    fn transfer(&self, url: &str, file: &mut File, size: Option<u64>, bar: &ProgressBar) -> Result<()> {
        let mut failures = 0;
        loop {
            let before = file.seek(SeekFrom::End(0))?;
            let error = match self.attempt(url, file, size, bar) {
                Ok(()) => return Ok(()),
                Err(Stop::Fatal(error)) => return Err(error),
                Err(Stop::Transient(error)) => error,
            };
            let after = file.seek(SeekFrom::End(0))?;
            failures = if after > before { 1 } else { failures + 1 };
            if failures > self.retries {
                return Err(error.context(format!(
                    "stopped after {after} bytes (run the same command again to go on from there)"
                )));
            }
            std::thread::sleep(Duration::from_millis(500 << failures.min(5)));
        }
    }

    /// One request for everything from the end of `file` on.
    fn attempt(&self, url: &str, file: &mut File, size: Option<u64>, bar: &ProgressBar) -> Result<(), Stop> {
        let mut start = file.seek(SeekFrom::End(0)).map_err(disk)?;
        if size.is_some_and(|size| start > size) {
            file.set_len(0).map_err(disk)?;
            start = file.seek(SeekFrom::Start(0)).map_err(disk)?;
        }
        if size == Some(start) {
            return Ok(());
        }
        let mut request = self.request(url);
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let answer = request.call().map_err(|error| Stop::Transient(anyhow!("{error}")))?;
        let status = answer.status().as_u16();
        let content_range = answer.headers().get("Content-Range").and_then(|value| value.to_str().ok());
        let resumed =
            status == 206 && content_range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")));
        if status >= 500 || status == 429 {
            return Err(Stop::Transient(anyhow!("the server answers {status}")));
        }
        // 416: the part on disk does not fit the file. 200 to a Range: the server cannot resume. Both start over.
        if start > 0 && !resumed {
            file.set_len(0).map_err(disk)?;
            start = file.seek(SeekFrom::Start(0)).map_err(disk)?;
        }
        if status == 416 || (status == 206 && start == 0) {
            return Err(Stop::Transient(anyhow!("the server cannot resume where the transfer stopped")));
        }
        check_status(status, "the file", url).map_err(Stop::Fatal)?;
        bar.set_position(start);

        let limit = size.map_or(u64::MAX, |size| size - start);
        // One byte more than expected is read so that a file that is too long is noticed.
        let mut body = answer.into_body().into_reader().take(limit.saturating_add(1));
        let mut block = vec![0; 1 << 16];
        let mut received = 0;
        loop {
            let count = body.read(&mut block).map_err(|error| Stop::Transient(anyhow!("{error}")))?;
            if count == 0 {
                break;
            }
            received += count as u64;
            if received > limit {
                file.set_len(0).map_err(disk)?;
                return Err(Stop::Fatal(anyhow!(
                    "the server sends more than the {} bytes the hub lists",
                    start + limit
                )));
            }
            file.write_all(&block[..count]).map_err(disk)?;
            bar.inc(count as u64);
        }
        match size {
            Some(size) if start + received < size => Err(Stop::Transient(anyhow!("the connection was cut"))),
            _ => Ok(()),
        }
    }

    fn request(&self, url: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        // Compressed transfer would make byte positions meaningless.
        let request = self.agent.get(url).header("Accept-Encoding", "identity");
        match &self.hub.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// The hash from the answer's headers, for hubs whose listing has none.
    fn ask_digest(&self, url: &str) -> Result<Digest> {
        let mut request = self.agent.head(url);
        if let Some(token) = &self.hub.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        // The first answer carries the hash; the redirect's target may not.
        let answer = request
            .config()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build()
            .call()
            .map_err(|error| anyhow!("{error}"))?;
        let status = answer.status().as_u16();
        if !(300..400).contains(&status) {
            check_status(status, "the file", url)?;
        }
        let headers = answer.headers();
        headers
            .get("X-Linked-Etag")
            .or_else(|| headers.get("ETag"))
            .and_then(|value| value.to_str().ok())
            .and_then(Digest::from_etag)
            .context("the server gives no hash to check the file against")
    }
}

fn disk(error: std::io::Error) -> Stop {
    Stop::Fatal(anyhow!("cannot write to the cache: {error}"))
}

/// Links the snapshot's name to the blob, replacing an older link in one step.
fn publish(blob: &Path, link: &Path) -> Result<()> {
    let hash = blob.file_name().context("the blob has no name")?;
    let target = Path::new("../../blobs").join(hash);
    if std::fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let folder = link.parent().context("the snapshot has no folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let fresh = link.with_extension(format!("link-{}", std::process::id()));
    std::os::unix::fs::symlink(&target, &fresh)
        .and_then(|()| std::fs::rename(&fresh, link))
        .with_context(|| format!("cannot write {}", link.display()))
}
