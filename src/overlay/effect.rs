// SPDX-License-Identifier: MIT OR Apache-2.0
//! Effects on what the picture shows: blur, pixelate, grey. An altered version of the plane, mixed in by coverage.

use super::mosaic::Mosaic;
use super::paint::Plane;
use super::rows::{Edge, ONE, Painter};
use std::ops::Range;

/// What becomes of the picture.
pub enum Effect {
    /// Blocks of one colour.
    Pixelate(Mosaic),
    /// The blocks softened and interpolated: a wide blur at the price of a small picture.
    Blur(Mosaic),
    /// Darker and without colour.
    Grey(Grey),
}

/// Share of the brightness that is left, of `ONE`.
const DIMMED: i32 = 105;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grey {
    Rgb,
    /// The code of black, 0 or 16.
    Yuv(u8),
}

impl Grey {
    /// `sample` holds components in the order of the plane; `channels` says which colour channel each is.
    fn apply(self, sample: &mut [u8], channels: &[(usize, usize)]) {
        match self {
            Grey::Rgb => {
                // BT.601 luma; sums to ONE.
                let luma: i32 = sample
                    .iter()
                    .zip(channels)
                    .map(|(&byte, &(_, channel))| byte as i32 * [77, 150, 29, 0][channel])
                    .sum();
                sample.fill(((luma * DIMMED) >> 16) as u8);
            }
            Grey::Yuv(black) => {
                for (byte, &(_, channel)) in sample.iter_mut().zip(channels) {
                    *byte = match channel {
                        0 => (black as i32 + (((*byte as i32 - black as i32) * DIMMED) >> 8)).clamp(0, 255)
                            as u8,
                        _ => 128,
                    };
                }
            }
        }
    }
}

/// Mixes the altered picture in where a class is covered by the effect.
pub struct EffectPainter<'a, 'b> {
    plane: &'a mut Plane<'b>,
    effect: &'a Effect,
    /// By slot, 0..=ONE: how much of the altered picture.
    coverage: &'a [u16],
    y: usize,
    /// Altered samples of the stretch at hand, components only.
    altered: Vec<u8>,
    scratch: Vec<i32>,
}

impl<'a, 'b> EffectPainter<'a, 'b> {
    pub fn new(plane: &'a mut Plane<'b>, effect: &'a Effect, coverage: &'a [u16]) -> Self {
        Self { plane, effect, coverage, y: 0, altered: Vec::new(), scratch: Vec::new() }
    }

    fn coverage(&self, slot: u16) -> i32 {
        self.coverage.get(slot as usize).copied().unwrap_or(0) as i32
    }

    fn mix(&mut self, x: Range<usize>, share: i32) {
        if share == 0 {
            return;
        }
        let components = &self.plane.layout.components;
        let (count, stride) = (components.len(), self.plane.layout.pixel_stride);
        self.altered.resize(x.len() * count, 0);
        let start = self.y * self.plane.stride + x.start * stride;
        match self.effect {
            Effect::Pixelate(mosaic) => mosaic.blocks(self.y, x.clone(), &mut self.altered),
            Effect::Blur(mosaic) => {
                mosaic.interpolated(self.y, x.clone(), &mut self.scratch, &mut self.altered)
            }
            Effect::Grey(grey) => {
                for (i, sample) in self.altered.chunks_exact_mut(count).enumerate() {
                    for (byte, &(offset, _)) in sample.iter_mut().zip(components) {
                        *byte = self.plane.data[start + i * stride + offset];
                    }
                    grey.apply(sample, components);
                }
            }
        }
        if self.plane.layout.is_packed() {
            // Plain bytes: copied, or mixed many at a time.
            let bytes = &mut self.plane.data[start..][..self.altered.len()];
            if share == ONE {
                bytes.copy_from_slice(&self.altered);
            } else {
                bytes.iter_mut().zip(&self.altered).for_each(|(byte, &new)| *byte = lerp(*byte, new, share));
            }
            return;
        }
        let bytes = &mut self.plane.data[start..][..self.altered.len() / count * stride];
        match (stride, components.as_slice()) {
            (2, &[a]) => lerp_samples::<2, 1>(bytes, &self.altered, [a.0], share),
            (4, &[a, b]) => lerp_samples::<4, 2>(bytes, &self.altered, [a.0, b.0], share),
            (4, &[a, b, c]) => lerp_samples::<4, 3>(bytes, &self.altered, [a.0, b.0, c.0], share),
            _ => {
                for (old, new) in bytes.chunks_exact_mut(stride).zip(self.altered.chunks_exact(count)) {
                    for (&(offset, _), &new) in components.iter().zip(new) {
                        old[offset] = lerp(old[offset], new, share);
                    }
                }
            }
        }
    }
}

/// Samples of `STRIDE` bytes, of which `COUNT` at `offsets` are components.
fn lerp_samples<const STRIDE: usize, const COUNT: usize>(
    bytes: &mut [u8],
    altered: &[u8],
    offsets: [usize; COUNT],
    share: i32,
) {
    for (old, new) in bytes.as_chunks_mut::<STRIDE>().0.iter_mut().zip(altered.as_chunks::<COUNT>().0) {
        for (&offset, &new) in offsets.iter().zip(new) {
            old[offset] = lerp(old[offset], new, share);
        }
    }
}

fn lerp(old: u8, new: u8, share: i32) -> u8 {
    ((old as i32 * (ONE - share) + new as i32 * share + ONE / 2) >> 8) as u8
}

impl Painter for EffectPainter<'_, '_> {
    fn row(&mut self, y: usize) {
        self.y = y;
    }

    fn run(&mut self, x: Range<usize>, slot: u16) {
        self.mix(x, self.coverage(slot));
    }

    fn edge(&mut self, x: usize, edge: Edge) {
        let share = self.coverage(edge.top) * edge.mix + self.coverage(edge.second) * (ONE - edge.mix);
        self.mix(x..x + 1, share >> 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::paint::PlaneLayout;

    #[test]
    fn grey_takes_the_colour_and_some_light() {
        let mut bgr = [0, 0, 200];
        Grey::Rgb.apply(&mut bgr, &[(0, 2), (1, 1), (2, 0)]);
        assert_eq!(bgr, [24; 3], "200 * 0.3 * 0.41");
        let mut luma = [16, 235];
        Grey::Yuv(16).apply(&mut luma[..1], &[(0, 0)]);
        Grey::Yuv(16).apply(&mut luma[1..], &[(0, 0)]);
        assert_eq!(luma, [16, 105]);
        let mut chroma = [3, 250];
        Grey::Yuv(16).apply(&mut chroma, &[(0, 1), (1, 2)]);
        assert_eq!(chroma, [128, 128]);
    }

    #[test]
    fn an_edge_takes_its_share_and_uncovered_classes_nothing() {
        let layout = PlaneLayout { memory: 0, step: [1, 1], pixel_stride: 2, components: vec![(1, 0)] };
        let mut data = vec![200u8; 12];
        let mut plane = Plane { data: &mut data, stride: 12, width: 6, height: 1, layout: &layout };
        let effect = Effect::Grey(Grey::Yuv(0));
        let mut painter = EffectPainter::new(&mut plane, &effect, &[0, ONE as u16]);
        painter.row(0);
        painter.run(0..2, 1);
        painter.edge(2, Edge { top: 1, second: 0, mix: ONE / 2, depth: 0 });
        painter.run(3..6, 0);
        assert_eq!(data, [200, 82, 200, 82, 200, 141, 200, 200, 200, 200, 200, 200]);
    }
}
