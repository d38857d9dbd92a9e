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

impl Tap {
    fn only(cell: usize) -> Tap {
        Tap { first: cell, second: cell, weight: 0 }
    }
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

/// A picture of 0 to 255, `[rows, width]`, to be shown at other sizes.
pub struct Matte {
    cells: Vec<u8>,
    width: usize,
    soft: bool,
}

impl Matte {
    /// Shown by nearest neighbour: no other values than those of `cells`.
    pub fn hard(cells: Vec<u8>, width: usize) -> Matte {
        Matte { cells, width, soft: false }
    }

    /// Each cell is mixed with its neighbours, and samples between cells are interpolated.
    pub fn soft(mut cells: Vec<u8>, width: usize) -> Matte {
        soften(&mut cells, width);
        Matte { cells, width, soft: true }
    }

    /// Calls `show` with each output row, top to bottom: `columns` samples, 0 outside the matte.
    pub fn rows(&self, rows: &Axis, columns: &Axis, mut show: impl FnMut(usize, &[u8])) {
        let mut row = vec![0; columns.samples];
        let empty = vec![0; columns.samples];
        let inside = columns.inside.clone();
        let spans = spans(&columns.taps);
        let mut blended = vec![0u32; self.width];
        let mut shown = None;
        for y in 0..rows.samples {
            let Some(i) = y.checked_sub(rows.inside.start).filter(|&i| i < rows.taps.len()) else {
                show(y, &empty);
                continue;
            };
            // Hard rows repeat while the cell is the same, soft ones while the mixture is.
            let tap = if self.soft { rows.taps[i] } else { Tap::only(rows.nearest[i]) };
            if shown != Some(tap) {
                let [above, below] = [tap.first, tap.second].map(|cell| self.row(cell));
                if self.soft {
                    for ((blended, &above), &below) in blended.iter_mut().zip(above).zip(below) {
                        *blended = u32::from(above) * (256 - tap.weight) + u32::from(below) * tap.weight;
                    }
                    interpolate(&blended, &columns.taps, &spans, &mut row[inside.clone()]);
                } else {
                    gather(MaskRow::U8(above), &columns.nearest, false, &mut row[inside.clone()]);
                }
                shown = Some(tap);
            }
            show(y, &row);
        }
    }

    fn row(&self, y: usize) -> &[u8] {
        &self.cells[y * self.width..][..self.width]
    }
}

/// Mixes each cell with its eight neighbours by the binomial weights 1 2 1, across and down; the border repeats.
fn soften(cells: &mut [u8], width: usize) {
    let mix = |a: u8, b: u8, c: u8| ((u16::from(a) + 2 * u16::from(b) + u16::from(c) + 2) / 4) as u8;
    let mut old = vec![0; width];
    for row in cells.chunks_exact_mut(width) {
        old.copy_from_slice(row);
        let (first, last) = (old[0], old[width - 1]);
        let neighbours = old.iter().zip(&old[1..]).zip(old.iter().skip(2));
        row[1..].iter_mut().zip(neighbours).for_each(|(cell, ((&a, &b), &c))| *cell = mix(a, b, c));
        row[0] = mix(first, first, old.get(1).copied().unwrap_or(first));
        row[width - 1] = mix(old[width.saturating_sub(2)], last, last);
    }
    let mut above = cells[..width].to_vec();
    for start in (0..cells.len()).step_by(width) {
        let (here, below) = cells[start..].split_at_mut(width);
        old.copy_from_slice(here);
        let below = if below.is_empty() { &old[..] } else { &below[..width] };
        for (((cell, &a), &b), &c) in here.iter_mut().zip(&above).zip(&old).zip(below) {
            *cell = mix(a, b, c);
        }
        above.copy_from_slice(&old);
    }
}

/// Samples between the same two cells.
struct Span {
    samples: Range<usize>,
    first: usize,
    second: usize,
}

fn spans(taps: &[Tap]) -> Vec<Span> {
    let mut end = 0;
    let runs = taps.chunk_by(|a, b| (a.first, a.second) == (b.first, b.second));
    runs.map(|run| {
        end += run.len();
        Span { samples: end - run.len()..end, first: run[0].first, second: run[0].second }
    })
    .collect()
}

/// Along one row of values of 256 times 0..255. Most of a mask is flat, so flat stretches are filled in one go.
fn interpolate(values: &[u32], taps: &[Tap], spans: &[Span], out: &mut [u8]) {
    let is_flat = |span: &Span, value| (values[span.first], values[span.second]) == (value, value);
    let mut rest = spans;
    while let Some(span) = rest.first() {
        let (a, b) = (values[span.first], values[span.second]);
        if a == b {
            let flat = rest.iter().position(|span| !is_flat(span, a)).unwrap_or(rest.len());
            let end = rest[flat - 1].samples.end;
            out[span.samples.start..end].fill((a >> 8) as u8);
            rest = &rest[flat..];
            continue;
        }
        for (out, tap) in out[span.samples.clone()].iter_mut().zip(&taps[span.samples.clone()]) {
            *out = ((a * (256 - tap.weight) + b * tap.weight) >> 16) as u8;
        }
        rest = &rest[1..];
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
        let mut nearest = vec![77; rows * stride];
        ids(|y| MaskRow::U8(&cells[y * width..][..width]), axes, false, &mut nearest, stride);
        let nearest: Vec<u8> = nearest.chunks(stride).flat_map(|row| row[..columns].to_vec()).collect();
        let shown = |matte: Matte| {
            let mut shown = Vec::new();
            matte.rows(axes.0, axes.1, |y, row| {
                assert_eq!((y * columns, row.len()), (shown.len(), columns));
                shown.extend(row);
            });
            shown
        };
        assert_eq!(shown(Matte::hard(cells.to_vec(), width)), nearest);
        // Interpolation alone: what softening does to the cells has a test of its own.
        (nearest, shown(Matte { cells: cells.to_vec(), width, soft: true }))
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
    fn softening_mixes_with_the_neighbours() {
        let soft = |cells: &[u8], width| Matte::soft(cells.to_vec(), width).cells;
        #[rustfmt::skip]
        let dot = [
            0,   0, 0,
            0, 160, 0,
            0,   0, 0,
        ];
        assert_eq!(soft(&dot, 3), [10, 20, 10, 20, 40, 20, 10, 20, 10]);
        assert_eq!(soft(&[0, 0, 255, 255], 4), [0, 64, 191, 255]);
        assert_eq!(soft(&[0, 0, 255, 255], 1), [0, 64, 191, 255]);
        assert_eq!(soft(&[0, 200], 2), [50, 150]);
        assert_eq!(soft(&[9], 1), [9]);
        assert_eq!(soft(&[255; 12], 4), [255; 12]);
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
