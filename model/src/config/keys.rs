// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys of a config file that nothing here reads: those without influence on features are listed by format, all others
//! may describe another network than the one that would be computed, so they are errors.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// # Errors
/// `rest`, the keys of `part` that nothing reads, holds one that is not in `harmless`. Null is what a key that is not
/// there means, and keys that begin with `_` are a library's own notes.
pub fn refuse_unknown(part: &str, rest: &Map<String, Value>, harmless: &[&str]) -> Result<()> {
    let unknown = rest
        .iter()
        .find(|(key, value)| !value.is_null() && !key.starts_with('_') && !harmless.contains(&key.as_str()));
    match unknown {
        None => Ok(()),
        Some((key, value)) => bail!(
            "{part} says {key} = {}, which is not supported: the network may be another one than would be computed",
            short(value)
        ),
    }
}

/// A value for an error text: a config may hold megabytes of them.
pub fn short(value: &Value) -> String {
    const LENGTH: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LENGTH) {
        None => text,
        Some((end, _)) => format!("{}...", &text[..end]),
    }
}
