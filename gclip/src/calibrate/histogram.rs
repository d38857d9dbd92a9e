// SPDX-License-Identifier: MIT OR Apache-2.0
//! How often a probability was how high.

/// Limits are told to a thousandth.
pub const BINS: usize = 1000;

/// Probabilities of one class, counted.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    pub largest: f32,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BINS + 1], largest: 0.0 }
    }
}

impl Histogram {
    pub fn add(&mut self, probability: f32) {
        let bin = (probability.clamp(0.0, 1.0) * BINS as f32) as usize;
        self.counts[bin] += 1;
        self.largest = self.largest.max(probability);
    }

    /// How many are in this bin or a later one.
    pub fn from(&self, bin: usize) -> u64 {
        self.counts[bin..].iter().sum()
    }

    /// The smallest limit, in thousandths, that no more than `share` of the probabilities reach; 1 if there is none.
    pub fn limit(&self, share: f64) -> f64 {
        let all: u64 = self.counts.iter().sum();
        let may_stay = share * all as f64;
        let mut above = 0;
        for (bin, count) in self.counts.iter().enumerate().rev() {
            above += count;
            if above as f64 > may_stay {
                return ((bin + 1) as f64 / BINS as f64).min(1.0);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(probabilities: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        probabilities.iter().for_each(|&probability| histogram.add(probability));
        histogram
    }

    #[test]
    fn a_limit_is_just_above_what_must_not_pass() {
        let histogram = of(&[0.1, 0.2, 0.3, 0.4, 0.5005, 0.6, 0.7, 0.8, 0.9, 0.95]);
        assert_eq!(histogram.limit(0.5), 0.501, "five of ten pass: 0.6 and above");
        assert_eq!(histogram.limit(0.1), 0.901);
        assert_eq!(histogram.limit(0.0), 0.951);
        assert_eq!(histogram.largest, 0.95);
    }

    #[test]
    fn the_ends() {
        assert_eq!(of(&[]).limit(0.001), 0.0);
        assert_eq!(of(&[1.0; 5]).limit(0.001), 1.0, "there is no limit above 1");
        assert_eq!(of(&[0.0; 5]).limit(0.0), 0.001);
    }
}
