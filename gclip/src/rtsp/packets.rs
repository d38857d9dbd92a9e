// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keeps packets away from GStreamer that it cannot bear: the depayloaders of 1.22 take the length of a fragment as what
//! is left behind its headers without looking whether anything is, and a packet that ends there makes them read four
//! gigabytes. One camera's torn packet would end the program. Those of Theora and MPEG-4 are only told that nothing is left, in
//! GStreamer's words of a fault in the program.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gst::prelude::*;

/// Of RTP, without sources and extension.
const HEADER: usize = 12;

#[derive(Clone, Copy, PartialEq)]
enum Encoding {
    H264,
    H265,
    Mpeg4,
    Theora,
    Other,
}

impl Encoding {
    fn of(pad: &gst::Pad) -> Encoding {
        let caps = pad.current_caps();
        let name = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<&str>("encoding-name").ok());
        match name {
            Some("H264") => Encoding::H264,
            Some("H265") => Encoding::H265,
            Some("MP4V-ES") => Encoding::Mpeg4,
            Some("THEORA") => Encoding::Theora,
            _ => Encoding::Other,
        }
    }
}

/// A number that is only ever counted up.
pub type Counter = Arc<AtomicU64>;

/// Drops torn packets on a pad of `rtspsrc`, and counts the frames that come in.
pub fn guard(pad: &gst::Pad, frames: Counter) {
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST;
    pad.add_probe(kinds, move |pad, info| {
        let encoding = Encoding::of(pad);
        let whole = |packet: &gst::BufferRef| {
            packet.map_readable().is_ok_and(|bytes| {
                if ends_frame(&bytes) {
                    frames.fetch_add(1, Ordering::Relaxed);
                }
                is_whole(encoding, bytes.as_slice())
            })
        };
        match &mut info.data {
            // Not Drop: after gstreamer-rs has freed the buffer, GStreamer would try to free it once more.
            Some(gst::PadProbeData::Buffer(packet)) if !whole(packet) => return gst::PadProbeReturn::Handled,
            Some(gst::PadProbeData::BufferList(packets)) => {
                let keep = |packet: gst::Buffer, _| ControlFlow::Continue(Some(packet).filter(|p| whole(p)));
                packets.make_mut().foreach_mut(keep);
            }
            _ => (),
        }
        gst::PadProbeReturn::Ok
    });
}

/// RTP's marker: with all kinds of video, the packet is the last of its frame.
fn ends_frame(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|second| second & 0x80 != 0)
}

/// Whether a packet holds at least a byte behind the headers that it says it has.
fn is_whole(encoding: Encoding, packet: &[u8]) -> bool {
    if encoding == Encoding::Other {
        return true;
    }
    let Some(payload) = payload(packet) else { return false };
    let Some(&first) = payload.first() else { return false };
    let headers = match (encoding, first & 0x1f, first >> 1 & 0x3f) {
        (Encoding::Mpeg4, ..) => 0,
        // RFC 5215's for Vorbis, which Theora takes over: which packets are in it, and the length of the first.
        (Encoding::Theora, ..) => 6,
        // RFC 6184: STAP-A; STAP-B and MTAP; FU-A; FU-B
        (Encoding::H264, 24, _) => 3,
        (Encoding::H264, 25..=27, _) => 5,
        (Encoding::H264, 28, _) => 2,
        (Encoding::H264, 29, _) => 4,
        (Encoding::H264, ..) => 0,
        // RFC 7798: aggregation, fragment, a unit on its own
        (_, _, 48) => 4,
        (_, _, 49) => 3,
        _ => 2,
    };
    payload.len() > headers
}

/// What follows RTP's header (RFC 3550), without padding; `None` if the packet ends before.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let mut start = HEADER + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let words = packet.get(start + 2..start + 4)?;
        start += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
    }
    let padding = if first & 0x20 != 0 { usize::from(*packet.last()?) } else { 0 };
    packet.get(start..packet.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, between: &[u8], payload: &[u8]) -> Vec<u8> {
        [&[first, 96][..], &[0; HEADER - 2], between, payload].concat()
    }

    #[test]
    fn a_fragment_without_content_is_torn() {
        let h264 = |payload: &[u8]| is_whole(Encoding::H264, &packet(0x80, &[], payload));
        assert!(!h264(&[28]) && !h264(&[28, 0x05]) && h264(&[28, 0x05, 1]));
        assert!(!h264(&[24, 0, 1]) && h264(&[24, 0, 1, 9]));
        assert!(!h264(&[29, 0x85, 0, 0]) && h264(&[29, 0x85, 0, 0, 1]));
        // Units on their own may be as short as the end of a sequence.
        assert!(h264(&[0x0a]) && !h264(&[]));
        let h265 = |payload: &[u8]| is_whole(Encoding::H265, &packet(0x80, &[], payload));
        assert!(!h265(&[49 << 1, 1, 0x13]) && h265(&[49 << 1, 1, 0x13, 1]));
        assert!(!h265(&[1 << 1, 1]) && h265(&[1 << 1, 1, 7]));
        assert!(is_whole(Encoding::Other, &[]), "what is not known is left alone");
        let [theora, mpeg4] = [Encoding::Theora, Encoding::Mpeg4]
            .map(|encoding| move |payload: &[u8]| is_whole(encoding, &packet(0x80, &[], payload)));
        assert!(!theora(&[0, 0, 0, 1, 0, 0]) && theora(&[0, 0, 0, 1, 0, 1, 9]));
        assert!(!mpeg4(&[]) && mpeg4(&[0]));
    }

    #[test]
    fn the_headers_of_rtp_do_not_count() {
        // One source, an extension of one word, two bytes of padding.
        let between = [&[0; 4][..], &[0, 0, 0, 1], &[0; 4]].concat();
        let with = |payload: &[u8]| is_whole(Encoding::H264, &packet(0xb1, &between, payload));
        assert!(with(&[28, 5, 1, 0, 2]) && !with(&[28, 5, 0, 2]));
        assert!(!with(&[28, 5, 1, 0, 200]), "more padding than packet");
        let whole = packet(0xb1, &between, &[28, 5, 1, 0, 2]);
        for length in 0..whole.len() {
            // Whatever remains is judged, not read beyond.
            let _ = is_whole(Encoding::H264, &whole[..length]);
        }
        assert!(!is_whole(Encoding::H264, &whole[..20]));
    }
}
