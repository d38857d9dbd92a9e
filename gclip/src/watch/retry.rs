// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long to wait before the next try: twice as long each time, up to a limit, and never at the same moment as
//! everybody else (jitter).

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

pub struct Retry {
    rule: ExponentialBuilder,
    waits: ExponentialBackoff,
    longest: Duration,
}

impl Retry {
    pub fn new(shortest: Duration, longest: Duration) -> Retry {
        let rule = ExponentialBuilder::default()
            .with_min_delay(shortest)
            .with_max_delay(longest)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Retry { rule, waits: rule.build(), longest }
    }

    /// The next wait: from the shortest to twice the longest, as the jitter adds up to once more.
    pub fn next_wait(&mut self) -> Duration {
        self.waits.next().unwrap_or(self.longest)
    }

    /// All is well again: the next wait is a short one.
    pub fn reset(&mut self) {
        self.waits = self.rule.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_are_never_the_same() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut retry = Retry::new(shortest, longest);
        let waits: Vec<Duration> = (0..2000).map(|_| retry.next_wait()).collect();
        assert!(waits[0] >= shortest && waits[0] <= 2 * shortest, "{:?}", waits[0]);
        let late = &waits[10..];
        assert!(late.iter().all(|wait| (longest..=2 * longest).contains(wait)));
        let spread = late.iter().max().unwrap().saturating_sub(*late.iter().min().unwrap());
        assert!(spread > longest / 2, "{spread:?}");
        retry.reset();
        assert!(retry.next_wait() <= 2 * shortest);
    }
}
