// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wish to end, of one camera or of all, and waits that it cuts short; and what signals ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::{Condvar, Mutex};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Asked for once and for ever.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    pub fn request(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    pub fn is_requested(&self) -> bool {
        *self.0.0.lock()
    }

    /// Waits, unless it is time to stop.
    pub fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut requested = self.0.0.lock();
        while !*requested {
            if self.0.1.wait_until(&mut requested, end).timed_out() {
                return;
            }
        }
    }
}

/// What the signals of this process have asked for. A handler may do no more than set these.
pub struct Signals {
    stop: Arc<AtomicBool>,
    which: Arc<AtomicUsize>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// The first SIGINT or SIGTERM is a request to end, the second ends the program at once; SIGHUP asks for the
    /// config to be read again.
    pub fn catch() -> Result<Signals> {
        let signals = Signals { stop: Arc::default(), which: Arc::default(), reload: Arc::default() };
        let register = || {
            for signal in [SIGINT, SIGTERM] {
                // In this order: the default action is taken if the flag has been set before this signal.
                signal_hook::flag::register_conditional_default(signal, signals.stop.clone())?;
                signal_hook::flag::register_usize(signal, signals.which.clone(), signal as usize)?;
                signal_hook::flag::register(signal, signals.stop.clone())?;
            }
            signal_hook::flag::register(SIGHUP, signals.reload.clone())
        };
        register().context("cannot take care of signals")?;
        Ok(signals)
    }

    /// The name of the signal that asked for the end.
    pub fn stop(&self) -> Option<&'static str> {
        let name = if self.which.load(Ordering::Relaxed) == SIGINT as usize { "SIGINT" } else { "SIGTERM" };
        self.stop.load(Ordering::Relaxed).then_some(name)
    }

    /// Whether the config is to be read again; each wish is told once.
    pub fn reload(&self) -> bool {
        self.reload.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_cut_short() {
        let (stop, start) = (Stop::default(), Instant::now());
        stop.wait(Duration::from_millis(20));
        assert!(start.elapsed() >= Duration::from_millis(20) && !stop.is_requested());
        let waiting = stop.clone();
        let thread = std::thread::spawn(move || waiting.wait(Duration::from_secs(3600)));
        stop.request();
        thread.join().unwrap();
        assert!(stop.is_requested() && start.elapsed() < Duration::from_secs(600));
    }
}
