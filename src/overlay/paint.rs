// SPDX-License-Identifier: MIT OR Apache-2.0
//! Colours over the samples of one plane: integer blending, whole runs at a time where a row holds one class.
//!
//! A plane is any set of interleaved samples: all of RGBx, the Y of I420, the UV of NV12, the luma or the chroma of YUY2.

use super::rows::{Edge, ONE, Painter};
use std::ops::Range;

/// How the samples of one set of components lie in the memory of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaneLayout {
    /// Memory plane.
    pub memory: usize,
    /// Frame pixels per sample.
    pub step: [usize; 2],
    /// Bytes from one sample to the next.
    pub pixel_stride: usize,
    /// (byte inside the sample, colour channel) per component.
    pub components: Vec<(usize, usize)>,
}

/// One plane of a frame that is mapped for writing.
pub struct Plane<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
    pub width: usize,
    pub height: usize,
    pub layout: &'a PlaneLayout,
}

impl Plane<'_> {
    /// Whether the memory holds all samples, as that of a mapped frame does.
    pub fn is_whole(&self) -> bool {
        let row = self.width * self.layout.pixel_stride;
        self.width > 0
            && self.height > 0
            && row <= self.stride
            && (self.height - 1) * self.stride + row <= self.data.len()
    }
}

impl PlaneLayout {
    /// Whether the components lie side by side in their order, with nothing between samples.
    pub fn is_packed(&self) -> bool {
        self.components.len() == self.pixel_stride
            && self.components.iter().enumerate().all(|(i, &(offset, _))| i == offset)
    }
}

/// A colour ready to be laid over samples: `out = (in * (ONE - alpha) + weighted) / ONE`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ink {
    /// 0..=ONE
    pub alpha: u16,
    /// Component times alpha.
    pub weighted: [u16; 4],
}

impl Ink {
    pub fn new(components: [u8; 4], alpha: u16) -> Self {
        Self { alpha, weighted: components.map(|component| component as u16 * alpha) }
    }

    /// `share` (0..=ONE) of `self`, the rest of `other`.
    #[inline]
    fn mix(&self, other: &Self, share: i32) -> Self {
        let mix = |a: u16, b: u16| ((a as i32 * share + b as i32 * (ONE - share)) >> 8) as u16;
        Self {
            alpha: mix(self.alpha, other.alpha),
            weighted: std::array::from_fn(|i| mix(self.weighted[i], other.weighted[i])),
        }
    }
}

/// What a class looks like: inside, and along its border.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Inks {
    pub body: Ink,
    pub contour: Ink,
}

/// Lays the inks of the classes over a plane.
pub struct InkPainter<'a, 'b> {
    plane: &'a mut Plane<'b>,
    /// By slot.
    inks: &'a [Inks],
    /// Depth in 1/256 frame pixels at which the contour has given way to the body; zero if there is none.
    body: i32,
    /// Pixels per sample as a binary logarithm.
    step: u32,
    row: usize,
}

/// Divisible by every pixel stride from 1 to 4, and whole vector registers.
const PATTERN: usize = 48;

impl<'a, 'b> InkPainter<'a, 'b> {
    pub fn new(plane: &'a mut Plane<'b>, inks: &'a [Inks], contour: f32) -> Self {
        let step = plane.layout.step[0].max(plane.layout.step[1]).ilog2();
        let body = if contour > 0.0 { (contour * ONE as f32) as i32 + ((ONE / 2) << step) } else { 0 };
        Self { plane, inks, body, step, row: 0 }
    }

    /// The colour of a class at a depth: contour first, body further in, one sample between them.
    #[inline]
    fn ink(&self, slot: u16, depth: i32) -> Ink {
        let Some(inks) = self.inks.get(slot as usize) else { return Ink::default() };
        if depth >= self.body {
            return inks.body;
        }
        let share = (self.body - depth) >> self.step;
        if share >= ONE { inks.contour } else { inks.contour.mix(&inks.body, share) }
    }
}

impl Painter for InkPainter<'_, '_> {
    fn row(&mut self, y: usize) {
        self.row = y * self.plane.stride;
    }

    fn run(&mut self, x: Range<usize>, slot: u16) {
        let Some(Inks { body: ink, .. }) = self.inks.get(slot as usize).copied() else { return };
        if ink.alpha == 0 {
            return;
        }
        let stride = self.plane.layout.pixel_stride;
        let end = (self.row + x.end * stride).min(self.plane.data.len());
        let bytes = &mut self.plane.data[self.row + x.start * stride..end];
        // Bytes that belong to other components keep their value: all of the old, nothing of the new.
        let mut keep = [ONE as u16; PATTERN];
        let mut add = [ONE as u16 / 2; PATTERN];
        for (i, &(offset, _)) in self.plane.layout.components.iter().enumerate() {
            for byte in (offset..PATTERN).step_by(stride) {
                keep[byte] = ONE as u16 - ink.alpha;
                add[byte] = ink.weighted[i] + ONE as u16 / 2;
            }
        }
        let mut chunks = bytes.chunks_exact_mut(PATTERN);
        for chunk in &mut chunks {
            blend(chunk, &keep, &add);
        }
        blend(chunks.into_remainder(), &keep, &add);
    }

    fn edge(&mut self, x: usize, edge: Edge) {
        let mut ink = self.ink(edge.top, edge.depth);
        if edge.mix < ONE {
            ink = ink.mix(&self.ink(edge.second, 0), edge.mix);
        }
        if ink.alpha == 0 {
            return;
        }
        let at = self.row + x * self.plane.layout.pixel_stride;
        for (i, &(offset, _)) in self.plane.layout.components.iter().enumerate() {
            let byte = &mut self.plane.data[at + offset];
            *byte = blend_byte(*byte, ONE as u16 - ink.alpha, ink.weighted[i] + ONE as u16 / 2);
        }
    }
}

/// At most 255 * ONE + ONE / 2, which fits: `keep` and the alpha in `add` sum to `ONE`.
#[inline]
fn blend_byte(byte: u8, keep: u16, add: u16) -> u8 {
    ((byte as u16 * keep + add) >> 8) as u8
}

#[inline]
fn blend(bytes: &mut [u8], keep: &[u16; PATTERN], add: &[u16; PATTERN]) {
    for ((byte, &keep), &add) in bytes.iter_mut().zip(keep).zip(add) {
        *byte = blend_byte(*byte, keep, add);
    }
}

#[cfg(test)]
#[path = "paint_tests.rs"]
mod tests;
