// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wish to end, and waits that it cuts short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A signal handler may do no more than set the flag, so whoever waits looks at it this often.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// The first SIGINT or SIGTERM is a request, the second ends the program at once.
    pub fn on_signals() -> Result<Stop> {
        let stop = Stop::default();
        for signal in [SIGINT, SIGTERM] {
            let register = || {
                // In this order: the default action is taken if the flag has been set before this signal.
                signal_hook::flag::register_conditional_default(signal, stop.0.clone())?;
                signal_hook::flag::register(signal, stop.0.clone())
            };
            register().context("cannot take care of signals")?;
        }
        Ok(stop)
    }

    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits, unless it is time to stop.
    pub fn wait(&self, time: Duration) {
        let end = Instant::now() + time;
        while !self.is_requested() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}
