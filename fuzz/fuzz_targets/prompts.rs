// SPDX-License-Identifier: MIT OR Apache-2.0
//! Can any text for `prompts`, `background` or `prompt-template` make the parser panic, hang or contradict itself?
//!
//! ```sh
//! cargo +nightly fuzz run prompts
//! ```
//! An input is three texts with a NUL between them.
#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    entries::prompts(data);
});
