// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the lines go. Each output has a queue and a thread of its own: one that is slow or broken holds up neither
//! the cameras nor the other outputs.
//!
//! ```text
//! stdout, file   line after line (sink)    mqtt  a broker (topics: what else it is told)
//! nats           a stream of JetStream     webhook  HTTP POST
//! doubt          which line a receiver cannot bear
//! ```

mod doubt;
mod file;
mod mqtt;
mod nats;
mod sink;
mod stdout;
mod topics;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;

pub use topics::{Inventory, Watched};

use super::config::{self, Target};
use super::console::Console;
use super::queue::Queue;
use super::report::Route;
use file::Appender;
use mqtt::Publisher;
use sink::copy;
use stdout::Stdout;
use webhook::Hook;

/// Losses that go on are told about this often.
const REMIND: Duration = Duration::from_secs(60);

/// An output that can be started: what can be found wrong with it before has been.
pub struct Ready {
    output: config::Output,
    file: Option<Appender>,
}

impl Ready {
    /// # Errors
    /// A file that cannot be written.
    pub fn new(output: &config::Output) -> Result<Ready> {
        let file =
            match &output.target {
                Target::File(path) => {
                    let opened = Appender::open(path);
                    Some(opened.with_context(|| {
                        format!("output.{}: cannot write {}", output.name, path.display())
                    })?)
                }
                Target::Stdout | Target::Mqtt(_) | Target::Nats(_) | Target::Webhook(_) => None,
            };
        Ok(Ready { output: output.clone(), file })
    }

    /// Starts the output's thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self, console: &Arc<Console>, inventory: &Arc<Inventory>) -> Result<Output> {
        let Ready { output, file } = self;
        let queue = Arc::new(Queue::new(output.buffer));
        let who = format!("output.{}", output.name);
        let broken = Arc::new(AtomicBool::new(false));
        let (lines, console) = (queue.clone(), console.clone());
        let run: Box<dyn FnOnce() + Send> = match (&output.target, file) {
            (Target::Mqtt(target), _) => {
                let (target, inventory) = (target.clone(), inventory.clone());
                let publisher = Publisher { target, queue: lines, console, who, inventory };
                Box::new(move || publisher.run())
            }
            (Target::Nats(target), _) => {
                let publisher = nats::Publisher { target: target.clone(), queue: lines, console, who };
                Box::new(move || publisher.run())
            }
            (Target::Webhook(target), _) => {
                let hook = Hook { target: target.clone(), queue: lines, console, who };
                Box::new(move || hook.run())
            }
            (_, Some(mut file)) => Box::new(move || {
                copy(&lines, &mut file, &console, &who);
            }),
            (_, None) => {
                let broken = broken.clone();
                Box::new(move || {
                    let mut stdout = Stdout { console: console.clone() };
                    broken.store(!copy(&lines, &mut stdout, &console, &who), Ordering::Relaxed);
                })
            }
        };
        let thread = std::thread::Builder::new().name(format!("output-{}", output.name)).spawn(run)?;
        Ok(Output { config: output, queue, broken, told: Mutex::new((0, None)), thread })
    }
}

pub struct Output {
    pub config: config::Output,
    pub queue: Arc<Queue>,
    /// Nobody will ever take its lines again.
    broken: Arc<AtomicBool>,
    /// Lines lost for want of room that have been told, and when.
    told: Mutex<(u64, Option<Instant>)>,
    thread: JoinHandle<()>,
}

impl Output {
    pub fn route(&self) -> Route {
        Route { what: self.config.what, queue: self.queue.clone() }
    }

    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Says how many lines the buffer has lost; once in a while, as long as it goes on.
    pub fn tell_losses(&self, console: &Console) {
        let lost = self.queue.overrun();
        let mut told = self.told.lock();
        if lost > told.0 && told.1.is_none_or(|at| at.elapsed() >= REMIND) {
            let (new, buffer) = (lost - told.0, self.config.buffer);
            let what = format!("{new} lines were dropped: more than its buffer of {buffer} are waiting");
            console.log(&format!("output.{}", self.config.name), &what);
            *told = (lost, Some(Instant::now()));
        }
    }

    /// No line comes in any more; what waits goes out.
    pub fn end(&self) {
        self.queue.close();
    }

    /// Waits until what waits has gone out, or until `deadline`. Returns how many lines were left behind.
    pub fn close(self, deadline: Instant) -> u64 {
        self.end();
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.queue.undelivered()
    }
}
