// SPDX-License-Identifier: MIT OR Apache-2.0
//! Line after line from a queue to where they can be written one by one.

use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::watch::console::Console;
use crate::watch::queue::{Line, Queue};

/// How long an idle writer sleeps before it looks whether it is time to end.
const IDLE: Duration = Duration::from_millis(500);

/// Takes whole lines.
pub trait Sink {
    /// # Errors
    /// The line is lost; of kind `BrokenPipe`, nobody will ever read again.
    fn write(&mut self, line: &[u8]) -> io::Result<()>;

    /// Waits until lines can be written, or for a while. Returns whether they can.
    fn is_ready(&mut self, _patience: Duration) -> bool {
        true
    }

    /// Who has to come before anything can be written.
    fn waits_for(&self) -> &'static str {
        ""
    }
}

/// Writes line after line until the queue is closed and empty. Returns whether somebody read to the end.
pub fn copy(queue: &Queue, sink: &mut dyn Sink, console: &Console, who: &str) -> bool {
    let (mut lost, mut waits) = (0u64, false);
    loop {
        if !sink.is_ready(IDLE) {
            if queue.is_closed() {
                return true;
            }
            if !std::mem::replace(&mut waits, true) {
                console.log(who, &format!("waits for {}", sink.waits_for()));
            }
            continue;
        }
        if std::mem::take(&mut waits) {
            console.log(who, "writes");
        }
        let Some(Line { bytes, .. }) = queue.take(IDLE) else {
            if queue.is_closed() {
                return true;
            }
            continue;
        };
        match sink.write(&bytes) {
            Ok(()) => {
                queue.count_delivered();
                if lost > 0 {
                    console.log(who, &format!("writes again; {lost} lines were lost"));
                    lost = 0;
                }
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                queue.count_dropped();
                console.log(who, "nobody reads any more");
                queue.close();
                return false;
            }
            Err(error) => {
                queue.count_dropped();
                if lost == 0 {
                    console.log(who, &format!("cannot write: {error}; going on without these lines"));
                }
                lost += 1;
            }
        }
    }
}
