// SPDX-License-Identifier: MIT OR Apache-2.0
//! Is this frame the same picture as that one? Answered from a thumbnail of each, in a tenth of a millisecond; the
//! thumbnail of a frame in the memory of a GPU is made there. Plain Rust: no GStreamer, no torch.

use crate::frame::{Component, Samples};
use crate::model::preprocess::Cells;

/// Cells of a thumbnail: few enough to be cheap, and so many that something of a hundredth of the frame's side that
/// moves changes one of them.
const COLUMNS: usize = 64;
const ROWS: usize = 36;
/// Samples of a cell along each axis at most.
const SAMPLES: usize = 8;
/// A cell whose mean differs by more than this many of 255 levels has changed. The noise of a camera, a few levels
/// in each pixel, is below half a level in the mean of a cell.
const SAME: f32 = 2.0;

/// Means of cells, for each component of the picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thumbnail(Vec<Vec<f32>>);

impl Thumbnail {
    /// `None` if a component is shorter than its steps say.
    pub fn of<'a>(components: impl IntoIterator<Item = Component<'a>>) -> Option<Thumbnail> {
        components.into_iter().map(means).collect::<Option<_>>().map(Thumbnail)
    }

    /// Of the means of the cells of [`cells_of`], for each component.
    pub fn of_means(means: Vec<Vec<f32>>) -> Thumbnail {
        Thumbnail(means)
    }

    /// Whether no cell has changed. Pictures of other sizes are other pictures.
    pub fn is_same(&self, other: &Thumbnail) -> bool {
        let alike = |a: &Vec<f32>, b: &Vec<f32>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME)
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| alike(a, b))
    }
}

/// The rows and the columns of a component of this size, in cells.
pub fn cells_of(width: usize, height: usize) -> (Cells, Cells) {
    (cells(height, ROWS), cells(width, COLUMNS))
}

fn means(component: Component) -> Option<Vec<f32>> {
    match component.samples {
        Samples::Bytes => means_of(component, 1.0, |data, at| data.get(at).map(|&byte| u32::from(byte))),
        Samples::Words(below) => means_of(component, (1u32 << below) as f32, |data, at| {
            let &[low, high] = data.get(at..)?.first_chunk()?;
            Some(u32::from(u16::from_le_bytes([low, high])))
        }),
    }
}

/// `level` of the samples' steps are one of 255 levels; `sample` reads the one at a byte.
fn means_of(
    component: Component,
    level: f32,
    sample: impl Fn(&[u8], usize) -> Option<u32>,
) -> Option<Vec<f32>> {
    let Component { data, row_step, pixel_step, width, height, .. } = component;
    let (rows, columns) = cells_of(width, height);
    // The columns that are looked at, with the cell of each: the same in every row.
    let across: Vec<(usize, usize)> = columns
        .iter()
        .enumerate()
        .flat_map(|(cell, samples)| samples.iter().map(move |&x| (x * pixel_step, cell)))
        .collect();
    let mut means = Vec::with_capacity(rows.len() * columns.len());
    for samples in &rows {
        let mut sums = vec![0u32; columns.len()];
        for &y in samples {
            let row = data.get(y * row_step..)?;
            for &(offset, cell) in &across {
                sums[cell] += sample(row, offset)?;
            }
        }
        let counts = columns.iter().map(|column| (column.len() * samples.len()) as f32 * level);
        means.extend(sums.iter().zip(counts).map(|(&sum, count)| sum as f32 / count));
    }
    Some(means)
}

/// A side of `length` pixels in at most `most` cells: the pixels of each that are looked at, evenly spread.
fn cells(length: usize, most: usize) -> Cells {
    let count = length.min(most);
    let cell = |index: usize| {
        let (start, end) = (index * length / count, (index + 1) * length / count);
        let samples = (end - start).min(SAMPLES);
        (0..samples).map(|sample| start + (2 * sample + 1) * (end - start) / (2 * samples)).collect()
    };
    (0..count).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thumbnail(pixels: &[u8], width: usize) -> Thumbnail {
        let height = pixels.len() / width;
        let component = Component {
            data: pixels,
            row_step: width,
            pixel_step: 1,
            width,
            height,
            samples: Samples::Bytes,
        };
        Thumbnail::of([component]).unwrap()
    }

    const SIZE: (usize, usize) = (640, 360);

    fn picture(shade: impl Fn(usize, usize) -> u8) -> Vec<u8> {
        (0..SIZE.0 * SIZE.1).map(|at| shade(at % SIZE.0, at / SIZE.0)).collect()
    }

    fn pattern(x: usize, y: usize) -> u8 {
        40 + (x / 7 * 13 + y / 5 * 29) as u8 % 150
    }

    #[test]
    fn noise_is_the_same_picture() {
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Sum of four uniform steps: about normal, 2.5 levels.
            (0..4).map(|shift| (state >> (40 + 3 * shift)) as i32 % 8).sum::<i32>() / 2 - 7
        };
        let still = picture(pattern);
        for _ in 0..20 {
            let noisy: Vec<u8> = still.iter().map(|&p| (i32::from(p) + noise() + 3) as u8).collect();
            let again: Vec<u8> = still.iter().map(|&p| (i32::from(p) + noise() + 3) as u8).collect();
            assert!(thumbnail(&noisy, SIZE.0).is_same(&thumbnail(&again, SIZE.0)));
        }
    }

    #[test]
    fn a_small_thing_that_moves_is_another_picture() {
        let thing =
            |at: usize| picture(move |x, y| if (at..at + 8).contains(&x) && y < 12 { 250 } else { 60 });
        let still = thumbnail(&thing(100), SIZE.0);
        assert!(still.is_same(&thumbnail(&thing(100), SIZE.0)));
        assert!(!still.is_same(&thumbnail(&thing(106), SIZE.0)));
        assert!(!still.is_same(&thumbnail(&picture(|_, _| 60), SIZE.0)));
        // Slow changes add up: it is compared with the frame that was looked at, not with the one before.
        let brighter = |by: u8| thumbnail(&picture(|_, _| 60 + by), SIZE.0);
        assert!(brighter(0).is_same(&brighter(1)) && !brighter(0).is_same(&brighter(3)));
    }

    #[test]
    fn colours_and_padding_are_told_apart() {
        // RGBx with padded rows: red and blue swap, the fourth byte and the padding do not count.
        let frame = |red: u8, blue: u8, rest: u8| -> Vec<u8> {
            let row = [[red, 9, blue, rest].repeat(8), vec![rest; 5]].concat();
            row.repeat(4)
        };
        let of = |data: &[u8]| {
            let component = |at: usize| Component {
                data: &data[at..],
                row_step: 37,
                pixel_step: 4,
                width: 8,
                height: 4,
                samples: Samples::Bytes,
            };
            Thumbnail::of([0, 1, 2].map(component)).unwrap()
        };
        let red = of(&frame(200, 10, 1));
        assert!(red.is_same(&of(&frame(200, 10, 99))));
        assert!(!red.is_same(&of(&frame(10, 200, 1))));
        assert!(!red.is_same(&Thumbnail::default()), "another number of components");
    }

    #[test]
    fn short_data_is_no_picture() {
        let samples = Samples::Bytes;
        let component =
            Component { data: &[0; 10], row_step: 4, pixel_step: 1, width: 4, height: 4, samples };
        assert_eq!(Thumbnail::of([component]), None);
        let empty = Component { data: &[], row_step: 0, pixel_step: 1, width: 0, height: 0, samples };
        assert!(Thumbnail::of([empty]).is_some());
    }

    /// The low byte of a deep sample is noise, or always zero; the levels are in the high bits.
    #[test]
    fn deep_samples_count_by_their_high_bits() {
        for below in [2, 4, 8] {
            let of = |level: u16| {
                let data = (level << below).to_le_bytes().repeat(64);
                let samples = Samples::Words(below);
                Thumbnail::of([Component {
                    data: &data,
                    row_step: 16,
                    pixel_step: 2,
                    width: 8,
                    height: 8,
                    samples,
                }])
                .unwrap()
            };
            assert!(of(70).is_same(&of(72)), "{below}");
            assert!(!of(70).is_same(&of(73)), "{below}");
        }
    }
}
