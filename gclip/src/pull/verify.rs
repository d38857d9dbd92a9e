// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hub's two kinds of file hash: SHA-256 for large files, git's blob hash for the others.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::Digest as _;

/// Expected hash of a whole file, in lower-case hex. It is also the file's name in the cache.
#[derive(Clone, Debug, PartialEq)]
pub enum Digest {
    Sha256(String),
    /// SHA-1 over `blob <size>\0` and the contents.
    Git(String),
}

impl Digest {
    pub fn sha256(text: &str) -> Result<Digest> {
        Ok(Digest::Sha256(hex_of_length(text, 64)?))
    }

    pub fn git(text: &str) -> Result<Digest> {
        Ok(Digest::Git(hex_of_length(text, 40)?))
    }

    /// What an ETag header says; `None` when it is no hash of the contents.
    pub fn from_etag(etag: &str) -> Option<Digest> {
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        Digest::sha256(etag).or_else(|_| Digest::git(etag)).ok()
    }

    pub fn hex(&self) -> &str {
        match self {
            Digest::Sha256(hex) | Digest::Git(hex) => hex,
        }
    }

    /// Whether the file's contents have this hash.
    pub fn matches(&self, path: &Path) -> Result<bool> {
        let found = match self {
            Digest::Sha256(_) => hash_file(path, sha2::Sha256::new())?,
            Digest::Git(_) => {
                let size = std::fs::metadata(path)?.len();
                hash_file(path, sha1::Sha1::new_with_prefix(format!("blob {size}\0")))?
            }
        };
        Ok(found == self.hex())
    }
}

fn hex_of_length(text: &str, length: usize) -> Result<String> {
    if text.len() != length || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("the hub sends a file hash that is none");
    }
    Ok(text.to_lowercase())
}

fn hash_file<H: sha2::Digest>(path: &Path, mut hasher: H) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut block = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut block).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            break;
        }
        hasher.update(&block[..count]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes_of_hello() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        // `sha256sum` and `git hash-object` of the same six bytes.
        let sha = Digest::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap();
        let git = Digest::from_etag("\"ce013625030ba8dba906f756967f9e9ca394464a\"").unwrap();
        assert!(sha.matches(file.path()).unwrap());
        assert!(git.matches(file.path()).unwrap());
        std::fs::write(file.path(), "hellO\n").unwrap();
        assert!(!sha.matches(file.path()).unwrap());
        assert!(!git.matches(file.path()).unwrap());
    }

    #[test]
    fn a_hash_that_would_be_a_path_is_refused() {
        assert!(Digest::sha256(&"../".repeat(22)).is_err());
        assert!(Digest::from_etag("\"abc\"").is_none());
    }
}
