// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `gclip watch` tells the service manager (systemd's `Type=notify` and `WatchdogSec=`): ready, alive, stopping.
//! Without one, nothing.

use std::io;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

pub struct Service {
    /// The manager ends the program when it has not heard from it for twice as long.
    interval: Option<Duration>,
    fed: Option<Instant>,
}

impl Service {
    /// Tells that everything runs.
    ///
    /// # Errors
    /// A manager that set `NOTIFY_SOCKET` but does not listen there.
    pub fn ready() -> io::Result<Service> {
        sd_notify::notify(&[NotifyState::Ready])?;
        Ok(Service { interval: sd_notify::watchdog_enabled().map(|limit| limit / 2), fed: None })
    }

    /// To be called again and again by what must not hang. A message that is lost is made up for by the next.
    pub fn alive(&mut self, now: Instant) {
        let Some(interval) = self.interval else { return };
        if self.fed.is_none_or(|fed| now.duration_since(fed) >= interval)
            && sd_notify::notify(&[NotifyState::Watchdog]).is_ok()
        {
            self.fed = Some(now);
        }
    }

    pub fn stopping(&self) {
        // Nothing is left to do about a manager that does not listen.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}
