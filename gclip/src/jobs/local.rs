// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queue in this process, with a journal: what is done is known to the next start, and what has brought the program
//! down too.
//!
//! A line of the journal is the end of a job, as [`Record`] has it, or says that a job was begun, or that a run does not
//! count. Ends are on the disk before they count; of a line that was cut off nothing is lost, as it had not counted.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::job::{Id, Job};
use super::queue::{Back, Counts, End, Handle, Queue, Record, Taken};

pub struct Local {
    path: PathBuf,
    worker: String,
    state: Mutex<State>,
}

struct State {
    journal: File,
    waiting: VecDeque<(Id, Job)>,
    /// To be tried again, from when on.
    later: Vec<(Instant, Id, Job)>,
    running: u64,
    known: Known,
    counts: Counts,
}

/// What a journal tells.
#[derive(Default)]
struct Known {
    ended: HashMap<Id, End>,
    /// Runs that were begun and count.
    begun: HashMap<Id, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    End(Record),
    Begun { begun: Id },
    Uncounted { uncounted: Id },
}

impl Known {
    fn read(file: &File) -> Result<Known> {
        let mut known = Known::default();
        for line in BufReader::new(file).lines() {
            match serde_json::from_str(&line?) {
                Ok(line) => known.add(line),
                // Cut off when the program was.
                Err(_) => continue,
            }
        }
        Ok(known)
    }

    fn add(&mut self, line: Line) {
        match line {
            Line::End(Record { id, end, .. }) => {
                self.begun.remove(&id);
                self.ended.entry(id).or_insert(end);
            }
            Line::Begun { begun } => *self.begun.entry(begun).or_default() += 1,
            Line::Uncounted { uncounted } => {
                if let Some(count) = self.begun.get_mut(&uncounted) {
                    *count = count.saturating_sub(1);
                }
            }
        }
    }
}

impl Local {
    /// These jobs, but for those that have ended by the journal; with `again`, all of them.
    ///
    /// # Errors
    /// The journal cannot be read or written, or another process has it.
    pub fn open(path: &Path, jobs: Vec<Job>, again: bool) -> Result<Local> {
        let wrong = || format!("the journal {} cannot be used", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(wrong)?;
        }
        let mut journal =
            OpenOptions::new().read(true).append(true).create(true).open(path).with_context(wrong)?;
        match journal.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another gclip jobs run has the journal {}", path.display())
            }
            // A file system without locks.
            Err(TryLockError::Error(_)) => {}
        }
        let mut known = Known::read(&journal).with_context(wrong)?;
        // Behind a line that was cut off.
        journal.write_all(b"\n").with_context(wrong)?;
        let mut counts = Counts::default();
        let mut waiting = VecDeque::new();
        for job in jobs {
            let id = job.id();
            if again {
                known.ended.remove(&id);
                known.begun.remove(&id);
            }
            match known.ended.get(&id) {
                Some(End::Done(_)) => counts.done += 1,
                Some(End::SetAside { .. }) => counts.set_aside += 1,
                Some(End::Cancelled) => counts.cancelled += 1,
                None => waiting.push_back((id, job)),
            }
        }
        let state = State { journal, waiting, later: vec![], running: 0, known, counts };
        Ok(Local { path: path.into(), worker: super::worker(), state: Mutex::new(state) })
    }
}

impl State {
    fn write(&mut self, line: Line, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let counts = matches!(line, Line::End(_));
        let mut write = || {
            self.journal.write_all(&text)?;
            // A begun run only has to survive the program.
            if counts { self.journal.sync_data() } else { Ok(()) }
        };
        write().with_context(|| format!("the journal {} cannot be written", path.display()))?;
        self.known.add(line);
        Ok(())
    }

    fn next(&mut self) -> Option<(Id, Job)> {
        let now = Instant::now();
        if let Some(index) = self.later.iter().position(|(from, ..)| *from <= now) {
            let (_, id, job) = self.later.swap_remove(index);
            return Some((id, job));
        }
        self.waiting.pop_front()
    }
}

impl Queue for Local {
    fn take(&self) -> Result<Option<Taken>> {
        let mut state = self.state.lock();
        let Some((id, job)) = state.next() else { return Ok(None) };
        if let Err(error) = state.write(Line::Begun { begun: id.clone() }, &self.path) {
            state.waiting.push_front((id, job));
            return Err(error);
        }
        state.running += 1;
        let delivery = state.known.begun.get(&id).copied().unwrap_or(1);
        Ok(Some(Taken { id, job, delivery, handle: Handle::default() }))
    }

    fn hold(&self, _: &Taken) -> Result<bool> {
        Ok(true)
    }

    fn patience(&self) -> Duration {
        // Nobody else waits for it.
        Duration::from_secs(60)
    }

    fn settle(&self, taken: &Taken, end: End) -> Result<bool> {
        let mut state = self.state.lock();
        let record = Record {
            id: taken.id.clone(),
            source: taken.job.source.clone(),
            worker: self.worker.clone(),
            end: end.clone(),
        };
        state.write(Line::End(record), &self.path)?;
        state.running = state.running.saturating_sub(1);
        match end {
            End::Done(_) => state.counts.done += 1,
            End::SetAside { .. } => state.counts.set_aside += 1,
            End::Cancelled => state.counts.cancelled += 1,
        }
        Ok(true)
    }

    fn put_back(&self, taken: &Taken, back: Back) -> Result<()> {
        let mut state = self.state.lock();
        let job = (taken.id.clone(), taken.job.clone());
        state.running = state.running.saturating_sub(1);
        match back {
            Back::Later(pause) => state.later.push((Instant::now() + pause, job.0, job.1)),
            Back::Untried => {
                state.waiting.push_front(job);
                state.write(Line::Uncounted { uncounted: taken.id.clone() }, &self.path)?;
            }
        }
        Ok(())
    }

    fn counts(&self) -> Result<Counts> {
        let state = self.state.lock();
        let waiting = (state.waiting.len() + state.later.len()) as u64;
        Ok(Counts { waiting, running: state.running, ..state.counts.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::Done;
    use super::super::tests::job;
    use super::*;

    #[test]
    fn a_journal_tells_what_is_done_and_what_brought_the_program_down() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let jobs = || ["/a", "/b", "/c"].map(job).to_vec();
        let queue = Local::open(&path, jobs(), false).unwrap();
        assert!(Local::open(&path, jobs(), false).is_err_and(|error| error.to_string().contains("another")));
        let a = queue.take().unwrap().unwrap();
        assert!(queue.settle(&a, End::Done(Done::default())).unwrap());
        let b = queue.take().unwrap().unwrap();
        assert_eq!(b.delivery, 1);
        let c = queue.take().unwrap().unwrap();
        queue.put_back(&c, Back::Untried).unwrap();
        drop(queue);
        // The program went down in the middle of a line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\":\"");
        std::fs::write(&path, text).unwrap();

        let queue = Local::open(&path, jobs(), false).unwrap();
        let counts = queue.counts().unwrap();
        assert_eq!((counts.done, counts.waiting, counts.total()), (1, 2, 3));
        assert_eq!(queue.take().unwrap().unwrap().delivery, 2, "it was begun before");
        assert_eq!(queue.take().unwrap().unwrap().delivery, 1, "that run did not count");
        assert!(queue.take().unwrap().is_none());
        drop(queue);
        let queue = Local::open(&path, jobs(), true).unwrap();
        assert_eq!((queue.counts().unwrap().waiting, queue.take().unwrap().unwrap().delivery), (3, 1));
    }

    #[test]
    fn what_is_to_be_tried_later_waits() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Local::open(&folder.path().join("journal"), vec![job("/a")], false).unwrap();
        let first = queue.take().unwrap().unwrap();
        queue.put_back(&first, Back::Later(Duration::from_millis(50))).unwrap();
        assert!(queue.take().unwrap().is_none());
        assert!(!queue.counts().unwrap().is_over());
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(queue.take().unwrap().unwrap().delivery, 2);
    }
}
