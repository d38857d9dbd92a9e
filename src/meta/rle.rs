// SPDX-License-Identifier: MIT OR Apache-2.0
//! COCO run-length encoding, as pycocotools reads it: the mask is walked column by column, top to bottom, and
//! `counts` holds the lengths of its runs, zeros first. Compressed, each count (from the fourth on: its difference
//! to the one two before) is written in groups of five bits, low ones first, one printable character per group.

use anyhow::{Result, bail, ensure};

use super::view::MaskRow;

/// Bit of a character that says that another group follows.
const MORE: i64 = 0x20;
/// Sign bit of the last group.
const SIGN: i64 = 0x10;
/// Character of the group zero.
const ZERO: u8 = b'0';

/// One run of equal values in column-major order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub value: u16,
    pub length: u32,
}

/// All runs of a mask in column-major order; neighbours differ. One pass over the rows serves every value.
pub fn runs<'a>(rows: impl Iterator<Item = MaskRow<'a>>) -> Vec<Run> {
    let mut rows = rows.peekable();
    let Some(first) = rows.peek().copied() else { return Vec::new() };
    let width = first.len();
    // Where a value differs from the one above it; the top of each column counts as different.
    let mut changes: Vec<Change> = (0..width).map(|x| Change::new(first, x, 0)).collect();
    let (mut above, mut height) = (first, 0u32);
    for (y, row) in (0u32..).zip(rows) {
        above.for_each_difference(row, |x| changes.push(Change::new(row, x, y)));
        (above, height) = (row, y + 1);
    }
    let changes = by_column(&changes, width);
    let mut runs: Vec<Run> = Vec::with_capacity(changes.len());
    for (at, change) in changes.iter().enumerate() {
        // A column's last run ends at the bottom, where the next column's first change is at the top.
        let end = changes.get(at + 1).filter(|next| next.x == change.x).map_or(height, |next| next.y);
        let length = end - change.y;
        match runs.last_mut() {
            Some(last) if last.value == change.value => last.length += length,
            _ => runs.push(Run { value: change.value, length }),
        }
    }
    runs
}

#[derive(Clone, Copy, Default)]
struct Change {
    x: u32,
    y: u32,
    value: u16,
}

impl Change {
    fn new(row: MaskRow, x: usize, y: u32) -> Change {
        Change { x: x as u32, y, value: row.get(x).unwrap_or(0) }
    }
}

/// Counting sort by column; rows keep their order within one.
fn by_column(changes: &[Change], width: usize) -> Vec<Change> {
    let mut next = vec![0usize; width + 1];
    for change in changes {
        next[change.x as usize + 1] += 1;
    }
    for x in 1..=width {
        next[x] += next[x - 1];
    }
    let mut sorted = vec![Change::default(); changes.len()];
    for change in changes {
        let slot = &mut next[change.x as usize];
        sorted[*slot] = *change;
        *slot += 1;
    }
    sorted
}

/// COCO counts of the pixels with one value.
pub fn counts(runs: &[Run], value: u16) -> Vec<u32> {
    let (mut counts, mut zeros) = (Vec::new(), 0);
    for run in runs {
        if run.value == value {
            counts.extend([zeros, run.length]);
            zeros = 0;
        } else {
            zeros += run.length;
        }
    }
    if zeros > 0 {
        counts.push(zeros);
    }
    counts
}

/// Counts to their compressed string.
pub fn compress(counts: &[u32]) -> String {
    let mut text = String::with_capacity(counts.len() * 2);
    for (i, &count) in counts.iter().enumerate() {
        let mut rest = i64::from(count) - if i > 2 { i64::from(counts[i - 2]) } else { 0 };
        loop {
            let group = rest & (MORE - 1);
            rest >>= 5;
            // Arithmetic shift: what is left of a negative number ends as -1, not as 0.
            let last = if group & SIGN != 0 { rest == -1 } else { rest == 0 };
            text.push(char::from((group | if last { 0 } else { MORE }) as u8 + ZERO));
            if last {
                break;
            }
        }
    }
    text
}

/// The counts in a compressed string.
///
/// # Errors
/// A character outside `0`..=`o`, a count below zero or above 32 bits, an unfinished last count.
pub fn decompress(text: &str) -> Result<Vec<u32>> {
    let mut counts: Vec<u32> = Vec::new();
    let (mut value, mut shift) = (0i64, 0);
    for byte in text.bytes() {
        let group = i64::from(byte) - i64::from(ZERO);
        ensure!((0..64).contains(&group), "RLE: character {:?} is none of the code", char::from(byte));
        ensure!(shift < 40, "RLE: count {} is longer than 32 bits", counts.len());
        value |= (group & (MORE - 1)) << shift;
        shift += 5;
        if group & MORE != 0 {
            continue;
        }
        if group & SIGN != 0 {
            value -= 1 << shift;
        }
        if let Some(at) = counts.len().checked_sub(2).filter(|_| counts.len() > 2) {
            value += i64::from(counts[at]);
        }
        let Ok(count) = u32::try_from(value) else { bail!("RLE: count {} is {value}", counts.len()) };
        counts.push(count);
        (value, shift) = (0, 0);
    }
    ensure!(shift == 0, "RLE: the last count is unfinished");
    Ok(counts)
}

/// The binary mask of some counts, row-major `[height, width]`.
///
/// # Errors
/// The counts do not add up to `height * width`.
pub fn decode(counts: &[u32], height: usize, width: usize) -> Result<Vec<bool>> {
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    ensure!(total == (height * width) as u64, "RLE: {total} pixels in a mask of {height}x{width}");
    let mut mask = vec![false; height * width];
    let mut at = 0;
    for (i, &count) in counts.iter().enumerate() {
        let end = at + count as usize;
        if i % 2 == 1 {
            for pixel in at..end {
                mask[pixel % height * width + pixel / height] = true; // column-major -> row-major
            }
        }
        at = end;
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small masks of few values, blocky or noisy, from a generator with a fixed seed.
    fn masks() -> impl Iterator<Item = (usize, usize, Vec<u16>)> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        (0..400).map(move |_| {
            let (height, width) = (1 + random(24) as usize, 1 + random(80) as usize);
            let (values, block) = (1 + random(5), 1 + random(9) as usize);
            let cells: Vec<u16> = (0..24 * 80).map(|_| random(values) as u16 * 77).collect();
            let pixel = |i: usize| cells[i / width / block * 80 + i % width / block];
            (height, width, (0..height * width).map(pixel).collect())
        })
    }

    /// The definition, read literally: walk down each column in turn.
    fn counts_by_definition(mask: &[u16], height: usize, width: usize, value: u16) -> Vec<u32> {
        let mut counts = vec![0];
        for x in 0..width {
            for y in 0..height {
                let on = mask[y * width + x] == value;
                if on != (counts.len() % 2 == 0) {
                    counts.push(0);
                }
                *counts.last_mut().unwrap() += 1;
            }
        }
        counts
    }

    #[test]
    fn counts_are_as_defined_for_8_and_16_bits() {
        for (height, width, mask) in masks() {
            let bytes: Vec<[u8; 2]> = mask.iter().map(|v| v.to_le_bytes()).collect();
            let wide = runs(bytes.chunks(width).map(MaskRow::U16));
            let small: Vec<u8> = mask.iter().map(|&v| (v / 77) as u8).collect();
            let narrow = runs(small.chunks(width).map(MaskRow::U8));
            for class in 0..5 {
                let expected = counts_by_definition(&mask, height, width, class * 77);
                assert_eq!(counts(&wide, class * 77), expected, "{height}x{width} {mask:?}");
                assert_eq!(counts(&narrow, class), expected, "{height}x{width} {mask:?}");
            }
        }
    }

    #[test]
    fn a_mask_comes_back_from_its_string() {
        for (height, width, mask) in masks() {
            let small: Vec<u8> = mask.iter().map(|&v| (v / 77) as u8).collect();
            let text = compress(&counts(&runs(small.chunks(width).map(MaskRow::U8)), 1));
            let back = decode(&decompress(&text).unwrap(), height, width).unwrap();
            assert_eq!(back, small.iter().map(|&v| v == 1).collect::<Vec<_>>());
        }
    }

    /// Counts and the strings that pycocotools 2.0.11 makes of them (`frPyObjects` of `{size, counts}`).
    #[test]
    fn strings_are_those_of_pycocotools() {
        for (counts, text) in [
            (vec![6], "6"),
            (vec![0, 6], "06"),
            (vec![16], "`0"),    // 16 = 0b10000 would read as -16: a second group follows
            (vec![1000], "Xo0"), // 1000 = 31 * 32 + 8
            (vec![5, 3, 9, 2], "539O"), // 2 - 3 = -1 = one group of five ones
            (vec![1, 1, 1, 40, 1], "111W10"), // 40 - 1 = 39 = 32 + 7
        ] {
            assert_eq!(compress(&counts), text, "{counts:?}");
            assert_eq!(decompress(text).unwrap(), counts);
        }
    }

    #[test]
    fn strange_strings_are_errors() {
        for text in ["é", "~", "/", "P", "ooooooooo0", "T0O", "O"] {
            assert!(decompress(text).is_err(), "{text}");
        }
        assert!(decode(&[3], 2, 2).is_err());
    }
}
