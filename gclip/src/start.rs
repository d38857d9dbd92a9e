// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command does first that plays anything.

use anyhow::{Context, Result};

/// GStreamer, with our elements in it.
///
/// # Errors
/// One of them does not start.
pub fn gstreamer() -> Result<()> {
    gst::init().context("GStreamer does not start")?;
    gstgclip::plugin_register_static().context("the gclip plugin does not register")
}
