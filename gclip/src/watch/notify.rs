// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `gclip watch` tells the service manager (systemd's `Type=notify` and `WatchdogSec=`): ready, alive, stopping.
//! Without one, nothing.

use std::io;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// No forward takes as long as this; a model that frames wait for, and that answers none meanwhile, hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Service {
    /// The manager ends the program when it has not heard from it for twice as long.
    interval: Option<Duration>,
    fed: Option<Instant>,
    pulse: Pulse,
}

impl Service {
    /// Tells that everything runs.
    ///
    /// # Errors
    /// A manager that set `NOTIFY_SOCKET` but does not listen there.
    pub fn ready() -> io::Result<Service> {
        sd_notify::notify(&[NotifyState::Ready])?;
        let interval = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Ok(Service { interval, fed: None, pulse: Pulse::default() })
    }

    /// To be called again and again by what must not hang, with what is known of the model: forwards since the start, and
    /// frames that wait for one. A message that is lost is made up for by the next.
    pub fn alive(&mut self, now: Instant, forwards: u64, waiting: u64) {
        let beats = self.pulse.beats(now, forwards, waiting);
        let Some(interval) = self.interval else { return };
        if beats
            && self.fed.is_none_or(|fed| now.duration_since(fed) >= interval)
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

/// Whether the model still answers.
#[derive(Default)]
struct Pulse {
    forwards: u64,
    /// When it last had answered, or had nothing to do.
    moved: Option<Instant>,
}

impl Pulse {
    fn beats(&mut self, now: Instant, forwards: u64, waiting: u64) -> bool {
        if waiting == 0 || forwards != self.forwards {
            self.moved = None;
        }
        self.forwards = forwards;
        now.duration_since(*self.moved.get_or_insert(now)) < PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{PATIENCE, Pulse};

    #[test]
    fn only_a_model_that_frames_wait_for_can_hang() {
        let (start, mut pulse) = (Instant::now(), Pulse::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pulse.beats(at(0), 0, 0) && pulse.beats(at(1000), 0, 0), "nothing to do");
        assert!(pulse.beats(at(1001), 0, 8) && pulse.beats(at(1050), 0, 8), "a long forward");
        assert!(pulse.beats(at(1055), 1, 8) && pulse.beats(at(1110), 1, 8), "another one");
        assert!(!pulse.beats(at(1055) + PATIENCE, 1, 8), "it hangs");
        assert!(pulse.beats(at(1200), 2, 8), "it has come back");
    }
}
