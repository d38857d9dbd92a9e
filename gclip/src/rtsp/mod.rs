// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rtspsrc` among cameras that may send anything and be left at any time.
//!
//! ```text
//! packets   torn packets never reach a depayloader    sockets  connections can be ended from outside
//! teardown  when no farewell is said                  talk     a camera that talks without coming to a stream
//! alive     requests while pictures come              message  what a request asks
//! ```
//!
//! What GStreamer 1.22 cannot bear of a camera, and who keeps it away:
//!
//! | call | what a camera does | guard |
//! | --- | --- | --- |
//! | `rtph264depay`, `rtph265depay`: length less headers, unsigned | a packet that ends within its own headers | `packets` |
//! | `gst_rtsp_connection_receive`: a message is read to its end, no cancel | headers without end | `talk`, and `sockets` to stop |
//! | `rtspsrc`: redirections are followed without counting | a redirection to itself | `talk` |
//! | `rtspsrc`: a first packet while it is left gives events without a sequence number | comes late | `teardown` |
//! | `videorate`: asserts a known rate after negotiation | announces no frame rate, or a low one | not used: `watch::thin` |
//! | `rtspsrc`: a pad and a jitter buffer for each stream | an SDP with many streams | `Talk::takes`: the first video alone |
//! | `rtspsrc`: no keep-alive while packets come within the connection | ends sessions without requests | `alive` |
//! | `rtspsrc`: gives a password eight times in a row | refuses it, and counts | `Talk::may_ask` |
//! | `rtpjitterbuffer`: waits by the camera's clock | times that jump by hours | the camera's `timeout`: a new connection |

mod alive;
mod message;
mod packets;
mod sockets;
mod talk;
mod teardown;

use std::sync::Arc;

use gst::prelude::*;

pub use packets::Counter;
pub use talk::Talk;

/// Guards a new source against what GStreamer cannot bear of cameras, if it is an `rtspsrc`. `frames` are counted as
/// they come in.
pub fn guard(source: &gst::Element, frames: Counter) -> Option<Arc<Talk>> {
    if !is_made_by(source, "rtspsrc") {
        return None;
    }
    sockets::watch();
    let talk = Arc::new(Talk::default());
    teardown::guard(source, talk.door());
    let of_pads = talk.clone();
    source.connect_pad_added(move |source, pad| {
        of_pads.has_streams();
        alive::keep(source, pad);
        packets::guard(pad, frames.clone());
    });
    let of_requests = talk.clone();
    source.connect("before-send", false, move |arguments| {
        let source = arguments.first().and_then(|source| source.get::<gst::Element>().ok());
        let silent = source.as_ref().is_some_and(teardown::is_silent);
        let method = arguments.get(1).and_then(message::method);
        let seldom = method.is_none_or(|method| of_requests.may_ask(method));
        Some((of_requests.may_go_on() && seldom && !silent).to_value())
    });
    Some(talk)
}

fn is_made_by(element: &gst::Element, factory: &str) -> bool {
    element.factory().is_some_and(|made_by| made_by.name() == factory)
}
