// SPDX-License-Identifier: MIT OR Apache-2.0
//! One look for all progress bars; on a stderr that is no terminal they draw nothing, and one that goes away in the
//! middle does not matter.

use std::io;

use anyhow::Result;
use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

/// Redrawings a second, at most.
const REFRESH: u8 = 20;

/// A bar that counts things.
pub fn counter(length: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {per_sec}  {eta}  {msg}")?;
    Ok(bar(Some(length as u64)).with_style(style.progress_chars("━╸ ")))
}

/// A bar that counts the bytes of a file.
pub fn bytes(name: &str, length: u64) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "{msg:32} {wide_bar} {bytes:>10}/{total_bytes} {bytes_per_sec:>12} {eta}",
    )?;
    Ok(bar(Some(length)).with_style(style.progress_chars("━╸ ")).with_message(name.to_string()))
}

/// A bar over the length of a video, which may not be known.
pub fn video() -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} {wide_bar} {percent:>3} %  {msg}")?;
    Ok(bar(None).with_style(style.progress_chars("━╸ ")))
}

fn bar(length: Option<u64>) -> ProgressBar {
    ProgressBar::with_draw_target(length, target())
}

/// Stderr, if it is a terminal.
pub fn target() -> ProgressDrawTarget {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        return ProgressDrawTarget::hidden();
    }
    ProgressDrawTarget::term_like_with_hz(Box::new(Careless(terminal)), REFRESH)
}

/// A terminal whose errors do not count: indicatif would panic on some.
#[derive(Debug)]
struct Careless(Term);

/// What could not be drawn is not worth a word.
fn never(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or(Ok(()))
}

impl TermLike for Careless {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        never(self.0.move_cursor_up(n))
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        never(self.0.move_cursor_down(n))
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        never(self.0.move_cursor_right(n))
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        never(self.0.move_cursor_left(n))
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        never(self.0.write_line(text))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        never(self.0.write_str(text))
    }

    fn clear_line(&self) -> io::Result<()> {
        never(self.0.clear_line())
    }

    fn flush(&self) -> io::Result<()> {
        never(self.0.flush())
    }
}
