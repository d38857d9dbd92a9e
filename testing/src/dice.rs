// SPDX-License-Identifier: MIT OR Apache-2.0
//! Chance that comes out the same for the same seed.

/// Marsaglia's xorshift64*.
pub struct Dice(u64);

impl Dice {
    /// One of many: neighbouring seeds and throws have nothing in common.
    pub fn new(seed: u64, throw: u64) -> Dice {
        let mixed = (seed ^ throw.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut dice = Dice((mixed ^ (mixed >> 31)) | 1);
        dice.below(1);
        dice
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end.max(1)
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}
