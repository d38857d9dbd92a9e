// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells a camera that its pictures are still wanted. `rtspsrc` does so by itself where they come by UDP; where they come within
//! the connection it means to, but waits for a pause between packets first (seen in 1.22), and a camera that counts only
//! requests, and not RTCP's reports, ends the session meanwhile.

use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::Mutex;

use super::is_made_by;

/// Between two requests. RTSP's sessions last a minute where the camera does not say otherwise, which the element keeps to
/// itself; the shortest that are known last five seconds.
const EVERY: Duration = Duration::from_secs(4);

/// Sends requests as long as packets pass this pad of a source.
pub fn keep(source: &gst::Element, pad: &gst::Pad) {
    if has_udp(source) {
        return;
    }
    let (source, last) = (source.downgrade(), Mutex::new(Instant::now()));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
        if is_time(&mut last.lock())
            && let Some(source) = source.upgrade()
        {
            ask_for_nothing(&source);
        }
        gst::PadProbeReturn::Ok
    });
}

fn is_time(last: &mut Instant) -> bool {
    let due = last.elapsed() >= EVERY;
    if due {
        *last = Instant::now();
    }
    due
}

/// GET_PARAMETER without any, which is RTSP's way to show that one is there (RFC 2326, 10.8). The element sends it when it can;
/// it does not where the camera has not offered the method, and passes over what a camera answers.
fn ask_for_nothing(source: &gst::Element) {
    let (names, kind) = (Vec::<String>::new().to_value(), None::<String>.to_value());
    let reply = gst::Promise::new().to_value();
    source.emit_by_name_with_values("get-parameters", &[names, kind, reply]);
}

/// Whether packets come beside the connection.
pub fn has_udp(source: &gst::Element) -> bool {
    let children = source.downcast_ref::<gst::Bin>().map(|source| source.children()).unwrap_or_default();
    children.iter().any(|child| is_made_by(child, "udpsrc"))
}
