// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data side of the element.
//!
//! ```text
//! upstream thread (input)             model's worker             source pad's task (output)
//! chain: wait for room                batches, forward           sleep until the head of the queue has its
//!        borrow or copy the pixels    answers tickets            answer, or its deadline has passed
//!        submit -> Ticket             wakes the task             attach the mask
//!        queue <- Frame                                          push
//! events: queue <- Event                                         push in their place
//! ```
//!
//! Lock order: settings -> loaded -> session -> state -> batcher. Most code takes one of them at a time.
//! No lock is held across a push, a query, a posted message, the copy of the pixels or the encoding of prompts.
//!
//! `State::flow` is the single truth about whether data moves. Everyone who waits looks at it first, and
//! whoever sets it to an error wakes everyone. Flow is reset only while neither pad function runs: at
//! activation, and on FLUSH_STOP (FLUSH_START has waited for the task, FLUSH_STOP holds the sink's stream lock).

mod input;
mod latency;
mod lifecycle;
mod masks;
mod memory;
mod messages;
mod output;
mod pace;
mod presence;
mod queries;
mod stats;
mod turn;
mod unchanged;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex};

use self::latency::Measured;
use self::pace::Pace;
use self::presence::Watched;
use self::stats::Counts;
use self::unchanged::Looked;
use super::imp::{CAT, Segment};
use super::prompts::{Encoded, Outcome};
use super::settings::Wish;
use crate::batch::{Session as BatchSession, Ticket};
use crate::engine::{Job, Weights};
use crate::meta::Masks;
use crate::model::{Segmentation, StreamMemory};

pub type Session = BatchSession<Job, Arc<Segmentation>>;

/// What the two threads of a stream share.
#[derive(Default)]
pub struct Stream {
    pub state: Mutex<State>,
    /// Wakes the upstream thread: a frame or an event has left, prompts are ready, the flow has ended.
    input_wake: Condvar,
    /// Wakes the task: there is something in the queue, the flow has ended.
    output_wake: Condvar,
}

pub struct State {
    /// What `chain` returns. An error stops the task too.
    flow: Result<gst::FlowSuccess, gst::FlowError>,
    queue: VecDeque<Item>,
    /// Sticky events that were in the queue when the flow ended: they describe what comes after, too.
    kept: Vec<gst::Event>,
    /// Frames that have entered and not left: those in the queue and the one that the task is at.
    frames: usize,
    /// The task is at an item outside the lock.
    busy: bool,
    input: Input,
    output: Output,
    prompts: ActivePrompts,
    measured: Measured,
    pace: Pace,
    counts: Counts,
}

/// What the upstream thread knows.
#[derive(Default)]
struct Input {
    caps: Option<gst_video::VideoInfo>,
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// Whether upstream is live; asked once per stream.
    live: Option<bool>,
    /// Frames since the stream's start: the inference interval counts them.
    seen: u64,
    /// Frames before this running time come too late at the sink, by its latest QOS event.
    qos_earliest: Option<gst::ClockTime>,
    eos: bool,
    /// What the model was last asked about, as long as its answer may still come.
    looked: Option<Looked>,
    /// What the stream's frames leave behind in the model for the next; a new one forgets it.
    memory: Arc<StreamMemory>,
}

/// What the task knows.
#[derive(Default)]
struct Output {
    segment: gst::FormattedSegment<gst::ClockTime>,
    newest: Option<Newest>,
    /// Overdue inferences whose frames have left; the newest of them will still be of use.
    late: VecDeque<Late>,
    /// A frame was dropped before the next one.
    discont: bool,
    last_message: Option<Instant>,
    watched: Watched,
    /// The model failed on the frame before, and that has been said.
    failing: bool,
}

/// The newest mask, for frames without one of their own.
#[derive(Clone)]
struct Newest {
    masks: Arc<Masks>,
    origin: Origin,
}

/// The frame that a mask was made from.
#[derive(Clone, Copy)]
struct Origin {
    number: u64,
    pts: Option<gst::ClockTime>,
    arrived: Instant,
    generation: u64,
    /// Left, top, width and height of what is shown of it, 0..1: what the model looks at.
    shown: [f64; 4],
}

struct Late {
    ticket: Ticket<Arc<Segmentation>>,
    origin: Origin,
}

/// The prompts in force. They outlive PAUSED->READY, as the loaded model does.
#[derive(Default)]
struct ActivePrompts {
    active: Option<Active>,
    /// Newest generation that has been encoded, or has failed to be.
    finished: u64,
    /// The next frame waits until this generation is finished.
    awaited: u64,
}

#[derive(Clone)]
struct Active {
    wish: Wish,
    encoded: Encoded,
    generation: u64,
}

/// Encoded with weights that are out of use.
pub struct Stale;

enum Item {
    Event(gst::Event),
    Frame(Box<Frame>),
}

impl Item {
    fn is_unanswered(&self) -> bool {
        match self {
            Item::Frame(frame) => matches!(&frame.work, Work::Infer(ticket) if !ticket.is_answered()),
            Item::Event(_) => false,
        }
    }

    fn sticky_event(&self) -> Option<gst::Event> {
        match self {
            Item::Event(event) => event.is_sticky().then(|| event.clone()),
            Item::Frame(_) => None,
        }
    }

    /// Lets a frame go without an inference of its own, and returns what it would have had.
    fn skip(&mut self) -> Option<Work> {
        match self {
            Item::Frame(frame) => Some(std::mem::replace(&mut frame.work, Work::Skip)),
            Item::Event(_) => None,
        }
    }
}

struct Frame {
    buffer: gst::Buffer,
    /// Width and height under the caps it came with.
    size: (u32, u32),
    origin: Origin,
    work: Work,
    deadline: Option<Instant>,
}

/// Where a frame's mask comes from.
enum Work {
    /// From the model.
    Infer(Ticket<Arc<Segmentation>>),
    /// From an earlier frame, by the inference interval.
    Carry,
    /// From the frame of this number, which shows the same.
    Still(u64),
    /// From an earlier frame, or the frame is dropped: the model is behind, or the sink.
    Skip,
    /// From nowhere; the text says why.
    Fail(String),
}

impl Default for State {
    fn default() -> Self {
        State {
            flow: Err(gst::FlowError::Flushing),
            queue: VecDeque::new(),
            kept: Vec::new(),
            frames: 0,
            busy: false,
            input: Input::default(),
            output: Output::default(),
            prompts: ActivePrompts::default(),
            measured: Measured::default(),
            pace: Pace::default(),
            counts: Counts::default(),
        }
    }
}

impl State {
    /// Stops the flow and empties the queue. The items are returned, to be dropped after the lock.
    fn end(&mut self, why: gst::FlowError) -> Vec<Item> {
        self.flow = Err(why);
        let items: Vec<Item> = self.queue.drain(..).collect();
        self.frames -= items.iter().filter(|item| matches!(item, Item::Frame(_))).count();
        self.kept.extend(items.iter().filter_map(Item::sticky_event));
        items
    }

    /// Inferences that have been asked for and not answered.
    fn outstanding(&self) -> usize {
        let queued = self.queue.iter().filter(|item| item.is_unanswered()).count();
        queued + self.output.late_outstanding()
    }

    /// Gives up unanswered inferences, the newest first, until `keep` are outstanding. Their frames go without.
    fn give_up(&mut self, keep: usize) -> Vec<Work> {
        let excess = self.outstanding().saturating_sub(keep);
        let unanswered = self.queue.iter_mut().rev().filter(|item| item.is_unanswered());
        let given_up: Vec<Work> = unanswered.take(excess).filter_map(Item::skip).collect();
        if !given_up.is_empty() {
            self.forget_looked();
        }
        given_up
    }

    fn set_active(&mut self, active: Active) -> Result<(), Stale> {
        let revision = |active: &Active| active.encoded.weights.revision;
        let old = self.prompts.active.as_ref();
        if old.is_some_and(|old| revision(&active) < revision(old)) {
            return Err(Stale);
        }
        self.prompts.finished = self.prompts.finished.max(active.generation);
        if old.is_none_or(|old| old.generation <= active.generation) {
            self.prompts.active = Some(active);
        }
        Ok(())
    }
}

impl Stream {
    fn wake_all(&self) {
        self.input_wake.notify_all();
        self.output_wake.notify_all();
    }

    /// Lets the upstream thread look at changed settings.
    pub fn settings_changed(&self) {
        self.input_wake.notify_all();
    }

    /// Whether `wish` is what frames are scored with now.
    pub fn is_active(&self, wish: &Wish) -> bool {
        self.state.lock().prompts.active.as_ref().is_some_and(|active| active.wish == *wish)
    }

    /// Puts encoded prompts in force from the next frame on.
    ///
    /// # Errors
    /// A reload has come meanwhile; the prompts before stay in force.
    pub fn set_prompts(&self, generation: u64, wish: Wish, encoded: Encoded) -> Result<(), Stale> {
        let outcome = self.state.lock().set_active(Active { wish, encoded, generation });
        self.input_wake.notify_all();
        outcome
    }

    /// What frames are scored with now.
    pub fn active_wish(&self) -> Option<Wish> {
        self.state.lock().prompts.active.as_ref().map(|active| active.wish.clone())
    }

    /// Takes the same prompts over as newer weights have encoded them. Prompts that came meanwhile stay.
    pub fn adopt(&self, wish: &Wish, encoded: Encoded) {
        let mut state = self.state.lock();
        if let Some(active) = state.prompts.active.as_mut().filter(|active| active.wish == *wish) {
            active.encoded = encoded;
        }
    }

    /// The prompts in force, with their generation, if they were encoded with older weights than these.
    pub fn wish_older_than(&self, weights: &Weights) -> Option<(u64, Wish)> {
        let state = self.state.lock();
        let active = state.prompts.active.as_ref()?;
        let is_older = active.encoded.weights.revision < weights.revision;
        is_older.then(|| (active.generation, active.wish.clone()))
    }

    /// Forgets everything about the model, at READY->NULL.
    pub fn unload(&self) {
        *self.state.lock() = State::default();
    }

    /// Starts a stream afresh, at READY->PAUSED.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        let prompts = std::mem::take(&mut state.prompts);
        *state = State { prompts, ..State::default() };
        state.prompts.awaited = 0;
    }
}

impl Segment {
    /// What the prompt thread calls when it is done with a wish.
    pub fn prompts_encoded(&self, outcome: Outcome) {
        let Outcome { generation, wish, encoded } = outcome;
        match encoded {
            Ok(encoded) => {
                gst::debug!(CAT, imp = self, "prompts of generation {generation} are encoded");
                self.set_prompts(generation, wish, encoded);
            }
            Err(error) => {
                self.warn(&format!("the new prompts could not be encoded, the old ones stay: {error:#}"));
                let mut state = self.stream.state.lock();
                state.prompts.finished = state.prompts.finished.max(generation);
                self.stream.input_wake.notify_all();
            }
        }
    }
}
