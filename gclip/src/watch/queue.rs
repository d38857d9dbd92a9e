// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines on their way to one output. Putting one in never waits: when the output is slower than the cameras,
//! the oldest lines go, and are counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::fleet::{Claim, Gate};

/// How soon a sender that waits sees that the program is ending.
const PAUSE: Duration = Duration::from_millis(100);
/// How soon a line that is held goes out when it may.
const GATE: Duration = Duration::from_millis(20);

/// What a line is about, for outputs that do more than pass it on.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    Frame,
    Presence {
        label: String,
        /// `None`: the whole picture.
        zone: Option<String>,
        entered: bool,
    },
    /// A thing that is looked at for damage.
    Anomaly {
        label: String,
        damaged: bool,
    },
    Camera {
        up: bool,
    },
}

/// One line of JSON, with its newline.
#[derive(Clone, Debug)]
pub struct Line {
    pub camera: Arc<str>,
    pub bytes: Arc<[u8]>,
    pub about: About,
    /// Whether it may go out, where somebody else could have the camera.
    pub claim: Option<Arc<Claim>>,
}

impl PartialEq for Line {
    fn eq(&self, other: &Line) -> bool {
        (&self.camera, &self.bytes, &self.about) == (&other.camera, &other.bytes, &other.about)
    }
}

impl Line {
    /// Whether it may go out.
    pub fn gate(&self) -> Gate {
        self.claim.as_ref().map_or(Gate::Open, |claim| claim.gate())
    }

    /// For who sends one line at a time and needs nothing between them.
    pub fn without_newline(&self) -> &[u8] {
        self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes)
    }
}

#[cfg(test)]
impl Line {
    pub fn new(camera: &str, bytes: Vec<u8>) -> Line {
        Line { camera: camera.into(), bytes: bytes.into(), about: About::Frame, claim: None }
    }
}

pub struct Queue {
    capacity: usize,
    state: Mutex<State>,
    changed: Condvar,
    /// Lines that were ever put in, lines that went because there was no room, lines that were lost in all, and lines
    /// that arrived.
    accepted: AtomicU64,
    overrun: AtomicU64,
    dropped: AtomicU64,
    delivered: AtomicU64,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    closed: bool,
}

impl Queue {
    /// For this many lines at most.
    pub fn new(capacity: usize) -> Queue {
        Queue {
            capacity: capacity.max(1),
            state: Mutex::default(),
            changed: Condvar::new(),
            accepted: AtomicU64::new(0),
            overrun: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
        }
    }

    pub fn put(&self, line: Line) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        state.lines.push_back(line);
        self.shorten(&mut state);
        self.changed.notify_all();
    }

    /// Puts lines that could not be delivered back to where they came from, oldest first.
    pub fn put_back(&self, lines: impl DoubleEndedIterator<Item = Line>) {
        let mut state = self.state.lock();
        for line in lines.rev() {
            state.lines.push_front(line);
        }
        self.shorten(&mut state);
    }

    fn shorten(&self, state: &mut State) {
        while state.lines.len() > self.capacity {
            state.lines.pop_front();
            self.overrun.fetch_add(1, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest line that may go out; waits for one, but no longer than this. `None` when there is none. Those that
    /// never may again are dropped.
    pub fn take(&self, patience: Duration) -> Option<Line> {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        loop {
            let gate = state.lines.front().map(Line::gate);
            match gate {
                Some(Gate::Open) => return state.lines.pop_front(),
                Some(Gate::Over) => {
                    state.lines.pop_front();
                    self.count_dropped();
                    continue;
                }
                // Nobody tells when it opens.
                Some(Gate::Held) => drop(self.changed.wait_for(&mut state, GATE.min(patience))),
                None if state.closed => return None,
                None => drop(self.changed.wait_until(&mut state, deadline)),
            }
            if state.lines.front().map(Line::gate) != Some(Gate::Open) && Instant::now() >= deadline {
                return None;
            }
        }
    }

    /// No line comes in any more; those that wait can still be taken.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    pub fn is_empty(&self) -> bool {
        self.state.lock().lines.is_empty()
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// What its sender waits with between two tries: it hurries when the program is ending.
    pub fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let hurry = self.is_closed();
            std::thread::sleep(PAUSE.min(end.saturating_duration_since(Instant::now())));
            if hurry {
                return;
            }
        }
    }

    pub fn count_delivered(&self) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Lines that wait, here or on their way.
    pub fn undelivered(&self) -> u64 {
        let accepted = self.accepted.load(Ordering::Relaxed);
        accepted.saturating_sub(self.delivered() + self.dropped())
    }

    /// Lines that went because there was no room.
    pub fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }

    /// Lines that were lost, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::new("gate", text.into())
    }

    fn rest(queue: &Queue) -> Vec<String> {
        let lines = std::iter::from_fn(|| queue.take(Duration::ZERO));
        lines.map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    #[test]
    fn the_oldest_lines_go_and_are_counted() {
        let queue = Queue::new(3);
        for text in ["a", "b", "c", "d", "e"] {
            queue.put(line(text));
        }
        assert_eq!((queue.undelivered(), queue.dropped()), (3, 2));
        let taken: Vec<_> = (0..2).filter_map(|_| queue.take(Duration::ZERO)).collect();
        queue.put(line("f"));
        queue.put_back(taken.into_iter());
        assert_eq!(rest(&queue), ["d", "e", "f"], "what comes back comes first, and still only three stay");
        assert_eq!(queue.dropped(), 3);
    }

    #[test]
    fn a_closed_queue_gives_what_it_has() {
        let queue = Queue::new(10);
        queue.put(line("a"));
        queue.close();
        queue.put(line("b"));
        assert_eq!(rest(&queue), ["a"]);
        assert!(queue.take(Duration::from_secs(60)).is_none(), "and does not wait for more");
    }
}
