// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU time of this process, thread by thread.

use std::path::Path;

/// USER_HZ, fixed in Linux's user-space interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// Name and CPU seconds of each thread that is alive.
pub fn times() -> impl Iterator<Item = (String, f64)> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| time(&task.path()))
}

/// Name and user + system seconds of one thread, from its `stat` line: `pid (name) state ppid ...`.
fn time(task: &Path) -> Option<(String, f64)> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((name.to_owned(), ticks / TICKS_PER_SECOND))
}
