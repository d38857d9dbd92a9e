// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rtspsrc` among cameras that may send anything and be left at any time.

mod packets;
mod teardown;

use gst::prelude::*;

/// Guards a new source against what GStreamer cannot bear of cameras, if it is an `rtspsrc`.
pub fn guard(source: &gst::Element) {
    if is_made_by(source, "rtspsrc") {
        source.connect_pad_added(|_, pad| packets::guard(pad));
        teardown::guard(source);
    }
}

fn is_made_by(element: &gst::Element, factory: &str) -> bool {
    element.factory().is_some_and(|made_by| made_by.name() == factory)
}
