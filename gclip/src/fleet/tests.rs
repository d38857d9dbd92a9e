// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thousands of random histories of a fleet by a simulated clock: messages that are late, lost, or carried out without a
//! word, servers that go and come, workers that are killed, frozen, cut off and started again. Whatever happens, at most
//! one worker at a time may let out a camera's lines, and epochs only grow; and once things are calm every camera plays,
//! and nobody has more than his share.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use gclip_testing::dice::Dice;

use super::member::{Action, Beat, Event, Identity, Member, Outcome, Session, Time};
use super::placement::{Place, shares};

const TTL: Duration = Duration::from_secs(3);
const TICK: u64 = 50;
const WORKERS: usize = 4;
const CAMERAS: usize = 9;
/// Milliseconds of trouble, then of calm.
const TROUBLE: u64 = 60_000;
const CALM: u64 = 30_000;
/// What was asked for and not answered is given up.
const TIMEOUT: u64 = 1000;

#[derive(Clone, Debug)]
enum Value {
    Worker(String, u32),
    Beat(String),
    Claim(Session),
    Drain,
}

/// The bucket: what there is, and all that ever was, in order.
#[derive(Default)]
struct Bucket {
    keys: BTreeMap<String, (u64, Option<Value>)>,
    log: Vec<(String, Option<Value>)>,
    /// When each was written.
    times: Vec<u64>,
    now: u64,
}

impl Bucket {
    fn write(&mut self, key: &str, value: Option<Value>, expected: u64) -> Outcome {
        if self.keys.get(key).map_or(0, |(revision, _)| *revision) != expected {
            return Outcome::Refused;
        }
        self.log.push((key.into(), value.clone()));
        self.times.push(self.now);
        let revision = self.log.len() as u64;
        self.keys.insert(key.into(), (revision, value));
        Outcome::Done(revision)
    }

    fn drain(&mut self, worker: &str, drains: bool) {
        let key = format!("drain.{worker}");
        let revision = self.keys.get(&key).map_or(0, |(revision, _)| *revision);
        self.write(&key, drains.then_some(Value::Drain), revision);
    }
}

struct Node {
    name: String,
    member: Option<Member>,
    id: String,
    starts: u32,
    /// How many entries of the log it has seen.
    seen: usize,
    is_cut_off: bool,
    frozen_until: u64,
    leaving: bool,
    /// A thousandth of its clock's rate.
    rate: u64,
    waiting: Vec<Event>,
}

impl Node {
    fn clock(&self, now: u64) -> Time {
        Duration::from_micros(now * self.rate)
    }
}

#[derive(Clone, Debug)]
enum Happening {
    /// Reaches the servers; from a start of a worker that may be over.
    Request(usize, u32, Action, Time),
    Answer(usize, u32, Event),
}

struct World {
    dice: Dice,
    now: u64,
    bucket: Bucket,
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    count: u64,
    servers_down_until: u64,
    is_calm: bool,
    cameras: BTreeMap<String, bool>,
    epochs: BTreeMap<String, u64>,
    moves: usize,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed, 7);
        let nodes = (0..WORKERS).map(|number| Node {
            name: format!("w{number}"),
            member: None,
            id: String::new(),
            starts: 0,
            seen: 0,
            is_cut_off: false,
            frozen_until: 0,
            leaving: false,
            // Quartz is better than one in a thousand.
            rate: 999 + dice.below(3),
            waiting: vec![],
        });
        let nodes = nodes.collect();
        World {
            dice,
            now: 0,
            bucket: Bucket::default(),
            nodes,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            count: 0,
            servers_down_until: 0,
            is_calm: false,
            cameras: (0..CAMERAS).map(|number| (format!("c{number}"), true)).collect(),
            epochs: BTreeMap::new(),
            moves: 0,
        }
    }

    fn later(&mut self, delay: u64, happening: Happening) {
        self.count += 1;
        self.queue.push(Reverse((self.now + delay, self.count)));
        self.happenings.insert(self.count, happening);
    }

    /// How long a message takes; `None`: it is lost.
    fn delay(&mut self) -> Option<u64> {
        match self.dice.below(if self.is_calm { 20 } else { 40 }) {
            39 => None,
            38 => Some(1 + self.dice.below(4000)),
            20..38 => Some(1 + self.dice.below(300)),
            _ => Some(1 + self.dice.below(20)),
        }
    }

    fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.starts += 1;
        node.id = format!("{}-{}", node.name, node.starts);
        let session = Session { worker: node.name.clone(), id: node.id.clone() };
        node.member = Some(Member::new(Identity { session, ttl: TTL }));
        (node.seen, node.leaving, node.frozen_until) = (0, false, 0);
        node.waiting.clear();
    }

    fn kill(&mut self, index: usize) {
        self.nodes[index].member = None;
    }

    fn act(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            let (clock, starts) = (self.nodes[index].clock(self.now), self.nodes[index].starts);
            match action {
                Action::Play { .. } => self.moves += 1,
                Action::Stop { camera } => {
                    let delay = 20 + self.dice.below(600);
                    self.later(delay, Happening::Answer(index, starts, Event::Stopped { camera }));
                }
                Action::Lost => {
                    self.kill(index);
                    self.start(index);
                }
                Action::Taken => panic!("nobody else has this name"),
                request => {
                    let sent = Event::Beaten { sent: clock, outcome: Outcome::Unknown };
                    if let Action::Beat { .. } = request {
                        self.later(TIMEOUT, Happening::Answer(index, starts, sent));
                    }
                    let delay = self.delay();
                    if let Some(delay) = delay {
                        self.later(delay, Happening::Request(index, starts, request, clock));
                    }
                }
            }
        }
    }

    fn request(&mut self, index: usize, starts: u32, action: Action, sent: Time) {
        if self.now < self.servers_down_until || self.nodes[index].is_cut_off {
            // It waits in the client, and goes with it.
            if self.nodes[index].member.is_none() || self.nodes[index].starts != starts {
                return;
            }
            return self.later(200, Happening::Request(index, starts, action, sent));
        }
        let (name, id) = (self.nodes[index].name.clone(), format!("{}-{starts}", self.nodes[index].name));
        let session = Session { worker: name.clone(), id: id.clone() };
        let capacity = 1 + (index as u32 % 2);
        let bucket = &mut self.bucket;
        bucket.now = self.now;
        let answer = match action {
            Action::Beat { expected } => {
                let outcome = bucket.write(&format!("beat.{name}"), Some(Value::Beat(id)), expected);
                Some(Event::Beaten { sent, outcome })
            }
            Action::Enroll { expected } => {
                bucket.write(&format!("worker.{name}"), Some(Value::Worker(id, capacity)), expected);
                None
            }
            Action::Evict { worker, revision } => {
                bucket.write(&format!("beat.{worker}"), None, revision);
                return self.request(index, starts, Action::Look { worker }, sent);
            }
            Action::Bury { worker, revision } => {
                bucket.write(&format!("worker.{worker}"), None, revision);
                None
            }
            Action::Claim { camera, expected } => {
                bucket.write(&format!("claim.{camera}"), Some(Value::Claim(session)), expected);
                None
            }
            Action::Release { camera, revision } => {
                bucket.write(&format!("claim.{camera}"), None, revision);
                None
            }
            Action::Look { worker } => {
                let key = format!("beat.{worker}");
                // A server that lags behind says what was.
                let lag = if self.dice.one_in(3) && !self.is_calm { self.dice.below(2000) } else { 0 };
                let until = bucket.times.partition_point(|time| time + lag <= self.now);
                let found = bucket.log[..until].iter().enumerate().rev().find(|(_, (of, _))| *of == key);
                let beat = found.map(|(index, (_, value))| Beat {
                    revision: index as u64 + 1,
                    session: match value {
                        Some(Value::Beat(id)) => Some(id.clone()),
                        _ => None,
                    },
                });
                Some(Event::Looked { worker, beat })
            }
            Action::Play { .. } | Action::Stop { .. } | Action::Lost | Action::Taken => None,
        };
        if let (Some(answer), Some(delay)) = (answer, self.delay()) {
            self.later(delay, Happening::Answer(index, starts, answer));
        }
    }

    fn tell(&mut self, index: usize, event: Event) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if now < node.frozen_until {
            return node.waiting.push(event);
        }
        let clock = node.clock(now);
        if let Some(member) = &mut node.member {
            let actions = member.see(clock, event);
            self.act(index, actions);
        }
    }

    /// A node looks what is new, and what the time is.
    fn tick(&mut self, index: usize) {
        let now = self.now;
        if now < self.nodes[index].frozen_until || self.nodes[index].member.is_none() {
            return;
        }
        for event in std::mem::take(&mut self.nodes[index].waiting) {
            self.tell(index, event);
        }
        if !self.nodes[index].is_cut_off && now >= self.servers_down_until {
            let behind = self.bucket.log.len() - self.nodes[index].seen;
            let new = if self.is_calm { behind } else { behind.min(self.dice.below(12) as usize) };
            for _ in 0..new {
                let at = self.nodes[index].seen;
                // A restart begins with it.
                self.nodes[index].seen += 1;
                let (key, value) = self.bucket.log[at].clone();
                // A watch tells the last of each key only; of the others some.
                if self.bucket.keys[&key].0 != at as u64 + 1 && self.dice.one_in(2) {
                    continue;
                }
                let revision = at as u64 + 1;
                let (kind, name) = key.split_once('.').unwrap();
                let event = match (kind, value) {
                    ("worker", Some(Value::Worker(id, capacity))) => {
                        Event::Worker { name: name.into(), revision, session: Some((id, capacity)) }
                    }
                    ("worker", _) => Event::Worker { name: name.into(), revision, session: None },
                    ("claim", Some(Value::Claim(by))) => {
                        Event::Claim { camera: name.into(), revision, by: Some(by) }
                    }
                    ("claim", _) => Event::Claim { camera: name.into(), revision, by: None },
                    ("drain", value) => Event::Drain { worker: name.into(), drains: value.is_some() },
                    _ => continue,
                };
                self.tell(index, event);
                if self.nodes[index].seen == 0 {
                    // It has lost its session and begins anew.
                    return;
                }
            }
            if self.nodes[index].seen == self.bucket.log.len() {
                let cameras = self.cameras.clone();
                for (name, exists) in cameras {
                    self.tell(index, Event::Camera { name, exists });
                }
                self.tell(index, Event::Current);
            }
        }
        let clock = self.nodes[index].clock(now);
        if let Some(member) = &mut self.nodes[index].member {
            let actions = member.tick(clock);
            self.act(index, actions);
        }
        let node = &mut self.nodes[index];
        if node.leaving
            && let Some(mut member) = node.member.take()
        {
            let actions = member.farewell();
            self.act(index, actions);
        }
    }

    fn trouble(&mut self) {
        let index = self.dice.below(WORKERS as u64) as usize;
        let now = self.now;
        match self.dice.below(1000) {
            0..4 => self.kill(index),
            4..7 => self.nodes[index].frozen_until = now + 200 + self.dice.below(15_000),
            7..12 => self.nodes[index].is_cut_off = !self.nodes[index].is_cut_off,
            12..14 => self.servers_down_until = now + self.dice.below(8_000),
            14..16 => self.nodes[index].leaving = true,
            16..40 if self.nodes[index].member.is_none() => self.start(index),
            40..43 => {
                let camera = format!("c{}", self.dice.below(CAMERAS as u64));
                *self.cameras.get_mut(&camera).unwrap() ^= true;
            }
            43..45 => {
                let drains = self.dice.one_in(2);
                let worker = self.nodes[index].name.clone();
                self.bucket.drain(&worker, drains);
            }
            _ => {}
        }
    }

    /// Who may let out what, now.
    fn open(&self) -> Vec<(String, u64, usize)> {
        let mut open = vec![];
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(member) = &node.member else { continue };
            // One that is frozen may go on at any time.
            if node.clock(self.now) < member.deadline() {
                open.extend(member.open().map(|(camera, epoch)| (camera.to_string(), epoch, index)));
            }
        }
        open
    }

    fn check(&mut self, seed: u64) {
        let mut open = self.open();
        open.sort();
        for pair in open.windows(2) {
            assert_ne!(pair[0].0, pair[1].0, "seed {seed}, {} ms: two let out {pair:?}", self.now);
        }
        for (camera, epoch, _) in open {
            let known = self.epochs.entry(camera).or_default();
            assert!(epoch >= *known, "seed {seed}, {} ms: epoch {epoch} after {known}", self.now);
            *known = epoch;
        }
    }

    fn run(&mut self, seed: u64) {
        for index in 0..WORKERS {
            self.start(index);
        }
        let mut next_tick = 0;
        while self.now < TROUBLE + CALM {
            let next = self.queue.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            if next <= next_tick {
                let Some(Reverse((at, count))) = self.queue.pop() else { break };
                self.now = at;
                match self.happenings.remove(&count) {
                    Some(Happening::Request(node, starts, action, sent)) => {
                        self.request(node, starts, action, sent)
                    }
                    Some(Happening::Answer(node, starts, event)) if self.nodes[node].starts == starts => {
                        self.tell(node, event);
                    }
                    _ => {}
                }
                continue;
            }
            self.now = next_tick;
            next_tick += TICK;
            if self.now < TROUBLE {
                self.trouble();
            } else if !std::mem::replace(&mut self.is_calm, true) {
                self.servers_down_until = 0;
                for index in 0..WORKERS {
                    let node = &mut self.nodes[index];
                    (node.is_cut_off, node.frozen_until, node.leaving) = (false, 0, false);
                    if self.nodes[index].member.is_none() {
                        self.start(index);
                    }
                    let worker = self.nodes[index].name.clone();
                    self.bucket.drain(&worker, false);
                }
            }
            for index in 0..WORKERS {
                self.tick(index);
            }
            self.check(seed);
        }
        let open = self.open();
        let wanted: Vec<&String> =
            self.cameras.iter().filter(|(_, exists)| **exists).map(|(name, _)| name).collect();
        assert_eq!(
            open.iter().map(|(camera, ..)| camera).collect::<std::collections::BTreeSet<_>>().len(),
            wanted.len(),
            "seed {seed}: {wanted:?} are wanted, and {open:?} play"
        );
        let places: Vec<Place> = (0..WORKERS)
            .map(|index| Place {
                name: self.nodes[index].name.clone(),
                capacity: 1 + index as u32 % 2,
                drains: false,
            })
            .collect();
        for (index, share) in shares(&places, wanted.len()).into_iter().enumerate() {
            let load = open.iter().filter(|(_, _, node)| *node == index).count();
            assert!(load <= share, "seed {seed}: worker {index} has {load} of at most {share}");
        }
    }
}

/// How many histories: more where the environment says so.
fn histories() -> u64 {
    std::env::var("GCLIP_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(120)
}

#[test]
fn two_never_let_out_the_lines_of_one_camera_and_every_camera_plays_again() {
    let mut moves = 0;
    for seed in 0..histories() {
        let mut world = World::new(seed);
        world.run(seed);
        moves += world.moves;
    }
    assert!(
        moves as u64 > 20 * histories(),
        "only {moves} cameras were ever taken: the schedules are too calm"
    );
}

/// An outage of the servers of any length moves nothing.
#[test]
fn servers_that_go_and_come_move_no_camera() {
    // Of each length, at different times between two beats.
    let lengths = [300, 1500, 2000, 2300, 2600, 3200, 5000, 30_000];
    let outages =
        lengths.into_iter().flat_map(|outage| (0..6).map(move |part| (outage, 20_000 + 150 * part)));
    for (seed, (outage, begin)) in outages.enumerate() {
        let mut world = World::new(seed as u64);
        world.is_calm = true;
        let mut moves = 0;
        for tick in 0..(60_000 + outage) / TICK {
            // Their beats come at different times.
            for index in (0..WORKERS).filter(|index| tick == 5 * *index as u64) {
                world.start(index);
            }
            if tick * TICK == begin {
                moves = world.moves;
                world.servers_down_until = world.now + outage;
            }
            // Some find them again later than others.
            for index in 0..WORKERS {
                let back = begin + outage + 400 * index as u64;
                world.nodes[index].is_cut_off = (begin..back).contains(&(tick * TICK));
            }
            while world.queue.peek().is_some_and(|Reverse((at, _))| *at <= tick * TICK) {
                let Some(Reverse((at, count))) = world.queue.pop() else { break };
                world.now = at;
                match world.happenings.remove(&count) {
                    Some(Happening::Request(node, starts, action, sent)) => {
                        world.request(node, starts, action, sent)
                    }
                    Some(Happening::Answer(node, _, event)) => world.tell(node, event),
                    None => {}
                }
            }
            world.now = tick * TICK;
            (0..WORKERS).for_each(|index| world.tick(index));
        }
        assert_eq!(world.open().len(), CAMERAS, "after {outage} ms without servers");
        assert_eq!(world.moves, moves, "after {outage} ms without servers");
    }
}
