// SPDX-License-Identifier: MIT OR Apache-2.0
//! Can any file of a checkpoint make its reader panic, hang or take memory that the file does not have?
//!
//! ```sh
//! cargo +nightly fuzz run checkpoint -- -max_len=524288 -rss_limit_mb=4096
//! ```
//! The first byte of an input says which file of which checkpoint is replaced by the others (`FILES` in
//! `entries.rs`); the files around it are those of `tests/data`.
#![no_main]

#[path = "../entries.rs"]
mod entries;

use std::sync::LazyLock;

use entries::{FILES, Readers};

static READERS: LazyLock<Readers> = LazyLock::new(|| Readers::new().expect("a temporary folder"));

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((file, bytes)) = data.split_first() {
        READERS.read(usize::from(*file) % FILES.len(), bytes);
    }
});
