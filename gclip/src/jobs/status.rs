// SPDX-License-Identifier: MIT OR Apache-2.0
//! How far a queue is: a table, JSON, a bar.

use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::json;

use super::queue::{Counts, End, Queue, Record};
use super::remote::Remote;
use crate::say::say;
use crate::{progress, redact};

/// Asked this often while it is watched.
const REFRESH: Duration = Duration::from_millis(500);
/// Files that are named one by one in a table.
const NAMED: usize = 20;
const ALL: usize = 100_000;

pub struct Shown {
    pub json: bool,
    pub watch: bool,
}

/// # Errors
/// The queue cannot be reached.
pub fn show(queue: &Remote, shown: &Shown) -> Result<()> {
    let mut counts = queue.counts()?;
    if shown.watch {
        let bar = bar(&counts)?;
        let mut told = None;
        while !counts.is_over() {
            update(&bar, &counts);
            if shown.json && told.as_ref() != Some(&counts) {
                say!("{}", serde_json::to_string(&counts)?);
                told = Some(counts);
            }
            std::thread::sleep(REFRESH);
            counts = queue.counts()?;
        }
        bar.finish_and_clear();
    }
    if shown.json {
        let mut whole = serde_json::to_value(&counts)?;
        let files = queue.set_aside(ALL)?.into_iter().map(|record| {
            let why = why(&record).to_string();
            json!({ "source": redact::urls(&record.source), "why": why })
        });
        whole["set_aside_files"] = files.collect();
        say!("{whole}");
        return Ok(());
    }
    print(&counts);
    if counts.set_aside > 0 {
        say!();
        for record in queue.set_aside(NAMED)? {
            say!("{}: {}", redact::urls(&record.source), why(&record));
        }
        if counts.set_aside > NAMED as u64 {
            say!("... and {} others (--json names them all)", counts.set_aside - NAMED as u64);
        }
    }
    Ok(())
}

fn why(record: &Record) -> &str {
    match &record.end {
        End::SetAside { why } => why,
        End::Done(_) | End::Cancelled => "",
    }
}

pub fn print(counts: &Counts) {
    let rows = [
        ("waiting", counts.waiting),
        ("running", counts.running),
        ("done", counts.done),
        ("set aside", counts.set_aside),
        ("cancelled", counts.cancelled),
    ];
    for (name, count) in rows {
        say!("{name:<12} {count:>9}");
    }
}

/// One for all jobs.
///
/// # Errors
/// Its template is wrong.
pub fn bar(counts: &Counts) -> Result<ProgressBar> {
    let bar = progress::counter(usize::try_from(counts.total()).unwrap_or(usize::MAX))?;
    update(&bar, counts);
    // What was done before is no measure of the speed.
    bar.reset_eta();
    Ok(bar)
}

pub fn update(bar: &ProgressBar, counts: &Counts) {
    bar.set_length(counts.total());
    bar.set_position(counts.ended());
    let set_aside = match counts.set_aside {
        0 => String::new(),
        set_aside => format!(", {set_aside} set aside"),
    };
    bar.set_message(format!("{} running{set_aside}", counts.running));
}
