// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mask values at other sizes: nearest for ids, bilinear for mattes. Samples sit at the centres of their cells.

use std::ops::Range;

use crate::meta::MaskRow;

/// Where the samples along one side of the output fall between the cells of the mask.
pub struct Axis {
    /// Samples inside the mask.
    inside: Range<usize>,
    samples: usize,
    /// For each sample inside: the cell it lies in.
    nearest: Vec<usize>,
    /// For each sample inside: the two cells around it and the second one's weight, of 256.
    taps: Vec<Tap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    first: usize,
    second: usize,
    weight: u32,
}

impl Axis {
    /// `samples` over the whole side; the mask's `cells` cover the part from `start` of a `length` (0..1).
    pub fn new(samples: usize, cells: usize, start: f64, length: f64) -> Axis {
        let position = |i: usize| ((i as f64 + 0.5) / samples as f64 - start) / length * cells as f64;
        let covered = |&i: &usize| (0.0..cells as f64).contains(&position(i));
        let first = (0..samples).find(covered).unwrap_or(0);
        let inside = first..first + (first..samples).take_while(covered).count();
        let tap = |i: usize| {
            let between = (position(i) - 0.5).clamp(0.0, (cells - 1) as f64);
            let first = between as usize;
            let weight = ((between - first as f64) * 256.0) as u32;
            Tap { first, second: (first + 1).min(cells - 1), weight }
        };
        Axis {
            nearest: inside.clone().map(|i| position(i) as usize).collect(),
            taps: inside.clone().map(tap).collect(),
            inside,
            samples,
        }
    }
}

/// Enlarges ids to `rows` x `columns` samples by nearest neighbour; 0 outside the mask.
/// `out` holds rows of `stride` bytes, each value in one byte or, if `wide`, in two (little endian).
pub fn ids<'a>(
    row: impl Fn(usize) -> MaskRow<'a>,
    (rows, columns): (&Axis, &Axis),
    wide: bool,
    out: &mut [u8],
    stride: usize,
) {
    let bytes = if wide { 2 } else { 1 };
    let length = columns.samples * bytes;
    let inside = columns.inside.start * bytes..columns.inside.end * bytes;
    let mut previous: Option<(usize, usize)> = None; // cell row, output row that shows it
    for y in 0..rows.samples {
        let start = y * stride;
        let cell = y.checked_sub(rows.inside.start).and_then(|i| rows.nearest.get(i).copied());
        match (cell, previous) {
            (None, _) => out[start..start + length].fill(0),
            (Some(cell), Some((shown, at))) if shown == cell => {
                out.copy_within(at * stride..at * stride + length, start);
            }
            (Some(cell), _) => {
                let out = &mut out[start..start + length];
                out.fill(0);
                gather(row(cell), &columns.nearest, wide, &mut out[inside.clone()]);
                previous = Some((cell, y));
            }
        }
    }
}

fn gather(row: MaskRow, columns: &[usize], wide: bool, out: &mut [u8]) {
    match (row, wide) {
        (MaskRow::U8(values), false) => out.iter_mut().zip(columns).for_each(|(out, &x)| *out = values[x]),
        (row, true) => {
            let pairs = out.as_chunks_mut().0.iter_mut();
            pairs.zip(columns).for_each(|(out, &x)| *out = row.get(x).unwrap_or(0).to_le_bytes());
        }
        // Only asked for where every value fits.
        (MaskRow::U16(values), false) => {
            out.iter_mut().zip(columns).for_each(|(out, &x)| *out = values[x][0])
        }
    }
}

/// Enlarges a matte `[rows' cells, width]` to `rows` x `columns` samples, bilinear; 0 outside the mask.
pub fn matte(cells: &[u8], width: usize, (rows, columns): (&Axis, &Axis), out: &mut [u8], stride: usize) {
    let spans = spans(&columns.taps);
    let mut blended = vec![0u32; width];
    let mut previous = None; // tap, output row that shows it
    for y in 0..rows.samples {
        let start = y * stride;
        let tap = y.checked_sub(rows.inside.start).and_then(|i| rows.taps.get(i).copied());
        match (tap, previous) {
            (None, _) => out[start..start + columns.samples].fill(0),
            (Some(tap), Some((shown, at))) if shown == tap => {
                let at: usize = at;
                out.copy_within(at * stride..at * stride + columns.samples, start);
            }
            (Some(tap), _) => {
                let [above, below] = [tap.first, tap.second].map(|row| &cells[row * width..][..width]);
                for ((blended, &above), &below) in blended.iter_mut().zip(above).zip(below) {
                    *blended = u32::from(above) * (256 - tap.weight) + u32::from(below) * tap.weight;
                }
                let out = &mut out[start..start + columns.samples];
                out.fill(0);
                interpolate(&blended, &columns.taps, &spans, &mut out[columns.inside.clone()]);
                previous = Some((tap, y));
            }
        }
    }
}

/// Runs of samples between the same two cells.
fn spans(taps: &[Tap]) -> Vec<Range<usize>> {
    let mut start = 0;
    let runs = taps.chunk_by(|a, b| (a.first, a.second) == (b.first, b.second));
    runs.map(|run| {
        start += run.len();
        start - run.len()..start
    })
    .collect()
}

/// Along one row of values of 256 times 0..255. Most of a mask is flat, so flat spans are filled.
fn interpolate(values: &[u32], taps: &[Tap], spans: &[Range<usize>], out: &mut [u8]) {
    for span in spans {
        let Tap { first, second, .. } = taps[span.start];
        let (a, b) = (values[first], values[second]);
        let out = &mut out[span.clone()];
        if a == b {
            out.fill((a >> 8) as u8);
            continue;
        }
        for (out, tap) in out.iter_mut().zip(&taps[span.clone()]) {
            *out = ((a * (256 - tap.weight) + b * tap.weight) >> 16) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enlarge(
        cells: &[u8],
        width: usize,
        (rows, columns): (usize, usize),
        rect: [f64; 4],
    ) -> (Vec<u8>, Vec<u8>) {
        let [x, y, w, h] = rect;
        let axes = (Axis::new(rows, cells.len() / width, y, h), Axis::new(columns, width, x, w));
        let axes = (&axes.0, &axes.1);
        let stride = columns + 3;
        let (mut nearest, mut smooth) = (vec![77; rows * stride], vec![77; rows * stride]);
        ids(|y| MaskRow::U8(&cells[y * width..][..width]), axes, false, &mut nearest, stride);
        matte(cells, width, axes, &mut smooth, stride);
        let tight = |padded: Vec<u8>| padded.chunks(stride).flat_map(|row| row[..columns].to_vec()).collect();
        (tight(nearest), tight(smooth))
    }

    const FULL: [f64; 4] = [0.0, 0.0, 1.0, 1.0];

    #[test]
    fn the_same_size_changes_nothing() {
        let cells = [1, 0, 255, 40, 50, 60];
        let (nearest, smooth) = enlarge(&cells, 3, (2, 3), FULL);
        assert_eq!((nearest, smooth), (cells.to_vec(), cells.to_vec()));
    }

    #[test]
    fn ids_are_never_mixed_and_mattes_ramp() {
        let (nearest, smooth) = enlarge(&[0, 200], 2, (1, 8), FULL);
        assert_eq!(nearest, [0, 0, 0, 0, 200, 200, 200, 200]);
        assert_eq!(smooth, [0, 0, 25, 75, 125, 175, 200, 200]);
        let (_, smooth) = enlarge(&[0, 200], 1, (8, 1), FULL);
        assert_eq!(smooth, [0, 0, 25, 75, 125, 175, 200, 200]);
    }

    #[test]
    fn odd_ratios_and_smaller_outputs() {
        let (nearest, _) = enlarge(&[1, 2, 3, 4], 2, (3, 5), FULL);
        assert_eq!(nearest, [1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 3, 3, 4, 4, 4]);
        let (nearest, _) = enlarge(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 3, (1, 1), FULL);
        assert_eq!(nearest, [5]);
    }

    #[test]
    fn outside_the_mask_is_background() {
        let (nearest, smooth) = enlarge(&[255], 1, (4, 4), [0.25, 0.5, 0.5, 0.25]);
        let expected = [[0, 0, 0, 0], [0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 0]].concat();
        assert_eq!((nearest, smooth), (expected.clone(), expected));
    }

    #[test]
    fn wide_ids_are_little_endian() {
        let axis = Axis::new(2, 1, 0.0, 1.0);
        let mut out = [9; 8];
        ids(|_| MaskRow::U16(&[[1, 2]]), (&axis, &axis), true, &mut out, 4);
        assert_eq!(out, [1, 2, 1, 2, 1, 2, 1, 2]);
        ids(|_| MaskRow::U8(&[7]), (&axis, &axis), true, &mut out, 4);
        assert_eq!(out, [7, 0, 7, 0, 7, 0, 7, 0]);
    }
}
