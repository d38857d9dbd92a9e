// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rtspsrc` among cameras that may send anything and be left at any time.

mod packets;
mod teardown;

use gst::prelude::*;

/// Guards a new `rtspsrc` against what GStreamer cannot bear.
pub fn guard(source: &gst::Element) {
    source.connect_pad_added(|_, pad| packets::guard(pad));
    teardown::guard(source);
}
