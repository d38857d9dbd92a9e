// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPU time of this process by the names of its threads.

use std::collections::BTreeMap;
use std::path::Path;

const TICKS_PER_SECOND: f64 = 100.0; // USER_HZ, fixed in Linux's user-space interface

/// Name of a kind of thread, CPU seconds so far. Of threads that have ended nothing is known.
pub type Times = BTreeMap<String, f64>;

/// What this process's threads have used, each kind under the name that `kind_of` gives it.
pub fn times(kind_of: impl Fn(&str) -> &'static str) -> Times {
    let mut times = Times::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        if let Some((name, seconds)) = thread(&task.path()) {
            *times.entry(kind_of(&name).to_owned()).or_default() += seconds;
        }
    }
    times
}

/// Name and user + system seconds of one thread, from its `stat` line: `pid (name) state ppid ...`.
fn thread(task: &Path) -> Option<(String, f64)> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((name.to_owned(), ticks / TICKS_PER_SECOND))
}
