// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fleet that no machine here could be: 10,000 cameras on 800 workers, by a simulated clock. Who has which camera is
//! decided by the code that decides it in the program; times and messages are those of its protocol: a beat a second and
//! worker, three others that look twice a second, a camera a second and worker that is given away, four where it drains.
//! What a camera takes to stop and to connect is assumed (a second together), and how long a message is on its way.
//!
//! Printed for each event: cameras that moved, the most that a worker has in proportion to its share, seconds until all
//! cameras play again, and messages to and from the servers. CPU time of one plan is measured.
//!
//! Run with `cargo bench --workspace --bench fleet_sim`.

#[allow(dead_code)]
#[path = "../src/fleet/placement.rs"]
mod placement;

use std::collections::BTreeMap;
use std::time::Instant;

use gclip_testing::dice::Dice;
use placement::{Place, plan, shares};

const CAMERAS: usize = 10_000;
const WORKERS: usize = 800;
/// Workers that lose their power together.
const RACK: usize = 40;
/// Workers that are upgraded at a time.
const AT_ONCE: usize = 16;

/// Milliseconds.
const TICK: u64 = 50;
const TTL: u64 = 3000;
const BEAT: u64 = TTL / 3;
const LOOK: u64 = TTL / 6;
const MESSAGE: u64 = 20;
const STOP: u64 = 200;
const CONNECT: u64 = 800;
const RESTART: u64 = 10_000;
const WATCHERS: u64 = 3;

#[derive(Clone, Copy, PartialEq)]
enum Camera {
    /// Nobody has it.
    Free,
    /// A claim is on its way.
    Asked(usize, u64),
    /// It is played from then on.
    Has(usize, u64),
    /// Its worker stops it, until then.
    Leaves(usize, u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Worker {
    Works,
    /// It is dead, and the others know from then on.
    Dead(u64),
    Gone,
}

struct Fleet {
    now: u64,
    dice: Dice,
    places: Vec<Place>,
    workers: Vec<Worker>,
    cameras: Vec<(String, Camera)>,
    given: Vec<u64>,
    moves: usize,
    to_servers: u64,
    from_servers: u64,
}

impl Fleet {
    fn new() -> Fleet {
        // Three sizes of machines.
        let capacity = |number: usize| [8, 8, 16, 32][number % 4];
        let places = (0..WORKERS)
            .map(|number| Place { name: format!("w{number:03}"), capacity: capacity(number), drains: false })
            .collect();
        Fleet {
            now: 0,
            dice: Dice::new(1, 1),
            places,
            workers: vec![Worker::Works; WORKERS],
            cameras: (0..CAMERAS).map(|number| (format!("camera-{number:05}"), Camera::Free)).collect(),
            given: vec![0; WORKERS],
            moves: 0,
            to_servers: 0,
            from_servers: 0,
        }
    }

    /// Those that the others think are there, and their indices.
    fn known(&self) -> (Vec<Place>, Vec<usize>) {
        let there = |index: &usize| self.workers[*index] != Worker::Gone;
        let indices: Vec<usize> = (0..self.workers.len()).filter(there).collect();
        (indices.iter().map(|&index| self.places[index].clone()).collect(), indices)
    }

    /// Something that all workers are told.
    fn announce(&mut self) {
        self.to_servers += 1;
        self.from_servers +=
            1 + self.workers.iter().filter(|worker| **worker == Worker::Works).count() as u64;
    }

    fn kill(&mut self, index: usize) {
        // Its last beat was up to a second ago, and was seen up to half a second later.
        let known = self.now + TTL - self.dice.below(BEAT) + self.dice.below(LOOK) + 2 * MESSAGE;
        self.workers[index] = Worker::Dead(known);
    }

    fn start(&mut self, index: usize) {
        self.workers[index] = Worker::Works;
        self.places[index].drains = false;
        self.announce();
    }

    fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        let alive = self.workers.iter().filter(|worker| **worker == Worker::Works).count() as u64;
        // Beats and looks, each with its answer.
        if now % BEAT < TICK {
            self.to_servers += alive;
            self.from_servers += alive;
        }
        if now % LOOK < TICK {
            self.to_servers += alive * WATCHERS;
            self.from_servers += alive * WATCHERS;
        }
        for index in 0..self.workers.len() {
            if matches!(self.workers[index], Worker::Dead(known) if now >= known) {
                self.workers[index] = Worker::Gone;
                // The beat is deleted, then the worker's key, which all are told.
                self.to_servers += WATCHERS;
                self.from_servers += WATCHERS;
                self.announce();
            }
        }
        let mut announced = 0;
        for (_, camera) in &mut self.cameras {
            match *camera {
                Camera::Asked(worker, at) if now >= at => {
                    *camera = Camera::Has(worker, now + CONNECT);
                    announced += 1;
                }
                Camera::Leaves(_, at) if now >= at => {
                    *camera = Camera::Free;
                    announced += 1;
                }
                Camera::Asked(worker, _) | Camera::Has(worker, _) | Camera::Leaves(worker, _)
                    if self.workers[worker] == Worker::Gone =>
                {
                    *camera = Camera::Free;
                }
                _ => {}
            }
        }
        (0..announced).for_each(|_| self.announce());
        self.arrange();
    }

    fn arrange(&mut self) {
        let (places, indices) = self.known();
        let place_of = |worker: usize| indices.binary_search(&worker).ok();
        let standing: Vec<(&str, Option<usize>)> = self
            .cameras
            .iter()
            .map(|(name, camera)| {
                let worker = match camera {
                    Camera::Free => None,
                    Camera::Asked(worker, _) | Camera::Has(worker, _) | Camera::Leaves(worker, _) => {
                        Some(*worker)
                    }
                };
                (name.as_str(), worker.and_then(place_of))
            })
            .collect();
        let plan = plan(&places, &standing);
        drop(standing);
        let now = self.now;
        let number = |name: &str| name.trim_start_matches("camera-").parse::<usize>().unwrap();
        for (name, place) in plan.take {
            let worker = indices[place];
            // The dead take nothing; whoever is left finds out.
            if self.workers[worker] == Worker::Works {
                self.cameras[number(&name)].1 = Camera::Asked(worker, now + 2 * MESSAGE);
                self.moves += 1;
            }
        }
        for (name, place) in plan.give {
            let worker = indices[place];
            let pause = if self.places[worker].drains { 250 } else { 1000 };
            let camera = &mut self.cameras[number(&name)].1;
            if self.workers[worker] == Worker::Works
                && matches!(camera, Camera::Has(..))
                && now >= self.given[worker] + pause
            {
                *camera = Camera::Leaves(worker, now + STOP);
                self.given[worker] = now;
            }
        }
    }

    fn plays(&self, camera: Camera) -> bool {
        matches!(camera, Camera::Has(worker, from) if from <= self.now && self.workers[worker] == Worker::Works)
    }

    fn is_settled(&self) -> bool {
        let (places, indices) = self.known();
        let loads = self.loads();
        self.cameras.iter().all(|(_, camera)| self.plays(*camera))
            && shares(&places, CAMERAS).iter().zip(&indices).all(|(share, index)| loads[*index] <= *share)
    }

    fn loads(&self) -> Vec<usize> {
        let mut loads = vec![0; self.workers.len()];
        for (_, camera) in &self.cameras {
            if let Camera::Has(worker, _) = camera {
                loads[*worker] += 1;
            }
        }
        loads
    }

    /// Until all is well; prints what it took.
    fn settle(&mut self, what: &str, mut meanwhile: impl FnMut(&mut Fleet) -> bool) {
        let (begun, moves) = (self.now, self.moves);
        let (to, from) = (self.to_servers, self.from_servers);
        let (mut all_play, mut dark) = (0, 0u64);
        loop {
            let done = meanwhile(self);
            self.tick();
            let silent = self.cameras.iter().filter(|(_, camera)| !self.plays(*camera)).count();
            dark += silent as u64 * TICK;
            if silent > 0 {
                all_play = self.now;
            }
            if done && self.is_settled() {
                break;
            }
            assert!(self.now < begun + 3_600_000, "it does not settle");
        }
        let (places, indices) = self.known();
        let loads = self.loads();
        let worst = shares(&places, CAMERAS)
            .iter()
            .zip(&indices)
            .map(|(share, index)| loads[*index] as f64 / *share as f64)
            .fold(0.0, f64::max);
        let seconds = (self.now - begun).max(1000) as f64 / 1000.0;
        println!(
            "| {what} | {} | {worst:.2} | {:.1} | {:.1} | {:.2} | {:.0} | {:.0} |",
            self.moves - moves,
            (all_play.max(begun) - begun) as f64 / 1000.0,
            seconds,
            dark as f64 / 1000.0 / CAMERAS as f64,
            (self.to_servers - to) as f64 / seconds,
            (self.from_servers - from) as f64 / seconds,
        );
    }
}

fn main() {
    let mut fleet = Fleet::new();
    let (places, _) = fleet.known();
    let standing: Vec<(&str, Option<usize>)> =
        fleet.cameras.iter().map(|(name, _)| (name.as_str(), None)).collect();
    let begun = Instant::now();
    let all = plan(&places, &standing);
    println!(
        "one plan of {CAMERAS} cameras for {WORKERS} workers, from nothing: {:.0} ms",
        1e3 * begun.elapsed().as_secs_f64()
    );
    let owners: BTreeMap<&str, usize> =
        all.take.iter().map(|(name, place)| (name.as_str(), *place)).collect();
    let settled: Vec<(&str, Option<usize>)> =
        standing.iter().map(|(name, _)| (*name, Some(owners[name]))).collect();
    let begun = Instant::now();
    let nothing = plan(&places, &settled);
    println!("the same where nothing is to be done: {:.1} ms", 1e3 * begun.elapsed().as_secs_f64());
    assert!(nothing.take.is_empty() && nothing.give.is_empty());
    drop((standing, settled));
    println!();
    println!(
        "| event | cameras moved | most of a share | s until all play | s until even | s a camera is dark, mean | messages/s to the servers | from them |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    fleet.settle("all start at once", |_| true);
    fleet.settle("a calm minute", {
        let mut end = None;
        move |fleet| fleet.now >= *end.get_or_insert(fleet.now + 60_000)
    });
    fleet.kill(17);
    fleet.settle("a worker dies", |_| true);
    fleet.start(17);
    fleet.settle("it comes back", |_| true);
    (200..200 + RACK).for_each(|index| fleet.kill(index));
    fleet.settle("a rack of 40 dies", |_| true);
    (200..200 + RACK).for_each(|index| fleet.start(index));
    fleet.settle("it comes back", |_| true);
    // Drained, restarted, in groups of 16.
    let (mut next, mut group, mut back) = (0, vec![], 0);
    fleet.settle("rolling upgrade, 16 at a time", move |fleet| {
        if group.is_empty() && fleet.now >= back {
            if next >= WORKERS {
                return true;
            }
            group = (next..(next + AT_ONCE).min(WORKERS)).collect();
            next += AT_ONCE;
            group.iter().for_each(|&index| fleet.places[index].drains = true);
            group.iter().for_each(|_| fleet.announce());
        }
        let loads = fleet.loads();
        let leaving = |index: &usize| {
            fleet.cameras.iter().any(|(_, camera)| matches!(camera, Camera::Leaves(worker, _) | Camera::Asked(worker, _) if worker == index))
        };
        if !group.is_empty() && group.iter().all(|index| loads[*index] == 0 && !leaving(index)) {
            if back < fleet.now && group.iter().any(|&index| fleet.workers[index] == Worker::Works) {
                for &index in &group {
                    fleet.workers[index] = Worker::Gone;
                    fleet.announce();
                }
                back = fleet.now + RESTART;
            } else if fleet.now >= back {
                let ready = std::mem::take(&mut group);
                ready.iter().for_each(|&index| fleet.start(index));
            }
        }
        false
    });
}
