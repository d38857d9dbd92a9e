// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has happened: the latest in memory, and with `[history]` in the config, for long, on disk.
//!
//! ```text
//! feed    the latest, and who listens        tally   how much of the pictures each label takes
//! keeper  the thread that writes it down     moment  the picture in which something entered
//! store   the database                       album   the snapshots' files
//! ```

mod album;
mod feed;
mod keeper;
mod moment;
mod store;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::broadcast;

pub use feed::{Happening, Wanted};
pub use keeper::Status;
pub use moment::{Moment, Moments};
pub use store::{Kept, StepSum};
pub use tally::Tally;

use super::config;
use super::console::Console;
use super::queue::About;
use feed::Feed;
use keeper::Keeper;
use store::Reader;

/// Who asks waits no longer for what is just being written.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct History {
    feed: Arc<Feed>,
    keeper: Option<Keeper>,
}

/// A question about a time that nothing is kept of.
pub struct NotKept;

impl History {
    /// # Errors
    /// The system has no thread to give. A folder that cannot be written is none: that is told, and tried again.
    pub fn new(config: Option<&config::History>, console: &Arc<Console>) -> Result<History> {
        let feed = Arc::<Feed>::default();
        let keeper = config.map(|config| Keeper::start(config, console, &feed)).transpose()?;
        Ok(History { feed, keeper })
    }

    /// Something has happened; returns its number.
    pub fn put(&self, camera: &Arc<str>, about: &About, time: i64, line: &[u8]) -> u64 {
        let keep = |happening: &Happening| {
            if let Some(keeper) = &self.keeper {
                keeper.event(happening);
            }
        };
        self.feed.put((camera, about, time), line, keep)
    }

    pub fn takes_snapshots(&self) -> bool {
        self.keeper.as_ref().is_some_and(Keeper::takes_snapshots)
    }

    /// The picture that these events are about.
    pub fn picture(&self, moment: Arc<Moment>, events: Vec<u64>) {
        if let Some(keeper) = self.keeper.as_ref().filter(|_| !events.is_empty()) {
            keeper.picture(moment, events);
        }
    }

    /// Events that have no picture after all.
    pub fn lose_snapshots(&self, count: usize) {
        if let Some(keeper) = &self.keeper {
            keeper.lose_snapshots(count);
        }
    }

    /// Where a camera's pictures are to be shown, if they matter.
    pub fn tally(&self, camera: &Arc<str>) -> Option<Arc<Tally>> {
        self.keeper.as_ref().map(|keeper| keeper.tally(camera))
    }

    /// Those in memory, and what comes after them.
    pub fn listen(&self, wanted: &Wanted, limit: usize) -> (Vec<Happening>, broadcast::Receiver<Happening>) {
        self.feed.find(wanted, limit)
    }

    /// The newest of the events that are wanted, oldest first, from disk and memory.
    pub async fn find(&self, wanted: &Wanted, limit: usize) -> Vec<Kept> {
        let ask = wanted.clone();
        let on_disk = self.read(move |reader| reader.find(&ask, limit)).await;
        // What could not be written is in memory all the same, as is everything where nothing is written.
        let (in_memory, _) = self.feed.find(wanted, limit);
        let of = |event: Happening| {
            (event.number, Kept { number: event.number, line: event.line.to_string(), picture: None })
        };
        let mut found: BTreeMap<u64, Kept> = in_memory.into_iter().map(of).collect();
        found.extend(on_disk.and_then(Result::ok).into_iter().flatten().map(|kept| (kept.number, kept)));
        let skipped = found.len().saturating_sub(limit);
        found.into_values().skip(skipped).collect()
    }

    pub async fn event(&self, number: u64) -> Option<Kept> {
        let only = Wanted {
            since: number.saturating_sub(1),
            before: Some(number.saturating_add(1)),
            ..Wanted::default()
        };
        self.find(&only, 1).await.pop()
    }

    /// The JPEG of an event. `None`: there is none, or none any more.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn snapshot(&self, number: u64) -> Result<Option<Vec<u8>>> {
        let Some(picture) = self.event(number).await.and_then(|event| event.picture) else { return Ok(None) };
        let Some(keeper) = &self.keeper else { return Ok(None) };
        let album = keeper.album();
        Ok(tokio::task::spawn_blocking(move || album.get(picture)).await??)
    }

    /// As [`Reader::sums`]. An error says that nothing is kept.
    pub async fn sums(
        &self,
        camera: Option<String>,
        label: Option<String>,
        minutes: (i64, i64),
        step: i64,
    ) -> Result<Result<Vec<StepSum>>, NotKept> {
        let sums = self.read(move |reader| reader.sums((camera.as_deref(), label.as_deref()), minutes, step));
        sums.await.ok_or(NotKept)
    }

    /// Reads when what was handed over has been written. `None` where nothing is.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
    ) -> Option<Result<T>> {
        let keeper = self.keeper.as_ref()?;
        // A writer that takes longer has much to do, and not what matters here.
        let _ = tokio::time::timeout(PATIENCE, keeper.written()).await;
        let file = keeper.file();
        let read = tokio::task::spawn_blocking(move || ask(&Reader::open(&file)?)).await;
        Some(read.unwrap_or_else(|error| Err(error.into())))
    }

    /// `None` where nothing is kept on disk.
    pub fn status(&self) -> Option<Status> {
        self.keeper.as_ref().map(Keeper::status)
    }

    pub fn close(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.close();
        }
    }
}

/// What it takes: `cargo test --release -p gclip --bin gclip history::measure -- --ignored --nocapture`.
#[cfg(test)]
mod measure {
    use std::collections::BTreeMap;

    use super::store::Store;
    use super::tally::{Sum, Sums};
    use super::*;
    use crate::usage;

    const EVENTS: i64 = 10_000;
    const LABELS: [&str; 8] = ["person", "car", "truck", "bicycle", "tree", "road", "sky", "building"];

    fn about(number: i64) -> About {
        let label = LABELS[number as usize % LABELS.len()].to_string();
        About::Presence { label, zone: (number % 2 == 0).then(|| "entrance".into()), entered: number % 4 < 2 }
    }

    fn line(number: i64) -> String {
        format!(
            "{{\"time\":\"2025-11-29T07:00:01.{number:06}Z\",\"camera\":\"gate\",\"type\":\"presence\",\"run\":\"187d0f3f2b6a4c11-1f3a\",\
             \"event\":{number},\"captured\":\"2025-11-29T07:00:00.123456Z\",\"state\":\"entered\",\"label\":\"{}\",\"zone\":\"entrance\",\
             \"area\":0.12345678901234567,\"score\":0.8123456789012345,\"generation\":1,\"pts\":1234567890123,\
             \"stream_time\":1234567890123,\"running_time\":1234567890123}}",
            LABELS[number as usize % LABELS.len()]
        )
    }

    #[test]
    #[ignore = "measures, and says nothing right or wrong"]
    fn memory_and_disk() {
        let (feed, camera) = (Feed::default(), Arc::<str>::from("gate"));
        let before = usage::memory("VmRSS:").unwrap();
        for number in 0..EVENTS {
            feed.put((&camera, &about(number), number), line(number).as_bytes(), |_| {});
        }
        let grown = usage::memory("VmRSS:").unwrap() - before;
        println!("{EVENTS} events in memory: {:.1} MiB", grown as f64 / f64::from(1 << 20));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.db");
        let mut store = Store::open(&file).unwrap();
        let (empty, _) = store.sizes().unwrap();
        let (events, _) = feed.find(&Wanted::default(), usize::MAX);
        let start = std::time::Instant::now();
        for some in events.chunks(10) {
            store.write(some, &[]).unwrap();
        }
        let took = start.elapsed();
        let (with_events, _) = store.sizes().unwrap();
        println!(
            "an event on disk: {} bytes, written ten at a time in {:.0} us each",
            (with_events - empty) as i64 / EVENTS,
            took.as_secs_f64() * 1e6 / EVENTS as f64
        );
        for minute in 0..24 * 60 {
            let sum = |label: &&str| (label.to_string(), Sum { share: 3.7, areas: 61.5 });
            let labels: BTreeMap<String, Sum> = LABELS.iter().map(sum).collect();
            store.write(&[], &[(camera.clone(), minute, Sums { looks: 60, labels })]).unwrap();
        }
        let (with_minutes, _) = store.sizes().unwrap();
        println!(
            "a day of a camera's statistics, {} labels in each minute: {} KiB",
            LABELS.len(),
            (with_minutes - with_events) >> 10
        );
        let reader = Reader::open(&file).unwrap();
        let start = std::time::Instant::now();
        let found = reader.find(&Wanted { label: Some("car".into()), ..Wanted::default() }, 100).unwrap();
        let by_label = start.elapsed();
        let start = std::time::Instant::now();
        let sums = reader.sums((Some("gate"), None), (0, 24 * 60), 4).unwrap();
        println!(
            "{} of a label found in {:.1} ms, a day's {} sums in {:.1} ms",
            found.len(),
            by_label.as_secs_f64() * 1e3,
            sums.len(),
            start.elapsed().as_secs_f64() * 1e3
        );
    }
}
