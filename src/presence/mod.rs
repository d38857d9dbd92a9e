// SPDX-License-Identifier: MIT OR Apache-2.0
//! When does something enter the picture, or a zone of it, and when does it leave?
//!
//! * `zones`: named polygons, how a user writes them, and which pixels of a mask lie inside
//! * `changes`: areas over time to "entered" and "left", with hysteresis
//!
//! Plain Rust: no GStreamer, no torch, no threads.

mod changes;
mod zones;

pub use changes::{Change, Hysteresis, Presence, Tracker};
pub use zones::{Raster, Zone, Zones};
