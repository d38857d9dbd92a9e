// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the program says on stdout and stderr. Neither stops it: a reader may leave, a log's disk may be full, and
//! std's `println!` and `eprintln!` panic then.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, anyhow};

/// A line of a summary, as `println!`.
macro_rules! say {
    () => { $crate::say::say!("") };
    ($($text:tt)*) => { $crate::say::on_stdout(format_args!($($text)*)) };
}

/// A remark on stderr, as `eprintln!`.
macro_rules! complain {
    ($($text:tt)*) => { $crate::say::on_stderr(format_args!($($text)*)) };
}

pub(crate) use {complain, say};

/// What went wrong with stdout; nothing is written to it after that.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Whether anything was said there.
static SPOKEN: AtomicBool = AtomicBool::new(false);

pub fn on_stdout(text: fmt::Arguments) {
    SPOKEN.store(true, Ordering::Relaxed);
    if FAILURE.get().is_none()
        && let Err(error) = writeln!(io::stdout().lock(), "{text}")
    {
        // The first failure is the one to tell.
        let _ = FAILURE.set(error);
    }
}

pub fn on_stderr(text: fmt::Arguments) {
    // There is no other place to complain.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// To be called at the end.
///
/// # Errors
/// Something that was said did not get written. A reader who has left has read enough: that is none.
pub fn finish() -> Result<()> {
    // Somebody else may hold stdout, and wait for a reader for ever.
    if SPOKEN.load(Ordering::Relaxed)
        && let Err(error) = io::stdout().flush()
    {
        let _ = FAILURE.set(error);
    }
    match FAILURE.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}
