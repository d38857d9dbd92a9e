// SPDX-License-Identifier: MIT OR Apache-2.0
//! The task's start and pause, in every order in which they can happen: whatever comes between the task's decision and
//! its pause, no stream is left with data that flows and a task that does not.
//!
//! Every change of the machine, with the start or pause that goes with it, is one step under one lock. So the orders of
//! these steps are all there is to try, and all are tried.

use std::time::Duration;

use super::super::*;

type Stream = Machine<u32, u32, u32>;

/// What one thread does under one lock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Task: `step`, with the pause if it says so.
    Turn,
    /// Task: `left`, with downstream's answer to what it was handed.
    Left(Option<End>),
    /// Downstream: linked again; and the restart, with the start of the task.
    Relinked,
    RestartRelinked,
    /// Upstream: a frame; a segment, and the restart before it.
    Frame,
    RestartSegment,
    Segment,
}

struct Play {
    stream: Stream,
    /// Whether the pad's task runs: as GStreamer has it.
    runs: bool,
    at_item: bool,
    /// Whether downstream is linked, and was when the task was handed its item.
    linked: bool,
    was_linked: bool,
}

impl Play {
    fn new() -> Play {
        let rules = Rules {
            late: Late::Wait,
            interval: u64::MAX,
            batch_size: 1,
            batch_timeout: Duration::ZERO,
            max_in_flight: 4,
            latency: None,
            failure_ends: true,
        };
        let mut play = Play {
            stream: Machine::new(rules),
            runs: false,
            at_item: false,
            linked: false,
            was_linked: false,
        };
        play.restart(End::Flushing);
        // The first frame alone is looked at; this is about the others.
        play.stream.seen = 1;
        play
    }

    fn restart(&mut self, why: End) {
        loop {
            match self.stream.restart(why, &[Kind::Eos]) {
                Restart::Store(_) => (),
                Restart::Start => return self.runs = true,
                Restart::No => return,
            }
        }
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Turn if self.runs && !self.at_item => match self.stream.step(Time::ZERO) {
                super::super::Step::Pause => self.runs = false,
                super::super::Step::Wait(_) => (),
                _ => (self.at_item, self.was_linked) = (true, self.linked),
            },
            Step::Left(answer) if self.at_item => {
                self.at_item = false;
                // What is pushed after the link has a peer.
                let answer = answer.filter(|end| *end != End::NotLinked || !self.was_linked);
                drop(self.stream.left(answer.map(|end| (end, false))));
            }
            Step::Turn | Step::Left(_) => (),
            Step::Relinked => {
                self.linked = true;
                self.stream.relinked();
            }
            Step::RestartRelinked => self.restart(End::NotLinked),
            Step::Frame => {
                if self.stream.knock(Time::ZERO, Time::ZERO) == Knock::Enter {
                    let arrival = Arrival {
                        cargo: 0,
                        arrived: Time::ZERO,
                        pts: None,
                        running_time: None,
                        damaged: false,
                    };
                    self.stream.enter(arrival, Time::ZERO);
                }
            }
            Step::RestartSegment => self.restart(End::Eos),
            Step::Segment => drop(self.stream.event(0, Kind::Segment, true)),
        }
    }

    /// Data flows again, and the task does its work to the end.
    fn ends_well(mut self, what: &[Step]) {
        assert!(self.stream.flow.is_ok(), "the flow has ended for good: {what:?}");
        for _ in 0..20 {
            self.act(Step::Turn);
            self.act(Step::Left(None));
        }
        assert!(self.runs, "the task is paused while data flows: {what:?}");
        assert!(self.stream.queue.is_empty(), "something waits for ever: {what:?}");
    }
}

/// All ways to shuffle threads together, each of which keeps its order.
fn shuffles(threads: &[&[Step]], so_far: &mut Vec<Step>, each: &mut impl FnMut(&[Step])) {
    if threads.iter().all(|thread| thread.is_empty()) {
        return each(so_far);
    }
    for chosen in 0..threads.len() {
        let Some((first, rest)) = threads[chosen].split_first() else { continue };
        let mut others = threads.to_vec();
        others[chosen] = rest;
        so_far.push(*first);
        shuffles(&others, so_far, each);
        so_far.pop();
    }
}

fn all_orders(threads: &[&[Step]]) -> usize {
    let mut count = 0;
    shuffles(threads, &mut Vec::new(), &mut |steps| {
        let mut play = Play::new();
        play.act(Step::Frame);
        // Downstream has gone before anything else happens, and its coming back is the last thing of its thread.
        steps.iter().for_each(|step| play.act(*step));
        play.ends_well(steps);
        count += 1;
    });
    count
}

#[test]
fn a_link_that_comes_at_any_moment_is_not_lost() {
    let unlinked = Step::Left(Some(End::NotLinked));
    let orders = all_orders(&[
        &[Step::Turn, unlinked, Step::Turn, Step::Turn, Step::Left(None), Step::Turn],
        &[Step::Relinked, Step::RestartRelinked],
        &[Step::Frame, Step::Frame, Step::Frame],
    ]);
    assert_eq!(orders, 4620);
}

#[test]
fn a_segment_that_comes_at_any_moment_is_not_lost() {
    let enough = Step::Left(Some(End::Eos));
    let orders = all_orders(&[
        &[Step::Turn, enough, Step::Turn, Step::Turn, Step::Left(None), Step::Turn],
        &[Step::RestartSegment, Step::Segment, Step::Frame, Step::RestartSegment, Step::Segment],
    ]);
    assert_eq!(orders, 462);
}
