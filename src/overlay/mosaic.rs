// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plane as block means: what pixelating shows, and what blurring interpolates between.

use super::paint::Plane;
use super::rows::ONE;
use std::ops::Range;

/// The means of blocks that tile the plane from its upper left corner.
pub struct Mosaic {
    components: usize,
    columns: usize,
    lines: usize,
    /// `lines` x `columns` x `components`
    means: Vec<u8>,
    /// Per sample of a row: its block, and the block and weight (of the next) to interpolate from.
    across: Vec<Place>,
    down: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    block: usize,
    left: usize,
    right: usize,
    /// 0..=ONE
    weight: i32,
}

fn places(samples: usize, size: usize, blocks: usize) -> Vec<Place> {
    let place = |sample: usize| {
        // Block centres lie at (block + 1/2) * size, sample centres at sample + 1/2; in half samples.
        let twice = (2 * sample + 1) as i64 - size as i64;
        let left = twice.div_euclid(2 * size as i64);
        let rest = twice.rem_euclid(2 * size as i64);
        let clamp = |block: i64| block.clamp(0, blocks as i64 - 1) as usize;
        Place {
            block: sample / size,
            left: clamp(left),
            right: clamp(left + 1),
            weight: (rest * ONE as i64 / (2 * size as i64)) as i32,
        }
    };
    (0..samples).map(place).collect()
}

/// Adds one row of samples of `STRIDE` bytes to the sums of its blocks, `size` samples each.
fn add_row<const STRIDE: usize>(row: &[u8], size: usize, components: &[(usize, usize)], sums: &mut [u32]) {
    for (sums, block) in sums.chunks_exact_mut(components.len()).zip(row.chunks(size * STRIDE)) {
        let mut bytes = [0u32; STRIDE];
        for sample in block.as_chunks::<STRIDE>().0 {
            for (sum, &byte) in bytes.iter_mut().zip(sample) {
                *sum += byte as u32;
            }
        }
        for (sum, &(offset, _)) in sums.iter_mut().zip(components) {
            *sum += bytes[offset];
        }
    }
}

impl Mosaic {
    /// Blocks of `size` (across, down) samples of the plane.
    pub fn new(plane: &Plane, size: [usize; 2]) -> Self {
        let size = size.map(|side| side.max(1));
        let (columns, lines) = (plane.width.div_ceil(size[0]), plane.height.div_ceil(size[1]));
        let components = plane.layout.components.len();
        let mut means = Vec::with_capacity(lines * columns * components);
        let mut sums = vec![0u32; columns * components];
        for line in 0..lines {
            let rows = line * size[1]..((line + 1) * size[1]).min(plane.height);
            sums.fill(0);
            for y in rows.clone() {
                let row = &plane.data[y * plane.stride..][..plane.width * plane.layout.pixel_stride];
                let places = &plane.layout.components;
                match plane.layout.pixel_stride {
                    1 => add_row::<1>(row, size[0], places, &mut sums),
                    2 => add_row::<2>(row, size[0], places, &mut sums),
                    3 => add_row::<3>(row, size[0], places, &mut sums),
                    _ => add_row::<4>(row, size[0], places, &mut sums),
                }
            }
            for (sums, x) in sums.chunks_exact(components).zip((0..plane.width).step_by(size[0])) {
                let count = ((x + size[0]).min(plane.width) - x) as u32 * rows.len() as u32;
                means.extend(sums.iter().map(|sum| ((sum + count / 2) / count) as u8));
            }
        }
        let across = places(plane.width, size[0], columns);
        let down = places(plane.height, size[1], lines);
        Self { components, columns, lines, means, across, down }
    }

    /// Smooths the means with their neighbours (1 2 1) in both directions, `passes` times.
    pub fn soften(mut self, passes: usize) -> Self {
        for _ in 0..passes {
            let step = self.components;
            self.means = self.smoothed(self.columns, step);
            self.means = self.smoothed(self.lines, self.columns * step);
        }
        self
    }

    /// Along an axis of `length` blocks that lie `step` apart.
    fn smoothed(&self, length: usize, step: usize) -> Vec<u8> {
        let smooth = |at: usize| {
            let position = at / step % length;
            let before = if position == 0 { at } else { at - step };
            let after = if position + 1 == length { at } else { at + step };
            let sum = self.means[before] as u32 + 2 * self.means[at] as u32 + self.means[after] as u32;
            ((sum + 2) / 4) as u8
        };
        (0..self.means.len()).map(smooth).collect()
    }

    /// Samples `x` of row `y`, each as its block.
    pub fn blocks(&self, y: usize, x: Range<usize>, out: &mut [u8]) {
        let line = &self.means[self.down[y].block * self.columns * self.components..];
        match self.components {
            1 => copy_blocks::<1>(line, &self.across[x], out),
            2 => copy_blocks::<2>(line, &self.across[x], out),
            3 => copy_blocks::<3>(line, &self.across[x], out),
            _ => copy_blocks::<4>(line, &self.across[x], out),
        }
    }

    /// Samples `x` of row `y`, interpolated between the block centres. `line` is room to work in.
    pub fn interpolated(&self, y: usize, x: Range<usize>, line: &mut Vec<i32>, out: &mut [u8]) {
        let (Some(first), Some(last)) = (self.across[x.clone()].first(), self.across[x.clone()].last())
        else {
            return;
        };
        // Down first, for the blocks that this stretch needs; then across.
        let blocks = first.left * self.components..(last.right + 1) * self.components;
        let Place { left: upper, right: lower, weight, .. } = self.down[y];
        let row = |line: usize| &self.means[line * self.columns * self.components..][blocks.clone()];
        line.clear();
        line.extend(
            row(upper)
                .iter()
                .zip(row(lower))
                .map(|(&upper, &lower)| upper as i32 * (ONE - weight) + lower as i32 * weight),
        );
        match self.components {
            1 => interpolate::<1>(line, first.left, &self.across[x], out),
            2 => interpolate::<2>(line, first.left, &self.across[x], out),
            3 => interpolate::<3>(line, first.left, &self.across[x], out),
            _ => interpolate::<4>(line, first.left, &self.across[x], out),
        }
    }
}

fn copy_blocks<const N: usize>(line: &[u8], places: &[Place], out: &mut [u8]) {
    let blocks = line.as_chunks::<N>().0;
    for (place, out) in places.iter().zip(out.as_chunks_mut::<N>().0) {
        *out = blocks[place.block];
    }
}

/// `line` starts at block `start`.
fn interpolate<const N: usize>(line: &[i32], start: usize, places: &[Place], out: &mut [u8]) {
    let blocks = line.as_chunks::<N>().0;
    for (place, out) in places.iter().zip(out.as_chunks_mut::<N>().0) {
        let (left, right) = (&blocks[place.left - start], &blocks[place.right - start]);
        for (out, (&left, &right)) in out.iter_mut().zip(left.iter().zip(right)) {
            *out = ((left * (ONE - place.weight) + right * place.weight + ONE * ONE / 2) >> 16) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::paint::PlaneLayout;

    fn mosaic(width: usize, height: usize, size: [usize; 2], value: impl Fn(usize, usize) -> u8) -> Mosaic {
        // Two components, three bytes a sample, two bytes of padding a row.
        let layout =
            PlaneLayout { memory: 0, step: [1, 1], pixel_stride: 3, components: vec![(0, 0), (2, 1)] };
        let stride = width * 3 + 2;
        let mut data = vec![7u8; stride * height];
        for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
            data[y * stride + x * 3] = value(x, y);
            data[y * stride + x * 3 + 2] = 255 - value(x, y);
        }
        Mosaic::new(&Plane { data: &mut data, stride, width, height, layout: &layout }, size)
    }

    #[test]
    fn every_sample_becomes_the_mean_of_its_block() {
        let value = |x: usize, y: usize| (x * 20 + y * 3) as u8;
        let (width, height) = (7, 5);
        let mosaic = mosaic(width, height, [3, 2], value);
        let mut out = vec![0; width * 2];
        for y in 0..height {
            mosaic.blocks(y, 0..width, &mut out);
            for x in 0..width {
                let columns = x / 3 * 3..(x / 3 * 3 + 3).min(width);
                let rows = y / 2 * 2..(y / 2 * 2 + 2).min(height);
                let block: Vec<f64> =
                    rows.flat_map(|y| columns.clone().map(move |x| value(x, y) as f64)).collect();
                let mean = block.iter().sum::<f64>() / block.len() as f64;
                assert!((out[x * 2] as f64 - mean).abs() <= 0.5, "{x},{y}: {} not {mean}", out[x * 2]);
                assert!((out[x * 2 + 1] as f64 - (255.0 - mean)).abs() <= 0.5);
            }
        }
    }

    #[test]
    fn a_blurred_ramp_stays_a_ramp_inside() {
        let mosaic = mosaic(64, 8, [4, 4], |x, _| (x * 3) as u8);
        let mut out = vec![0; 128];
        mosaic.interpolated(4, 0..64, &mut Vec::new(), &mut out);
        for x in 2..62 {
            assert!((out[x * 2] as i32 - x as i32 * 3).abs() <= 2, "{x}: {}", out[x * 2]);
        }
        let mut part = vec![0; 20];
        mosaic.interpolated(4, 30..40, &mut Vec::new(), &mut part);
        assert_eq!(part, out[60..80]);
    }

    #[test]
    fn a_flat_plane_stays_flat() {
        let mosaic = mosaic(9, 9, [2, 2], |_, _| 131).soften(3);
        let mut out = vec![0; 18];
        mosaic.interpolated(8, 0..9, &mut Vec::new(), &mut out);
        assert!(out.as_chunks::<2>().0.iter().all(|sample| *sample == [131, 124]));
    }
}
