// SPDX-License-Identifier: MIT OR Apache-2.0
//! What ended connections leave in glibc's heap goes back to the system.
//!
//! Every connection has threads of its own, and what these free stays in glibc's arenas, in pieces between what is in
//! use. What is in use does not grow, but the resident memory did, by about 9 KB a connection.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Not after each of the connections of a camera that breaks off all the time: the pages are fetched anew afterwards.
const PAUSE: Duration = Duration::from_secs(60);

static LAST: Mutex<Option<Instant>> = Mutex::new(None);

/// To be called when a connection is over.
pub fn tidy() {
    let mut last = LAST.lock();
    if last.is_none_or(|last| last.elapsed() >= PAUSE) {
        *last = Some(Instant::now());
        drop(last);
        give_back();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: takes no pointer and may be called from any thread at any time. Its result only says whether there was
    // anything to give back.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const NAME: &str = "watch::heap::tests::what_was_freed_between_what_is_in_use_goes_back_once_in_a_while";

    fn resident_mebibytes() -> u64 {
        crate::usage::memory("VmRSS:").unwrap() >> 20
    }

    #[test]
    #[cfg_attr(not(target_env = "gnu"), ignore = "glibc's heap")]
    fn what_was_freed_between_what_is_in_use_goes_back_once_in_a_while() {
        // In a process of its own: other tests would change the numbers.
        if std::env::var_os("GCLIP_TEST_ALONE").is_none() {
            let mut alone = Command::new(std::env::current_exe().unwrap());
            let output = alone.args(["--exact", NAME]).env("GCLIP_TEST_ALONE", "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        // 100 MiB, of which every second piece stays: free memory at the heap's top would go back by itself.
        let pieces: Vec<Vec<u8>> = (0..3200u32).map(|piece| vec![piece as u8 | 1; 32 << 10]).collect();
        let full = resident_mebibytes();
        let kept: Vec<_> = pieces.into_iter().step_by(2).collect();
        let freed = resident_mebibytes();
        assert!(full < freed + 20, "{full} MiB, then {freed}: glibc gives back by itself");
        tidy();
        let tidied = resident_mebibytes();
        assert!(tidied + 30 < freed, "{freed} MiB, then {tidied}");
        let kept: Vec<_> = kept.into_iter().step_by(2).collect();
        let freed = resident_mebibytes();
        tidy();
        assert!(resident_mebibytes() + 10 > freed, "a second time at once");
        drop(kept);
    }
}
