// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cameras over RTSP, from a server that misbehaves on command (`rtsp/server.c`).

mod rtsp;

#[path = "watch/server.rs"]
mod server;
