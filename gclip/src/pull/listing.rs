// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of a repository, as the hub names them and the plan picks them.

use super::verify::Digest;

/// What one commit of a repository holds.
pub struct Listing {
    pub commit: String,
    pub revision: String,
    pub files: Vec<RemoteFile>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RemoteFile {
    pub name: String,
    pub size: Option<u64>,
    pub digest: Option<Digest>,
}
