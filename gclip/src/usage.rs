// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this process uses, by Linux's account: CPU time of each thread, memory.

use std::path::Path;
use std::time::Duration;

/// USER_HZ, fixed in Linux's user-space interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// Name and CPU seconds of each thread that is alive.
pub fn threads() -> impl Iterator<Item = (String, f64)> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter_map(|task| thread(&task.path()))
}

/// Name and user + system seconds of one thread, from its `stat` line: `pid (name) state ppid ...`.
fn thread(task: &Path) -> Option<(String, f64)> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((name.to_owned(), ticks / TICKS_PER_SECOND))
}

/// Bytes in a line of `/proc/self/status`: `VmRSS:` is resident now, `VmHWM:` was at most.
pub fn memory(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    Some(1024 * value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?)
}

/// CPU time of the calling thread, as the scheduler counts it; zero where there is no such account.
pub fn own_cpu_time() -> Duration {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = account.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// CPU time of all threads of the process, those that have ended too; zero where there is no such account.
pub fn cpu_time() -> Duration {
    let seconds = thread(Path::new("/proc/self")).map_or(0.0, |(_, seconds)| seconds);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn who_works_uses_time_and_who_sleeps_does_not() {
        let (begin, all) = (own_cpu_time(), cpu_time());
        let start = Instant::now();
        while own_cpu_time() < begin + Duration::from_millis(60) {
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", own_cpu_time());
        }
        assert!(cpu_time() >= all + Duration::from_millis(40), "ticks are 10 ms long");
        let before = own_cpu_time();
        std::thread::sleep(Duration::from_millis(200));
        assert!(own_cpu_time() < before + Duration::from_millis(100));
    }
}
