// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the lines go. Each output has a queue and a thread of its own: one that is slow or broken holds up neither
//! the cameras nor the other outputs.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::config::{self, Target, What};
use super::console::Console;
use super::mqtt::Publisher;
use super::queue::{Line, Queue};
use super::stop::Stop;

/// How long an idle writer sleeps before it looks whether it is time to end.
const IDLE: Duration = Duration::from_millis(500);

pub struct Output {
    pub name: String,
    pub what: What,
    pub queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

impl Output {
    /// Opens the output and starts its thread.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn open(output: &config::Output, console: &Arc<Console>, stop: &Stop) -> Result<Output> {
        let queue = Arc::new(Queue::new(output.buffer));
        let who = format!("output.{}", output.name);
        let (lines, console, stop) = (queue.clone(), console.clone(), stop.clone());
        let run: Box<dyn FnOnce() + Send> = match &output.target {
            Target::Stdout => Box::new(move || {
                let mut stdout = Stdout { console: console.clone() };
                copy(&lines, &mut stdout, &console, &who, &stop);
            }),
            Target::File(path) => {
                let mut file = Appender::open(path)
                    .with_context(|| format!("{who}: cannot write {}", path.display()))?;
                Box::new(move || copy(&lines, &mut file, &console, &who, &stop))
            }
            Target::Mqtt { broker, topic, trusted } => {
                let (broker, topic, trusted) = (broker.clone(), topic.clone(), trusted.clone());
                let publisher = Publisher { broker, topic, trusted, queue: lines, console, who };
                Box::new(move || publisher.run())
            }
        };
        let thread = std::thread::Builder::new().name(format!("output-{}", output.name)).spawn(run)?;
        Ok(Output { name: output.name.clone(), what: output.what, queue, thread })
    }

    /// Lets what waits go out, and waits for that until `deadline`. Returns how many lines were left behind.
    pub fn close(self, deadline: Instant) -> u64 {
        self.queue.close();
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.queue.undelivered()
    }
}

/// Takes whole lines.
trait Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<()>;
}

/// Writes line after line until the queue is closed and empty.
fn copy(queue: &Queue, sink: &mut dyn Sink, console: &Console, who: &str, stop: &Stop) {
    let mut lost = 0u64;
    loop {
        let Some(Line { bytes, .. }) = queue.take(IDLE) else {
            if queue.is_closed() {
                return;
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
                if !stop.is_requested() {
                    console.log(who, "nobody reads any more: stopping");
                    stop.request();
                }
                queue.close();
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

/// Standard output; where it is the terminal that shows the status lines, these make room.
struct Stdout {
    console: Arc<Console>,
}

impl Sink for Stdout {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let write = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(line)?;
            stdout.flush()
        };
        if self.console.is_terminal() && io::stdout().is_terminal() {
            return self.console.around(write);
        }
        write()
    }
}

/// A file that grows by whole lines.
struct Appender {
    file: File,
    /// The last line did not get in whole.
    torn: bool,
}

impl Appender {
    fn open(path: &Path) -> io::Result<Appender> {
        // Appending puts each line at the end even if something else has cut the file short meanwhile.
        Ok(Appender { file: OpenOptions::new().append(true).create(true).open(path)?, torn: false })
    }
}

impl Sink for Appender {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut written = 0;
        while written < line.len() {
            match self.file.write(&line[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn = written > 0;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
