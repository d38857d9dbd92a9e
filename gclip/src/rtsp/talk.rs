// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said with a camera before pictures come is short. One that talks without end is left.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gst_rtsp_sys::{GST_RTSP_DESCRIBE, GST_RTSP_OPTIONS, GstRTSPMethod};
use parking_lot::Mutex;

use super::sockets;
use super::teardown::Door;

/// Requests before the first stream is there: a camera needs about ten, with passwords and every way to send tried.
const MOST_REQUESTS: u32 = 60;
/// Bytes until then: descriptions of streams with thousands of lines are in use.
const MOST_BYTES: u64 = 4 << 20;

/// The same question in a row: once without the password, once with it, and once more, as the camera's part of a digest may
/// have been too old. `rtspsrc` would give a password eight times, and cameras lock out whoever is wrong five times.
const MOST_TIMES: u32 = 3;

/// A connection that the camera has closed is over after this long: a redirection makes another one.
const CLOSED: Duration = Duration::from_secs(1);

/// The conversation of one `rtspsrc` with its camera.
#[derive(Default)]
pub struct Talk {
    requests: AtomicU32,
    streams: AtomicBool,
    /// Whether the camera has told what it could send.
    offered: AtomicBool,
    /// Number of the stream that is fetched, and one; 0 before it is chosen.
    chosen: AtomicU32,
    /// The connection that is in use.
    socket: Mutex<Option<TcpStream>>,
    received: AtomicU64,
    /// The last question, and how often in a row.
    last: Mutex<(GstRTSPMethod, u32)>,
    /// Since when the connection has been found closed by the camera.
    closed: Mutex<Option<Instant>>,
    door: Arc<Door>,
}

impl Talk {
    /// To be asked before each request. For one that is not sent the answer to the one before counts: a refusal.
    pub(super) fn may_ask(&self, method: GstRTSPMethod) -> bool {
        let mut last = self.last.lock();
        let count = if last.0 == method { last.1 + 1 } else { 1 };
        *last = (method, count);
        // The others may be asked for as often as there are streams and ways to send them.
        count <= MOST_TIMES || !matches!(method, GST_RTSP_OPTIONS | GST_RTSP_DESCRIBE)
    }

    /// To be asked before each request, on the thread that sends it. At the limit the connection ends.
    pub(super) fn may_go_on(&self) -> bool {
        if let Some(socket) = sockets::made_here() {
            let before = self.socket.lock().replace(socket);
            // One that is no longer in use ends with this handle.
            self.add_received(before.as_ref());
        }
        let requests = self.requests.fetch_add(1, Ordering::Relaxed);
        let goes_on = self.streams.load(Ordering::Relaxed) || requests < MOST_REQUESTS;
        if !goes_on {
            self.cut();
        }
        goes_on
    }

    pub(super) fn has_streams(&self) {
        self.streams.store(true, Ordering::Relaxed);
        self.door.has_stream();
    }

    pub(super) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// To be called before the pipeline is taken down.
    pub fn leave(&self) {
        self.door.close();
    }

    /// Whether a stream is the one to fetch: the first video that was ever offered.
    pub fn takes(&self, stream: u32, is_video: bool) -> bool {
        self.offered.store(true, Ordering::Relaxed);
        if !is_video {
            return false;
        }
        let number = stream.saturating_add(1);
        let before = self.chosen.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        before.is_ok() || before == Err(number)
    }

    /// Whether the camera has offered video.
    pub fn has_video(&self) -> bool {
        self.chosen.load(Ordering::Relaxed) != 0
    }

    /// Whether the camera has offered streams, and none of video.
    pub fn is_without_video(&self) -> bool {
        self.offered.load(Ordering::Relaxed) && !self.has_video()
    }

    /// What is wrong with the conversation, to be asked again and again; `None` while it is not over or was a good one.
    pub fn trouble(&self) -> Option<String> {
        if self.streams.load(Ordering::Relaxed) {
            return None;
        }
        if self.requests.load(Ordering::Relaxed) > MOST_REQUESTS {
            return Some(format!("sends from one address to the next ({MOST_REQUESTS} requests, no stream)"));
        }
        let received = self.socket.lock().as_ref().and_then(sockets::received).unwrap_or_default()
            + self.received.load(Ordering::Relaxed);
        if received > MOST_BYTES {
            return Some(format!("talks without end ({} MiB, and no stream)", MOST_BYTES >> 20));
        }
        let is_closed = self.socket.lock().as_ref().is_some_and(sockets::is_closed);
        let mut closed = self.closed.lock();
        *closed = is_closed.then(|| closed.unwrap_or_else(Instant::now));
        let over = closed.is_some_and(|since| since.elapsed() > CLOSED);
        over.then(|| "has closed the connection before the first picture".into())
    }

    /// Ends the connection, so that whoever reads from it comes back.
    pub fn cut(&self) {
        if let Some(socket) = self.socket.lock().take() {
            self.add_received(Some(&socket));
            // One that has ended already needs no end.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn add_received(&self, socket: Option<&TcpStream>) {
        self.received.fetch_add(socket.and_then(sockets::received).unwrap_or_default(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_not_go_on_for_ever() {
        let talk = Talk::default();
        assert!((0..MOST_REQUESTS).all(|_| talk.may_go_on()) && talk.trouble().is_none());
        assert!(!talk.may_go_on());
        assert!(talk.trouble().is_some_and(|why| why.contains("from one address to the next")));
        talk.has_streams();
        assert!(talk.may_go_on() && talk.trouble().is_none(), "a stream is kept alive by requests");
    }

    #[test]
    fn a_password_is_not_given_again_and_again() {
        use gst_rtsp_sys::{GST_RTSP_GET_PARAMETER, GST_RTSP_SETUP};
        let talk = Talk::default();
        let asked = |method| talk.may_ask(method);
        assert!(asked(GST_RTSP_OPTIONS) && asked(GST_RTSP_OPTIONS));
        assert!(
            (0..MOST_TIMES).all(|_| asked(GST_RTSP_DESCRIBE))
                && !asked(GST_RTSP_DESCRIBE)
                && !asked(GST_RTSP_DESCRIBE)
        );
        assert!(
            asked(GST_RTSP_OPTIONS) && asked(GST_RTSP_DESCRIBE),
            "another connection, after a redirection"
        );
        assert!((0..10).all(|_| asked(GST_RTSP_SETUP)) && (0..10).all(|_| asked(GST_RTSP_GET_PARAMETER)));
    }

    #[test]
    fn one_stream_is_taken() {
        let talk = Talk::default();
        assert!(!talk.is_without_video());
        assert!(!talk.takes(0, false) && talk.is_without_video());
        assert!(
            talk.takes(3, true) && !talk.takes(4, true) && talk.takes(3, true) && !talk.is_without_video()
        );
    }
}
