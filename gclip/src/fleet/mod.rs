// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cameras over many machines: workers that share them by way of NATS, without one that commands.
//!
//! ```text
//! placement   who is to have which camera        member  one worker as a machine of events and actions
//! ```

mod member;
mod placement;
#[cfg(test)]
mod simulation;
