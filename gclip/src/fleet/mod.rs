// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cameras over many machines: workers that share them by way of NATS, without one that commands.
//!
//! ```text
//! placement   who is to have which camera        member  one worker as a machine of events and actions
//! fence       whether a line may go out          records what is in the buckets
//! session     a member by the real servers, for `gclip watch` with [fleet]
//! command     `gclip fleet`
//! ```

mod command;
mod fence;
mod member;
mod placement;
mod records;
mod session;
#[cfg(test)]
mod tests;

pub use command::{Args, run};
pub use fence::{Alone, Claim, Gate};
pub use records::{Camera, CameraReport};
pub use session::{Joined, Order, Settings, Standing};
