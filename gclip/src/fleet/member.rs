// SPDX-License-Identifier: MIT OR Apache-2.0
//! One worker of a fleet, as a machine without clock and network: it is told what it sees and what time it is, and says
//! what is to be done.
//!
//! What all workers share are keys of one bucket, changed by compare-and-set and seen by everybody in one order:
//!
//! * `worker.NAME`: this session of the worker is in the fleet. Written once, after its first beat.
//! * `beat.NAME`: written again and again by that session, each time on top of its own last.
//! * `claim.CAMERA`: the session that has the camera. The revision of the claim is the camera's *epoch*.
//!
//! **Fence.** A beat that was confirmed lets the worker's lines out until its *sending* plus nine tenths of the time to
//! live. Who is to look after a worker (three others) reads its beat; after a whole time to live without a new one it
//! deletes that very revision of the beat, then the worker's key. From the deletion on no beat of that session succeeds,
//! and the last that did has run out. Only then are its claims free: so two are never let out at a time, whatever is
//! lost, late, or frozen, and whatever the servers' clocks show. Times are those since the machine's start, in which
//! sleep counts.
//!
//! **An outage of the servers moves nothing**: who has just been without them himself begins to count anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::placement::{Place, plan, watchers};

/// Since the start of the machine.
pub type Time = Duration;

/// How many look after each worker.
const WATCHERS: usize = 3;
/// A worker with more than its share gives a camera away this often; one that drains, this often.
const MOVE: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_millis(250);
/// What was asked for and not answered is asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// Who has a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub worker: String,
    /// Of this start of the worker; no other has the same.
    pub id: String,
}

#[derive(Clone, Debug)]
pub struct Identity {
    pub session: Session,
    /// Of a beat.
    pub ttl: Duration,
}

/// A beat as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    pub revision: u64,
    /// `None`: it was deleted.
    pub session: Option<String>,
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// With the revision it made.
    Done(u64),
    /// The key had another revision.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What a worker sees. The first three come in the order of their revisions.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker came, with its capacity; or went.
    Worker {
        name: String,
        revision: u64,
        session: Option<(String, u32)>,
    },
    Claim {
        camera: String,
        revision: u64,
        by: Option<Session>,
    },
    /// All that there was has been told.
    Current,
    Camera {
        name: String,
        exists: bool,
    },
    /// An operator wishes that a worker has no cameras, or that it has some again.
    Drain {
        worker: String,
        drains: bool,
    },
    /// What came of [`Action::Beat`] that was sent at that time.
    Beaten {
        sent: Time,
        outcome: Outcome,
    },
    /// The answer to [`Action::Look`].
    Looked {
        worker: String,
        beat: Option<Beat>,
    },
    /// The camera is no longer played, and its lines are on their way.
    Stopped {
        camera: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write one's beat on top of this revision.
    Beat {
        expected: u64,
    },
    /// Write one's `worker` key on top of this revision.
    Enroll {
        expected: u64,
    },
    /// Read a worker's beat; it may be an old one.
    Look {
        worker: String,
    },
    /// Delete this revision of a worker's beat, then look at it.
    Evict {
        worker: String,
        revision: u64,
    },
    /// Delete this revision of a worker's key.
    Bury {
        worker: String,
        revision: u64,
    },
    /// Write a claim on top of this revision.
    Claim {
        camera: String,
        expected: u64,
    },
    /// Delete this revision of one's claim.
    Release {
        camera: String,
        revision: u64,
    },
    Play {
        camera: String,
        epoch: u64,
    },
    /// Play it no longer; its lines are held from now on.
    Stop {
        camera: String,
    },
    /// This session is over: stop all, and come again as another.
    Lost,
    /// Another worker of this name is there.
    Taken,
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// Whether somebody has the name is being found out.
    Arriving {
        other: Option<Other>,
    },
    /// The first beat is written.
    Enrolling,
    Member,
    Over,
}

/// Who has one's name: the last of his beats, since when it is known, and how many newer ones were seen since `first`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Other {
    revision: u64,
    since: Time,
    first: Time,
    newer: u32,
}

struct Worker {
    revision: u64,
    id: String,
    capacity: u32,
}

/// A beat of another that is looked after.
struct Watched {
    id: String,
    revision: u64,
    since: Time,
}

#[derive(Clone, Copy, PartialEq)]
enum Playing {
    On {
        epoch: u64,
    },
    /// It is to be given away when it has stopped.
    Ending {
        epoch: u64,
    },
    Stopped {
        epoch: u64,
    },
}

pub struct Member {
    me: Identity,
    phase: Phase,
    is_current: bool,
    leaves: bool,
    /// Of the last beat that was confirmed or read.
    beat: u64,
    /// When the beat that is on its way was sent.
    beating: Option<Time>,
    last_beat: Option<Time>,
    /// Lines are let out until then.
    deadline: Time,
    /// Since when beats are refused.
    refused: Option<Time>,
    /// Since when every beat was confirmed soon.
    contact: Option<Time>,
    confirmed: Option<Time>,
    workers: BTreeMap<String, Worker>,
    /// Of keys of workers, deleted ones too.
    revisions: BTreeMap<String, u64>,
    claims: BTreeMap<String, (u64, Option<Session>)>,
    cameras: BTreeSet<String>,
    draining: BTreeSet<String>,
    watched: BTreeMap<String, Watched>,
    playing: BTreeMap<String, Playing>,
    /// When others, or while it arrives its own name, were looked at, and when it last asked to be let in.
    looked: Option<Time>,
    enrolled: Option<Time>,
    /// Cameras whose claims were to be changed, and when.
    asked: BTreeMap<String, Time>,
    given: Option<Time>,
    /// When it was last looked who has which camera, and whether something has changed since.
    arranged: Option<Time>,
    is_changed: bool,
}

impl Member {
    pub fn new(me: Identity) -> Member {
        Member {
            me,
            phase: Phase::Arriving { other: None },
            is_current: false,
            leaves: false,
            beat: 0,
            beating: None,
            last_beat: None,
            deadline: Time::ZERO,
            refused: None,
            contact: None,
            confirmed: None,
            workers: BTreeMap::new(),
            revisions: BTreeMap::new(),
            claims: BTreeMap::new(),
            cameras: BTreeSet::new(),
            draining: BTreeSet::new(),
            watched: BTreeMap::new(),
            playing: BTreeMap::new(),
            looked: None,
            enrolled: None,
            asked: BTreeMap::new(),
            given: None,
            arranged: None,
            is_changed: false,
        }
    }

    /// Until when lines may be let out.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    pub fn is_member(&self) -> bool {
        self.phase == Phase::Member
    }

    /// The cameras whose lines may be let out before the deadline, with their epochs.
    #[cfg(test)]
    pub fn open(&self) -> impl Iterator<Item = (&str, u64)> {
        self.playing.iter().filter_map(|(camera, playing)| match playing {
            Playing::On { epoch } => Some((camera.as_str(), *epoch)),
            Playing::Ending { .. } | Playing::Stopped { .. } => None,
        })
    }

    /// How many are in the fleet.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Nothing is taken any more. The cameras are to be stopped, then [`farewell`](Self::farewell).
    pub fn leave(&mut self) {
        self.leaves = true;
    }

    /// The last things to do, when nothing is played any more and what was said has arrived.
    pub fn farewell(&mut self) -> Vec<Action> {
        self.deadline = Time::ZERO;
        let worker = self.me.session.worker.clone();
        let mut actions = vec![];
        if let Some(own) = self.workers.get(&worker).filter(|own| own.id == self.me.session.id) {
            actions.push(Action::Bury { worker: worker.clone(), revision: own.revision });
        }
        if self.beat > 0 {
            actions.push(Action::Evict { worker, revision: self.beat });
        }
        self.phase = Phase::Over;
        actions
    }

    pub fn see(&mut self, now: Time, event: Event) -> Vec<Action> {
        let mut actions = vec![];
        if self.phase == Phase::Over {
            return actions;
        }
        self.is_changed |= !matches!(event, Event::Beaten { .. } | Event::Looked { .. });
        match event {
            Event::Worker { name, revision, session } => {
                self.see_worker(name, revision, session, &mut actions)
            }
            Event::Claim { camera, revision, by } => self.see_claim(camera, revision, by),
            Event::Current => self.is_current = true,
            Event::Camera { name, exists: true } => drop(self.cameras.insert(name)),
            Event::Camera { name, exists: false } => drop(self.cameras.remove(&name)),
            Event::Drain { worker, drains: true } => drop(self.draining.insert(worker)),
            Event::Drain { worker, drains: false } => drop(self.draining.remove(&worker)),
            Event::Beaten { sent, outcome } => self.see_own_beat(now, sent, outcome, &mut actions),
            Event::Looked { worker, beat } if worker == self.me.session.worker => {
                self.see_own_name(now, beat, &mut actions);
            }
            Event::Looked { worker, beat } => self.see_beat(now, worker, beat, &mut actions),
            Event::Stopped { camera } => {
                if let Some(Playing::Ending { epoch }) = self.playing.get(&camera).copied() {
                    self.playing.insert(camera, Playing::Stopped { epoch });
                }
            }
        }
        actions
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time) -> Vec<Action> {
        let mut actions = vec![];
        if !self.is_current || self.phase == Phase::Over {
            return actions;
        }
        if let Phase::Arriving { .. } = self.phase {
            if self.looked.is_none_or(|last| now >= last + self.me.ttl / 6) {
                self.looked = Some(now);
                actions.push(Action::Look { worker: self.me.session.worker.clone() });
            }
            return actions;
        }
        let is_due = self.last_beat.is_none_or(|last| now >= last + self.me.ttl / 3);
        if is_due && self.beating.is_none() {
            self.send_beat(now, &mut actions);
        }
        if self.phase == Phase::Enrolling {
            let expected = self.revisions.get(&self.me.session.worker).copied().unwrap_or(0);
            if self.deadline > now && self.enrolled.is_none_or(|last| now >= last + self.me.ttl / 3) {
                self.enrolled = Some(now);
                actions.push(Action::Enroll { expected });
            }
            return actions;
        }
        self.look_after_others(now, &mut actions);
        // What was asked for may have to be asked for again.
        if std::mem::take(&mut self.is_changed) || self.arranged.is_none_or(|last| now >= last + DRAIN) {
            self.arranged = Some(now);
            self.arrange(now, &mut actions);
        }
        actions
    }

    /// Whether a change of a camera's claim may be asked for: not if it was lately.
    fn may_ask(&mut self, camera: &str, now: Time) -> bool {
        let may = self.asked.get(camera).is_none_or(|asked| now >= *asked + AGAIN);
        if may {
            self.asked.insert(camera.to_string(), now);
        }
        may
    }

    // One's own beat.

    fn send_beat(&mut self, now: Time, actions: &mut Vec<Action>) {
        (self.beating, self.last_beat) = (Some(now), Some(now));
        actions.push(Action::Beat { expected: self.beat });
    }

    fn see_own_beat(&mut self, now: Time, sent: Time, outcome: Outcome, actions: &mut Vec<Action>) {
        if self.beating != Some(sent) {
            return;
        }
        self.beating = None;
        match outcome {
            Outcome::Done(revision) => {
                (self.beat, self.refused) = (revision, None);
                self.deadline = self.deadline.max(sent + self.me.ttl * 9 / 10);
                if self.confirmed.is_none_or(|last| now >= last + self.me.ttl / 2) {
                    self.contact = Some(now);
                }
                self.confirmed = Some(now);
                if let Phase::Arriving { .. } = self.phase {
                    self.phase = Phase::Enrolling;
                }
            }
            // One before it may have been written without a word, or the session is over; where all was lost that the
            // servers knew, nothing will ever be newer than this.
            Outcome::Refused | Outcome::Unknown => {
                if outcome == Outcome::Refused {
                    let since = *self.refused.get_or_insert(now);
                    if now >= since + 4 * self.me.ttl {
                        return self.lose(actions);
                    }
                }
                actions.push(Action::Look { worker: self.me.session.worker.clone() });
            }
        }
    }

    /// The beat under one's own name.
    fn see_own_name(&mut self, now: Time, beat: Option<Beat>, actions: &mut Vec<Action>) {
        let is_own = |beat: &Beat| beat.session.as_ref() == Some(&self.me.session.id);
        if let Phase::Arriving { other } = self.phase {
            match beat {
                _ if self.beating.is_some() => {}
                None => self.send_beat(now, actions),
                Some(beat) if beat.session.is_none() => {
                    self.beat = beat.revision;
                    self.send_beat(now, actions);
                }
                Some(beat) if is_own(&beat) => {
                    // Written, but not confirmed; the next one is.
                    self.beat = beat.revision;
                    self.send_beat(now, actions);
                }
                Some(Beat { revision, .. }) => {
                    let (first, newer) = other.map_or((now, 0), |other| (other.first, other.newer + 1));
                    match other {
                        // What was read first may have been old, and a last beat on its way; no more than that.
                        Some(other)
                            if revision > other.revision && newer > 3 && now >= first + 2 * self.me.ttl =>
                        {
                            self.phase = Phase::Over;
                            actions.push(Action::Taken);
                        }
                        Some(other) if revision == other.revision && now >= other.since + self.me.ttl => {
                            let worker = self.me.session.worker.clone();
                            actions.push(Action::Evict { worker, revision });
                        }
                        Some(other) if revision <= other.revision => {}
                        _ => {
                            let other = Other { revision, since: now, first, newer };
                            self.phase = Phase::Arriving { other: Some(other) };
                        }
                    }
                }
            }
            return;
        }
        match beat {
            // What was read may be older than what is known.
            Some(beat) if beat.revision > self.beat && is_own(&beat) => self.beat = beat.revision,
            Some(beat) if beat.revision > self.beat => self.lose(actions),
            _ => {}
        }
    }

    fn lose(&mut self, actions: &mut Vec<Action>) {
        self.deadline = Time::ZERO;
        self.phase = Phase::Over;
        self.playing.clear();
        actions.push(Action::Lost);
    }

    // The others.

    fn see_worker(
        &mut self,
        name: String,
        revision: u64,
        session: Option<(String, u32)>,
        actions: &mut Vec<Action>,
    ) {
        self.revisions.insert(name.clone(), revision);
        let is_me = name == self.me.session.worker;
        let is_own = is_me && session.as_ref().is_some_and(|(id, _)| *id == self.me.session.id);
        if is_own && self.phase == Phase::Enrolling {
            self.phase = Phase::Member;
        } else if is_me && !is_own && self.phase == Phase::Member {
            self.lose(actions);
        }
        match session {
            Some((id, capacity)) => drop(self.workers.insert(name, Worker { revision, id, capacity })),
            None => drop(self.workers.remove(&name)),
        }
    }

    fn look_after_others(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.looked.is_some_and(|looked| now < looked + self.me.ttl / 6) {
            return;
        }
        self.looked = Some(now);
        let own = self.me.session.worker.as_str();
        let names = || self.workers.keys().map(String::as_str);
        let mine = |other: &&str| *other != own && watchers(other, names(), WATCHERS).contains(&own);
        let others: Vec<String> = names().filter(mine).map(str::to_string).collect();
        self.watched.retain(|name, _| others.contains(name));
        // Who is without the servers himself, perhaps without knowing it yet, does not know of others.
        let hears = self.confirmed.is_some_and(|last| now < last + self.me.ttl / 2);
        for worker in others {
            let due = self.watched.get(&worker).filter(|watched| {
                let since = self.contact.map(|contact| contact.max(watched.since));
                hears && since.is_some_and(|since| now >= since + self.me.ttl)
            });
            actions.push(match due {
                Some(watched) => Action::Evict { revision: watched.revision, worker },
                None => Action::Look { worker },
            });
        }
    }

    /// Another's beat.
    fn see_beat(&mut self, now: Time, worker: String, beat: Option<Beat>, actions: &mut Vec<Action>) {
        let Some(known) = self.workers.get(&worker) else { return };
        match beat {
            Some(Beat { revision, session: Some(id) }) if id == known.id => {
                let is_newer = |watched: &Watched| watched.id != id || watched.revision < revision;
                if self.watched.get(&worker).is_none_or(is_newer) {
                    self.watched.insert(worker, Watched { id, revision, since: now });
                }
            }
            // Deleted after the session had begun.
            Some(Beat { revision, session: None }) if revision > known.revision => {
                actions.push(Action::Bury { worker, revision: known.revision });
            }
            // An old beat, or one of a session that is not known yet.
            _ => {}
        }
    }

    // Cameras.

    fn see_claim(&mut self, camera: String, revision: u64, by: Option<Session>) {
        if self.claims.get(&camera).is_some_and(|(known, _)| *known >= revision) {
            return;
        }
        self.asked.remove(&camera);
        self.claims.insert(camera, (revision, by));
    }

    /// The session that has a camera, if it is still in the fleet.
    fn owner(&self, camera: &str) -> Option<&Session> {
        let (_, by) = self.claims.get(camera)?;
        by.as_ref().filter(|by| self.workers.get(&by.worker).is_some_and(|worker| worker.id == by.id))
    }

    fn arrange(&mut self, now: Time, actions: &mut Vec<Action>) {
        let own = &self.me.session;
        let places: Vec<Place> = self
            .workers
            .iter()
            .map(|(name, worker)| Place {
                name: name.clone(),
                capacity: worker.capacity,
                drains: self.draining.contains(name),
            })
            .collect();
        // They are in the order of their names.
        let place_of = |worker: &str| places.binary_search_by(|place| place.name.as_str().cmp(worker)).ok();
        let Some(my_place) = place_of(&own.worker) else { return };
        let standing: Vec<(&str, Option<usize>)> = self
            .cameras
            .iter()
            .map(|camera| (camera.as_str(), self.owner(camera).and_then(|by| place_of(&by.worker))))
            .collect();
        let plan = plan(&places, &standing);
        let drains = places[my_place].drains;
        drop(standing);

        self.settle_own(now, actions);
        let take = |place: usize| place == my_place && !self.leaves && self.deadline > now;
        let takes: Vec<String> =
            plan.take.into_iter().filter(|(_, place)| take(*place)).map(|(camera, _)| camera).collect();
        for camera in takes {
            if self.may_ask(&camera, now) {
                let expected = self.claims.get(&camera).map_or(0, |(revision, _)| *revision);
                actions.push(Action::Claim { camera, expected });
            }
        }
        let pause = if drains { DRAIN } else { MOVE };
        let gives: Vec<String> = plan
            .give
            .into_iter()
            .filter(|(camera, place)| {
                *place == my_place && matches!(self.playing.get(camera), Some(Playing::On { .. }))
            })
            .map(|(camera, _)| camera)
            .collect();
        if let Some(camera) = gives.into_iter().next()
            && self.given.is_none_or(|given| now >= given + pause)
        {
            self.given = Some(now);
            self.end(&camera, actions);
        }
    }

    /// What is mine and not played begins; what is played and no longer wished ends; what has ended is given away.
    fn settle_own(&mut self, now: Time, actions: &mut Vec<Action>) {
        let own = &self.me.session;
        let is_mine = |claim: &(u64, Option<Session>)| claim.1.as_ref() == Some(own);
        let mut begin = vec![];
        for (camera, claim) in self.claims.iter().filter(|(_, claim)| is_mine(claim)) {
            if !self.playing.contains_key(camera) && self.cameras.contains(camera) && !self.leaves {
                begin.push((camera.clone(), claim.0));
            }
        }
        for (camera, epoch) in begin {
            self.playing.insert(camera.clone(), Playing::On { epoch });
            actions.push(Action::Play { camera, epoch });
        }
        let mut end = vec![];
        let mut done = vec![];
        let mut release = vec![];
        for (camera, playing) in &self.playing {
            let claim = self.claims.get(camera);
            let holds = |epoch| claim.is_some_and(|claim| is_mine(claim) && claim.0 == epoch);
            match *playing {
                Playing::On { epoch } if !holds(epoch) || !self.cameras.contains(camera) => {
                    end.push(camera.clone())
                }
                Playing::Stopped { epoch } if holds(epoch) => release.push((camera.clone(), epoch)),
                Playing::Stopped { .. } => done.push(camera.clone()),
                Playing::On { .. } | Playing::Ending { .. } => {}
            }
        }
        for (camera, revision) in release {
            if self.may_ask(&camera, now) {
                actions.push(Action::Release { camera, revision });
            }
        }
        for camera in done {
            self.playing.remove(&camera);
        }
        for camera in end {
            self.end(&camera, actions);
        }
    }

    fn end(&mut self, camera: &str, actions: &mut Vec<Action>) {
        if let Some(playing) = self.playing.get_mut(camera)
            && let Playing::On { epoch } = *playing
        {
            *playing = Playing::Ending { epoch };
            actions.push(Action::Stop { camera: camera.into() });
        }
    }
}
