// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip jobs` on real NATS servers and real files: what is promised of workers that go down, freeze and are stopped, of
//! files that cannot be looked at, and of results that cannot be written.

#[path = "jobs/archive.rs"]
mod archive;
#[path = "jobs/harness.rs"]
mod harness;
#[path = "jobs/here.rs"]
mod here;
#[path = "jobs/mistakes.rs"]
mod mistakes;
#[path = "jobs/places.rs"]
mod places;
#[path = "jobs/workers.rs"]
mod workers;
