// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the threads of a stream share: the machine that decides, who waits for it, and what the model was asked.

mod flow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::machine::{Ask, Counts, Machine};
use super::settings::{Policy, Settings};
use super::still::Thumbnail;
use super::told::Told;
use crate::batch::{Failure, Session as BatchSession, Ticket, Waker};
use crate::engine::Job;
use crate::frame::Geometry;
use crate::meta::Masks;
use crate::model::{InferOptions, Segmentation, StreamMemory, Vocabulary};

pub type Session = BatchSession<Job, Arc<Segmentation>>;

/// What the threads of a stream share.
pub struct Stream {
    core: Mutex<Core>,
    /// Wakes the upstream thread.
    input_wake: Condvar,
    /// Wakes the task.
    output_wake: Condvar,
    /// The machine's time counts from here.
    epoch: Instant,
    /// What the model was last asked about. Only who brings frames to the model locks it, one at a time.
    looked: Mutex<Option<Looked>>,
    /// What the task alone uses.
    outlet: Mutex<Outlet>,
}

struct Core {
    machine: Machine<Cargo, gst::Event, Answer>,
    /// Tickets of frames that have not left, and of those that have and will still be answered.
    held: Vec<Held>,
    /// Of the frames that enter.
    caps: Option<Arc<gst_video::VideoInfo>>,
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// What the stream's frames leave behind in the model for the next; a new one forgets it.
    memory: Arc<StreamMemory>,
}

struct Held {
    frame: u64,
    ticket: Ticket<Arc<Segmentation>>,
    generation: u64,
    shown: [f64; 4],
    /// The machine has the answer.
    told: bool,
}

/// When a frame is shown, by its segment.
#[derive(Clone, Copy)]
pub struct Times {
    pub running: Option<gst::ClockTime>,
    pub stream: Option<gst::ClockTime>,
}

/// What travels with a frame.
#[derive(Clone)]
pub struct Cargo {
    pub buffer: gst::Buffer,
    pub times: Times,
    info: Arc<gst_video::VideoInfo>,
    /// Left, top, width and height of what is shown of it, 0..1: what the model looks at.
    shown: [f64; 4],
    memory: Arc<StreamMemory>,
}

/// A frame on its way to the model.
struct Next {
    ask: Ask,
    cargo: Cargo,
    /// Of the machine, now.
    lost_looks: u64,
}

#[derive(Clone)]
struct Answer {
    segmentation: Arc<Segmentation>,
    generation: u64,
    shown: [f64; 4],
}

#[derive(Default)]
struct Outlet {
    /// The newest masks, and the frame they are of: made once and then shared.
    made: Option<(u64, Arc<Masks>)>,
    told: Told,
}

/// What the model was last asked about, as long as its answer may still come.
struct Looked {
    number: u64,
    /// Of the machine when it was asked.
    lost_looks: u64,
    thumbnail: Thumbnail,
    vocabulary: Arc<Vocabulary>,
    options: InferOptions,
    info: Arc<gst_video::VideoInfo>,
    memory: Arc<StreamMemory>,
}

impl Default for Stream {
    fn default() -> Self {
        Stream {
            core: Mutex::new(Core {
                machine: Machine::new(Settings::default().policy.rules()),
                held: Vec::new(),
                caps: None,
                segment: gst::FormattedSegment::default(),
                memory: Arc::default(),
            }),
            input_wake: Condvar::new(),
            output_wake: Condvar::new(),
            epoch: Instant::now(),
            looked: Mutex::default(),
            outlet: Mutex::default(),
        }
    }
}

impl Core {
    /// The next frame to bring to the model. `None`, too, while another thread does this: it will find what there is to do.
    fn next_ask(&mut self) -> Option<Next> {
        let lost_looks = self.machine.lost_looks();
        let (ask, cargo) = self.machine.next_ask()?;
        Some(Next { ask, cargo: cargo.clone(), lost_looks })
    }

    /// Takes in what the model has answered, of the tickets from this place on. Returns those that nobody needs any more, to
    /// be dropped without the lock.
    fn collect(&mut self, from: usize, now: Duration) -> Vec<Held> {
        for held in self.held.iter_mut().skip(from).filter(|held| !held.told) {
            let answer = match held.ticket.poll() {
                Some(Ok(segmentation)) => {
                    let &mut Held { generation, shown, .. } = held;
                    Ok(Answer { segmentation, generation, shown })
                }
                Some(Err(Failure::Failed(why))) => Err(why),
                Some(Err(Failure::Fatal(why))) => {
                    self.machine.despair();
                    Err(why)
                }
                // A flush has taken the frame, too.
                Some(Err(Failure::Cancelled)) | None => continue,
            };
            held.told = true;
            if self.machine.answered(held.frame, answer, now) {
                held.frame = GONE;
            }
        }
        self.held.extract_if(from.., |held| held.frame == GONE).collect()
    }

    /// What comes next has nothing to do with what was before. Returns what that has left, to be dropped without the lock.
    fn forget_pictures(&mut self) -> Arc<StreamMemory> {
        let successor = Arc::new(self.memory.successor());
        std::mem::replace(&mut self.memory, successor)
    }

    /// What travels with a buffer; `None` before any caps.
    fn cargo(&self, buffer: gst::Buffer) -> Option<Cargo> {
        let info = self.caps.clone()?;
        let times = self.times(&buffer);
        // A buffer that is no frame is told when its pixels are asked for.
        let shown = Geometry::of(&buffer, &info).map_or([0.0, 0.0, 1.0, 1.0], |geometry| geometry.covered());
        Some(Cargo { buffer, times, info, shown, memory: self.memory.clone() })
    }

    fn times(&self, buffer: &gst::Buffer) -> Times {
        let (segment, pts) = (&self.segment, buffer.pts());
        Times { running: segment.to_running_time(pts), stream: segment.to_stream_time(pts) }
    }
}

/// In the place of the number of a frame that has left.
const GONE: u64 = u64::MAX;

impl Stream {
    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Until woken, or until this time.
    fn sleep(&self, wake: &Condvar, core: &mut MutexGuard<Core>, until: Option<Duration>) {
        match until {
            None => wake.wait(core),
            Some(until) => {
                wake.wait_until(core, self.epoch + until);
            }
        }
    }

    /// What the model's worker calls when it has answered frames of this stream.
    pub fn waker(self: &Arc<Self>) -> Waker {
        let stream = Arc::downgrade(self);
        Arc::new(move || {
            let Some(stream) = stream.upgrade() else { return };
            let mut core = stream.core.lock();
            let gone = core.collect(0, stream.now());
            // The rest is the task's: nothing is posted on the model's thread.
            let wake = std::mem::take(&mut core.machine.fx.wake_task) || core.machine.fx.latency;
            drop(core);
            if wake {
                stream.output_wake.notify_one();
            }
            drop(gone);
        })
    }

    pub fn set_rules(&self, policy: &Policy) {
        let mut core = self.core.lock();
        core.machine.set_rules(policy.rules());
        self.wake(core);
    }

    /// Wakes whom a change concerns, where nothing else follows from it.
    fn wake(&self, mut core: MutexGuard<Core>) {
        let task = std::mem::take(&mut core.machine.fx.wake_task);
        let upstream = std::mem::take(&mut core.machine.fx.wake_upstream);
        drop(core);
        if task {
            self.output_wake.notify_one();
        }
        if upstream {
            self.input_wake.notify_all();
        }
    }

    pub fn counts(&self) -> (Counts, usize) {
        let core = self.core.lock();
        (core.machine.counts, core.machine.level())
    }

    /// What the stream's frames have left in the model.
    pub fn memory(&self) -> Arc<StreamMemory> {
        self.core.lock().memory.clone()
    }

    pub fn live(&self) -> Option<bool> {
        self.core.lock().machine.live()
    }

    /// Starts a stream afresh, at READY->PAUSED and after PAUSED->READY.
    pub fn reset(&self) {
        let mut core = self.core.lock();
        core.machine.reset();
        let held = std::mem::take(&mut core.held);
        (core.caps, core.segment) = (None, gst::FormattedSegment::default());
        let memory = std::mem::take(&mut core.memory);
        drop(core);
        let looked = self.looked.lock().take();
        let outlet = std::mem::take(&mut *self.outlet.lock());
        drop((held, looked, outlet, memory));
    }
}
