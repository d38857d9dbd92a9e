// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has happened lately, in memory, for who asks later or goes on listening: the lines about who enters and leaves,
//! and which camera comes and goes. What is kept on disk has the same numbers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::watch::queue::About;

/// So many are kept.
pub const KEPT: usize = 10_000;
/// A listener that is so many behind misses the oldest.
const BEHIND: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// Grows with each; with a history on disk, from one run of the program to the next.
    pub number: u64,
    /// Microseconds since 1970, UTC, as in the line.
    pub time: i64,
    pub camera: Arc<str>,
    pub about: About,
    /// JSON, without a newline.
    pub line: Arc<str>,
}

/// Which of them; what is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub camera: Option<String>,
    pub label: Option<String>,
    /// Empty: of the whole picture.
    pub zone: Option<String>,
    /// Microseconds since 1970, both included.
    pub from: Option<i64>,
    pub to: Option<i64>,
    /// Numbers after this one, and before that one.
    pub since: u64,
    pub before: Option<u64>,
}

impl Wanted {
    pub fn takes(&self, happening: &Happening) -> bool {
        let (label, zone) = match &happening.about {
            About::Presence { label, zone, .. } => {
                (Some(label.as_str()), Some(zone.as_deref().unwrap_or("")))
            }
            About::Anomaly { label, .. } => (Some(label.as_str()), None),
            About::Camera { .. } | About::Frame => (None, None),
        };
        happening.number > self.since
            && self.before.is_none_or(|before| happening.number < before)
            && self.camera.as_ref().is_none_or(|camera| **camera == *happening.camera)
            && self.label.as_ref().is_none_or(|wanted| label == Some(wanted))
            && self.zone.as_ref().is_none_or(|wanted| zone == Some(wanted))
            && self.from.is_none_or(|from| happening.time >= from)
            && self.to.is_none_or(|to| happening.time <= to)
    }
}

pub struct Feed {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Happening>,
}

#[derive(Default)]
struct Kept {
    last: u64,
    happenings: VecDeque<Happening>,
}

impl Default for Feed {
    fn default() -> Feed {
        Feed { kept: Mutex::default(), live: broadcast::Sender::new(BEHIND) }
    }
}

impl Feed {
    /// What earlier runs of the program have left, oldest first; the numbers go on after `last`.
    pub fn restore(&self, last: u64, earlier: Vec<Happening>) {
        let mut kept = self.kept.lock();
        kept.last = kept.last.max(last);
        if kept.happenings.is_empty() {
            kept.happenings = earlier.into();
        }
    }

    /// Hands it to who listens and to `keep`, in the order of the numbers.
    pub fn put(
        &self,
        (camera, about, time): (&Arc<str>, &About, i64),
        line: &[u8],
        keep: impl FnOnce(&Happening),
    ) -> u64 {
        let line = String::from_utf8_lossy(line.trim_ascii_end());
        let mut kept = self.kept.lock();
        kept.last += 1;
        let happening = Happening {
            number: kept.last,
            time,
            camera: camera.clone(),
            about: about.clone(),
            line: line.into(),
        };
        if kept.happenings.len() == KEPT {
            kept.happenings.pop_front();
        }
        kept.happenings.push_back(happening.clone());
        keep(&happening);
        let number = happening.number;
        // Nobody need listen. Under the lock, so that they come in their order.
        let _ = self.live.send(happening);
        number
    }

    /// The newest of those that are wanted, oldest first; and what comes after all that there are.
    pub fn find(&self, wanted: &Wanted, limit: usize) -> (Vec<Happening>, broadcast::Receiver<Happening>) {
        let kept = self.kept.lock();
        let newest = kept.happenings.iter().rev().take_while(|happening| happening.number > wanted.since);
        let found = newest.filter(|happening| wanted.takes(happening)).take(limit);
        let mut found: Vec<Happening> = found.cloned().collect();
        found.reverse();
        (found, self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(feed: &Feed, camera: &str, about: &About, time: i64) -> u64 {
        feed.put((&camera.into(), about, time), format!("{time}\n").as_bytes(), |_| {})
    }

    #[test]
    fn the_newest_are_kept_and_nothing_falls_between_then_and_now() {
        let feed = Feed::default();
        let up = About::Camera { up: true };
        let one = |number: i64| put(&feed, ["gate", "yard"][number as usize % 2], &up, number);
        for number in 0..KEPT as i64 + 10 {
            one(number);
        }
        let (all, mut live) = feed.find(&Wanted::default(), usize::MAX);
        assert_eq!((all.len(), all[0].number, &*all[0].line), (KEPT, 11, "10"));
        let yard = Wanted { camera: Some("yard".into()), since: KEPT as u64, ..Wanted::default() };
        let (some, _) = feed.find(&yard, 3);
        assert_eq!(some.iter().map(|event| event.number).collect::<Vec<_>>(), [10_006, 10_008, 10_010]);
        one(0);
        assert_eq!(live.try_recv().unwrap().number, all[KEPT - 1].number + 1);
        assert!(live.try_recv().is_err());
    }

    #[test]
    fn each_question_takes_what_it_asks_for() {
        let feed = Feed::default();
        let entered = |label: &str, zone: Option<&str>| About::Presence {
            label: label.into(),
            zone: zone.map(str::to_string),
            entered: true,
        };
        feed.restore(5, vec![]);
        put(&feed, "gate", &About::Camera { up: true }, 10);
        put(&feed, "gate", &entered("cat", None), 20);
        put(&feed, "gate", &entered("cat", Some("door")), 30);
        put(&feed, "yard", &entered("dog", Some("door")), 40);
        let numbers =
            |wanted: Wanted| feed.find(&wanted, 10).0.iter().map(|event| event.number).collect::<Vec<u64>>();
        let text = |text: &str| Some(text.to_string());
        assert_eq!(numbers(Wanted::default()), [6, 7, 8, 9], "the numbers go on");
        assert_eq!(numbers(Wanted { label: text("cat"), ..Wanted::default() }), [7, 8]);
        assert_eq!(numbers(Wanted { zone: text(""), ..Wanted::default() }), [7], "of the whole picture");
        assert_eq!(numbers(Wanted { zone: text("door"), camera: text("yard"), ..Wanted::default() }), [9]);
        assert_eq!(numbers(Wanted { from: Some(20), to: Some(30), ..Wanted::default() }), [7, 8]);
        assert_eq!(numbers(Wanted { since: 6, before: Some(9), ..Wanted::default() }), [7, 8]);
        assert_eq!(feed.find(&Wanted::default(), 2).0[0].number, 8, "the newest");
    }
}
