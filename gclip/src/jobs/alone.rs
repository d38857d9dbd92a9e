// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip jobs run` in a process of its own, which is started again when a file brings it down: the journal knows which
//! it was. So one bad file costs its own runs and not the rest of the night.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::say::complain;

/// Set for the process that does it. The end of its stdin asks for its own.
const VARIABLE: &str = "GCLIP_JOBS_RUNS_HERE";
const LOOK: Duration = Duration::from_millis(20);
/// A process that lives for so long is no sign that none can.
const LIVED: Duration = Duration::from_secs(60);
/// Processes that go down one after the other before it is given up.
const IN_A_ROW: u32 = 10;

/// Calls `run` in a process like this one, as often as it takes, and ends with its exit code.
///
/// # Errors
/// What `run` says there; here, that no process lives.
pub fn supervise(run: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os(VARIABLE).is_some() {
        let until_told = std::thread::Builder::new().name("until told".into());
        until_told.spawn(stop_when_told).context("no thread is left")?;
        return run();
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the default action is taken if the flag has been set before this signal.
        signal_hook::flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot take care of signals")?;
    }
    let mut in_a_row = 0;
    loop {
        let started = Instant::now();
        let status = wait(start()?, &stop)?;
        let Some(signal) = status.signal() else {
            return match status.code() {
                Some(0) => Ok(()),
                // It has said why.
                code => std::process::exit(code.unwrap_or(1)),
            };
        };
        if stop.load(Ordering::Relaxed) {
            bail!("stopped; the same command goes on");
        }
        in_a_row = if started.elapsed() > LIVED { 1 } else { in_a_row + 1 };
        if in_a_row >= IN_A_ROW {
            bail!(
                "it went down {in_a_row} times in a row, the last time by signal {signal}; the same command goes on"
            );
        }
        complain!("gclip: it went down (signal {signal}) and is started again");
    }
}

fn start() -> Result<Child> {
    let program = std::env::current_exe().context("this program cannot be found")?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(VARIABLE, "1").stdin(Stdio::piped());
    // What a terminal sends to all of a group comes to this process, which passes it on.
    command.process_group(0).spawn().context("cannot start what looks at the files")
}

/// Waits for the end of the process, and tells it to end when this one is told. Should this one be gone, the process sees
/// the end of its stdin all the same.
fn wait(mut child: Child, stop: &AtomicBool) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for what looks at the files")? {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            child.stdin = None;
        }
        std::thread::sleep(LOOK);
    }
}

fn stop_when_told() {
    let mut stdin = std::io::stdin().lock();
    let mut some = [0; 64];
    while matches!(stdin.read(&mut some), Ok(1..)) {}
    // A signal that this process sends to itself does not fail.
    let _ = signal_hook::low_level::raise(SIGTERM);
}
