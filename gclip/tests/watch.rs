// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip watch` on cameras over RTSP, from a server that misbehaves on command (`rtsp/server.c`), with a checkpoint
//! made by the test. Everything listens on 127.0.0.1, on free ports.

// Of the program: what GStreamer cannot bear must not end the tests either.
#[allow(dead_code)]
#[path = "../src/rtsp/mod.rs"]
mod rtsp_guard;

#[path = "watch/client.rs"]
mod client;
#[path = "watch/control.rs"]
mod control;
#[path = "watch/endless.rs"]
mod endless;
// The tests of a fleet take more of it.
#[allow(dead_code)]
#[path = "watch/harness.rs"]
mod harness;
#[path = "watch/history.rs"]
mod history;
#[path = "watch/keepalive.rs"]
mod keepalive;
#[path = "watch/leaving.rs"]
mod leaving;
#[path = "watch/metrics.rs"]
mod metrics;
#[path = "watch/mishaps.rs"]
mod mishaps;
#[path = "watch/mistakes.rs"]
mod mistakes;
#[path = "watch/mqtt.rs"]
mod mqtt;
#[path = "watch/openapi.rs"]
mod openapi;
#[path = "watch/outages.rs"]
mod outages;
#[path = "watch/page.rs"]
mod page;
#[path = "watch/passwords.rs"]
mod passwords;
#[path = "watch/random.rs"]
mod random;
#[path = "watch/results.rs"]
mod results;
#[path = "watch/safety.rs"]
mod safety;
#[path = "watch/secrets.rs"]
mod secrets;
#[path = "watch/server.rs"]
mod server;
#[path = "watch/service.rs"]
mod service;
#[path = "watch/shards.rs"]
mod shards;
#[path = "watch/stopping.rs"]
mod stopping;
#[path = "watch/surroundings.rs"]
mod surroundings;
#[path = "watch/terminal.rs"]
mod terminal;
#[path = "watch/try_out.rs"]
mod try_out;
#[path = "watch/webhook.rs"]
mod webhook;
