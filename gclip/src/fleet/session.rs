// SPDX-License-Identifier: MIT OR Apache-2.0
//! One worker among others: a thread that tells a [`Member`] what the servers say, and does what it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};
use async_nats::Client;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc as channel;

use super::fence::{Alone, Claim, Fence, clock};
use super::member::{Action, Beat, Event, Identity, Member, Outcome, Session};
use super::records::{self, CameraReport, Key, Report};
use crate::nats::{self, Servers, Unreachable};
use crate::random;

const TICK: Duration = Duration::from_millis(25);
/// Before the next try when nothing else says when.
const PAUSE: Duration = Duration::from_millis(500);
const REMIND: Duration = Duration::from_secs(60);
/// For each of the last things that are said.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where and as what a worker joins.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub servers: Servers,
    /// What its buckets and subjects begin with.
    pub fleet: String,
    /// Of this worker; no other has it.
    pub name: String,
    /// Its share of the cameras is in proportion to it.
    pub capacity: u32,
    /// A worker that was not heard of for so long is gone.
    pub ttl: Duration,
    pub alone: Alone,
}

/// What the fleet asks this worker to do.
pub enum Order {
    Play {
        camera: String,
        settings: records::Camera,
        claim: Arc<Claim>,
    },
    Change {
        camera: String,
        settings: records::Camera,
    },
    Stop {
        camera: String,
    },
    /// Something for the log.
    Say(String),
    /// It cannot be in the fleet.
    Failed(Error),
}

enum Wish {
    Stopped(String),
    Leave,
    Farewell,
}

/// How the worker stands in the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub is_member: bool,
    pub workers: usize,
    /// Of the fleet.
    pub cameras: usize,
    /// Whether its lines wait for the servers.
    pub holds: bool,
    /// Cameras taken, and sessions that were over without having been left.
    pub taken: u64,
    pub lost: u64,
}

/// The worker's place in the fleet, for the thread that plays the cameras.
pub struct Joined {
    pub orders: mpsc::Receiver<Order>,
    wishes: channel::UnboundedSender<Wish>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    reports: Mutex<Vec<CameraReport>>,
    standing: Mutex<Standing>,
}

impl Joined {
    /// Joins in the background, as soon as the servers are there.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn join(settings: Settings) -> Result<Joined> {
        let (to_player, orders) = mpsc::channel();
        let (wishes, of_player) = channel::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = std::thread::Builder::new().name("fleet".into()).spawn(move || {
            let outcome =
                nats::run(Worker { settings, orders: to_player.clone(), shared: seen }.stay(of_player));
            if let Err(error) = outcome {
                // Nobody is left to be told when the program is ending.
                let _ = to_player.send(Order::Failed(error));
            }
        })?;
        Ok(Joined { orders, wishes, shared, thread })
    }

    /// A camera that was to be stopped is, and what it said is on its way.
    pub fn stopped(&self, camera: &str) {
        self.wish(Wish::Stopped(camera.into()));
    }

    /// No further camera is taken.
    pub fn leave(&self) {
        self.wish(Wish::Leave);
    }

    fn wish(&self, wish: Wish) {
        // A thread that has ended has said why.
        let _ = self.wishes.send(wish);
    }

    /// All cameras are stopped: others take them. Waits until that is said, if it can be.
    pub fn farewell(self) {
        self.wish(Wish::Farewell);
        let deadline = Instant::now() + 3 * GOODBYE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How the cameras are, for who asks.
    pub fn report(&self, cameras: Vec<CameraReport>) {
        *self.shared.reports.lock() = cameras;
    }

    pub fn standing(&self) -> Standing {
        self.shared.standing.lock().clone()
    }
}

struct Worker {
    settings: Settings,
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

/// How a session has ended.
enum End {
    Lost,
    Left,
    Taken,
}

impl Worker {
    fn order(&self, order: Order) {
        // Nobody is left to do it when the program is ending.
        let _ = self.orders.send(order);
    }

    fn say(&self, text: String) {
        self.order(Order::Say(text));
    }

    async fn stay(self, mut wishes: channel::UnboundedReceiver<Wish>) -> Result<()> {
        let Some(client) = self.connect(&mut wishes).await? else { return Ok(()) };
        let mut told: Option<(String, Instant)> = None;
        loop {
            match self.session(&client, &mut wishes).await {
                Ok(End::Left) => return Ok(()),
                Ok(End::Lost) => {
                    self.shared.standing.lock().lost += 1;
                    self.say("others have taken over what this worker had: it begins anew".into());
                }
                Ok(End::Taken) => {
                    let name = &self.settings.name;
                    return Err(anyhow!(
                        "another worker of the fleet {} is called \"{name}\": give this one another `name` in [fleet]",
                        self.settings.fleet
                    ));
                }
                Err(error) => {
                    if error.downcast_ref::<records::Foreign>().is_some() {
                        return Err(error);
                    }
                    let why = format!("{error:#}");
                    if !told.as_ref().is_some_and(|(last, at)| *last == why && at.elapsed() < REMIND) {
                        self.say(format!("{why}; trying again"));
                        told = Some((why, Instant::now()));
                    }
                    if is_over(&mut wishes, PAUSE).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for the servers. `None`: the program is ending.
    async fn connect(&self, wishes: &mut channel::UnboundedReceiver<Wish>) -> Result<Option<Client>> {
        let mut told = false;
        loop {
            match self.settings.servers.connect(&self.settings.name).await {
                Ok(client) => return Ok(Some(client)),
                Err(error) if error.downcast_ref::<Unreachable>().is_some() => {
                    if !std::mem::replace(&mut told, true) {
                        self.say(format!("{error:#}; trying again until it can"));
                    }
                    if is_over(wishes, PAUSE).await {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn session(&self, client: &Client, wishes: &mut channel::UnboundedReceiver<Wish>) -> Result<End> {
        let Settings { fleet, name, ttl, alone, .. } = &self.settings;
        let context = ContextBuilder::new().timeout(*ttl / 3).build(client.clone());
        let [store, cameras] = records::open(&context, fleet).await?;
        let mut questions = client.subscribe(records::status_subject(fleet)).await?;
        let id = random::hex()?;
        let session = Session { worker: name.clone(), id };
        let identity = Identity { session: session.clone(), ttl: *ttl };
        let (answer, mut answers) = channel::unbounded_channel();
        let mut running = Running {
            worker: self,
            session,
            member: Member::new(identity),
            store: store.clone(),
            answer,
            fence: Arc::default(),
            alone: *alone,
            name: name.as_str().into(),
            claims: BTreeMap::new(),
            cameras: BTreeMap::new(),
            waiting_for: 2,
            was_member: false,
        };
        let mut of_fleet = Told::new(store, records::TOLD.map(str::to_string).to_vec());
        let mut of_cameras = Told::new(cameras, vec![">".into()]);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                (entry, is_last) = of_fleet.next() => running.told(&entry, is_last),
                (entry, is_last) = of_cameras.next() => running.told_camera(&entry, is_last),
                Some(event) = answers.recv() => running.see(event),
                Some(question) = questions.next() => {
                    if let Some(reply) = question.reply {
                        let report = records::write(&running.report());
                        // Who asks again is answered again.
                        let _ = client.publish(reply, report.into()).await;
                    }
                    None
                }
                wish = wishes.recv() => match wish {
                    Some(Wish::Stopped(camera)) => running.see(Event::Stopped { camera }),
                    Some(Wish::Leave) => {
                        running.member.leave();
                        None
                    }
                    Some(Wish::Farewell) | None => {
                        running.farewell().await;
                        return Ok(End::Left);
                    }
                },
                _ = tick.tick() => {
                    let now = clock();
                    let actions = running.member.tick(now);
                    running.act(now, actions)
                }
            };
            running.note();
            if let Some(end) = end {
                return Ok(end);
            }
        }
    }
}

/// Waits, unless the program is to end meanwhile.
async fn is_over(wishes: &mut channel::UnboundedReceiver<Wish>, time: Duration) -> bool {
    let farewell = async {
        loop {
            match wishes.recv().await {
                Some(Wish::Farewell) | None => return,
                Some(Wish::Stopped(_) | Wish::Leave) => {}
            }
        }
    };
    tokio::time::timeout(time, farewell).await.is_ok()
}

/// What a bucket says, from what there is to what changes. Whatever breaks off is begun anew, with what there is then.
struct Told {
    store: kv::Store,
    keys: Vec<String>,
    watch: Option<kv::Watch>,
    was_current: bool,
}

impl Told {
    fn new(store: kv::Store, keys: Vec<String>) -> Told {
        Told { store, keys, watch: None, was_current: false }
    }

    /// An entry, and whether with it all that there was at first has been told; that is said once.
    async fn next(&mut self) -> (kv::Entry, bool) {
        loop {
            let Some(watch) = &mut self.watch else {
                match self.store.watch_many_with_history(&self.keys).await {
                    Ok(watch) => self.watch = Some(watch),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
                continue;
            };
            match watch.next().await {
                Some(Ok(entry)) => {
                    let is_last = entry.seen_current && !self.was_current;
                    self.was_current |= is_last;
                    return (entry, is_last);
                }
                Some(Err(_)) | None => {
                    self.watch = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// One session of the worker.
struct Running<'a> {
    worker: &'a Worker,
    session: Session,
    member: Member,
    store: kv::Store,
    answer: channel::UnboundedSender<Event>,
    fence: Arc<Fence>,
    alone: Alone,
    name: Arc<str>,
    /// Of cameras that are played.
    claims: BTreeMap<String, Arc<Claim>>,
    cameras: BTreeMap<String, records::Camera>,
    /// Buckets that have not told all that there was yet.
    waiting_for: u32,
    was_member: bool,
}

impl Running<'_> {
    fn told(&mut self, entry: &kv::Entry, is_last: bool) -> Option<End> {
        let put = entry.operation == Operation::Put;
        let revision = entry.revision;
        let event = match Key::parse(&entry.key) {
            Some(Key::Worker(name)) if put => {
                let worker = self.read::<records::Worker>(entry);
                worker.map(|worker| Event::Worker {
                    name,
                    revision,
                    session: Some((worker.session, worker.capacity)),
                })
            }
            Some(Key::Worker(name)) => Some(Event::Worker { name, revision, session: None }),
            Some(Key::Claim(camera)) if put => {
                let claim = self.read::<records::Claim>(entry);
                claim.map(|claim| Event::Claim { camera, revision, by: Some(claim.into()) })
            }
            Some(Key::Claim(camera)) => Some(Event::Claim { camera, revision, by: None }),
            Some(Key::Drain(worker)) => Some(Event::Drain { worker, drains: put }),
            Some(Key::Beat(_)) | None => None,
        };
        let end = event.and_then(|event| self.see(event));
        self.complete(is_last, end)
    }

    fn told_camera(&mut self, entry: &kv::Entry, is_last: bool) -> Option<End> {
        let name = nats::keys::name(&entry.key).filter(|_| entry.key != records::FORMAT_KEY);
        let end = name.and_then(|name| {
            let settings = if entry.operation == Operation::Put { self.read(entry) } else { None };
            let exists = settings.is_some();
            match settings {
                Some(settings) => {
                    if self.claims.contains_key(&name) && self.cameras.get(&name) != Some(&settings) {
                        self.worker.order(Order::Change { camera: name.clone(), settings: settings.clone() });
                    }
                    self.cameras.insert(name.clone(), settings);
                }
                None => drop(self.cameras.remove(&name)),
            }
            self.see(Event::Camera { name, exists })
        });
        self.complete(is_last, end)
    }

    fn complete(&mut self, is_last: bool, end: Option<End>) -> Option<End> {
        if is_last && end.is_none() {
            self.waiting_for = self.waiting_for.saturating_sub(1);
            if self.waiting_for == 0 {
                return self.see(Event::Current);
            }
        }
        end
    }

    fn read<T: for<'a> serde::Deserialize<'a>>(&self, entry: &kv::Entry) -> Option<T> {
        let read = records::read(&entry.value, &entry.key);
        read.inspect_err(|error| self.worker.say(format!("{error:#}"))).ok()
    }

    fn see(&mut self, event: Event) -> Option<End> {
        let now = clock();
        let actions = self.member.see(now, event);
        self.act(now, actions)
    }

    /// Does what is to be done at `now`; what takes time goes on by itself and is answered by an event.
    fn act(&mut self, now: Duration, actions: Vec<Action>) -> Option<End> {
        self.fence.set(self.member.deadline());
        let mut end = None;
        for action in actions {
            match action {
                Action::Play { camera, epoch } => self.play(camera, epoch),
                Action::Stop { camera } => self.worker.order(Order::Stop { camera }),
                Action::Lost => {
                    self.end_all();
                    end = Some(End::Lost);
                }
                Action::Taken => end = Some(End::Taken),
                Action::Release { camera, revision } => {
                    if let Some(claim) = self.claims.remove(&camera) {
                        claim.end();
                    }
                    self.spawn(Action::Release { camera, revision }, now);
                }
                request => self.spawn(request, now),
            }
        }
        end
    }

    fn play(&mut self, camera: String, epoch: u64) {
        let settings = self.cameras.get(&camera).cloned().unwrap_or_default();
        let claim = Arc::new(Claim::new(self.name.clone(), epoch, self.fence.clone(), self.alone));
        self.claims.insert(camera.clone(), claim.clone());
        self.worker.shared.standing.lock().taken += 1;
        self.worker.order(Order::Play { camera, settings, claim });
    }

    fn end_all(&mut self) {
        for (camera, claim) in std::mem::take(&mut self.claims) {
            claim.end();
            self.worker.order(Order::Stop { camera });
        }
    }

    fn spawn(&self, action: Action, now: Duration) {
        let (store, answer, session) = (self.store.clone(), self.answer.clone(), self.session.clone());
        let Settings { ttl, capacity, .. } = self.worker.settings;
        tokio::spawn(async move {
            let patience = ttl / 3;
            let event =
                match tokio::time::timeout(patience, request(&store, &session, capacity, &action, now)).await
                {
                    Ok(event) => event,
                    Err(_) => match action {
                        Action::Beat { .. } => Some(Event::Beaten { sent: now, outcome: Outcome::Unknown }),
                        _ => None,
                    },
                };
            if let Some(event) = event {
                // The session may be over.
                let _ = answer.send(event);
            }
        });
    }

    async fn farewell(&mut self) {
        self.fence.set(Duration::ZERO);
        self.claims.values().for_each(|claim| claim.end());
        let capacity = self.worker.settings.capacity;
        for action in self.member.farewell() {
            let said = request(&self.store, &self.session, capacity, &action, clock());
            // Who does not hear it waits for the time to live.
            let _ = tokio::time::timeout(GOODBYE, said).await;
        }
    }

    fn report(&self) -> Report {
        Report {
            worker: self.session.worker.clone(),
            session: self.session.id.clone(),
            cameras: self.worker.shared.reports.lock().clone(),
            holds: !self.fence.is_open(),
        }
    }

    /// Writes down how the worker stands; says what has become of it.
    fn note(&mut self) {
        let is_member = self.member.is_member();
        if is_member && !self.was_member {
            let Settings { fleet, name, .. } = &self.worker.settings;
            self.worker.say(format!("worker {name} of the fleet {fleet}"));
        }
        self.was_member = is_member;
        let holds = is_member && !self.fence.is_open();
        let mut standing = self.worker.shared.standing.lock();
        if holds != standing.holds {
            let text = match (holds, self.alone) {
                (true, Alone::Hold) => "the servers do not answer: what the cameras say waits",
                (true, Alone::GoOn) => {
                    "the servers do not answer: what the cameras say goes out all the same"
                }
                (false, _) => "the servers answer again",
            };
            self.worker.say(text.into());
        }
        let (workers, cameras) = (self.member.workers(), self.cameras.len());
        *standing = Standing { is_member, workers, cameras, holds, ..*standing };
    }
}

/// Does one thing by the servers; what is to be told of it.
async fn request(
    store: &kv::Store,
    session: &Session,
    capacity: u32,
    action: &Action,
    sent: Duration,
) -> Option<Event> {
    let own = || session.worker.clone();
    match action {
        Action::Beat { expected } => {
            let written =
                store.update(Key::Beat(own()).to_string(), session.id.clone().into(), *expected).await;
            let outcome = match written {
                Ok(revision) => Outcome::Done(revision),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Outcome::Refused,
                Err(_) => Outcome::Unknown,
            };
            Some(Event::Beaten { sent, outcome })
        }
        Action::Enroll { expected } => {
            let worker = records::Worker {
                session: session.id.clone(),
                capacity,
                host: glib::host_name().to_string(),
                version: env!("CARGO_PKG_VERSION").into(),
            };
            // It is seen when it is told to all.
            let _ =
                store.update(Key::Worker(own()).to_string(), records::write(&worker).into(), *expected).await;
            None
        }
        Action::Claim { camera, expected } => {
            let claim = records::write(&records::Claim::from(session));
            let written = store.update(Key::Claim(camera.clone()).to_string(), claim.into(), *expected).await;
            let camera = camera.clone();
            written.ok().map(|revision| Event::Claim { camera, revision, by: Some(session.clone()) })
        }
        Action::Look { worker } => look(store, worker).await,
        Action::Evict { worker, revision } => {
            delete(store, &Key::Beat(worker.clone()), *revision).await;
            look(store, worker).await
        }
        Action::Bury { worker, revision } => {
            delete(store, &Key::Worker(worker.clone()), *revision).await;
            None
        }
        Action::Release { camera, revision } => {
            delete(store, &Key::Claim(camera.clone()), *revision).await;
            None
        }
        Action::Play { .. } | Action::Stop { .. } | Action::Lost | Action::Taken => None,
    }
}

async fn look(store: &kv::Store, worker: &str) -> Option<Event> {
    let entry = store.entry(Key::Beat(worker.into()).to_string()).await.ok()?;
    let beat = entry.map(|entry| Beat {
        revision: entry.revision,
        session: (entry.operation == Operation::Put)
            .then(|| String::from_utf8_lossy(&entry.value).into_owned()),
    });
    Some(Event::Looked { worker: worker.into(), beat })
}

/// One that was changed meanwhile stays.
async fn delete(store: &kv::Store, key: &Key, revision: u64) {
    let _ = store.delete_expect_revision(key.to_string(), Some(revision)).await;
}
