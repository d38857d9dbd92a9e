// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which pixels of a mask hang together: sharing a side, not just a corner.

use crate::meta::MaskRow;

/// The connected pieces of a mask, found by joining runs of equal values with those above them.
pub struct Components {
    /// Runs of all rows, left to right, top to bottom.
    runs: Vec<Run>,
    /// Where each row's runs start in `runs`; one more than there are rows.
    rows: Vec<usize>,
    /// For each run a run of the same piece; the piece's own name points to itself.
    parents: Vec<usize>,
}

struct Run {
    value: u16,
    /// Column behind the last pixel.
    end: u32,
}

impl Components {
    pub fn new<'a>(rows: impl Iterator<Item = MaskRow<'a>>) -> Components {
        let mut found = Components { runs: Vec::new(), rows: vec![0], parents: Vec::new() };
        for row in rows {
            found.add(row);
        }
        found
    }

    /// The piece that a pixel belongs to, as a number of no other meaning; `None` outside the mask.
    pub fn piece(&self, x: u32, y: u32) -> Option<usize> {
        let (&first, &end) = (self.rows.get(y as usize)?, self.rows.get(y as usize + 1)?);
        let at = first + self.runs[first..end].partition_point(|run| run.end <= x);
        (at < end).then(|| self.root(at))
    }

    fn add(&mut self, row: MaskRow) {
        let first = self.runs.len();
        let mut above = self.rows.iter().rev().nth(1).copied().unwrap_or(first);
        let mut start = 0;
        while let Some(value) = row.get(start) {
            let end = (start + 1..row.len()).find(|&x| row.get(x) != Some(value)).unwrap_or(row.len());
            let this = self.runs.len();
            self.runs.push(Run { value, end: end as u32 });
            self.parents.push(this);
            // Runs above that reach under no pixel of this one lie behind us for good.
            while above < first && self.runs[above].end as usize <= start {
                above += 1;
            }
            for over in above..first {
                if self.runs[over].value == value {
                    self.join(over, this);
                }
                if self.runs[over].end as usize >= end {
                    break;
                }
            }
            start = end;
        }
        self.rows.push(self.runs.len());
    }

    fn root(&self, mut run: usize) -> usize {
        while self.parents[run] != run {
            run = self.parents[run];
        }
        run
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        let (old, young) = (a.min(b), a.max(b));
        self.parents[young] = old;
        // Halves the way for those who ask next.
        self.parents[b] = old;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(mask: &[u8], width: usize) -> Vec<usize> {
        let components = Components::new(mask.chunks(width).map(MaskRow::U8));
        let at = |i: usize| components.piece((i % width) as u32, (i / width) as u32).unwrap();
        (0..mask.len()).map(at).collect()
    }

    #[test]
    fn a_side_joins_and_a_corner_does_not() {
        #[rustfmt::skip]
        let found = pieces(&[
            1, 0, 1,
            1, 1, 1,
            0, 0, 2,
            1, 0, 2,
        ], 3);
        let [left, hole, right] = found[..3] else { unreachable!() };
        assert_eq!(left, right, "joined below");
        assert!(found[3..6].iter().all(|&piece| piece == left));
        assert_ne!(found[6], hole, "the other zeros are apart");
        assert_eq!(found[6], found[10]);
        assert_ne!(found[9], left, "touches nothing but corners");
        assert_eq!(found[8], found[11]);
    }

    /// Against the definition: spreading from each pixel to its four neighbours.
    #[test]
    fn pieces_are_as_defined() {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..100 {
            let (height, width) = (1 + random(12) as usize, 1 + random(12) as usize);
            let mask: Vec<u8> = (0..height * width).map(|_| random(3) as u8).collect();
            let mut expected = vec![usize::MAX; mask.len()];
            for start in 0..mask.len() {
                let mut open = vec![start];
                while let Some(i) =
                    open.pop().filter(|_| expected[start] == usize::MAX || expected[start] == start)
                {
                    if expected[i] != usize::MAX {
                        continue;
                    }
                    expected[i] = start;
                    let (x, y) = (i % width, i / width);
                    let mut near = Vec::new();
                    near.extend((x > 0).then(|| i - 1));
                    near.extend((x + 1 < width).then(|| i + 1));
                    near.extend((y > 0).then(|| i - width));
                    near.extend((y + 1 < height).then(|| i + width));
                    open.extend(near.into_iter().filter(|&n| mask[n] == mask[i]));
                }
            }
            let found = pieces(&mask, width);
            for a in 0..mask.len() {
                for b in 0..mask.len() {
                    assert_eq!(found[a] == found[b], expected[a] == expected[b], "{width}: {mask:?} {a} {b}");
                }
            }
        }
    }
}
