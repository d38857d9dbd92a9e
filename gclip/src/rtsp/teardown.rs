// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaves a camera before its first packet without a word. `rtspsrc` forgets the sequence number of its events first
//! and says TEARDOWN then; a first packet that comes before the answer starts the stream with that number, and
//! GStreamer complains about an event without one (seen in 1.22). The end of the connection ends such a session too.

use gst::prelude::*;

use super::alive::has_udp;

/// Whether nothing may be said to the camera: its pipeline leaves it before the first packet.
pub fn is_silent(source: &gst::Element) -> bool {
    is_leaving(source) && !has_packets(source)
}

/// Whether the pipeline is on its way to NULL. What is in it goes there state by state, and does not know the aim.
fn is_leaving(source: &gst::Element) -> bool {
    let mut pipeline = source.clone();
    while let Some(parent) = pipeline.parent().and_downcast::<gst::Element>() {
        pipeline = parent;
    }
    let (_, _, pending) = pipeline.state(Some(gst::ClockTime::ZERO));
    pending == gst::State::Null
}

/// Whether packets have come, or come beside the connection: UDP goes on until TEARDOWN, and has no such trouble.
fn has_packets(source: &gst::Element) -> bool {
    !source.src_pads().is_empty() || has_udp(source)
}
