// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ahead`: two batches under way. `closing`: when a batch closes, on a made-up clock. `threads`: what holds with a worker at work. `wakers`: who hears
//! of answers.

mod ahead;
mod closing;
mod threads;
mod wakers;

use std::time::Duration;

use super::SessionOptions;

/// A timeout that no test lives to see.
const NEVER: Duration = Duration::from_secs(3600);

fn options(batch_size: usize, batch_timeout: Duration, max_in_flight: usize) -> SessionOptions {
    SessionOptions { batch_size, batch_timeout, max_in_flight }
}
