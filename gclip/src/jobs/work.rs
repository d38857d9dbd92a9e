// SPDX-License-Identifier: MIT OR Apache-2.0
//! A worker: takes jobs, runs them, says how they ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use parking_lot::Mutex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::gate::Gate;
use super::look::Looker;
use super::place::Place;
use super::policy::{self, Next, Start, Trouble};
use super::queue::{Back, Done, End, Queue, Taken};

/// An empty queue is asked again after this long at first, and at most: many may wait.
const EMPTY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A queue that cannot be reached is asked again after this long.
const AWAY: Duration = Duration::from_secs(1);
/// A wish to end is heeded after this long.
const LOOK: Duration = Duration::from_millis(50);
/// An end that could not be written is written again for so long: then the job will be run again, by whoever.
const GIVE_UP: Duration = Duration::from_secs(600);

pub struct Work<'a> {
    pub queue: &'a dyn Queue,
    pub at_once: usize,
    /// Whether to end when nothing is left, instead of waiting for more.
    pub until_empty: bool,
    /// What is to be said.
    pub teller: &'a (dyn Teller + Sync),
}

/// Who tells the user.
pub trait Teller {
    fn done(&self, taken: &Taken, done: &Done);
    fn set_aside(&self, taken: &Taken, why: &str);
    fn remark(&self, text: &str);
}

/// What several threads share.
struct Shared<'a> {
    work: &'a Work<'a>,
    gate: Gate,
    looker: Looker,
    places: Mutex<HashMap<String, Place>>,
    /// Jobs in hand; the flag of each says that it has come to an end elsewhere.
    held: Mutex<HashMap<u64, (Taken, Arc<AtomicBool>)>>,
    next: AtomicU64,
    stop: Arc<AtomicBool>,
    /// Why this worker ends before its time.
    broken: OnceLock<String>,
    /// Whether the queue is away, as was told.
    away: AtomicBool,
}

/// Works until it is told to end, or nothing is left.
///
/// # Errors
/// Results cannot be written, or no model can be loaded.
pub fn work(work: &Work) -> Result<()> {
    let stop = stop_on_signals()?;
    let shared = Shared {
        work,
        gate: Gate::default(),
        looker: Looker::default(),
        places: Mutex::default(),
        held: Mutex::default(),
        next: AtomicU64::new(0),
        stop,
        broken: OnceLock::new(),
        away: AtomicBool::new(false),
    };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| shared.hold(&over));
        let workers: Vec<_> = (0..work.at_once.max(1)).map(|_| scope.spawn(|| shared.run())).collect();
        let mut panicked = false;
        for worker in workers {
            panicked |= worker.join().is_err();
        }
        over.store(true, Ordering::Relaxed);
        if panicked { Err(anyhow!("a worker's thread went down")) } else { Ok(()) }
    })?;
    shared.broken.into_inner().map_or(Ok(()), |why| Err(anyhow!("{why}")))
}

/// The first signal asks for the end, the second ends the program.
fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the default action is taken if the flag has been set before this signal.
        signal_hook::flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot take care of signals")?;
    }
    Ok(stop)
}

impl Shared<'_> {
    fn is_ending(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.broken.get().is_some()
    }

    fn run(&self) {
        let mut pause = EMPTY.0;
        while !self.is_ending() {
            let take = || {
                // Others may have been waited for.
                if self.is_ending() {
                    return Ok(None);
                }
                let Some(taken) = self.work.queue.take()? else { return Ok(None) };
                let start = policy::start(taken.delivery);
                let alone = start == Start::Alone;
                let key = self.next.fetch_add(1, Ordering::Relaxed);
                let gone = Arc::new(AtomicBool::new(false));
                self.held.lock().insert(key, (taken.clone(), gone.clone()));
                Ok::<_, Error>(Some(((key, taken, start, gone), alone)))
            };
            let taken = self.gate.take(take, |(key, taken, ..)| {
                self.persist(|| self.work.queue.put_back(&taken, Back::Untried));
                self.held.lock().remove(&key);
            });
            match taken {
                Ok(Some(((key, taken, start, gone), _pass))) => {
                    self.is_back();
                    pause = EMPTY.0;
                    self.one(&taken, start, &gone);
                    self.held.lock().remove(&key);
                }
                Ok(None) => {
                    self.is_back();
                    if self.work.until_empty && self.work.queue.is_over().unwrap_or(false) {
                        return;
                    }
                    self.sleep(pause);
                    pause = (pause * 2).min(EMPTY.1);
                }
                Err(error) => {
                    self.is_away(&error);
                    self.sleep(AWAY);
                }
            }
        }
    }

    /// Unless it is to end.
    fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_ending() {
            std::thread::sleep(LOOK.min(time));
        }
    }

    fn is_away(&self, error: &Error) {
        if !self.away.swap(true, Ordering::Relaxed) {
            self.work.teller.remark(&format!("the queue cannot be reached ({error:#}); trying again"));
        }
    }

    fn is_back(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            self.work.teller.remark("the queue is there again");
        }
    }

    /// Says again and again that the jobs in hand are being run.
    fn hold(&self, over: &AtomicBool) {
        let beat = self.work.queue.patience() / 4;
        let mut last = Instant::now();
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK.min(beat));
            if last.elapsed() < beat {
                continue;
            }
            last = Instant::now();
            let held: Vec<_> = self.held.lock().values().cloned().collect();
            for (taken, gone) in held {
                match self.work.queue.hold(&taken) {
                    Ok(true) => {}
                    Ok(false) => gone.store(true, Ordering::Relaxed),
                    // The job goes on: who comes second will be told so.
                    Err(error) => self.is_away(&error),
                }
            }
        }
    }

    fn one(&self, taken: &Taken, start: Start, gone: &AtomicBool) {
        let next = match start {
            Start::SetAside(why) => Next::SetAside(why),
            Start::Run | Start::Alone => match self.look(taken, gone) {
                Ok(done) => return self.settle(taken, End::Done(done)),
                Err(trouble) => policy::after(trouble, taken.delivery),
            },
        };
        match next {
            Next::SetAside(why) => self.settle(taken, End::SetAside { why }),
            Next::Later(pause) => self.persist(|| self.work.queue.put_back(taken, Back::Later(pause))),
            Next::GiveBack { counts, why } => {
                if let Some(why) = why {
                    // The first reason is the one to tell.
                    let _ = self.broken.set(why);
                }
                let back = if counts { Back::Later(Duration::ZERO) } else { Back::Untried };
                self.persist(|| self.work.queue.put_back(taken, back));
            }
            Next::Forget => {}
        }
    }

    /// Looks at the file and puts the results in their place.
    fn look(&self, taken: &Taken, gone: &AtomicBool) -> Result<Done, Trouble> {
        let job = &taken.job;
        let place = self.place(&job.out)?;
        let of_result = |error: Error| Trouble::Result(format!("{error:#}"));
        let mut stage = place.stage(&job.name).map_err(of_result)?;
        let asked = || match () {
            () if gone.load(Ordering::Relaxed) => Some(Trouble::Gone),
            () if self.is_ending() => Some(Trouble::Stopped),
            () => None,
        };
        let done = self.looker.look(job, &mut stage, &asked)?;
        // Whoever was frozen for a while may not be the one any more.
        if self.work.queue.hold(taken).is_ok_and(|open| !open) {
            return Err(Trouble::Gone);
        }
        match stage.put() {
            Ok(results) => Ok(Done { results, ..done }),
            Err(_) if self.work.queue.hold(taken).is_ok_and(|open| !open) => Err(Trouble::Gone),
            Err(error) => Err(of_result(error)),
        }
    }

    fn place(&self, out: &str) -> Result<Place, Trouble> {
        let mut places = self.places.lock();
        if let Some(place) = places.get(out) {
            return Ok(place.clone());
        }
        let place = Place::open(out).map_err(|error| Trouble::Result(format!("{error:#}")))?;
        places.insert(out.into(), place.clone());
        Ok(place)
    }

    fn settle(&self, taken: &Taken, end: End) {
        let mut first = false;
        self.persist(|| {
            first |= self.work.queue.settle(taken, end.clone())?;
            Ok(())
        });
        match &end {
            End::Done(done) if first => self.work.teller.done(taken, done),
            End::SetAside { why } if first => self.work.teller.set_aside(taken, why),
            _ => {}
        }
    }

    /// Says something to the queue until it has heard it.
    fn persist(&self, mut say: impl FnMut() -> Result<()>) {
        let begun = Instant::now();
        while let Err(error) = say() {
            self.is_away(&error);
            if begun.elapsed() > GIVE_UP || self.stop.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(AWAY);
        }
    }
}
