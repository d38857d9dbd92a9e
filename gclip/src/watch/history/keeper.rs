// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who writes it down: a thread that takes what it is handed when it can. Nobody waits for it; what it cannot keep is
//! counted, and told once.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, anyhow};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::album::Album;
use super::feed::{Feed, Happening, KEPT};
use super::moment::Moment;
use super::store::{Limits, Store};
use super::tally::{Sums, Tally};
use crate::watch::config;
use crate::watch::console::Console;
use crate::watch::drawn;

/// What waits to be written at most.
const WAITING: usize = 10_000;
/// Of which pictures: each holds a decoded frame.
const PICTURES: usize = 16;
/// What is written at a time.
const AT_A_TIME: usize = 1000;
/// How often an idle writer looks at the clock.
const LOOK: Duration = Duration::from_millis(200);
/// Between two tries to open a database that cannot be opened.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is looked for what is too old.
const TIDY: Duration = Duration::from_secs(600);
/// A snapshot is no wider, in pixels.
const WIDEST: u32 = 640;
/// When there are too many bytes of snapshots, so much of the room is left in use: not every new one has to clear up.
const FILLED: f64 = 0.95;
/// The program ends after this long, whatever is left.
const GRACE: Duration = Duration::from_secs(3);
const MINUTE: i64 = 60_000_000;

enum Message {
    Event(Happening),
    Picture {
        moment: Arc<Moment>,
        events: Vec<u64>,
    },
    /// Answered when all before it is written.
    Written(oneshot::Sender<()>),
}

/// How it stands. Counts since the start of the program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    pub events: u64,
    pub lost_events: u64,
    pub snapshots: u64,
    pub lost_snapshots: u64,
    /// Of cameras, each of one minute.
    pub lost_minutes: u64,
    pub database_bytes: u64,
    pub snapshot_bytes: u64,
    /// Why nothing is kept at present.
    pub trouble: Option<String>,
}

#[derive(Default)]
struct Counts {
    events: AtomicU64,
    lost_events: AtomicU64,
    snapshots: AtomicU64,
    lost_snapshots: AtomicU64,
    lost_minutes: AtomicU64,
    database_bytes: AtomicU64,
    snapshot_bytes: AtomicU64,
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}

#[derive(Default)]
struct Shared {
    counts: Counts,
    trouble: Mutex<Option<String>>,
    tallies: Mutex<Vec<Arc<Tally>>>,
    /// Pictures that wait.
    pictures: AtomicUsize,
    ending: AtomicBool,
}

pub struct Keeper {
    config: config::History,
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Opens what earlier runs have left and gives it to `feed`; if that cannot be done it is told, and tried again.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(config: &config::History, console: &Arc<Console>, feed: &Arc<Feed>) -> Result<Keeper> {
        let (messages, received) = sync_channel(WAITING);
        let shared = Arc::<Shared>::default();
        let mut writer = Writer {
            config: config.clone(),
            album: Album::in_folder(&config.folder),
            console: console.clone(),
            feed: feed.clone(),
            shared: shared.clone(),
            messages: received,
            open: None,
            tried: None,
            minute: now() / MINUTE,
            tidied: Instant::now(),
            told: [Told::default(), Told::default()],
        };
        writer.open();
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || writer.run())?;
        let thread = Mutex::new(Some(thread));
        Ok(Keeper { config: config.clone(), messages, shared, thread })
    }

    pub fn file(&self) -> PathBuf {
        file(&self.config.folder)
    }

    pub fn album(&self) -> Album {
        Album::in_folder(&self.config.folder)
    }

    pub fn takes_snapshots(&self) -> bool {
        self.config.snapshot_bytes > 0
    }

    pub fn event(&self, happening: &Happening) {
        if self.messages.try_send(Message::Event(happening.clone())).is_err() {
            add(&self.shared.counts.lost_events, 1);
        }
    }

    /// The picture that these events are about.
    pub fn picture(&self, moment: Arc<Moment>, events: Vec<u64>) {
        let count = events.len();
        let waiting = &self.shared.pictures;
        let has_room = waiting.fetch_add(1, Ordering::Relaxed) < PICTURES;
        if !has_room || self.messages.try_send(Message::Picture { moment, events }).is_err() {
            waiting.fetch_sub(1, Ordering::Relaxed);
            self.lose_snapshots(count);
        }
    }

    pub fn lose_snapshots(&self, count: usize) {
        add(&self.shared.counts.lost_snapshots, count);
    }

    /// What the camera's pictures show is to be told to it.
    pub fn tally(&self, camera: &Arc<str>) -> Arc<Tally> {
        let tally = Arc::new(Tally::new(camera));
        self.shared.tallies.lock().push(tally.clone());
        tally
    }

    /// Waits until what was handed over so far is written or lost.
    pub async fn written(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.messages.try_send(Message::Written(sender)).is_ok() {
            // An end of the thread is one too.
            let _ = receiver.await;
        }
    }

    pub fn status(&self) -> Status {
        let Counts {
            events,
            lost_events,
            snapshots,
            lost_snapshots,
            lost_minutes,
            database_bytes,
            snapshot_bytes,
        } = &self.shared.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Status {
            events: read(events),
            lost_events: read(lost_events),
            snapshots: read(snapshots),
            lost_snapshots: read(lost_snapshots),
            lost_minutes: read(lost_minutes),
            database_bytes: read(database_bytes),
            snapshot_bytes: read(snapshot_bytes),
            trouble: self.shared.trouble.lock().clone(),
        }
    }

    /// Waits until what was handed over is written, but not for ever.
    pub fn close(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.lock().take() else { return };
        let deadline = Instant::now() + GRACE;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("events.db")
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A database that this program alone writes, as long as the lock is held.
struct Open {
    store: Store,
    _lock: File,
    /// Events up to this number were there before.
    floor: u64,
}

/// What has been told of one kind of trouble.
#[derive(Default)]
struct Told {
    is_told: bool,
    lost: usize,
}

/// Index into the writer's `told`.
#[derive(Clone, Copy)]
enum Kind {
    Database,
    Snapshots,
}

struct Writer {
    config: config::History,
    album: Album,
    console: Arc<Console>,
    feed: Arc<Feed>,
    shared: Arc<Shared>,
    messages: Receiver<Message>,
    open: Option<Open>,
    /// When it was last tried to open it.
    tried: Option<Instant>,
    /// What is summed up now belongs to this one.
    minute: i64,
    tidied: Instant,
    told: [Told; 2],
}

impl Writer {
    fn run(mut self) {
        loop {
            let ending = self.shared.ending.load(Ordering::Relaxed);
            let first = match self.messages.recv_timeout(if ending { Duration::ZERO } else { LOOK }) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let is_idle = first.is_none();
            if self.open.is_none() && self.tried.is_none_or(|at| at.elapsed() >= RETRY) {
                self.open();
            }
            self.take(first);
            if ending && is_idle {
                let minutes = self.sums();
                self.write(&[], &minutes);
                return;
            }
            if self.tidied.elapsed() >= TIDY {
                self.tidy();
            }
        }
    }

    /// Writes what has come.
    fn take(&mut self, first: Option<Message>) {
        let more = std::iter::from_fn(|| self.messages.try_recv().ok()).take(AT_A_TIME);
        let (mut events, mut pictures, mut askers) = (Vec::new(), Vec::new(), Vec::new());
        for message in first.into_iter().chain(more) {
            match message {
                Message::Event(event) => events.push(event),
                Message::Picture { moment, events } => pictures.push((moment, events)),
                Message::Written(asker) => askers.push(asker),
            }
        }
        let is_over = now() / MINUTE != self.minute;
        let minutes = if is_over || !askers.is_empty() { self.sums() } else { Vec::new() };
        self.minute = now() / MINUTE;
        self.write(&events, &minutes);
        for (moment, events) in pictures {
            self.keep_picture(&moment, &events);
            self.shared.pictures.fetch_sub(1, Ordering::Relaxed);
        }
        for asker in askers {
            // Whoever has asked may have left.
            let _ = asker.send(());
        }
    }

    /// What was seen in the minute that is or was. A camera that is gone is forgotten with it.
    fn sums(&mut self) -> Vec<(Arc<str>, i64, Sums)> {
        let minute = self.minute;
        let mut tallies = self.shared.tallies.lock();
        let all = tallies.iter().filter_map(|tally| Some((tally.camera.clone(), minute, tally.take()?)));
        let all = all.collect();
        tallies.retain(|tally| Arc::strong_count(tally) > 1);
        all
    }

    fn write(&mut self, events: &[Happening], minutes: &[(Arc<str>, i64, Sums)]) {
        if events.is_empty() && minutes.is_empty() {
            return;
        }
        let file = file(&self.config.folder);
        // One that was removed would go on growing where nobody sees it.
        if self.open.is_some() && !file.exists() {
            self.open = None;
            self.open();
        }
        let Some(open) = &mut self.open else {
            return self.lose(events.len(), minutes.len());
        };
        // A database that was opened late has events of these numbers already.
        let floor = open.floor;
        let skipped = events.partition_point(|event| event.number <= floor);
        match open.store.write(&events[skipped..], minutes) {
            Ok(()) => {
                add(&self.shared.counts.events, events.len() - skipped);
                self.worked(Kind::Database);
                self.lose(skipped, 0);
            }
            Err(error) => {
                if Store::is_damaged(&error) {
                    self.open = None;
                }
                self.lose(events.len(), minutes.len());
                self.failed(Kind::Database, &error.context(format!("cannot write {}", file.display())));
            }
        }
    }

    fn lose(&mut self, events: usize, minutes: usize) {
        add(&self.shared.counts.lost_events, events);
        add(&self.shared.counts.lost_minutes, minutes);
        self.told[Kind::Database as usize].lost += events;
    }

    fn keep_picture(&mut self, moment: &Moment, events: &[u64]) {
        let Some(first) = events.first() else { return };
        let before = moment.kept_as.load(Ordering::Relaxed);
        let kept = match before {
            0 => self.new_picture(moment, *first, events),
            // Something else has entered in the same picture.
            before => self.store().and_then(|store| store.write_picture(before, None, events)),
        };
        match kept {
            Ok(()) => {
                add(&self.shared.counts.snapshots, events.len());
                self.worked(Kind::Snapshots);
            }
            Err(error) => {
                add(&self.shared.counts.lost_snapshots, events.len());
                self.told[Kind::Snapshots as usize].lost += events.len();
                // Without a database it is not the snapshots' trouble.
                if self.open.is_some() {
                    self.failed(Kind::Snapshots, &error.context("cannot keep a snapshot"));
                }
            }
        }
    }

    fn store(&mut self) -> Result<&mut Store> {
        self.open.as_mut().map(|open| &mut open.store).context("the database is not open")
    }

    fn new_picture(&mut self, moment: &Moment, number: u64, events: &[u64]) -> Result<()> {
        self.store()?;
        let jpeg = drawn::with_masks(&moment.sample, &moment.masks, Some(WIDEST))?;
        let bytes = jpeg.len() as u64;
        self.album.put(number, &jpeg)?;
        let written =
            self.store().and_then(|store| store.write_picture(number, Some((now(), bytes)), events));
        if written.is_err() {
            self.album.remove(number);
        }
        written?;
        moment.kept_as.store(number, Ordering::Relaxed);
        let all = self.shared.counts.snapshot_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > self.config.snapshot_bytes {
            self.tidy();
        }
        Ok(())
    }

    fn open(&mut self) {
        self.tried = Some(Instant::now());
        match self.try_open() {
            Ok(open) => {
                self.open = Some(open);
                self.worked(Kind::Database);
                self.tidy();
            }
            Err(error) => {
                let folder = self.config.folder.display();
                self.failed(Kind::Database, &error.context(format!("cannot keep it in {folder}")));
            }
        }
    }

    fn try_open(&mut self) -> Result<Open> {
        let folder = &self.config.folder;
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => anyhow!("another program keeps its history there"),
            fs::TryLockError::Error(error) => error.into(),
        })?;
        let file = file(folder);
        let store = match Store::open(&file) {
            Err(error) if Store::is_damaged(&error) => {
                let aside = folder.join(format!("events-damaged-{}.db", now() / 1_000_000));
                fs::rename(&file, &aside)?;
                for ending in ["-wal", "-shm"] {
                    // They belong to the damaged one, and need not be there.
                    let _ = fs::remove_file(folder.join(format!("events.db{ending}")));
                }
                let what = format!(
                    "{} is damaged: it is now {}, and a new one is begun",
                    file.display(),
                    aside.display()
                );
                self.console.log("history", &what);
                Store::open(&file)?
            }
            opened => opened?,
        };
        let floor = store.last()?;
        self.feed.restore(floor, store.newest(KEPT)?);
        self.album.sweep(&store.pictures()?.into_iter().collect::<HashSet<u64>>());
        Ok(Open { store, _lock: lock, floor })
    }

    /// Forgets what is too old or too much.
    fn tidy(&mut self) {
        self.tidied = Instant::now();
        let config = &self.config;
        let before = |age: Duration| now().saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
        let events_from = before(config.age);
        let is_full = self.shared.counts.snapshot_bytes.load(Ordering::Relaxed) > config.snapshot_bytes;
        let share = if is_full { FILLED } else { 1.0 };
        let limits = Limits {
            events_from,
            minutes_from: events_from / MINUTE,
            pictures_from: events_from.max(before(config.snapshot_age)),
            database_bytes: config.bytes,
            picture_bytes: (config.snapshot_bytes as f64 * share) as u64,
        };
        let Some(open) = &mut self.open else { return };
        let tidied = open.store.tidy(&limits).and_then(|gone| Ok((gone, open.store.sizes()?)));
        match tidied {
            Ok((gone, (database, snapshots))) => {
                gone.into_iter().for_each(|number| self.album.remove(number));
                self.shared.counts.database_bytes.store(database, Ordering::Relaxed);
                self.shared.counts.snapshot_bytes.store(snapshots, Ordering::Relaxed);
            }
            Err(error) => self.failed(Kind::Database, &error.context("cannot clear up the history")),
        }
    }

    fn failed(&mut self, kind: Kind, error: &Error) {
        let what = format!("{error:#}");
        let told = &mut self.told[kind as usize];
        if !std::mem::replace(&mut told.is_told, true) {
            let rest = match kind {
                Kind::Database => "what happens is told, but not kept",
                Kind::Snapshots => "events are kept without",
            };
            self.console.log("history", &format!("{what}; {rest}, until that is mended"));
        }
        *self.shared.trouble.lock() = Some(what);
    }

    fn worked(&mut self, kind: Kind) {
        let told = std::mem::take(&mut self.told[kind as usize]);
        if told.is_told {
            let what = match kind {
                Kind::Database => "events",
                Kind::Snapshots => "snapshots",
            };
            self.console.log("history", &format!("{what} are kept again; {} were lost", told.lost));
            *self.shared.trouble.lock() = None;
        }
    }
}
