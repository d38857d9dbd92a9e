// SPDX-License-Identifier: MIT OR Apache-2.0
//! An object store that speaks S3: who it is says the environment, as every tool for such stores reads it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStoreExt, PutPayload, RetryConfig, WriteMultipart};

use super::http::Connector;

/// Larger files go in pieces of this size, bytes.
const PIECE: usize = 16 << 20;
/// Pieces on their way at a time.
const AT_ONCE: usize = 2;
/// A store that fails is tried again for so long.
const PATIENCE: Duration = Duration::from_secs(30);
const TRIES: usize = 4;

/// A folder in a bucket.
pub struct Store {
    store: Arc<AmazonS3>,
    /// Bucket and folder, as they are shown.
    url: String,
    folder: String,
    runtime: tokio::runtime::Runtime,
}

impl Store {
    /// `url` is s3://BUCKET/FOLDER.
    ///
    /// # Errors
    /// There are no keys, or the store refuses a small object that is written and removed again.
    pub fn open(url: &str) -> Result<Store> {
        Store::of(AmazonS3Builder::from_env(), url)
    }

    fn of(who: AmazonS3Builder, url: &str) -> Result<Store> {
        let rest = url.strip_prefix("s3://").unwrap_or(url);
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let retries = RetryConfig { max_retries: TRIES, retry_timeout: PATIENCE, ..RetryConfig::default() };
        let store = who
            .with_bucket_name(bucket)
            .with_http_connector(Connector)
            .with_retry(retries)
            .build()
            .with_context(|| format!("the store {url} cannot be used"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start what talks with the store")?;
        let store = Store { store: Arc::new(store), url: url.into(), folder: folder.into(), runtime };
        store.probe().with_context(|| format!("nothing can be written to {url}"))?;
        Ok(store)
    }

    fn probe(&self) -> Result<()> {
        let path = self.path(".gclip")?;
        let payload = PutPayload::from_static(b"gclip");
        self.runtime.block_on(async {
            self.store.put(&path, payload).await.map_err(|error| in_one_line(&error))?;
            // Who may write need not be allowed to delete.
            let _ = self.store.delete(&path).await;
            Ok(())
        })
    }

    fn path(&self, name: &str) -> Result<object_store::path::Path> {
        let whole = format!("{}/{name}", self.folder);
        object_store::path::Path::parse(whole.trim_start_matches('/'))
            .map_err(|error| anyhow!("the store takes no such name: {error}"))
    }

    /// Puts a file there under this name; where it is then. The store shows it when all of it is there.
    pub fn put(&self, file: &Path, name: &str) -> Result<String> {
        let place = format!("{}/{name}", self.url);
        let path = self.path(name)?;
        let put = self.runtime.block_on(self.upload(file, &path));
        put.with_context(|| format!("cannot write {place}"))?;
        Ok(place)
    }

    async fn upload(&self, file: &Path, path: &object_store::path::Path) -> Result<()> {
        let mut from = File::open(file)?;
        if from.metadata()?.len() <= PIECE as u64 {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes)?;
            self.store.put(path, bytes.into()).await.map_err(|error| in_one_line(&error))?;
            return Ok(());
        }
        let begun = self.store.put_multipart(path).await.map_err(|error| in_one_line(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(begun, PIECE);
        let sending = async {
            let mut piece = vec![0; PIECE];
            loop {
                let length = from.read(&mut piece)?;
                if length == 0 {
                    return Ok::<(), Error>(());
                }
                upload.wait_for_capacity(AT_ONCE).await.map_err(|error| in_one_line(&error))?;
                upload.write(&piece[..length]);
            }
        };
        match sending.await {
            Ok(()) => upload.finish().await.map(drop).map_err(|error| in_one_line(&error)),
            Err(error) => {
                // The store removes what was begun by its own rules where it cannot be told to.
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }
}

/// What a store says may be a page of XML.
fn in_one_line(error: &object_store::Error) -> Error {
    let whole = error.to_string();
    let code = |tag: &str| {
        let (_, rest) = whole.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once('<')?.0.to_string())
    };
    match (code("Code"), code("Message")) {
        (Some(code), Some(message)) => anyhow!("the store answers {code}: {message}"),
        (Some(code), None) => anyhow!("the store answers {code}"),
        // Where machines in a cloud ask who they are: what is asked last.
        _ if whole.contains("169.254.169.254") => {
            anyhow!("there are no keys for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        }
        _ => anyhow!("{}", whole.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gclip_testing::s3::S3;

    #[test]
    fn large_files_come_in_pieces_and_whole() {
        let server = S3::start();
        let mut who = AmazonS3Builder::new();
        for (key, value) in server.environment() {
            who = who.with_config(key.to_ascii_lowercase().parse().unwrap(), value);
        }
        let store = Store::of(who, "s3://bucket/folder").unwrap();
        assert!(server.objects().is_empty(), "what it was tried with is gone");
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..2 * PIECE + 12_345).map(|index| (index / 7) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(store.put(file.path(), "a/b.mp4").unwrap(), "s3://bucket/folder/a/b.mp4");
        assert_eq!(server.uploads(), 1);
        assert!(server.objects()["bucket/folder/a/b.mp4"] == bytes);
        server.refuse(true);
        let error = format!("{:#}", store.put(file.path(), "c.mp4").unwrap_err());
        assert_eq!(
            error,
            "cannot write s3://bucket/folder/c.mp4: the store answers AccessDenied: Not for you"
        );
        assert_eq!(server.objects().len(), 1);
    }
}
