// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is queued, who may still add to it, and therefore whether a batch may run. No threads, no clock.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::stats::Counters;
use super::ticket::Slot;
use super::{Failure, SessionOptions, Waker};

/// A request that waits for its batch.
pub(super) struct Queued<Q, R> {
    session: u64,
    /// Counts submissions; the queue is sorted by it.
    number: u64,
    /// Whose turn it is: requests with a smaller one run first.
    turn: u64,
    pub request: Q,
    pub slot: Arc<Slot<R>>,
    submitted: Instant,
    /// `None`: the timeout lies beyond the clock's range.
    due: Option<Instant>,
    /// Its batch waits for nobody.
    at_once: bool,
}

impl<Q, R> Queued<Q, R> {
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// How a request joins those of its session that wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// So many of the session's requests may wait, this one included: the newest ones. `None` sets no limit.
    pub newest: Option<usize>,
    /// Its batch waits for nobody.
    pub at_once: bool,
}

/// One session, as the batcher sees it.
struct Place {
    options: SessionOptions,
    /// Called when the worker has answered tickets of this session.
    waker: Option<Waker>,
    in_flight: usize,
    /// Whether others wait for it: not quiet, and not silent when a batch last became due.
    awaited: bool,
    /// Turn of its last request that is queued or has run.
    turn: u64,
}

impl Place {
    fn can_add(&self) -> bool {
        self.awaited && self.in_flight < self.options.max_in_flight.max(1)
    }

    /// What this session allows a batch to hold; 0 when it does not take part.
    fn room(&self) -> usize {
        if self.awaited || self.in_flight > 0 { self.options.batch_size.max(1) } else { 0 }
    }
}

/// Session and slot of each request of the batches that run, oldest first.
type Running<R> = Vec<(u64, Arc<Slot<R>>)>;

pub(super) struct State<Q, R> {
    queue: VecDeque<Queued<Q, R>>,
    running: Running<R>,
    sessions: HashMap<u64, Place>,
    /// How many sessions can add.
    open: usize,
    /// Largest room among the sessions.
    capacity: usize,
    /// Earliest `due` in the queue.
    next_due: Option<Instant>,
    /// The largest turn that has been taken.
    turn: u64,
    ids: u64,
    numbers: u64,
    /// Living `Batcher` handles.
    pub handles: usize,
    /// Set when the worker has ended; requests are refused from then on.
    ended: bool,
    /// When the worker wakes by itself.
    pub alarm: Option<Instant>,
    pub counters: Counters,
}

impl<Q, R> State<Q, R> {
    pub fn new() -> Self {
        State {
            queue: VecDeque::new(),
            running: Vec::new(),
            sessions: HashMap::new(),
            open: 0,
            capacity: 0,
            next_due: None,
            turn: 0,
            ids: 0,
            numbers: 0,
            handles: 1,
            ended: false,
            alarm: None,
            counters: Counters::default(),
        }
    }

    /// Changes one session and keeps `open` and `capacity` true.
    fn change(&mut self, id: u64, change: impl FnOnce(&mut Place)) {
        let Some(place) = self.sessions.get_mut(&id) else { return };
        let (could_add, had_room) = (place.can_add(), place.room());
        change(place);
        let (can_add, room) = (place.can_add(), place.room());
        self.account(could_add, can_add, had_room, room);
    }

    fn account(&mut self, could_add: bool, can_add: bool, had_room: usize, room: usize) {
        self.open = self.open + usize::from(can_add) - usize::from(could_add);
        if room >= self.capacity {
            self.capacity = room;
        } else if had_room == self.capacity {
            self.capacity = self.sessions.values().map(Place::room).max().unwrap_or(0);
        }
    }

    pub fn join(&mut self, options: SessionOptions, waker: Option<Waker>) -> u64 {
        self.ids += 1;
        let place = Place { options, waker, in_flight: 0, awaited: true, turn: 0 };
        let (can_add, room) = (place.can_add(), place.room());
        self.sessions.insert(self.ids, place);
        self.account(false, can_add, 0, room);
        self.ids
    }

    /// Returns what the caller drops after the lock.
    #[must_use]
    pub fn leave(&mut self, id: u64) -> Vec<Queued<Q, R>> {
        let removed = self.flush(id);
        if let Some(place) = self.sessions.remove(&id) {
            self.account(place.can_add(), false, place.room(), 0);
        }
        removed
    }

    /// Queues a request. Returns its number, and the requests that it has taken the places of, answered as cancelled;
    /// the caller drops them after the lock.
    #[must_use]
    pub fn submit(
        &mut self,
        id: u64,
        request: Q,
        slot: Arc<Slot<R>>,
        manner: Manner,
        now: Instant,
    ) -> (u64, Vec<Queued<Q, R>>) {
        self.numbers += 1;
        let number = self.numbers;
        self.change(id, |place| {
            place.in_flight += 1;
            place.awaited = true;
        });
        if self.ended {
            slot.answer(Err(Failure::Failed("the batch worker has ended".into())));
            return (number, Vec::new());
        }
        let (mut due, mut turn) = (None, self.turn + 1);
        if let Some(place) = self.sessions.get_mut(&id) {
            due = now.checked_add(place.options.batch_timeout);
            // Behind its own before, and behind nobody else's but those whose turn has come.
            turn = turn.max(place.turn + 1);
            place.turn = turn;
        }
        if manner.at_once {
            due = Some(now);
        }
        let at_once = manner.at_once;
        let queued = Queued { session: id, number, turn, request, slot, submitted: now, due, at_once };
        self.queue.push_back(queued);
        let replaced = manner.newest.map(|newest| self.keep_newest(id, newest)).unwrap_or_default();
        if replaced.is_empty() {
            self.next_due = earliest(self.next_due, due);
        } else {
            self.find_next_due();
        }
        (number, replaced)
    }

    /// Takes the oldest requests of a session out until only the newest ones wait. Those that stay move up: a newer
    /// request comes at the turn, and by the time, that an older one has waited for.
    fn keep_newest(&mut self, id: u64, newest: usize) -> Vec<Queued<Q, R>> {
        let own = |queued: &Queued<Q, R>| queued.session == id;
        let mut excess =
            self.queue.iter().filter(|&queued| own(queued)).count().saturating_sub(newest.max(1));
        if excess == 0 {
            return Vec::new();
        }
        let mut places: VecDeque<_> =
            self.queue.iter().filter(|&queued| own(queued)).map(|q| (q.turn, q.due, q.at_once)).collect();
        let (mut kept, mut replaced) = (VecDeque::with_capacity(self.queue.len()), Vec::new());
        for mut queued in std::mem::take(&mut self.queue) {
            if !own(&queued) {
                kept.push_back(queued);
            } else if excess > 0 {
                excess -= 1;
                queued.slot.answer(Err(Failure::Cancelled));
                replaced.push(queued);
            } else {
                if let Some((turn, due, at_once)) = places.pop_front() {
                    (queued.turn, queued.due, queued.at_once) = (turn, due, at_once);
                }
                kept.push_back(queued);
            }
        }
        self.queue = kept;
        self.find_turn(id);
        replaced
    }

    pub fn set_options(&mut self, id: u64, options: SessionOptions) {
        self.change(id, |place| place.options = options);
        for queued in self.queue.iter_mut().filter(|queued| queued.session == id) {
            if !queued.at_once {
                queued.due = queued.submitted.checked_add(options.batch_timeout);
            }
        }
        self.find_next_due();
    }

    pub fn set_quiet(&mut self, id: u64) {
        self.change(id, |place| place.awaited = false);
    }

    /// Cancels a session's tickets. Returns what the caller drops after the lock.
    #[must_use]
    pub fn flush(&mut self, id: u64) -> Vec<Queued<Q, R>> {
        let (removed, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.queue).into_iter().partition(|queued| queued.session == id);
        self.queue = kept.into();
        self.find_next_due();
        self.find_turn(id);
        for queued in &removed {
            queued.slot.answer(Err(Failure::Cancelled));
        }
        for (_, slot) in self.running.iter().filter(|(session, _)| *session == id) {
            slot.answer(Err(Failure::Cancelled));
        }
        self.set_quiet(id);
        removed
    }

    /// Gives up a ticket's place in flight, and its request if that has not run. The caller drops what it gets
    /// after the lock.
    #[must_use]
    pub fn release(&mut self, id: u64, number: u64) -> Option<Queued<Q, R>> {
        self.change(id, |place| place.in_flight = place.in_flight.saturating_sub(1));
        let at = self.queue.binary_search_by_key(&number, |queued| queued.number).ok()?;
        let removed = self.queue.remove(at);
        self.find_next_due();
        self.find_turn(id);
        removed
    }

    pub fn in_flight(&self, id: u64) -> usize {
        self.sessions.get(&id).map_or(0, |place| place.in_flight)
    }

    fn find_next_due(&mut self) {
        self.next_due = self.queue.iter().filter_map(|queued| queued.due).min();
    }

    /// A session that has given requests up has not used their turns.
    fn find_turn(&mut self, id: u64) {
        let queued = self.queue.iter().filter(|queued| queued.session == id).map(|queued| queued.turn).max();
        if let Some(place) = self.sessions.get_mut(&id) {
            place.turn = queued.unwrap_or(self.turn).min(place.turn);
        }
    }

    fn complete(&self) -> bool {
        self.queue.len() >= self.capacity.max(1) || (self.open == 0 && !self.queue.is_empty())
    }

    /// Whether the worker, asleep until `alarm`, has to be told.
    pub fn calls_worker(&self) -> bool {
        self.complete() || self.deserted() || earliest(self.alarm, self.next_due) != self.alarm
    }

    /// Whether the worker is to end: then nothing can be queued.
    pub fn deserted(&self) -> bool {
        self.handles == 0 && self.sessions.is_empty()
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// The next batch, in the order of submission, if one may run now.
    pub fn take(&mut self, now: Instant) -> Option<Vec<Queued<Q, R>>> {
        if !self.complete() {
            if self.next_due.is_none_or(|due| now < due) {
                return None;
            }
            // Who is not given time cannot be silent.
            if !self.queue.iter().any(|queued| queued.at_once) {
                self.stop_awaiting_the_silent();
            }
        }
        let batch = self.next_in_turn(self.capacity.max(1));
        self.turn = batch.iter().map(|queued| queued.turn).fold(self.turn, u64::max);
        self.find_next_due();
        self.running.extend(batch.iter().map(|queued| (queued.session, queued.slot.clone())));
        self.counters.taken(batch.iter().map(|queued| now.saturating_duration_since(queued.submitted)));
        Some(batch)
    }

    /// Takes at most `size` requests out of the queue, those with the smallest turns, oldest first.
    fn next_in_turn(&mut self, size: usize) -> Vec<Queued<Q, R>> {
        if self.queue.len() <= size {
            return self.queue.drain(..).collect();
        }
        let mut turns: Vec<_> = self.queue.iter().map(|queued| (queued.turn, queued.number)).collect();
        let (_, &mut last, _) = turns.select_nth_unstable(size - 1);
        let (batch, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|queued| (queued.turn, queued.number) <= last);
        self.queue = kept.into();
        batch
    }

    /// A batch is due: whoever could have added to it and did not is not waited for again until it submits.
    fn stop_awaiting_the_silent(&mut self) {
        let heard: HashSet<u64> = self.queue.iter().map(|queued| queued.session).collect();
        let could_add = self.sessions.iter().filter(|(_, place)| place.can_add()).map(|(id, _)| *id);
        let silent: Vec<u64> = could_add.filter(|id| !heard.contains(id)).collect();
        for id in silent {
            self.set_quiet(id);
        }
    }

    /// The oldest batch that ran, of so many requests, has been answered. Returns who wants to hear of it, each once; the
    /// caller calls them, and drops what it gets, after the lock.
    #[must_use]
    pub fn finished(&mut self, requests: usize) -> (Vec<Waker>, Running<R>) {
        let finished: Running<R> = self.running.drain(..requests.min(self.running.len())).collect();
        let mut sessions: Vec<u64> = finished.iter().map(|(session, _)| *session).collect();
        sessions.sort_unstable();
        sessions.dedup();
        let places = sessions.iter().filter_map(|session| self.sessions.get(session));
        (places.filter_map(|place| place.waker.clone()).collect(), finished)
    }

    /// The worker is gone: fails what is outstanding. Returns who wants to hear of it; the caller calls them, and
    /// drops what it gets, after the lock.
    #[must_use]
    pub fn end(&mut self) -> (Vec<Waker>, VecDeque<Queued<Q, R>>) {
        self.ended = true;
        let gone = Failure::Failed("the batch worker has ended".into());
        let slots = self.queue.iter().map(|queued| &queued.slot);
        for slot in slots.chain(self.running.iter().map(|(_, slot)| slot)) {
            slot.answer(Err(gone.clone()));
        }
        self.next_due = None;
        let wakers = self.sessions.values().filter_map(|place| place.waker.clone()).collect();
        (wakers, std::mem::take(&mut self.queue))
    }
}

/// The earlier of two times; `None` is never.
fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
