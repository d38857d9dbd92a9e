// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a worker may let out what it has to say of a camera. It is asked for each line, so that nothing has to happen
//! in time for the answer to become no.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::member::Time;

/// What happens to lines while the servers are away.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Alone {
    /// They wait until it is known that nobody else has taken the camera meanwhile.
    #[default]
    Hold,
    /// They go out, with their epoch: a reader may have to drop some of them later.
    GoOn,
}

/// Nanoseconds since the start of the machine until which one session may speak.
#[derive(Debug, Default)]
pub struct Fence(AtomicU64);

impl Fence {
    pub fn set(&self, until: Time) {
        self.0.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    pub fn is_open(&self) -> bool {
        clock() < Duration::from_nanos(self.0.load(Ordering::Acquire))
    }
}

/// Time since the start of the machine, in which its sleep counts (`CLOCK_BOOTTIME`).
pub fn clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or_default(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

/// A session's claim to a camera.
#[derive(Debug)]
pub struct Claim {
    pub worker: Arc<str>,
    /// Grows with each claim to the camera, whoever makes it.
    pub epoch: u64,
    fence: Arc<Fence>,
    alone: Alone,
    /// Somebody else has it, or may.
    over: AtomicBool,
}

/// Whether a line may go out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    Open,
    /// It is to wait.
    Held,
    /// Never again.
    Over,
}

impl Claim {
    pub fn new(worker: Arc<str>, epoch: u64, fence: Arc<Fence>, alone: Alone) -> Claim {
        Claim { worker, epoch, fence, alone, over: AtomicBool::new(false) }
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub fn gate(&self) -> Gate {
        if self.over.load(Ordering::Acquire) {
            Gate::Over
        } else if self.alone == Alone::GoOn || self.fence.is_open() {
            Gate::Open
        } else {
            Gate::Held
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_out_until_the_time_that_was_granted() {
        let fence = Arc::new(Fence::default());
        let claim = |alone| Claim::new("w".into(), 7, fence.clone(), alone);
        let (holds, goes_on) = (claim(Alone::Hold), claim(Alone::GoOn));
        assert_eq!((holds.gate(), goes_on.gate()), (Gate::Held, Gate::Open));
        fence.set(clock() + Duration::from_millis(30));
        assert_eq!(holds.gate(), Gate::Open);
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(holds.gate(), Gate::Held);
        fence.set(clock() + Duration::from_secs(600));
        holds.end();
        goes_on.end();
        assert_eq!((holds.gate(), goes_on.gate()), (Gate::Over, Gate::Over));
    }
}
