// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has happened lately, for who asks later or goes on listening: the lines about who enters and leaves, and which
//! camera comes and goes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

/// So many are kept.
const KEPT: usize = 10_000;
/// A listener that is so many behind misses the oldest.
const BEHIND: usize = 256;

#[derive(Clone)]
pub struct Happening {
    /// Counts them from 1.
    pub number: u64,
    pub camera: Arc<str>,
    /// JSON, without a newline.
    pub line: Arc<str>,
}

pub struct Feed {
    kept: Mutex<VecDeque<Happening>>,
    live: broadcast::Sender<Happening>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { kept: Mutex::default(), live: broadcast::Sender::new(BEHIND) }
    }
}

impl Feed {
    pub fn put(&self, camera: &Arc<str>, line: &[u8]) {
        let line = String::from_utf8_lossy(line.trim_ascii_end());
        let mut kept = self.kept.lock();
        let number = kept.back().map_or(0, |last| last.number) + 1;
        let happening = Happening { number, camera: camera.clone(), line: line.into() };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(happening.clone());
        // Nobody need listen. Under the lock, so that they come in their order.
        let _ = self.live.send(happening);
    }

    /// The newest of those after a number, of one camera or all, oldest first; and what comes after them.
    pub fn since(
        &self,
        number: u64,
        camera: Option<&str>,
        limit: usize,
    ) -> (Vec<Happening>, broadcast::Receiver<Happening>) {
        let kept = self.kept.lock();
        let wanted = |happening: &&Happening| camera.is_none_or(|camera| *happening.camera == *camera);
        let newest = kept.iter().rev().take_while(|happening| happening.number > number);
        let mut found: Vec<Happening> = newest.filter(wanted).take(limit).cloned().collect();
        found.reverse();
        (found, self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_nothing_falls_between_then_and_now() {
        let feed = Feed::default();
        let cameras: [Arc<str>; 2] = ["gate".into(), "yard".into()];
        let put = |number: usize| feed.put(&cameras[number % 2], format!("{number}\n").as_bytes());
        (0..KEPT + 10).for_each(put);
        let (all, mut live) = feed.since(0, None, usize::MAX);
        assert_eq!((all.len(), all[0].number, &*all[0].line), (KEPT, 11, "10"));
        let (some, _) = feed.since(KEPT as u64, Some("yard"), 3);
        assert_eq!(some.iter().map(|event| event.number).collect::<Vec<_>>(), [10_006, 10_008, 10_010]);
        put(0);
        assert_eq!(live.try_recv().unwrap().number, all[KEPT - 1].number + 1);
        assert!(live.try_recv().is_err());
    }
}
