// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines into a JetStream stream, at least once each, on `STREAM.CAMERA.TYPE`. A line leaves the queue's care only when
//! the servers have stored it; sent again it is known by its id. Lines of a worker of a fleet are written on top of the
//! worker's own last one of that subject: a worker that has lost the camera without knowing is refused by the servers
//! themselves, so that no line of a lower epoch comes after one of a higher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind};
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc};

use crate::fleet::Gate;
use crate::nats::{self, keys::token};
use crate::watch::config::NatsTarget;
use crate::watch::console::Console;
use crate::watch::queue::{About, Line, Queue};

/// Lines on their way at most; they count beside the queue's own.
const WINDOW: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// The servers may take so long to store a line.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two tries of a line, and of a connection.
const AGAIN: Duration = Duration::from_millis(100);
const RECONNECT: Duration = Duration::from_secs(1);
/// A line that is sent again within this time is not stored again.
const DUPLICATES: Duration = Duration::from_secs(600);
/// What a stream that is made here keeps.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Troubles that go on are told about this often.
const REMIND: Duration = Duration::from_secs(60);

const ID: &str = "Nats-Msg-Id";
const EPOCH: &str = "Gclip-Epoch";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

pub struct Publisher {
    pub target: NatsTarget,
    pub queue: Arc<Queue>,
    pub console: Arc<Console>,
    /// Name in the log.
    pub who: String,
}

/// What the cameras' tasks share.
struct Shared {
    target: NatsTarget,
    queue: Arc<Queue>,
    console: Arc<Console>,
    who: String,
    context: jetstream::Context,
    /// What is wrong, and when that was told.
    trouble: Mutex<Option<(String, Instant)>>,
    stale: Mutex<(u64, Option<Instant>)>,
}

impl Publisher {
    pub fn run(self) {
        let Publisher { target, queue, console, who } = self;
        let (sender, lines) = mpsc::channel(WINDOW);
        let taken = queue.clone();
        let feeder = std::thread::Builder::new().name("nats".into()).spawn(move || feed(&taken, &sender));
        let name = who.clone();
        let log = console.clone();
        let outcome = match feeder {
            Ok(_) => nats::run(deliver(target, queue, console, who, lines)),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            log.log(&name, &log.hide(&format!("{error:#}")));
        }
    }
}

/// Takes lines from the queue until there will be no more.
fn feed(queue: &Queue, into: &mpsc::Sender<Line>) {
    loop {
        let taken = queue.take(PAUSE);
        let is_over = taken.is_none() && queue.is_closed() && queue.is_empty();
        // Nobody delivers any more.
        let is_unwanted = taken.is_some_and(|line| into.blocking_send(line).is_err());
        if is_over || is_unwanted {
            return;
        }
    }
}

async fn deliver(
    target: NatsTarget,
    queue: Arc<Queue>,
    console: Arc<Console>,
    who: String,
    mut lines: mpsc::Receiver<Line>,
) -> Result<()> {
    let context = connect(&target, &console, &who).await;
    let shared = Arc::new(Shared {
        target,
        queue,
        console,
        who,
        context,
        trouble: Mutex::default(),
        stale: Mutex::default(),
    });
    let room = Arc::new(Semaphore::new(WINDOW));
    let mut cameras: BTreeMap<Arc<str>, mpsc::UnboundedSender<_>> = BTreeMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(line) = lines.recv().await {
        let place = room.clone().acquire_owned().await.context("the program is ending")?;
        let sender = cameras.entry(line.camera.clone()).or_insert_with(|| {
            let (sender, mut of_camera) = mpsc::unbounded_channel();
            let shared = shared.clone();
            tasks.spawn(async move {
                // The sequence of the last line of each subject.
                let mut last = BTreeMap::new();
                while let Some((line, place)) = of_camera.recv().await {
                    shared.send(&line, &mut last).await;
                    drop(place);
                }
            });
            sender
        });
        // A task ends only when there will be no more lines.
        let _ = sender.send((line, place));
    }
    drop(cameras);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn connect(target: &NatsTarget, console: &Console, who: &str) -> jetstream::Context {
    let mut told = None::<Instant>;
    loop {
        let connected = target.servers.connect(&format!("gclip-{}", std::process::id())).await;
        match connected {
            Ok(client) => {
                if told.is_some() {
                    console.log(who, &format!("{}: connected", target.servers.shown()));
                }
                return ContextBuilder::new().timeout(ANSWER).build(client);
            }
            Err(error) => {
                if told.is_none_or(|at| at.elapsed() >= REMIND) {
                    console.log(who, &console.hide(&format!("{error:#}; lines wait for it")));
                    told = Some(Instant::now());
                }
                tokio::time::sleep(RECONNECT).await;
            }
        }
    }
}

/// What came of a try.
enum Sent {
    /// With its sequence.
    Stored(u64),
    /// It is not to be tried again.
    Dropped,
    Again,
}

impl Shared {
    async fn send(&self, line: &Line, last: &mut BTreeMap<String, u64>) {
        let subject = subject(&self.target, line);
        let sum = Sha256::digest(&line.bytes);
        let id: String = sum.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        loop {
            match line.gate() {
                Gate::Open => {}
                Gate::Held => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Gate::Over => {
                    self.stale();
                    return;
                }
            }
            match self.try_once(line, &subject, &id, last).await {
                Sent::Stored(sequence) => {
                    last.insert(subject, sequence);
                    self.queue.count_delivered();
                    self.is_well();
                    return;
                }
                Sent::Dropped => return,
                Sent::Again => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn try_once(&self, line: &Line, subject: &str, id: &str, last: &mut BTreeMap<String, u64>) -> Sent {
        let mut headers = HeaderMap::new();
        headers.insert(ID, id);
        let epoch = line.claim.as_ref().map(|claim| claim.epoch);
        if let Some(epoch) = epoch {
            headers.insert(EPOCH, epoch.to_string());
            let known = match last.get(subject) {
                Some(known) => *known,
                None => match self.look(subject).await {
                    Ok(found) => found.map_or(0, |message| message.sequence),
                    Err(why) => return self.trouble(why),
                },
            };
            headers.insert(EXPECTED, known.to_string());
            last.insert(subject.into(), known);
        }
        let payload = line.without_newline().to_vec().into();
        let published = self.context.publish_with_headers(subject.to_string(), headers, payload).await;
        let stored = match published {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match stored.map_err(|error| (error.kind(), error)) {
            Ok(ack) => Sent::Stored(ack.sequence),
            Err((PublishErrorKind::WrongLastSequence, _)) => self.settle(epoch, subject, id, last).await,
            Err((PublishErrorKind::StreamNotFound, _)) => match self.make_stream().await {
                Ok(()) => Sent::Again,
                Err(error) => {
                    self.trouble(format!("the stream {} cannot be made: {error:#}", self.target.stream))
                }
            },
            Err((PublishErrorKind::MaxPayloadExceeded, _)) => {
                self.queue.count_dropped();
                self.console.log(
                    &self.who,
                    &format!(
                        "a line of {} bytes of {} is longer than the servers take, and is dropped: raise their \
                         max_payload, or write shorter lines with masks = \"none\"",
                        line.bytes.len(),
                        line.camera
                    ),
                );
                Sent::Dropped
            }
            Err((_, error)) => self.trouble(error.to_string()),
        }
    }

    /// Somebody else has written to the subject, or this program without knowing.
    async fn settle(
        &self,
        epoch: Option<u64>,
        subject: &str,
        id: &str,
        last: &mut BTreeMap<String, u64>,
    ) -> Sent {
        let found = match self.look(subject).await {
            Ok(found) => found,
            Err(why) => return self.trouble(why),
        };
        let Some(found) = found else {
            last.insert(subject.into(), 0);
            return Sent::Again;
        };
        let header = |name: &str| found.headers.get(name).map(|value| value.as_str().to_string());
        if header(ID).as_deref() == Some(id) {
            return Sent::Stored(found.sequence);
        }
        let theirs = header(EPOCH).and_then(|epoch| epoch.parse::<u64>().ok());
        if theirs > epoch {
            self.stale();
            return Sent::Dropped;
        }
        last.insert(subject.into(), found.sequence);
        Sent::Again
    }

    /// The last line of a subject.
    async fn look(&self, subject: &str) -> Result<Option<StreamMessage>, String> {
        let stream =
            self.context.get_stream_no_info(&self.target.stream).await.map_err(|error| error.to_string())?;
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => match self.context.get_stream(&self.target.stream).await {
                Ok(_) => Err(error.to_string()),
                // It is to be made first.
                Err(_) => self.make_stream().await.map(|()| None).map_err(|error| format!("{error:#}")),
            },
        }
    }

    async fn make_stream(&self) -> Result<()> {
        let config = Config {
            name: self.target.stream.clone(),
            description: Some("What gclip watch sees".into()),
            subjects: vec![format!("{}.>", self.target.subject)],
            max_age: KEPT,
            duplicate_window: DUPLICATES,
            allow_direct: true,
            ..Default::default()
        };
        Ok(nats::stream(&self.context, config).await?)
    }

    /// Lines of cameras that others have taken.
    fn stale(&self) {
        self.queue.count_dropped();
        let mut stale = self.stale.lock();
        stale.0 += 1;
        if stale.1.is_none_or(|told| told.elapsed() >= REMIND) {
            let what = format!("{} lines were dropped: others have taken over their cameras", stale.0);
            self.console.log(&self.who, &what);
            *stale = (0, Some(Instant::now()));
        }
    }

    fn trouble(&self, why: String) -> Sent {
        let mut trouble = self.trouble.lock();
        if !trouble.as_ref().is_some_and(|(known, at)| *known == why && at.elapsed() < REMIND) {
            let shown = self.target.servers.shown();
            self.console.log(&self.who, &self.console.hide(&format!("{shown}: {why}; lines wait for it")));
            *trouble = Some((why, Instant::now()));
        }
        Sent::Again
    }

    fn is_well(&self) {
        if self.trouble.lock().take().is_some() {
            self.console.log(&self.who, &format!("{}: it takes lines again", self.target.servers.shown()));
        }
    }
}

fn subject(target: &NatsTarget, line: &Line) -> String {
    let kind = match line.about {
        About::Frame => "frame",
        About::Presence { .. } => "presence",
        About::Anomaly { .. } => "anomaly",
        About::Camera { .. } => "camera",
    };
    format!("{}.{}.{kind}", target.subject, token(&line.camera))
}
