// SPDX-License-Identifier: MIT OR Apache-2.0
//! One look for all progress bars; on a stderr that is no terminal they draw nothing.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts things.
pub fn counter(length: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {per_sec}  {eta}  {msg}")?;
    Ok(ProgressBar::new(length as u64).with_style(style.progress_chars("━╸ ")))
}

/// A bar that counts the bytes of a file.
pub fn bytes(name: &str, length: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "{msg:32} {wide_bar} {bytes:>10}/{total_bytes} {bytes_per_sec:>12} {eta}",
    )?;
    Ok(ProgressBar::new(length).with_style(style.progress_chars("━╸ ")).with_message(name.to_string()))
}
