// SPDX-License-Identifier: MIT OR Apache-2.0
//! Keys and values of a head, laid out once for the attention kernel, and changed token by token.

use super::amx;
use super::tile::LANES;

/// One head's rows of bf16 numbers inside a larger tensor.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub data: &'a [u16],
    /// Numbers from one row to the next.
    pub stride: usize,
    /// Numbers of a row.
    pub width: usize,
}

impl Head<'_> {
    pub fn row(&self, index: usize) -> &[u16] {
        &self.data[index * self.stride..][..self.width]
    }
}

pub fn pair(first: u16, second: u16) -> u32 {
    u32::from(first) | u32::from(second) << 16
}

/// Keys in whole blocks of tiles, or, where there are none, in whole panels.
pub fn padded(tokens: usize) -> usize {
    tokens.next_multiple_of(if amx::is_available() { amx::BLOCK } else { LANES })
}

/// Pairs of a row this wide; in whole tiles, where there are any.
pub fn padded_pairs(width: usize) -> usize {
    (width / 2).next_multiple_of(if amx::is_available() { amx::SIDE } else { 1 })
}

/// Keys and values of one head. What lies beyond the last token is zero and stays so.
pub struct Panels {
    pub tokens: usize,
    /// Tokens with their padding, see [`padded`].
    pub keys: usize,
    /// Pairs of the width with their padding, see [`padded_pairs`].
    pub depth: usize,
    /// Keys as panels, `[keys / LANES, depth, LANES]` pairs along the width.
    pub k: Vec<u32>,
    /// Values as panels, `[width / LANES, keys / 2, LANES]` pairs along the keys.
    pub v: Vec<u32>,
}

impl Panels {
    /// For `tokens` keys of heads `width` wide.
    pub fn new(tokens: usize, width: usize) -> Panels {
        let (keys, depth) = (padded(tokens), padded_pairs(width));
        Panels { tokens, keys, depth, k: vec![0; keys * depth], v: vec![0; keys * width / 2] }
    }

    /// Lays out all keys, and the values if there are any.
    pub fn pack(&mut self, k: Head, v: Option<Head>) {
        for token in 0..self.tokens {
            self.put_key(token, k.row(token));
        }
        let Some(v) = v else { return };
        let pairs = self.keys / 2;
        let nothing = vec![0; v.width];
        for (number, first) in (0..self.tokens).step_by(2).enumerate() {
            let second = if first + 1 < self.tokens { v.row(first + 1) } else { &nothing };
            let lanes = v.row(first).chunks_exact(LANES).zip(second.chunks_exact(LANES));
            for (panel, (first, second)) in lanes.enumerate() {
                let target = &mut self.v[(panel * pairs + number) * LANES..][..LANES];
                for ((target, &first), &second) in target.iter_mut().zip(first).zip(second) {
                    *target = pair(first, second);
                }
            }
        }
    }

    pub fn put_key(&mut self, token: usize, key: &[u16]) {
        let depth = self.depth;
        let panel = &mut self.k[token / LANES * depth * LANES..][..depth * LANES];
        for (place, two) in panel.iter_mut().skip(token % LANES).step_by(LANES).zip(key.chunks_exact(2)) {
            *place = pair(two[0], two[1]);
        }
    }

    pub fn put_value(&mut self, token: usize, value: &[u16]) {
        let pairs = self.keys / 2;
        let shift = 16 * (token % 2);
        for (panel, lanes) in value.chunks_exact(LANES).enumerate() {
            let target = &mut self.v[(panel * pairs + token / 2) * LANES..][..LANES];
            for (target, &number) in target.iter_mut().zip(lanes) {
                *target = *target & !(0xffff << shift) | u32::from(number) << shift;
            }
        }
    }
}
