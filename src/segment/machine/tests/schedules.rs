// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random schedules: a simulated upstream, model, task and downstream around the machine, on a clock of their own. After
//! every step the rules of `docs/live.md` are checked. 100,000 schedules in the ordinary run; `GCLIP_SCHEDULES` sets
//! another count, `GCLIP_SCHEDULE` runs the one of this number alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// Frames of a schedule.
const FRAMES: u64 = 48;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// What upstream does.
enum Source {
    /// It sends its next frame at this time.
    Idle(Time),
    /// It waits for room with a frame that came at this time, until woken or until another.
    Knocks(Time, Option<Time>),
    Done,
}

enum Task {
    Paused,
    Runs,
    Sleeps(Option<Time>),
    /// Until this time downstream holds what it pushes.
    Pushes(Time),
}

struct World {
    dice: Dice,
    rules: Rules,
    live: bool,
    /// Flushes, ends, relinks, failures and all else.
    faults: bool,
    /// Frames come at odd times.
    fickle: bool,
    interval: Duration,
    forward: Duration,
    push: Duration,
    machine: Machine<u64, u64, u64>,
    now: Time,

    source: Source,
    sent: u64,
    /// Buffers that upstream has.
    pool: usize,
    task: Task,
    pushing: Option<u64>,
    /// What downstream will answer to what it is handed.
    answer: Option<End>,

    waiting: VecDeque<(u64, Time)>,
    running: Vec<u64>,
    until: Option<Time>,
    quiet: bool,
    prompts_at: Option<(Time, u64)>,
    generation: u64,

    /// Serial numbers of all that enters: what leaves keeps their order.
    serial: u64,
    serials: BTreeMap<u64, u64>,
    arrivals: BTreeMap<u64, Time>,
    /// Sticky events that have neither gone out nor been handed back, and how many frames had come before each.
    events: BTreeMap<u64, (Kind, u64)>,
    /// Masks of frames before this number belong to another stream, or to what was before a flush.
    stream_from: u64,
    last_out: u64,
    turned_away: u64,
    pushed: u64,
    dropped: u64,
    /// By an end or a flush.
    ended: u64,
    newest: Option<u64>,
    /// Answers that came, and whether a frame has carried them.
    answers: BTreeMap<u64, bool>,
    falls: u64,
    was_behind: bool,
    longest_promise: Duration,
}

fn rules(dice: &mut Dice) -> Rules {
    Rules {
        late: dice.of(&[Late::Auto, Late::Auto, Late::Wait, Late::Reuse, Late::Drop]),
        interval: dice.of(&[1, 1, 1, 1, 2, 5]),
        batch_size: dice.of(&[1, 1, 2, 4, 8]),
        batch_timeout: MS(dice.of(&[0, 5, 20, 100])),
        max_in_flight: dice.of(&[1, 2, 3, 8, 8, 16]),
        latency: if dice.one_in(3) { Some(MS(dice.of(&[0, 1, 30, 100, 500]))) } else { None },
        failure_ends: dice.one_in(2),
    }
}

impl World {
    fn new(number: u64) -> World {
        let mut dice = Dice(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let rules = rules(&mut dice);
        let interval = MS(dice.of(&[2, 10, 33, 66, 200]));
        let mut machine = Machine::new(rules.clone());
        machine.hint(dice.of(&[None, Some(interval), Some(Duration::from_micros(11)), Some(interval * 7)]));
        World {
            live: dice.one_in(2),
            faults: dice.one_in(2),
            fickle: dice.one_in(2),
            interval,
            forward: MS(dice.of(&[0, 1, 10, 40, 90, 160, 700])),
            push: MS(dice.of(&[0, 0, 0, 1, 20, 90])),
            machine,
            now: Time::ZERO,
            source: Source::Idle(Time::ZERO),
            sent: 0,
            pool: if dice.one_in(6) { dice.of(&[1, 2, 4]) } else { usize::MAX },
            task: Task::Paused,
            pushing: None,
            answer: None,
            waiting: VecDeque::new(),
            running: Vec::new(),
            until: None,
            quiet: true,
            prompts_at: None,
            generation: 1,
            serial: 0,
            serials: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            events: BTreeMap::new(),
            stream_from: 0,
            last_out: 0,
            turned_away: 0,
            pushed: 0,
            dropped: 0,
            ended: 0,
            newest: None,
            answers: BTreeMap::new(),
            falls: 0,
            was_behind: false,
            longest_promise: Duration::ZERO,
            rules,
            dice,
        }
    }

    fn run(&mut self) {
        self.machine.prompts_ready(1);
        self.restart(End::Flushing, &[]);
        self.event(Kind::StreamStart);
        self.event(Kind::Segment);
        for _ in 0..20_000 {
            self.settle();
            self.check();
            let Some(next) = self.next_time() else { break };
            self.now = next;
            self.happen();
        }
        assert!(matches!(self.source, Source::Done), "{} frames were sent, and then nothing", self.sent);
        assert!(self.machine.queue.is_empty() || self.machine.flow.is_err(), "something stays inside");
        self.check_use();
    }

    // The clock.

    fn next_time(&self) -> Option<Time> {
        let source = match self.source {
            Source::Idle(time) => Some(time),
            Source::Knocks(_, until) => until,
            Source::Done => None,
        };
        let task = match self.task {
            Task::Sleeps(alarm) => alarm,
            Task::Pushes(time) => Some(time),
            Task::Paused | Task::Runs => None,
        };
        let due = self.waiting.front().map(|(_, since)| *since + self.rules.batch_timeout);
        let model = self.until.or(due);
        let prompts = self.prompts_at.map(|(time, _)| time);
        [source, task, model, prompts].into_iter().flatten().min().map(|time| time.max(self.now))
    }

    /// What is due now.
    fn happen(&mut self) {
        if self.until.is_some_and(|until| until <= self.now) {
            self.until = None;
            for number in std::mem::take(&mut self.running) {
                let fails = self.faults && self.dice.one_in(40);
                if !fails {
                    self.answers.insert(number, false);
                }
                let answer = if fails { Err("it failed".to_owned()) } else { Ok(number) };
                self.machine.answered(number, answer, self.now);
            }
        }
        if let Some((_, generation)) = self.prompts_at.take_if(|(time, _)| *time <= self.now) {
            self.machine.prompts_ready(generation);
        }
        if matches!(self.task, Task::Pushes(time) if time <= self.now) {
            self.pushed_out();
        }
        if matches!(self.task, Task::Sleeps(Some(alarm)) if alarm <= self.now) {
            self.task = Task::Runs;
        }
        match self.source {
            Source::Idle(time) if time <= self.now => self.source_acts(),
            Source::Knocks(_, Some(until)) if until <= self.now => self.knock(),
            _ => (),
        }
    }

    /// Everybody who can do something does it, until nobody can.
    fn settle(&mut self) {
        loop {
            let fx = std::mem::take(&mut self.machine.fx);
            self.quiet |= fx.quiet;
            let mut idle = true;
            if fx.ask {
                idle = false;
                self.bring();
            }
            if fx.wake_task && matches!(self.task, Task::Sleeps(_)) {
                self.task = Task::Runs;
            }
            if fx.wake_upstream && matches!(self.source, Source::Knocks(..)) {
                idle = false;
                self.knock();
            }
            if matches!(self.task, Task::Runs) {
                idle = false;
                self.step();
            }
            self.model_starts();
            if idle && self.machine.fx == Effects::default() {
                return;
            }
        }
    }

    // Upstream.

    fn source_acts(&mut self) {
        if self.faults && self.dice.one_in(12) {
            self.fault();
        }
        if self.sent == FRAMES {
            self.event(Kind::Eos);
            self.source = Source::Done;
            return;
        }
        if self.machine.inside >= self.pool {
            // It has no buffer to fill.
            self.source = Source::Idle(self.now + MS(1) + self.forward / 16);
            return;
        }
        if self.machine.live().is_none() {
            self.machine.set_live(self.live);
        }
        self.sent += 1;
        self.source = Source::Knocks(self.now, None);
        self.knock();
    }

    fn source_rests(&mut self) {
        let interval = match (self.fickle, self.live) {
            (true, _) => self.interval * self.dice.below(16) as u32 / 8,
            (false, true) => self.interval,
            (false, false) => Duration::ZERO,
        };
        self.source = Source::Idle(self.now + interval);
    }

    fn knock(&mut self) {
        let Source::Knocks(arrived, _) = self.source else { return };
        match self.machine.knock(arrived, self.now) {
            Knock::Wait(until) => {
                self.source = Source::Knocks(arrived, until);
                // The task is free only for a moment: it is about to run.
                let is_called = self.machine.fx.wake_task || !matches!(self.task, Task::Sleeps(_));
                assert!(!self.machine.may_skip() || is_called, "the model holds up a stream that may skip");
                return;
            }
            Knock::TurnedAway => {
                assert!(self.machine.may_skip(), "only a stream that may skip loses frames");
                let room = self.pushing.is_none() && self.rules.late != Late::Drop;
                assert!(self.faults || !room, "there was room to be made");
                self.turned_away += 1;
            }
            Knock::End(_) => self.ended += 1,
            Knock::Enter => {
                let serial = self.next_serial();
                let time = Some(arrived.as_nanos() as u64);
                let arrival =
                    Arrival { cargo: serial, arrived, pts: time, running_time: time, damaged: false };
                let origin = self.machine.enter(arrival, self.now);
                self.serials.insert(origin.number, serial);
                self.arrivals.insert(origin.number, arrived);
                if self.faults && self.dice.one_in(30) {
                    let jitter = self.dice.below(400) as i64 - 100;
                    self.machine.qos(time, jitter * 1_000_000);
                }
            }
        }
        self.source_rests();
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn event(&mut self, kind: Kind) {
        if matches!(kind, Kind::Segment | Kind::StreamStart) {
            self.restart(End::Eos, &[Kind::Eos]);
        }
        let serial = self.next_serial();
        let sticky = kind != Kind::Gap;
        if sticky {
            self.events.insert(serial, (kind, self.machine.next));
        }
        // Refused when the flow has ended; upstream sees that at its next frame.
        let _ = self.machine.event(serial, kind, sticky);
    }

    fn fault(&mut self) {
        match self.dice.below(8) {
            0 => self.flush(),
            1 => self.event(Kind::Segment),
            2 => {
                self.event(Kind::StreamStart);
                self.event(Kind::Segment);
            }
            3 => self.event(Kind::Gap),
            4 => self.event(Kind::Other),
            5 => {
                self.generation += 1;
                self.machine.await_prompts(self.generation);
                let took = self.dice.of(&[0, 5, 50, 400]);
                self.prompts_at = Some((self.now + MS(took), self.generation));
            }
            6 => self.answer = Some(self.dice.of(&[End::Eos, End::NotLinked])),
            _ => {
                let late = self.rules.late;
                self.rules = rules(&mut self.dice);
                self.rules.late = late;
                self.machine.set_rules(self.rules.clone());
            }
        }
    }

    fn flush(&mut self) {
        let ended = self.machine.stop();
        self.flow_ended(&ended);
        // The flush goes ahead downstream, and the task is waited for.
        if matches!(self.task, Task::Pushes(_)) {
            self.answer = Some(End::Flushing);
            self.pushed_out();
        }
        self.answer = None;
        self.step();
        assert!(matches!(self.task, Task::Paused), "a flush pauses the task");
        self.machine.flushed();
        self.newest = None;
        self.stream_from = self.machine.next;
        self.restart(End::Flushing, &[Kind::Segment, Kind::Eos]);
        self.event(Kind::Segment);
    }

    fn flow_ended(&mut self, ended: &Ended<u64, u64>) {
        self.ended += ended.frames.len() as u64;
        if let Some(eos) = ended.eos {
            self.events.remove(&eos);
        }
        self.waiting.clear();
        self.running.clear();
    }

    fn restart(&mut self, why: End, over: &[Kind]) {
        loop {
            let is_over = |(event, kind): &(u64, Kind)| over.contains(kind).then_some(*event);
            let dropped: Vec<u64> = self.machine.kept.iter().filter_map(is_over).collect();
            let restart = self.machine.restart(why, over);
            if !matches!(restart, Restart::No) {
                self.events.retain(|event, _| !dropped.contains(event));
            }
            match restart {
                Restart::Store(stored) => self.events.retain(|event, _| !stored.contains(event)),
                Restart::No => return,
                Restart::Start => {
                    if matches!(self.task, Task::Paused) {
                        self.task = Task::Runs;
                    }
                    return;
                }
            }
        }
    }

    // The model.

    fn bring(&mut self) {
        while let Some((ask, &cargo)) = self.machine.next_ask() {
            assert_eq!(Some(&cargo), self.serials.get(&ask.number));
            let outcome = if self.faults && self.dice.one_in(50) {
                Asked::Failed("no pixels".into())
            } else {
                self.quiet = ask.at_once;
                self.waiting.push_back((ask.number, self.now));
                let excess = ask.newest.map_or(0, |newest| self.waiting.len().saturating_sub(newest));
                let gone: Vec<(u64, Time)> = self.waiting.drain(..excess).collect();
                if let Some(((_, since), (_, place))) = gone.first().zip(self.waiting.front_mut()) {
                    *place = *since;
                }
                Asked::Waits { instead_of: gone.into_iter().map(|(number, _)| number).collect() }
            };
            let (dropped, wanted) = self.machine.asked(ask.number, outcome);
            assert!(wanted);
            self.dropped += dropped.len() as u64;
        }
    }

    fn model_starts(&mut self) {
        let Some((_, since)) = self.waiting.front() else { return };
        let is_due = *since + self.rules.batch_timeout <= self.now;
        if self.until.is_none() && (self.waiting.len() >= self.rules.batch_size || self.quiet || is_due) {
            let size = self.rules.batch_size.min(self.waiting.len());
            self.running = self.waiting.drain(..size).map(|(number, _)| number).collect();
            let eighths = if self.faults { self.dice.below(4) as u32 } else { 0 };
            self.until = Some(self.now + self.forward + self.forward * eighths / 8);
        }
    }

    // The task and downstream.

    fn step(&mut self) {
        let deadline = match self.machine.queue.front() {
            Some(Item::Frame(frame)) => self.machine.deadline(frame),
            _ => None,
        };
        match self.machine.step(self.now) {
            Step::Pause => {
                self.task = Task::Paused;
                // Downstream is linked again after the fact.
                if self.machine.flow == Err(End::NotLinked) && self.dice.one_in(2) {
                    self.machine.relinked();
                    self.restart(End::NotLinked, &[Kind::Eos]);
                }
            }
            Step::Wait(alarm) => self.task = Task::Sleeps(alarm),
            Step::Event(serial) => {
                if let Some((Kind::StreamStart, frames)) = self.events.remove(&serial) {
                    self.stream_from = self.stream_from.max(frames);
                }
                self.goes_out(serial);
            }
            Step::Drop(dropped) => {
                assert_eq!(self.rules.late, Late::Drop);
                self.goes_out(dropped.cargo);
                self.dropped += 1;
            }
            Step::Fail(failed) => {
                self.task = Task::Pushes(self.now);
                self.answer = failed.ends.then_some(End::Other(1));
            }
            Step::Push { origin, cargo, carries, late, failed, .. } => {
                self.check_patience(&origin, deadline.filter(|_| late.is_some()));
                self.goes_out(cargo);
                self.pushed += 1;
                self.check_masks(&origin, &carries, late.is_some());
                self.check_delay(&origin);
                if failed.is_some_and(|failed| failed.ends) {
                    self.answer = Some(End::Other(1));
                }
                self.pushing = Some(origin.number);
                self.task = Task::Pushes(self.now + self.push);
                // Downstream is linked again while the frame is on its way.
                if self.answer == Some(End::NotLinked) && self.dice.one_in(2) {
                    self.machine.relinked();
                }
            }
        }
    }

    fn goes_out(&mut self, serial: u64) {
        assert!(serial > self.last_out, "{serial} leaves after {}", self.last_out);
        self.last_out = serial;
        self.task = Task::Pushes(self.now);
    }

    fn pushed_out(&mut self) {
        self.task = Task::Runs;
        let was_frame = self.pushing.take().is_some();
        let answer = if was_frame {
            self.answer.take()
        } else {
            self.answer.take_if(|end| matches!(end, End::Other(_)))
        };
        let linked = self.machine.links;
        let at_push = self.machine.out.as_ref().map_or(linked, |out| out.links);
        let flows = self.machine.flow.is_ok();
        let left = self.machine.left(answer.map(|end| (end, false)));
        if flows && answer == Some(End::NotLinked) && linked != at_push {
            assert!(self.machine.flow.is_ok(), "a link that came meanwhile is lost");
            (self.pushed, self.dropped) = (self.pushed - 1, self.dropped + 1);
        }
        self.dropped += left.freed.len() as u64;
        if let Some(ended) = left.ended {
            self.flow_ended(&ended);
        }
    }

    // The rules.

    fn check(&mut self) {
        let machine = &self.machine;
        self.falls += u64::from(machine.pace.behind && !self.was_behind);
        self.was_behind = machine.pace.behind;
        self.longest_promise = self.longest_promise.max(machine.promise());
        // All is bounded.
        let queued = machine.queue.iter().filter(|item| matches!(item, Item::Frame(_))).count();
        assert_eq!(machine.inside, queued + usize::from(self.pushing.is_some()), "frames inside are counted");
        assert!(machine.inside <= 16 && machine.kept.len() < 200, "more and more stays inside");
        let limit = if machine.may_skip() { self.rules.batch_size } else { self.rules.max_in_flight };
        if !self.faults {
            assert!(machine.inside <= self.rules.max_in_flight, "{} frames inside", machine.inside);
            assert!(self.waiting.len() <= limit, "{} frames wait for the model", self.waiting.len());
        }
        assert!(machine.with_model.len() <= self.waiting.len() + self.running.len(), "tickets stay for ever");
        // Nobody waits for what will not come.
        for item in &machine.queue {
            let Item::Frame(frame) = item else { continue };
            let number = frame.origin.number;
            match frame.work {
                Work::Asked => {
                    let is_there = self.waiting.iter().map(|(waiting, _)| waiting).chain(&self.running);
                    assert!(
                        is_there.copied().any(|there| there == number),
                        "no answer will come to {number}"
                    );
                }
                Work::Unasked => assert!(!machine.may_ask(), "{number} waits, and the model is not asked"),
                _ => (),
            }
        }
        match self.task {
            Task::Sleeps(alarm) => match machine.ready() {
                Ready::Now => panic!("the task sleeps while there is something to do"),
                Ready::At(time) => {
                    assert!(alarm.is_some_and(|alarm| alarm <= time), "the task sleeps too long")
                }
                Ready::Later => (),
            },
            Task::Paused => assert!(machine.flow.is_err(), "the task is paused while data flows"),
            Task::Runs | Task::Pushes(_) => (),
        }
        let is_awaited = !self.quiet && self.rules.batch_timeout > Duration::ZERO;
        let is_idle = self.until.is_none() && !self.waiting.is_empty();
        assert!(!is_idle || is_awaited, "the model is idle while a frame waits");
        assert!(!is_idle || !machine.pace.behind, "others are waited for although the stream is behind");
        // So is every event.
        let is_inside = |serial: &u64| {
            let waits =
                |item: &Item<u64, u64, u64>| matches!(item, Item::Event { event, .. } if event == serial);
            machine.queue.iter().any(waits) || machine.kept.iter().any(|(event, _)| event == serial)
        };
        assert!(self.events.keys().all(is_inside), "an event is lost");
        // Every frame is somewhere, or counted.
        let at_the_door = u64::from(matches!(self.source, Source::Knocks(..)));
        let inside = machine.inside as u64 - u64::from(self.pushing.is_some());
        let accounted = self.turned_away + self.pushed + self.dropped + self.ended + inside;
        assert_eq!(self.sent - at_the_door, accounted, "a frame is lost without a word");
        assert_eq!(machine.counts.dropped, self.turned_away + self.dropped, "dropped frames are counted");
        assert_eq!(machine.counts.frames, self.pushed, "frames that leave are counted");
    }

    fn check_masks(&mut self, origin: &Origin, carries: &Carries<u64>, late: bool) {
        match carries {
            Carries::Own(answer) => {
                assert_eq!(*answer, origin.number, "its own mask");
                self.newest = Some(*answer);
                self.answers.insert(*answer, true);
            }
            Carries::Earlier { answer, origin: of, age, .. } => {
                assert!(*answer == of.number && of.number < origin.number, "a mask of the future");
                assert!(of.number >= self.stream_from, "a mask of another stream");
                assert!(self.newest.is_none_or(|newest| newest <= *answer), "masks run backwards");
                let unseen = self.newest.replace(*answer) != Some(*answer);
                assert!(unseen || !late || self.rules.late != Late::Drop, "an overdue frame is dropped");
                self.answers.insert(*answer, true);
                assert!(!age.is_zero());
                self.check_age(*age);
            }
            Carries::Nothing => (),
        }
    }

    /// A camera that sends in time, to a downstream that is always ready.
    fn is_steady(&self) -> bool {
        let flows = self.push.is_zero() && self.pool == usize::MAX;
        self.live && !self.faults && !self.fickle && flows
    }

    /// A frame that the model looks at next waits for its own mask, if that comes before its deadline, and so would those
    /// of all after it.
    fn check_patience(&self, origin: &Origin, overdue_at: Option<Time>) {
        let is_next =
            self.waiting.iter().take(self.rules.batch_size).any(|(number, _)| *number == origin.number);
        let answer = match self.until {
            Some(until) if self.running.contains(&origin.number) => until,
            None if is_next && self.quiet => self.now + self.forward,
            _ => return,
        };
        let machine = &self.machine;
        let room = self.interval * self.rules.max_in_flight.saturating_sub(1) as u32;
        let most = machine.allowed().unwrap_or_default().min(room);
        let is_known = machine.turns.longest() <= self.forward;
        let fits = self.forward + self.interval <= most && !machine.knocking;
        let Some(deadline) = overdue_at.filter(|_| self.is_steady() && is_known && fits) else { return };
        assert!(answer >= deadline, "its mask comes at {answer:?}, and it could stay until {deadline:?}");
    }

    /// A mask is no older than a forward, an interval and the batch timeout, where a frame may wait that long; and than
    /// another forward, where it may not.
    fn check_age(&self, age: Duration) {
        let settled = self.machine.pace.behind && self.machine.pace.answers > 2;
        let applies = self.machine.may_skip() && self.rules.late != Late::Drop && self.rules.interval == 1;
        if !(self.is_steady() && settled && applies) {
            return;
        }
        let alone = self.forward + self.interval + self.rules.batch_timeout;
        let fits = self.interval * self.rules.max_in_flight.saturating_sub(2) as u32 > alone;
        let roomy = fits && self.machine.allowed().is_some_and(|allowed| allowed > alone);
        let most = if roomy || self.forward <= self.interval { alone } else { alone + self.forward };
        assert!(age <= most, "a mask is {age:?} old, where {most:?} would do");
    }

    /// No frame of a live stream that may skip stays longer than is promised, unless downstream holds it.
    fn check_delay(&self, origin: &Origin) {
        if !self.machine.may_skip() || !self.push.is_zero() || self.faults || !self.live {
            return;
        }
        let stayed = self.now - self.arrivals[&origin.number];
        // Before anything is measured there is nothing to promise but that upstream is not held up.
        let first = self.interval * 2 * self.rules.max_in_flight as u32 + MS(1);
        let most = if self.machine.allowed().is_none() || origin.number < 16 {
            first.max(self.longest_promise).max((self.forward + self.rules.batch_timeout) * 2)
        } else {
            self.longest_promise
        };
        assert!(stayed <= most, "a frame stays for {stayed:?}, and {most:?} were promised");
    }

    /// What the model has made was of use.
    fn check_use(&self) {
        let steady =
            self.live && !self.faults && !self.fickle && self.push.is_zero() && self.pool == usize::MAX;
        let overloaded = self.forward > self.interval && self.rules.interval == 1;
        if !(steady && overloaded && self.machine.may_skip()) {
            return;
        }
        let unused = self.answers.values().filter(|used| !**used).count() as u64;
        // No frame comes after the last; and to fall behind costs what was asked before.
        let most = 1 + self.rules.batch_size as u64 * (1 + self.falls);
        assert!(unused <= most, "{unused} of {} masks are of no use", self.answers.len());
        if self.rules.late == Late::Drop && self.interval * (FRAMES as u32 / 2) > self.forward * 2 {
            assert!(self.pushed > 0, "no frame leaves");
        }
    }
}

#[test]
fn the_rules_hold_in_a_hundred_thousand_random_schedules() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(one) = number("GCLIP_SCHEDULE") {
        let mut world = World::new(one);
        println!(
            "{:?}, live {}, faults {}, fickle {}, interval {:?}, forward {:?}, push {:?}, pool {}",
            world.rules,
            world.live,
            world.faults,
            world.fickle,
            world.interval,
            world.forward,
            world.push,
            world.pool
        );
        world.run();
        return;
    }
    let fails = |schedule: &u64| std::panic::catch_unwind(|| World::new(*schedule).run()).is_err();
    let failing: Vec<u64> = (0..number("GCLIP_SCHEDULES").unwrap_or(100_000)).filter(fails).take(8).collect();
    assert!(failing.is_empty(), "schedules {failing:?}; GCLIP_SCHEDULE=N runs one of them alone");
}
