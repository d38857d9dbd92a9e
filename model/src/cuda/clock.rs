// SPDX-License-Identifier: MIT OR Apache-2.0
//! Times of stages, without stopping a GPU that works in the background: marks in its stream, read when it is done.

use std::time::{Duration, Instant};

use anyhow::Result;
use tch::Device;

use super::{Event, Runtime, Stream, runtime};

/// Where marks are made.
#[derive(Clone, Copy)]
pub enum Clock {
    Host,
    /// A GPU's, as this stream of it goes.
    Stream(&'static Runtime, Stream),
}

/// A point between two stages.
pub enum Mark {
    Host(Instant),
    Stream(Event),
}

impl Clock {
    /// The clock of what this thread runs on `device`.
    pub fn of(device: Device) -> Result<Clock> {
        match device {
            Device::Cuda(device) => {
                let runtime = runtime()?;
                let stream = runtime.compute(device)?;
                Ok(Clock::Stream(runtime, stream))
            }
            _ => Ok(Clock::Host),
        }
    }

    pub fn mark(self) -> Result<Mark> {
        match self {
            Clock::Host => Ok(Mark::Host(Instant::now())),
            Clock::Stream(runtime, stream) => {
                let event = runtime.event(true)?;
                event.record(stream)?;
                Ok(Mark::Stream(event))
            }
        }
    }
}

impl Mark {
    /// Time from `earlier`, of the same clock. Waits if the work is not done.
    pub fn since(&self, earlier: &Mark) -> Result<Duration> {
        match (self, earlier) {
            (Mark::Host(now), Mark::Host(then)) => Ok(now.duration_since(*then)),
            (Mark::Stream(now), Mark::Stream(then)) => {
                now.wait()?;
                now.since(then)
            }
            _ => Ok(Duration::ZERO),
        }
    }
}
