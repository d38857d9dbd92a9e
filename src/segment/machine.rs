// SPDX-License-Identifier: MIT OR Apache-2.0
//! What happens to the frames and events of one stream: when each enters, whether the model looks at it, how long it
//! waits, with which mask it leaves. Decisions only: no GStreamer, no threads, no clock. `stream` carries them out, and
//! `docs/live.md` says the same for users.
//!
//! A frame's way, from top to bottom:
//!
//! ```text
//! knock      may it enter?            there is room, or the head has to make some, or it is turned away
//! enter      is it to be looked at?   by the interval; else it carries an earlier mask
//! next_ask   when is the model asked? at once; once the prompts are there; once the first frame after a flush is out
//! asked      what became of that      it is with the model, in the place of older ones; it repeats a frame; it failed
//! answered   the model's answer       in time for its frame, or of use to a later one
//! step       the head of the queue    leaves, is dropped, or waits for its answer until its deadline
//! left       what downstream said     room for the next; or the end
//! ```
//!
//! A stream **may skip** when frames do not wait for their own masks at any price (`late-policy`). Such a stream is
//! **behind** when the model cannot look at all of its frames. Then no more than one of its frames waits for the model,
//! always the newest there is, while another may be with the model: the model is never without work, its answers are
//! never older than a forward and an interval, and each is of use.

use std::collections::VecDeque;
use std::time::Duration;

/// Time since some moment, the same in all calls.
pub type Time = Duration;

/// Why no data moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Flushing,
    /// Downstream wants no more of this stream.
    Eos,
    /// There is no downstream.
    NotLinked,
    /// Another answer of downstream, as the driver knows it.
    Other(i32),
}

/// What happens to a frame whose mask is not there in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// `Reuse` when upstream is live, else `Wait`.
    Auto,
    Wait,
    Reuse,
    Drop,
}

/// What the user has set.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub late: Late,
    /// Every nth frame is looked at.
    pub interval: u64,
    pub batch_size: usize,
    pub batch_timeout: Duration,
    pub max_in_flight: usize,
    /// Time allowed for a forward; `None` measures it.
    pub latency: Option<Duration>,
    /// A failure of the model ends the stream.
    pub failure_ends: bool,
}

/// What an event means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    StreamStart,
    Segment,
    Eos,
    /// No frame will come for a while.
    Gap,
    Other,
}

/// A frame that has arrived.
#[derive(Debug)]
pub struct Arrival<F> {
    pub cargo: F,
    pub arrived: Time,
    pub pts: Option<u64>,
    pub running_time: Option<u64>,
    /// It shows what is not there: the model is not asked about it.
    pub damaged: bool,
}

/// A frame, as its mask knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Counts the frames that have entered, over all streams.
    pub number: u64,
    pub pts: Option<u64>,
    pub arrived: Time,
}

/// Whether a frame may enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock {
    Enter,
    /// Ask again when woken, or at this time.
    Wait(Option<Time>),
    /// There is no room for it; it is counted as dropped.
    TurnedAway,
    End(End),
}

/// The next frame to bring to the model.
#[derive(Debug, PartialEq, Eq)]
pub struct Ask {
    pub number: u64,
    /// How many of this stream's frames may wait for the model, this one included; `None` sets no limit.
    pub newest: Option<usize>,
    /// Its batch waits for nobody.
    pub at_once: bool,
}

/// What became of a frame that was to be brought to the model.
#[derive(Debug)]
pub enum Asked {
    /// It waits for the model, in the place of these.
    Waits {
        instead_of: Vec<u64>,
    },
    /// It shows what the frame of this number showed.
    Repeats(u64),
    Failed(String),
}

/// Whose masks a frame leaves with.
#[derive(Debug, PartialEq, Eq)]
pub enum Carries<A> {
    Own(A),
    Earlier {
        answer: A,
        origin: Origin,
        /// Time between the two frames, never zero.
        age: Duration,
        /// The picture is known to be the same.
        confirmed: bool,
    },
    Nothing,
}

/// The model failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    pub why: String,
    /// The first of a run of failures.
    pub first: bool,
    /// It ends the stream.
    pub ends: bool,
}

/// What the task does next.
#[derive(Debug)]
pub enum Step<F, E, A> {
    Push {
        origin: Origin,
        cargo: F,
        carries: Carries<A>,
        /// Frames are missing before it.
        discont: bool,
        /// It got no mask of its own, so long after its deadline.
        late: Option<Duration>,
        failed: Option<Failed>,
    },
    Event(E),
    Drop(Dropped<F>),
    /// The answer for a frame that has left is a failure.
    Fail(Failed),
    /// Until woken, or until this time.
    Wait(Option<Time>),
    /// There is nothing to do until the flow starts again, which starts the task again.
    Pause,
}

/// A frame that does not leave, already counted.
#[derive(Debug)]
pub struct Dropped<F> {
    pub cargo: F,
    pub late: Duration,
}

/// What goes when an item has left.
#[derive(Debug)]
pub struct Left<F, E> {
    /// Frames that nobody wants any more, to be dropped without a lock.
    pub freed: Vec<F>,
    pub ended: Option<Ended<F, E>>,
}

/// What ended with the flow.
#[derive(Debug)]
pub struct Ended<F, E> {
    pub why: End,
    /// What was in the queue, to be dropped without a lock.
    pub frames: Vec<F>,
    /// The end of the stream was among it, and those who want no more frames still wait for that.
    pub eos: Option<E>,
    /// Upstream is at its end and will not hear of it.
    pub tell: bool,
}

/// How a flow that had ended begins again.
#[derive(Debug)]
pub enum Restart<E> {
    /// Something else has happened meanwhile.
    No,
    /// These sticky events never reached the pad: it has to have them first.
    Store(Vec<E>),
    /// The flow has begun; the task has to be started before anything else happens.
    Start,
}

/// Counts since the element went to PAUSED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that left.
    pub frames: u64,
    /// Masks that the model has made for frames.
    pub inferred: u64,
    /// Frames that left with an earlier mask, by the interval, because they were late or because they repeat it.
    pub reused: u64,
    /// Those among them that repeat the frame which the mask was made from.
    pub skipped_static: u64,
    /// Frames that did not leave, but for those of a flush or of an end.
    pub dropped: u64,
    /// Frames that the model was not asked for, or not waited for, because they were late.
    pub skipped: u64,
    /// Frames that the model failed on.
    pub errors: u64,
}

/// What the driver has to do after a change, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub wake_task: bool,
    pub wake_upstream: bool,
    /// The model need not wait for more frames of this stream.
    pub quiet: bool,
    /// There are frames to bring to the model.
    pub ask: bool,
    /// The promised latency is another one.
    pub latency: bool,
}

#[derive(Debug)]
enum Item<F, E, A> {
    Event {
        event: E,
        kind: Kind,
        sticky: bool,
        /// Frames from this number on come after it.
        before: u64,
    },
    Frame(Frame<F, A>),
}

#[derive(Debug)]
struct Frame<F, A> {
    origin: Origin,
    cargo: F,
    work: Work<A>,
    deadline: Option<Time>,
    discont: bool,
}

/// Where a frame's mask comes from.
#[derive(Debug)]
enum Work<A> {
    /// The model is yet to be asked.
    Unasked,
    /// From the model.
    Asked,
    Answered(Result<A, String>),
    /// From an earlier frame, by the interval.
    Carry,
    /// From the frame of this number, which shows the same.
    Still(u64),
    /// From an earlier frame, if the frame leaves at all: a newer one has taken its place.
    Replaced,
}

/// The newest mask that is out.
#[derive(Debug)]
struct Newest<A> {
    answer: A,
    origin: Origin,
    used: bool,
}

/// What the task is at, outside.
#[derive(Debug)]
struct Out {
    frame: Option<u64>,
    /// How often downstream had been linked when it was handed out.
    links: u64,
}

/// What was asked of downstream late enough to thin out what the model looks at.
#[derive(Debug, Default)]
struct Qos {
    /// Frames before this running time come too late at a sink.
    earliest: Option<u64>,
    /// The newest frame that came in time at any of them.
    in_time: Option<u64>,
}

/// The stream's state. `F` is what travels with a frame, `E` an event, `A` the model's answer.
#[derive(Debug)]
pub struct Machine<F, E, A> {
    pub fx: Effects,
    pub counts: Counts,
    rules: Rules,
    flow: Result<(), End>,
    /// The pad's task is running, or sleeps in `step`.
    started: bool,
    /// The task sleeps, until this time if there is one.
    asleep: Option<Option<Time>>,
    queue: VecDeque<Item<F, E, A>>,
    /// Sticky events that were in the queue when the flow ended: they describe what comes after, too.
    kept: Vec<(E, Kind)>,
    /// Frames that have entered and not left.
    inside: usize,
    out: Option<Out>,
    /// A frame waits for room.
    knocking: bool,
    /// Number of the next frame.
    next: u64,

    live: Option<bool>,
    /// Frames since the stream's start.
    seen: u64,
    eos: bool,
    /// A frame was dropped before the next one to enter.
    gap: bool,
    /// How often downstream has been linked.
    links: u64,
    qos: Qos,
    /// Newest prompts that have been encoded, or have failed to be, and those that the next frame waits for.
    prompts: (u64, u64),
    /// The first frame after a flush goes to the model alone.
    opening: Opening,

    /// Frames that the model is to be asked about, in order.
    to_ask: VecDeque<u64>,
    /// The frame that is on its way to the model.
    asking: Option<Origin>,
    /// Frames that the model has been asked about and has not answered.
    with_model: VecDeque<Origin>,
    /// Answers to frames before this number belong to another stream.
    stream_from: u64,
    newest: Option<Newest<A>>,
    /// A late answer has come that the head is to carry.
    hand_on: bool,
    late_failures: VecDeque<String>,
    /// The model failed on the frame before, and that has been said.
    failing: bool,
    /// No answer will come any more.
    hopeless: bool,
    /// Grows whenever an answer that a later frame might have repeated will not come.
    lost_looks: u64,

    pace: Pace,
    measured: Measured,
    turns: Turns,
    rhythm: Rhythm,
    upstream: Upstream,
    /// The latency that the pipeline knows of.
    told: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    No,
    /// The next frame that the model is asked about goes alone.
    Due,
    /// This frame is on its way; the others wait until it has left.
    Alone(u64),
}

impl<F, E, A: Clone> Machine<F, E, A> {
    pub fn new(rules: Rules) -> Self {
        Machine {
            fx: Effects::default(),
            counts: Counts::default(),
            rules,
            flow: Err(End::Flushing),
            started: false,
            asleep: None,
            queue: VecDeque::new(),
            kept: Vec::new(),
            inside: 0,
            out: None,
            knocking: false,
            next: 0,
            live: None,
            seen: 0,
            eos: false,
            gap: false,
            links: 0,
            qos: Qos::default(),
            prompts: (0, 0),
            opening: Opening::No,
            to_ask: VecDeque::new(),
            asking: None,
            with_model: VecDeque::new(),
            stream_from: 0,
            newest: None,
            hand_on: false,
            late_failures: VecDeque::new(),
            failing: false,
            hopeless: false,
            lost_looks: 0,
            pace: Pace::default(),
            measured: Measured::default(),
            turns: Turns::default(),
            rhythm: Rhythm::default(),
            upstream: Upstream::default(),
            told: None,
        }
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        self.fx.wake_upstream = true;
        self.call_task();
    }

    // ---- A frame's way ----

    /// Whether a frame that arrived at `arrived` may enter now.
    pub fn knock(&mut self, arrived: Time, now: Time) -> Knock {
        if let Err(end) = self.flow {
            return Knock::End(end);
        }
        // A stream that may skip lets it in, and asks the model when the prompts are there.
        if !self.may_skip() && self.awaits_prompts() {
            self.fx.quiet = true;
            return Knock::Wait(None);
        }
        if self.inside < self.rules.max_in_flight.max(1) {
            self.knocking = false;
            return Knock::Enter;
        }
        self.upstream.held_up();
        self.fx.quiet = true;
        if !self.may_skip() {
            return Knock::Wait(None);
        }
        let live = self.live == Some(true);
        if self.rules.late == Late::Drop {
            // Those inside have been worked on, or will be first.
            if live || self.queue.iter().any(Item::awaits_answer) {
                return self.turn_away();
            }
            return Knock::Wait(None);
        }
        // The head has to make room, if it is the model that it waits for. If it is downstream, a live stream waits no
        // longer than the latency allows.
        self.knocking = true;
        self.call_task();
        if !live {
            return Knock::Wait(None);
        }
        let until = arrived.saturating_add(self.patience());
        if now < until { Knock::Wait(Some(until)) } else { self.turn_away() }
    }

    fn turn_away(&mut self) -> Knock {
        self.knocking = false;
        self.counts.dropped += 1;
        self.counts.skipped += 1;
        self.gap = true;
        Knock::TurnedAway
    }

    /// How long a live frame waits for room.
    fn patience(&self) -> Duration {
        let interval = self.rhythm.interval().unwrap_or_default();
        let known = self.promise().max(interval).max(self.rules.batch_timeout);
        if known.is_zero() { FIRST_PATIENCE } else { known }
    }

    /// Takes a frame in; `knock` has just said that it may.
    pub fn enter(&mut self, arrival: Arrival<F>, now: Time) -> Origin {
        let Arrival { cargo, arrived, pts, running_time, damaged } = arrival;
        let origin = Origin { number: self.next, pts, arrived };
        let is_looked_at = !damaged && self.seen.is_multiple_of(self.rules.interval.max(1));
        self.next += 1;
        self.seen += 1;
        self.rhythm.arrived(arrived, pts);
        let deadline = if self.may_skip() { self.allowed() } else { None };
        let work = if is_looked_at { Work::Unasked } else { Work::Carry };
        let discont = std::mem::take(&mut self.gap);
        let deadline = deadline.and_then(|allowed| arrived.checked_add(allowed));
        self.queue.push_back(Item::Frame(Frame { origin, cargo, work, deadline, discont }));
        self.inside += 1;
        if is_looked_at && self.may_ask() {
            self.to_ask.push_back(origin.number);
            self.fx.ask = true;
            self.qos_thins_out(running_time);
        } else {
            // Its batch need not wait for what is not to come.
            self.fx.quiet = true;
        }
        self.upstream.entered(now, self.waiting(), self.rules.batch_timeout);
        self.tell_latency();
        self.call_task();
        origin
    }

    /// A sink is late: its frames will be dropped there, whatever they show. One at a time is enough.
    fn qos_thins_out(&mut self, running_time: Option<u64>) {
        let late = running_time.zip(self.qos.earliest).is_some_and(|(time, earliest)| time < earliest);
        self.pace.sink_is_late = late && self.may_skip();
    }

    /// Frames in the queue. The one that is out may be upstream's again already.
    fn waiting(&self) -> usize {
        let out = self.out.as_ref().is_some_and(|out| out.frame.is_some());
        self.inside - usize::from(out)
    }

    /// Whether the model may be asked about a frame now.
    fn may_ask(&self) -> bool {
        !self.awaits_prompts() && !matches!(self.opening, Opening::Alone(_))
    }

    /// The next frame to bring to the model. One at a time: `asked` has to follow before the next.
    pub fn next_ask(&mut self) -> Option<(Ask, &F)> {
        if self.asking.is_some() {
            return None;
        }
        let number = loop {
            let number = self.to_ask.pop_front()?;
            if self.frame(number).is_some_and(|frame| matches!(frame.work, Work::Unasked)) {
                break number;
            }
        };
        let is_first = self.opening == Opening::Due;
        // Nobody scrubs through what is live.
        let at_once = is_first && self.live != Some(true);
        if is_first {
            self.opening = Opening::No;
        }
        if at_once {
            self.opening = Opening::Alone(number);
        }
        let newest = self.may_skip().then(|| self.pace.room(self.rules.batch_size));
        let at = self.position(number)?;
        let Some(Item::Frame(frame)) = self.queue.get_mut(at) else { return None };
        frame.work = Work::Asked;
        self.asking = Some(frame.origin);
        Some((Ask { number, newest, at_once }, &frame.cargo))
    }

    /// What became of it. Returns the frames that are dropped for it, and whether the answer is still wanted.
    pub fn asked(&mut self, number: u64, outcome: Asked) -> (Vec<Dropped<F>>, bool) {
        let asking = self.asking.take_if(|origin| origin.number == number);
        self.fx.ask |= !self.to_ask.is_empty();
        let Some(origin) = asking.filter(|origin| origin.number >= self.stream_from) else {
            // Flushed on its way.
            return (Vec::new(), false);
        };
        let mut dropped = Vec::new();
        match outcome {
            Asked::Waits { instead_of } => {
                self.with_model.push_back(origin);
                if !instead_of.is_empty() {
                    self.pace.overflows();
                    self.behind_now();
                    self.lost_looks += 1;
                }
                for number in instead_of {
                    self.with_model.retain(|origin| origin.number != number);
                    dropped.extend(self.replace(number));
                }
                // Nothing can join its batch from here.
                self.fx.quiet |= self.pace.is_behind() || matches!(self.opening, Opening::Alone(_));
                self.fx.quiet |= self.upstream.holds_no_more(self.waiting());
            }
            Asked::Repeats(of) => {
                self.set_work(number, Work::Still(of));
                self.fx.quiet = true;
            }
            Asked::Failed(why) => match self.frame(number) {
                Some(_) => self.set_work(number, Work::Answered(Err(why))),
                None => self.late_failures.push_back(why),
            },
        }
        self.call_task();
        (dropped, true)
    }

    /// The model will not look at a frame: a newer one has taken its place.
    fn replace(&mut self, number: u64) -> Option<Dropped<F>> {
        let at = self.position(number)?;
        if self.rules.late != Late::Drop {
            self.set_work(number, Work::Replaced);
            return None;
        }
        // Here and now: it would only take room.
        let Some(Item::Frame(frame)) = self.queue.remove(at) else { return None };
        self.inside -= 1;
        self.counts.skipped += 1;
        self.counts.dropped += 1;
        self.mark_gap(at);
        self.fx.wake_upstream = true;
        Some(Dropped { cargo: frame.cargo, late: Duration::ZERO })
    }

    /// The model has answered. Says whether the answer is for a frame that has left.
    pub fn answered(&mut self, number: u64, answer: Result<A, String>, now: Time) -> bool {
        let Some(at) = self.with_model.iter().position(|origin| origin.number == number) else { return true };
        let Some(origin) = self.with_model.remove(at) else { return true };
        match &answer {
            Ok(_) => {
                self.counts.inferred += 1;
                self.measured.record(now.saturating_sub(origin.arrived));
                self.turns.answered(origin.arrived, now);
            }
            Err(_) => self.lost_looks += 1,
        }
        let in_time = self.frame(number).is_some();
        if in_time {
            if self.may_skip() {
                self.pace.in_time();
            }
            self.set_work(number, Work::Answered(answer));
        } else {
            match answer {
                Ok(answer) => self.take_late(answer, origin, now),
                Err(why) => self.late_failures.push_back(why),
            }
        }
        self.tell_latency();
        self.call_task();
        !in_time
    }

    fn take_late(&mut self, answer: A, origin: Origin, now: Time) {
        self.failing = false;
        if self.newest.as_ref().is_none_or(|newest| newest.origin.number < origin.number) {
            self.newest = Some(Newest { answer, origin, used: false });
            let awaits = self.queue.front().is_some_and(Item::awaits_answer);
            self.hand_on = awaits && self.pace.is_behind() && self.own_masks_come_late(now);
        }
    }

    /// Whether the head of a stream that is behind would wait for its own mask in vain, if the model turned to it now; or
    /// whether those after it would, as they may come an interval before the model turns to them and no more time is to be
    /// had; or whether upstream has too few buffers to go on with meanwhile.
    fn own_masks_come_late(&self, now: Time) -> bool {
        let Some(Item::Frame(head)) = self.queue.front() else { return false };
        let turn = self.turns.longest();
        let most = turn + self.rhythm.interval().unwrap_or_default();
        let head_is_late = self.deadline(head).is_some_and(|deadline| deadline < now.saturating_add(turn));
        let room = self.rhythm.capacity(self.rules.max_in_flight.saturating_sub(1));
        let set = self.rules.latency.and(self.allowed());
        let squeezed = set.into_iter().chain(room).any(|time| time < most);
        let buffers = self.upstream.holds.and_then(|holds| self.rhythm.capacity(holds));
        head_is_late || squeezed || buffers.is_some_and(|time| time < turn)
    }

    /// What the task does now.
    pub fn step(&mut self, now: Time) -> Step<F, E, A> {
        self.asleep = None;
        if self.flow.is_err() {
            self.started = false;
            return Step::Pause;
        }
        if let Some(why) = self.late_failures.pop_front() {
            self.out = Some(Out { frame: None, links: self.links });
            return Step::Fail(self.failure(why));
        }
        match self.ready() {
            Ready::Now => (),
            Ready::At(time) if time <= now => (),
            Ready::At(time) => {
                self.asleep = Some(Some(time));
                return Step::Wait(Some(time));
            }
            Ready::Later => {
                self.asleep = Some(None);
                return Step::Wait(None);
            }
        }
        match self.queue.pop_front() {
            Some(Item::Frame(frame)) => self.leave(frame, now),
            Some(Item::Event { event, kind, before, .. }) => {
                if kind == Kind::StreamStart {
                    // Masks of another stream are not carried into this one.
                    self.forget_stream(before);
                }
                self.out = Some(Out { frame: None, links: self.links });
                Step::Event(event)
            }
            None => Step::Wait(None),
        }
    }

    /// The head of the queue leaves, or is dropped: its answer is there, it needs none, or it has waited long enough.
    fn leave(&mut self, frame: Frame<F, A>, now: Time) -> Step<F, E, A> {
        let deadline = self.deadline(&frame);
        let Frame { origin, cargo, work, discont, .. } = frame;
        let hands_on = std::mem::take(&mut self.hand_on);
        let mut late = None;
        let mut failed = None;
        let mut carries = Carries::Nothing;
        match work {
            Work::Answered(Ok(answer)) => {
                self.failing = false;
                self.newest = Some(Newest { answer: answer.clone(), origin, used: true });
                carries = Carries::Own(answer);
            }
            Work::Answered(Err(why)) => failed = Some(self.failure(why)),
            Work::Carry => {
                self.counts.reused += 1;
                carries = self.carry(&origin, false);
            }
            Work::Still(of) => {
                self.counts.reused += 1;
                self.counts.skipped_static += 1;
                // They speak for this frame too, if they are those of the frame that it repeats.
                let confirmed = self.newest.as_ref().is_some_and(|newest| newest.origin.number >= of);
                carries = self.carry(&origin, confirmed);
            }
            Work::Unasked | Work::Asked | Work::Replaced => {
                self.counts.skipped += 1;
                let lateness = deadline.map(|deadline| now.saturating_sub(deadline)).unwrap_or_default();
                if matches!(work, Work::Asked) && !hands_on && !self.deadline_may_grow() {
                    self.pace.late();
                    self.behind_now();
                }
                let unseen = self.newest.as_ref().is_some_and(|newest| !newest.used);
                if self.rules.late == Late::Drop && !unseen {
                    self.counts.dropped += 1;
                    self.mark_gap(0);
                    self.inside -= 1;
                    self.fx.wake_upstream = true;
                    self.end_opening(origin.number);
                    self.out = Some(Out { frame: None, links: self.links });
                    return Step::Drop(Dropped { cargo, late: lateness });
                }
                late = Some(lateness);
                self.counts.reused += 1;
                carries = self.carry(&origin, false);
            }
        }
        self.counts.frames += 1;
        self.out = Some(Out { frame: Some(origin.number), links: self.links });
        // From here on downstream may give its buffer back, before the push has returned.
        self.upstream.leaves(now);
        Step::Push { origin, cargo, carries, discont, late, failed }
    }

    /// What the task was at is done; downstream's answer is `end`, if it is not that all is well. `posted`: the
    /// application knows already.
    pub fn left(&mut self, end: Option<(End, bool)>) -> Left<F, E> {
        let mut left = Left { freed: Vec::new(), ended: None };
        let Some(Out { frame, links }) = self.out.take() else { return left };
        if let Some(number) = frame {
            self.inside -= 1;
            self.end_opening(number);
        }
        self.fx.wake_upstream = true;
        let Some((why, posted)) = end.filter(|_| self.flow.is_ok()) else { return left };
        match why {
            // Downstream has been linked while this was on its way.
            End::NotLinked if links != self.links => {
                let refused = u64::from(frame.is_some());
                self.counts.frames -= refused;
                self.counts.dropped += refused;
                self.mark_gap(0);
            }
            // It had enough of what was before the segment, or stream, that waits here.
            End::Eos if self.next_segment().is_some() => left.freed = self.skip_to_next_segment(),
            why => {
                let tell = self.eos && !posted;
                left.ended = Some(self.end(why, tell));
            }
        }
        left
    }

    /// An event was refused on its way out. If that was a flush, it is kept.
    pub fn refused(&mut self, event: E, kind: Kind) {
        if self.flow.is_err() {
            // Those behind it are kept already.
            self.kept.insert(0, (event, kind));
        }
    }

    // ---- Events, and how data flows ----

    /// Puts an event behind what has entered.
    ///
    /// # Errors
    /// The flow has ended; a sticky event is kept.
    pub fn event(&mut self, event: E, kind: Kind, sticky: bool) -> Result<(), End> {
        match kind {
            Kind::StreamStart => {
                (self.live, self.seen, self.eos) = (None, 0, false);
                self.qos = Qos::default();
                self.lost_looks += 1;
                self.rhythm.forget();
            }
            Kind::Segment => self.qos = Qos::default(),
            Kind::Eos => self.eos = true,
            Kind::Gap | Kind::Other => (),
        }
        self.fx.quiet |= matches!(kind, Kind::Eos | Kind::Gap);
        if let Err(end) = self.flow {
            if sticky {
                self.kept.push((event, kind));
            }
            return Err(end);
        }
        self.queue.push_back(Item::Event { event, kind, sticky, before: self.next });
        self.call_task();
        Ok(())
    }

    /// Ends the flow: a flush, a stop. The first reason stays, but for a flush, which has the last word.
    pub fn stop(&mut self) -> Ended<F, E> {
        self.end(End::Flushing, false)
    }

    fn end(&mut self, why: End, tell: bool) -> Ended<F, E> {
        self.flow = Err(why);
        let (mut frames, mut eos) = (Vec::new(), None);
        for item in self.queue.drain(..) {
            match item {
                Item::Frame(frame) => frames.push(frame.cargo),
                Item::Event { event, kind: Kind::Eos, .. } if why == End::Eos => eos = Some(event),
                Item::Event { event, kind, sticky: true, .. } => self.kept.push((event, kind)),
                Item::Event { .. } => (),
            }
        }
        self.inside -= frames.len();
        self.to_ask.clear();
        (self.asking, self.knocking) = (None, false);
        self.with_model.clear();
        self.late_failures.clear();
        self.hand_on = false;
        self.lost_looks += 1;
        self.fx.wake_upstream = true;
        self.fx.wake_task = true;
        Ended { why, frames, eos, tell }
    }

    /// How the flow begins again, if `why` is what ended it. Sticky events of the kinds in `over` are not kept.
    pub fn restart(&mut self, why: End, over: &[Kind]) -> Restart<E> {
        if self.flow != Err(why) {
            return Restart::No;
        }
        let kept = std::mem::take(&mut self.kept);
        let kept: Vec<E> =
            kept.into_iter().filter(|(_, kind)| !over.contains(kind)).map(|(event, _)| event).collect();
        if !kept.is_empty() {
            return Restart::Store(kept);
        }
        self.flow = Ok(());
        self.started = true;
        self.fx.wake_upstream = true;
        Restart::Start
    }

    /// What was before a flush is over: called before the flow begins again.
    pub fn flushed(&mut self) {
        (self.newest, self.failing, self.gap) = (None, false, false);
        (self.live, self.seen, self.eos) = (None, 0, false);
        self.qos = Qos::default();
        self.opening = Opening::Due;
        self.stream_from = self.next;
        self.rhythm.forget();
        self.lost_looks += 1;
    }

    /// Downstream may have been linked again.
    pub fn relinked(&mut self) {
        self.links += 1;
    }

    /// Whether everything has left that has entered. An error says that it never will.
    ///
    /// # Errors
    /// The flow has ended.
    pub fn is_empty(&mut self) -> Result<bool, End> {
        self.fx.quiet = true;
        self.flow?;
        Ok(self.out.is_none() && self.queue.is_empty())
    }

    pub fn flow(&self) -> Result<(), End> {
        self.flow
    }

    // ---- What else the stream is told ----

    pub fn live(&self) -> Option<bool> {
        self.live
    }

    pub fn set_live(&mut self, live: bool) {
        self.live = Some(live);
        self.call_task();
    }

    /// The interval that the caps name, if they do.
    pub fn hint(&mut self, interval: Option<Duration>) {
        self.rhythm.hint = interval;
        self.call_task();
    }

    /// A sink says when a frame of this running time came: so much too late, or (negative) too early.
    pub fn qos(&mut self, running_time: Option<u64>, jitter: i64) {
        let Some(time) = running_time else { return };
        if jitter <= 0 {
            self.qos.in_time = self.qos.in_time.max(Some(time));
            self.qos.earliest = None;
        } else if self.qos.in_time.is_none_or(|in_time| in_time < time) {
            // Behind a tee, a branch that is late says nothing about one that has shown later frames in time.
            self.qos.earliest = Some(time.saturating_add(jitter.unsigned_abs()));
        }
    }

    /// The next frame waits for the prompts of this generation.
    pub fn await_prompts(&mut self, generation: u64) {
        self.prompts.1 = self.prompts.1.max(generation);
        // What came before them is looked at with those before.
        self.opening = Opening::No;
    }

    /// Prompts up to this generation are in force, or have failed.
    pub fn prompts_ready(&mut self, generation: u64) {
        self.prompts.0 = self.prompts.0.max(generation);
        self.fx.wake_upstream = true;
        if self.may_ask() {
            self.ask_the_unasked();
        }
    }

    fn awaits_prompts(&self) -> bool {
        self.prompts.0 < self.prompts.1
    }

    /// Keeps what outlives a stop: the numbers, and which prompts are there.
    pub fn reset(&mut self) {
        let (next, finished, lost_looks) = (self.next, self.prompts.0, self.lost_looks);
        *self = Machine { next, lost_looks, ..Machine::new(self.rules.clone()) };
        self.prompts = (finished, 0);
        self.stream_from = next;
        self.lost_looks += 1;
    }

    // ---- What the stream tells ----

    /// Frames inside.
    pub fn level(&self) -> usize {
        self.inside
    }

    /// Changes whenever a frame must not be said to repeat one that was looked at before.
    pub fn lost_looks(&self) -> u64 {
        self.lost_looks
    }

    /// The latency that a live stream promises: no frame stays longer, unless downstream holds it.
    pub fn promise(&self) -> Duration {
        let timeout = self.rules.batch_timeout;
        if let Some(latency) = self.rules.latency {
            return timeout.saturating_add(latency);
        }
        let measured = self.measured.reported.map(|measured| measured.max(timeout));
        let most = self.rhythm.capacity(self.rules.max_in_flight.saturating_sub(1));
        // Before anything is measured, a frame that may skip waits as long as there is room.
        match most.filter(|_| self.would_skip(true)) {
            Some(most) => measured.map_or(most, |measured| measured.min(most)),
            None => measured.unwrap_or(timeout),
        }
    }

    /// Time that the frames which fit in here cover, if it is known.
    pub fn capacity(&self) -> Option<Duration> {
        self.rhythm.capacity(self.rules.max_in_flight)
    }

    // ---- Parts of these ----

    fn would_skip(&self, live: bool) -> bool {
        match self.rules.late {
            Late::Auto => live,
            Late::Wait => false,
            Late::Reuse | Late::Drop => true,
        }
    }

    /// Whether frames that are overdue pass without a mask of their own, or not at all.
    fn may_skip(&self) -> bool {
        self.would_skip(self.live == Some(true))
    }

    /// How long a frame may wait for its mask; `None` as long as nothing is known.
    fn allowed(&self) -> Option<Duration> {
        let longest = match self.rules.latency {
            Some(_) => self.promise(),
            None => {
                let measured = self.measured.reported.map(|measured| measured.max(self.rules.batch_timeout));
                let most = self
                    .rhythm
                    .measured()
                    .and(self.rhythm.capacity(self.rules.max_in_flight.saturating_sub(1)));
                measured.into_iter().chain(most).min()?
            }
        };
        Some(less_leeway(longest))
    }

    /// Whether a late answer says only that too little time was allowed: more will be.
    fn deadline_may_grow(&self) -> bool {
        self.rules.latency.is_none() && !self.knocking && {
            let reported = self.measured.reported.unwrap_or_default();
            self.rhythm
                .capacity(self.rules.max_in_flight.saturating_sub(1))
                .is_none_or(|most| reported < most)
        }
    }

    /// From now on one frame at a time: what was measured before says nothing about that.
    fn behind_now(&mut self) {
        if std::mem::take(&mut self.pace.turned) {
            self.measured.start_over();
            self.turns.took.clear();
            self.fx.quiet = true;
        }
    }

    fn tell_latency(&mut self) {
        if self.live != Some(true) {
            return; // Nobody asks.
        }
        let promise = self.promise();
        let holds = |told: Duration| promise <= told && promise.mul_f64(EXCESS) >= told;
        if self.rules.latency.is_none() && self.measured.reported.is_some() && !self.told.is_some_and(holds) {
            self.told = Some(promise);
            self.fx.latency = true;
        }
    }

    fn carry(&mut self, frame: &Origin, confirmed: bool) -> Carries<A> {
        match &mut self.newest {
            Some(newest) => {
                newest.used = true;
                let (answer, origin) = (newest.answer.clone(), newest.origin);
                Carries::Earlier { answer, origin, age: age(&origin, frame), confirmed }
            }
            None => Carries::Nothing,
        }
    }

    fn failure(&mut self, why: String) -> Failed {
        self.counts.errors += 1;
        self.lost_looks += 1;
        let first = !std::mem::replace(&mut self.failing, true);
        Failed { why, first, ends: self.rules.failure_ends || self.hopeless }
    }

    /// The model will not work again: its next failure ends the stream, whatever the rules say. Frames without masks for
    /// ever would tell nobody.
    pub fn despair(&mut self) {
        self.hopeless = true;
    }

    /// A mask could not be made of the answer that a frame was to leave with.
    pub fn unusable(&mut self, why: String) -> Failed {
        self.newest = None;
        self.failure(why)
    }

    fn forget_stream(&mut self, from: u64) {
        (self.newest, self.hand_on) = (None, false);
        self.failing = false;
        self.stream_from = from;
        self.with_model.retain(|origin| origin.number >= from);
    }

    /// The frame that went alone has left: the others may follow.
    fn end_opening(&mut self, number: u64) {
        if self.opening == Opening::Alone(number) {
            self.opening = Opening::No;
            if self.may_ask() {
                self.ask_the_unasked();
            }
        }
    }

    fn ask_the_unasked(&mut self) {
        let unasked = self.queue.iter().filter_map(|item| match item {
            Item::Frame(Frame { origin, work: Work::Unasked, .. }) => Some(origin.number),
            _ => None,
        });
        let unasked: VecDeque<u64> = unasked.collect();
        self.fx.ask |= !unasked.is_empty();
        self.to_ask = unasked;
    }

    fn position(&self, number: u64) -> Option<usize> {
        // Numbers rise along the queue.
        let at = self.queue.partition_point(|item| match item {
            Item::Frame(frame) => frame.origin.number < number,
            Item::Event { before, .. } => *before <= number,
        });
        let found = matches!(self.queue.get(at), Some(Item::Frame(frame)) if frame.origin.number == number);
        found.then_some(at)
    }

    fn frame(&self, number: u64) -> Option<&Frame<F, A>> {
        match self.queue.get(self.position(number)?) {
            Some(Item::Frame(frame)) => Some(frame),
            _ => None,
        }
    }

    fn set_work(&mut self, number: u64, work: Work<A>) {
        if let Some(at) = self.position(number)
            && let Some(Item::Frame(frame)) = self.queue.get_mut(at)
        {
            frame.work = work;
        }
    }

    /// A frame is missing before what is at this place: the next frame says so.
    fn mark_gap(&mut self, at: usize) {
        for item in self.queue.iter_mut().skip(at) {
            if let Item::Frame(frame) = item {
                frame.discont = true;
                return;
            }
        }
        self.gap = true;
    }

    /// Where the next segment or stream begins.
    fn next_segment(&self) -> Option<usize> {
        let begins = |item: &Item<F, E, A>| {
            matches!(item, Item::Event { kind: Kind::Segment | Kind::StreamStart, .. })
        };
        self.queue.iter().position(begins)
    }

    fn skip_to_next_segment(&mut self) -> Vec<F> {
        let at = self.next_segment().unwrap_or(0);
        let behind = self.queue.split_off(at);
        let (mut freed, mut numbers) = (Vec::new(), Vec::new());
        for item in std::mem::take(&mut self.queue) {
            match item {
                Item::Frame(frame) => {
                    numbers.push(frame.origin.number);
                    freed.push(frame.cargo);
                }
                event => self.queue.push_back(event),
            }
        }
        self.queue.extend(behind);
        self.inside -= freed.len();
        self.counts.dropped += freed.len() as u64;
        self.lost_looks += 1;
        self.mark_gap(0);
        numbers.into_iter().for_each(|number| self.end_opening(number));
        freed
    }

    /// When a frame is overdue. One that came when nothing was known waits no longer than one that comes now.
    fn deadline(&self, frame: &Frame<F, A>) -> Option<Time> {
        let now_known = || if self.may_skip() { self.allowed() } else { None };
        frame.deadline.or_else(|| frame.origin.arrived.checked_add(now_known()?))
    }

    fn ready(&self) -> Ready {
        if self.flow.is_err() || !self.late_failures.is_empty() {
            return Ready::Now;
        }
        match self.queue.front() {
            None => Ready::Later,
            Some(item) if item.awaits_answer() => {
                if self.knocking && self.may_skip() && self.inside >= self.rules.max_in_flight {
                    return Ready::Now;
                }
                // The answer to a frame that has left has just come, and its own will be late, too.
                if self.hand_on && self.may_skip() {
                    return Ready::Now;
                }
                let Item::Frame(frame) = item else { return Ready::Now };
                self.deadline(frame).map_or(Ready::Later, Ready::At)
            }
            Some(_) => Ready::Now,
        }
    }

    /// Wakes the task if it sleeps and has something to do before its alarm. Waking a thread costs more than all else
    /// that the element does for a frame.
    fn call_task(&mut self) {
        let Some(alarm) = self.asleep else { return };
        self.fx.wake_task |= match self.ready() {
            Ready::Now => true,
            Ready::At(time) => alarm.is_none_or(|alarm| time < alarm),
            Ready::Later => false,
        };
    }
}

/// When there is something to do.
#[derive(Debug, PartialEq, Eq)]
enum Ready {
    Now,
    /// At this time, if nothing happens before.
    At(Time),
    /// When something happens.
    Later,
}

impl<F, E, A> Item<F, E, A> {
    fn awaits_answer(&self) -> bool {
        matches!(self, Item::Frame(Frame { work: Work::Unasked | Work::Asked, .. }))
    }
}

/// Time between two frames, never zero: zero is the age of a frame's own mask.
fn age(mask: &Origin, frame: &Origin) -> Duration {
    let by_pts = frame.pts.zip(mask.pts).and_then(|(frame, mask)| frame.checked_sub(mask));
    let by_clock = || frame.arrived.saturating_sub(mask.arrived);
    by_pts.map_or_else(by_clock, Duration::from_nanos).max(Duration::from_nanos(1))
}

/// How long a live frame waits for room when nothing has been measured yet.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// A frame that waits to its deadline leaves this part of the promised latency before its end, so that the time it
/// takes to wake up and to reach the sink does not make it late.
const LEEWAY: u32 = 16;

fn less_leeway(promise: Duration) -> Duration {
    promise - promise / LEEWAY
}

/// Answers without a frame replaced before a stream is not behind any more.
const CALM: u32 = 16;
/// Answers after which a stream that is behind tries whole batches, which may be worth more than their parts; twice as
/// many after each try in vain.
const TRY_AFTER: u32 = 64;
const TRY_AFTER_AT_MOST: u32 = 1024;

/// How many frames of the stream may wait for the model.
#[derive(Debug)]
struct Pace {
    behind: bool,
    /// It has just fallen behind.
    turned: bool,
    /// The sink is late.
    sink_is_late: bool,
    /// Answers in time since it fell behind, and since a frame was last replaced.
    answers: u32,
    calm: u32,
    try_after: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { behind: false, turned: false, sink_is_late: false, answers: 0, calm: 0, try_after: TRY_AFTER }
    }
}

impl Pace {
    fn room(&self, batch_size: usize) -> usize {
        if self.is_behind() { 1 } else { batch_size.max(1) }
    }

    fn is_behind(&self) -> bool {
        self.behind || self.sink_is_late
    }

    /// More frames wait than may.
    fn overflows(&mut self) {
        self.calm = 0;
        if !self.sink_is_late {
            self.late();
        }
    }

    /// An answer comes too late, and more time is not to be had.
    fn late(&mut self) {
        self.calm = 0;
        if !self.behind {
            (self.behind, self.turned, self.answers) = (true, true, 0);
        }
    }

    fn in_time(&mut self) {
        if !self.behind {
            return;
        }
        self.answers = self.answers.saturating_add(1);
        self.calm = self.calm.saturating_add(1);
        if self.calm >= CALM {
            (self.behind, self.try_after) = (false, TRY_AFTER);
        } else if self.answers >= self.try_after {
            self.behind = false;
            self.try_after = (2 * self.try_after).min(TRY_AFTER_AT_MOST);
        }
    }
}

/// The report covers the longest of this many latest answers.
const WINDOW: usize = 128;
/// A new report is this much above the longest measured, so that small variations need no other.
const HEADROOM: f64 = 1.25;
/// A report this much above the longest measured is lowered.
const EXCESS: f64 = 1.5;

/// Times from a frame's arrival to its answer, and the latency that follows.
#[derive(Debug, Default)]
struct Measured {
    times: VecDeque<Duration>,
    longest: Duration,
    reported: Option<Duration>,
    /// The report is of other times than these.
    stale: bool,
}

impl Measured {
    fn record(&mut self, time: Duration) {
        let oldest = if self.times.len() == WINDOW { self.times.pop_front() } else { None };
        self.times.push_back(time);
        if oldest.is_some_and(|oldest| oldest >= self.longest) {
            self.longest = self.times.iter().max().copied().unwrap_or_default();
        }
        let longest = self.longest.max(time);
        self.longest = longest;
        // A short history says too little to lower the report.
        let lowers = self.stale || self.times.len() == WINDOW;
        // A frame does not wait to the end of what is reported: what takes that long comes too late.
        let holds = |reported: Duration| {
            longest <= less_leeway(reported) && (!lowers || longest.mul_f64(EXCESS) >= reported)
        };
        if !self.reported.is_some_and(holds) {
            self.reported = Some(longest.mul_f64(HEADROOM));
        }
        self.stale = false;
    }

    fn start_over(&mut self) {
        self.times.clear();
        self.longest = Duration::ZERO;
        self.stale = true;
    }
}

/// So many turns are remembered. Several frames of one batch are answered at once, and the first of them tells.
const TURNS: usize = 8;

/// How long the model takes for a frame once it is its stream's turn, the turns of other streams included.
#[derive(Debug, Default)]
struct Turns {
    /// The latest answer.
    answered: Time,
    took: VecDeque<Duration>,
}

impl Turns {
    /// The model has answered a frame that came at `arrived`.
    fn answered(&mut self, arrived: Time, now: Time) {
        if self.took.len() == TURNS {
            self.took.pop_front();
        }
        self.took.push_back(now.saturating_sub(arrived.max(self.answered)));
        self.answered = now;
    }

    fn longest(&self) -> Duration {
        self.took.iter().max().copied().unwrap_or_default()
    }
}

/// The interval is the mean of so many.
const INTERVALS: usize = 16;
/// Fewer say nothing.
const INTERVALS_AT_LEAST: usize = 2;
/// Caps that name an interval this much off the measured one are wrong.
const OFF: u32 = 2;
/// Nor is a rate above this one believed before it is seen.
const SHORTEST: Duration = Duration::from_millis(1);

/// How often frames come.
#[derive(Debug, Default)]
struct Rhythm {
    /// By the caps.
    hint: Option<Duration>,
    /// When they came, and the times that they say.
    arrivals: VecDeque<(Time, Option<u64>)>,
}

impl Rhythm {
    fn arrived(&mut self, now: Time, pts: Option<u64>) {
        if self.arrivals.len() > INTERVALS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((now, pts));
    }

    /// A stop, a flush: what comes now does not belong to what came before.
    fn forget(&mut self) {
        self.arrivals.clear();
    }

    fn measured(&self) -> Option<Duration> {
        let (first, last) = self.arrivals.front().zip(self.arrivals.back())?;
        let intervals = self.arrivals.len() - 1;
        if intervals < INTERVALS_AT_LEAST {
            return None;
        }
        // Frames that come in a burst say by their own times how far apart they are.
        let by_pts = last.1.zip(first.1).and_then(|(last, first)| last.checked_sub(first));
        let by_clock = last.0.saturating_sub(first.0);
        Some(by_clock.max(by_pts.map(Duration::from_nanos).unwrap_or_default()) / intervals as u32)
    }

    /// What is measured, or, as long as that agrees, what the caps name: it does not waver.
    fn interval(&self) -> Option<Duration> {
        let hint = self.hint.filter(|hint| *hint >= SHORTEST);
        match (self.measured(), hint) {
            (Some(measured), Some(hint)) if measured <= hint * OFF && hint <= measured * OFF => Some(hint),
            (Some(measured), _) => Some(measured),
            (None, hint) => hint,
        }
    }

    fn capacity(&self, frames: usize) -> Option<Duration> {
        let frames = u32::try_from(frames.max(1)).unwrap_or(u32::MAX);
        self.interval().and_then(|interval| interval.checked_mul(frames))
    }
}

/// A frame that comes within this part of a silence after another has left could not come before: upstream has no more
/// buffers than wait here.
const AT_ONCE: u32 = 16;

/// How many frames upstream can have waiting here at the same time. A pool of few buffers is not waited for in vain.
#[derive(Debug, Default)]
struct Upstream {
    entered: Option<Time>,
    /// When the latest frame was handed out since.
    left: Option<Time>,
    /// Frames that waited when the last one had entered.
    waiting: usize,
    /// It was held up here.
    held: bool,
    holds: Option<usize>,
}

impl Upstream {
    fn held_up(&mut self) {
        self.held = true;
    }

    fn leaves(&mut self, now: Time) {
        self.left.get_or_insert(now);
    }

    fn entered(&mut self, now: Time, waiting: usize, batch_timeout: Duration) {
        if let Some((before, left)) = self.entered.zip(self.left)
            && !std::mem::take(&mut self.held)
        {
            // As long as a batch waits, or nearly: a pause that costs nothing says nothing.
            let silence = left.saturating_sub(before);
            let in_vain = silence >= batch_timeout / 2 && !silence.is_zero();
            if in_vain && now.saturating_sub(left) <= silence / AT_ONCE {
                self.holds = Some(self.waiting);
            }
        }
        if self.holds.is_some_and(|holds| waiting > holds) {
            self.holds = None;
        }
        (self.entered, self.waiting, self.left) = (Some(now), waiting, None);
    }

    fn holds_no_more(&self, waiting: usize) -> bool {
        self.holds.is_some_and(|holds| waiting >= holds)
    }
}

#[cfg(test)]
mod tests;
