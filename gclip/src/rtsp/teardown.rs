// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaves a camera before its first packet without a word. `rtspsrc` forgets the sequence number of its events first
//! and says TEARDOWN then; a first packet that comes before the answer starts the stream with that number, and
//! GStreamer complains about an event without one (seen in 1.22). The end of the connection ends such a session too.
//! Packets that have come already and wait in the jitter buffer do the same, so from then on they stay there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use parking_lot::{Condvar, Mutex};

use super::alive::has_udp;
use super::is_made_by;

/// A first packet is given this long to become a stream: it takes less than a millisecond where the machine has time, or never
/// does.
const PASSING: Duration = Duration::from_secs(1);

/// The way of a camera's first packet out of the jitter buffer.
#[derive(Default)]
pub struct Door {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The pipeline leaves the camera.
    closed: bool,
    /// A first packet is on its way to become a stream.
    passing: bool,
    /// There is a stream.
    passed: bool,
}

#[derive(Debug, PartialEq)]
enum Passage {
    Open,
    Closed,
    /// It need not be watched any more.
    Done,
}

impl Door {
    fn packet(&self) -> Passage {
        let mut state = self.state.lock();
        match *state {
            State { passed: true, .. } => Passage::Done,
            State { closed: true, .. } => Passage::Closed,
            _ => {
                state.passing = true;
                Passage::Open
            }
        }
    }

    /// The first packet has become a stream.
    pub fn has_stream(&self) {
        let mut state = self.state.lock();
        (state.passing, state.passed) = (false, true);
        self.changed.notify_all();
    }

    /// No first packet passes from now on, and none is on its way.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let end = Instant::now() + PASSING;
        while state.passing && !self.changed.wait_until(&mut state, end).timed_out() {}
    }
}

/// Watches the jitter buffers of a new `rtspsrc`.
pub fn guard(source: &gst::Element, door: &Arc<Door>) {
    let door = door.clone();
    source.connect("new-manager", false, move |arguments| {
        let manager = arguments.get(1)?.get::<gst::Element>().ok()?;
        if is_made_by(&manager, "rtpbin") {
            let door = door.clone();
            manager.connect("new-jitterbuffer", false, move |arguments| {
                let jitter_buffer = arguments.get(1)?.get::<gst::Element>().ok()?;
                watch(&jitter_buffer.static_pad("src")?, door.clone());
                None
            });
        }
        None
    });
}

fn watch(pad: &gst::Pad, door: Arc<Door>) {
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(kinds, move |_, _| match door.packet() {
        Passage::Open => gst::PadProbeReturn::Ok,
        // Not Drop: after gstreamer-rs has freed the buffer, GStreamer would try to free it once more.
        Passage::Closed => gst::PadProbeReturn::Handled,
        Passage::Done => gst::PadProbeReturn::Remove,
    });
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_packet_passes_before_the_door_is_closed_or_not_at_all() {
        let door = Door::default();
        door.close();
        assert_eq!((door.packet(), door.packet()), (Passage::Closed, Passage::Closed));

        let door = Arc::new(Door::default());
        assert_eq!(door.packet(), Passage::Open);
        let closing = std::thread::spawn({
            let door = door.clone();
            move || {
                door.close();
                door.state.lock().passed
            }
        });
        while !door.state.lock().closed {
            std::thread::yield_now();
        }
        assert_eq!(door.packet(), Passage::Closed, "the second is late");
        door.has_stream();
        assert!(closing.join().unwrap(), "it waits for the one on its way");
        assert_eq!(door.packet(), Passage::Done);
    }

    #[test]
    fn what_becomes_no_stream_is_not_waited_for_for_long() {
        let door = Door::default();
        assert_eq!(door.packet(), Passage::Open);
        let begin = Instant::now();
        door.close();
        assert!(begin.elapsed() >= PASSING);
    }
}
