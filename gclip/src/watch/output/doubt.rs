// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which line it is that a receiver cannot bear. A broker answers a packet above its limit by closing the connection,
//! without a word about the reason; sent again for ever, that line would hold up all behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::watch::queue::Line;

/// So often a connection has to break on a line that was sent alone.
const PATIENCE: u32 = 3;
/// What was learnt about a limit is tried again after this long: limits can be raised.
const FORGET: Duration = Duration::from_secs(600);

pub struct Doubt {
    /// Lines on their way at a time while all is well.
    usual: usize,
    /// Acknowledgements that are still wanted before all is well again.
    careful: usize,
    /// The line on which the connection broke, and how often in a row.
    suspect: Option<(Line, u32)>,
    /// The shortest line that was found out to be too long, and when.
    refused: Option<(usize, Instant)>,
}

impl Doubt {
    pub fn new(usual: usize) -> Doubt {
        Doubt { usual, careful: 0, suspect: None, refused: None }
    }

    /// How many lines may be on their way: one alone as long as it is to be found out which is at fault.
    pub fn window(&self) -> usize {
        if self.careful > 0 { 1 } else { self.usual }
    }

    pub fn acknowledged(&mut self, line: &Line) {
        self.careful = self.careful.saturating_sub(1);
        self.suspect = None;
        if self.is_refused(line, Instant::now()) {
            self.refused = None;
        }
    }

    /// A connection that was there has ended, with these lines on their way. Returns the one that is at fault.
    pub fn broke<'a>(&mut self, mut on_their_way: impl ExactSizeIterator<Item = &'a Line>) -> Option<Line> {
        let alone = on_their_way.len() == 1;
        let line = on_their_way.next()?;
        self.careful = self.usual;
        if !alone {
            return None;
        }
        let times = match &self.suspect {
            Some((suspect, times)) if Arc::ptr_eq(&suspect.bytes, &line.bytes) => times + 1,
            _ => 1,
        };
        if times < PATIENCE {
            self.suspect = Some((line.clone(), times));
            return None;
        }
        self.suspect = None;
        let shortest = self.refused.map_or(usize::MAX, |(length, _)| length);
        self.refused = Some((line.bytes.len().min(shortest), Instant::now()));
        Some(line.clone())
    }

    /// Whether a line is as long as one that was refused lately.
    pub fn is_refused(&self, line: &Line, now: Instant) -> bool {
        self.refused.is_some_and(|(length, when)| {
            line.bytes.len() >= length && now.saturating_duration_since(when) < FORGET
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(length: usize) -> Line {
        Line::new("gate", vec![b'x'; length])
    }

    #[test]
    fn the_line_on_which_it_breaks_alone_is_found() {
        let (small, big) = (line(10), line(5000));
        let mut doubt = Doubt::new(100);
        assert_eq!(doubt.window(), 100);
        assert!(doubt.broke([&small, &big].into_iter()).is_none());
        assert_eq!(doubt.window(), 1, "from now on one at a time");
        doubt.acknowledged(&small);
        assert!(doubt.broke([&big].into_iter()).is_none() && doubt.broke([&big].into_iter()).is_none());
        assert_eq!(doubt.broke([&big].into_iter()), Some(big.clone()));
        let now = Instant::now();
        assert!(doubt.is_refused(&line(5000), now) && doubt.is_refused(&line(6000), now));
        assert!(!doubt.is_refused(&line(4999), now), "it may be short enough");
        assert!(!doubt.is_refused(&big, now + FORGET), "and is tried again later");
        (0..100).for_each(|_| doubt.acknowledged(&small));
        assert_eq!(doubt.window(), 100, "all is well again");
    }

    #[test]
    fn a_broker_that_only_comes_and_goes_costs_no_line() {
        let lines: Vec<Line> = (0..9).map(line).collect();
        let mut doubt = Doubt::new(100);
        for line in &lines {
            assert!(doubt.broke([line].into_iter()).is_none(), "each time another line");
        }
        for _ in 0..9 {
            assert!(doubt.broke(lines.iter()).is_none());
            assert!(doubt.broke([].into_iter()).is_none(), "nothing was on its way");
        }
        for _ in 0..9 {
            assert!(doubt.broke([&lines[0]].into_iter()).is_none());
            doubt.acknowledged(&lines[0]);
        }
    }
}
