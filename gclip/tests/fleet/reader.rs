// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who reads all lines of the stream of results, in the order in which the servers have stored them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer};
use futures_util::StreamExt;
use gclip_testing::nats::Nats;
use serde_json::Value;

use crate::harness::PATIENCE;

#[derive(Clone, Debug)]
pub struct Line {
    pub camera: String,
    pub kind: String,
    pub worker: String,
    pub epoch: u64,
    pub run: String,
    pub event: u64,
    pub state: String,
    /// When it was made, in seconds of the day.
    pub made: f64,
    pub came: Instant,
}

pub struct Reader {
    lines: Arc<Mutex<Vec<Line>>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    /// Reads from the beginning of the stream, over restarts of the servers.
    pub fn start(nats: &Nats) -> Reader {
        Reader::start_at(&[nats.url()])
    }

    pub fn start_at(urls: &[String]) -> Reader {
        let reader = Reader { lines: Arc::default(), stop: Arc::default() };
        let (lines, stop, urls) = (reader.lines.clone(), reader.stop.clone(), urls.to_vec());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(read(&urls, &lines, &stop));
        });
        reader
    }

    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&Line) -> bool) -> Line {
        let begun = Instant::now();
        let mut seen = 0;
        loop {
            let lines = self.lines.lock().unwrap();
            if let Some(line) = lines[seen..].iter().find(|line| wanted(line)) {
                return line.clone();
            }
            seen = lines.len();
            let last = lines.last().cloned();
            drop(lines);
            assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}; {seen} lines, last {last:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until each of these cameras has said so much.
    #[track_caller]
    pub fn until_each_has(&self, cameras: &[&str], count: usize) {
        let begun = Instant::now();
        loop {
            let lines = self.lines();
            let has = |camera: &&str| lines.iter().filter(|line| line.camera == **camera).count() >= count;
            if cameras.iter().all(has) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "not {count} lines of each of {cameras:?}: {} in all",
                lines.len()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing more comes.
    pub fn until_quiet(&self) {
        let mut count = usize::MAX;
        loop {
            let now = self.lines().len();
            if std::mem::replace(&mut count, now) == now {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// No line comes after one of a higher epoch, each epoch is one worker's, and none comes twice.
    #[track_caller]
    pub fn check(&self) {
        let mut last: BTreeMap<(String, String), Line> = BTreeMap::new();
        let mut seen = std::collections::BTreeSet::new();
        for line in self.lines() {
            assert!(line.epoch > 0 && !line.worker.is_empty(), "{line:?}");
            assert!(seen.insert((line.run.clone(), line.event)), "twice: {line:?}");
            let key = (line.camera.clone(), line.kind.clone());
            if let Some(before) = last.get(&key) {
                assert!(before.epoch <= line.epoch, "{line:?} comes after {before:?}");
                if before.epoch == line.epoch {
                    assert_eq!(before.worker, line.worker, "two with one epoch: {before:?}, {line:?}");
                }
                if before.run == line.run {
                    assert!(before.event < line.event, "out of order: {before:?}, {line:?}");
                }
            }
            last.insert(key, line);
        }
    }

    /// Of each run every line is there: they are numbered.
    #[track_caller]
    pub fn check_complete(&self) {
        let mut runs: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for line in self.lines() {
            runs.entry(line.run).or_default().push(line.event);
        }
        for (run, mut events) in runs {
            events.sort_unstable();
            let missing: Vec<u64> = (0..events.last().map_or(0, |last| last + 1))
                .filter(|event| events.binary_search(event).is_err())
                .collect();
            assert!(missing.is_empty(), "of run {run} with {} lines are missing: {missing:?}", events.len());
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// When a line was made, in seconds of the day.
pub fn seconds(line: &Value) -> f64 {
    let time = line["time"].as_str().and_then(|time| time.get(11..26)).expect("a line has a time");
    time.split(':').fold(0.0, |sum, part| 60.0 * sum + part.parse::<f64>().unwrap())
}

async fn read(urls: &[String], lines: &Mutex<Vec<Line>>, stop: &AtomicBool) {
    let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
    let client = options.connect(urls.to_vec()).await.unwrap();
    let context = jetstream::new(client);
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = context.get_stream("gclip").await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let config = consumer::pull::OrderedConfig {
            deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: next },
            ..Default::default()
        };
        let Ok(consumer) = stream.create_consumer(config).await else { continue };
        let Ok(mut messages) = consumer.messages().await else { continue };
        while !stop.load(Ordering::Relaxed) {
            let waited = tokio::time::timeout(Duration::from_millis(200), messages.next()).await;
            let Ok(message) = waited else { continue };
            let Some(Ok(message)) = message else { break };
            let Ok(info) = message.info() else { break };
            next = info.stream_sequence + 1;
            let value: Value = serde_json::from_slice(&message.payload).unwrap();
            let text = |key: &str| value[key].as_str().unwrap_or_default().to_string();
            lines.lock().unwrap().push(Line {
                camera: text("camera"),
                kind: text("type"),
                worker: text("worker"),
                epoch: value["epoch"].as_u64().unwrap_or(0),
                run: text("run"),
                event: value["event"].as_u64().unwrap(),
                state: text("state"),
                made: seconds(&value),
                came: Instant::now(),
            });
        }
    }
}
