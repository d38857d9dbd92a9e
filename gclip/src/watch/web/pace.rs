// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often who may ask: a token bucket for each address. A page that asks for what it shows stays far below; a program
//! that has lost its way, or somebody who tries things out, does not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use parking_lot::Mutex;

/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

pub struct Pace {
    /// Questions a second.
    rate: f64,
    /// Questions at once, after a pause.
    burst: f64,
    left: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Pace {
    pub fn new(rate: f64, burst: f64) -> Pace {
        Pace { rate, burst, left: Mutex::default() }
    }

    /// Whether one more is borne from this address.
    pub fn takes(&self, from: IpAddr, now: Instant) -> bool {
        let mut all = self.left.lock();
        let refilled = |&(left, at): &(f64, Instant)| {
            (left + self.rate * now.saturating_duration_since(at).as_secs_f64()).min(self.burst)
        };
        if all.len() >= ADDRESSES {
            // Who has been quiet is as good as new.
            all.retain(|_, bucket| refilled(bucket) < self.burst);
        }
        if all.len() >= ADDRESSES && !all.contains_key(&from) {
            return false;
        }
        let bucket = all.entry(from).or_insert((self.burst, now));
        let left = refilled(bucket);
        let takes = left >= 1.0;
        *bucket = (if takes { left - 1.0 } else { left }, now);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn who_asks_too_often_waits_and_nobody_else_does() {
        let pace = Pace::new(2.0, 5.0);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let taken = |from, count: usize, at| (0..count).filter(|_| pace.takes(from, at)).count();
        assert_eq!(taken(one, 10, start), 5);
        assert_eq!(taken(other, 1, start), 1);
        assert_eq!(taken(one, 10, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(one, 10, start + Duration::from_secs(100)), 5);
    }

    #[test]
    fn addresses_without_end_take_no_memory_without_end() {
        let pace = Pace::new(1.0, 2.0);
        let start = Instant::now();
        let address = |number: u32| IpAddr::from(Ipv4Addr::from_bits(number));
        for number in 0..2 * ADDRESSES as u32 {
            pace.takes(address(number), start);
        }
        assert_eq!(pace.left.lock().len(), ADDRESSES);
        assert!(!pace.takes(address(1 << 20), start), "a new one waits");
        assert!(pace.takes(address(1 << 20), start + Duration::from_secs(5)));
        assert_eq!(pace.left.lock().len(), 1);
    }
}
