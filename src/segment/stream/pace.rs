// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many inferences a stream that must not fall behind may have outstanding.

/// Answers in time, per inference allowed, before one more is allowed.
const TRUST: usize = 8;

/// A limit as in TCP's congestion control (additive increase, multiplicative decrease, RFC 5681): a late answer
/// halves it, answers in time raise it slowly. A model that is too slow for the stream then works on a recent
/// frame, instead of through a queue of frames that will all be late.
#[derive(Debug)]
pub struct Pace {
    limit: usize,
    in_time: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { limit: usize::MAX, in_time: 0 }
    }
}

impl Pace {
    /// Whether one more may be asked for while `outstanding` are not answered.
    pub fn allows(&self, outstanding: usize) -> bool {
        outstanding < self.limit
    }

    /// An answer was late while `outstanding` were not answered, the late one included. Returns how many of
    /// them may stay.
    pub fn late(&mut self, outstanding: usize) -> usize {
        self.limit = (self.limit.min(outstanding) / 2).max(1);
        self.in_time = 0;
        self.limit
    }

    /// An answer was in time.
    pub fn in_time(&mut self) {
        if self.limit == usize::MAX {
            return;
        }
        self.in_time += 1;
        if self.in_time >= TRUST * self.limit {
            self.limit += 1;
            self.in_time = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_answers_halve_the_limit_and_answers_in_time_raise_it_slowly() {
        let mut pace = Pace::default();
        assert!(pace.allows(1000), "nothing was late yet");
        assert_eq!(pace.late(6), 3);
        assert!(pace.allows(2) && !pace.allows(3));
        assert_eq!(pace.late(3), 1);
        assert_eq!(pace.late(1), 1, "one is always allowed");
        assert!(pace.allows(0) && !pace.allows(1));
        for _ in 0..TRUST {
            assert!(!pace.allows(1));
            pace.in_time();
        }
        assert!(pace.allows(1) && !pace.allows(2));
        for _ in 0..2 * TRUST {
            pace.in_time();
        }
        assert!(pace.allows(2) && !pace.allows(3));
    }
}
