// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small picture (legend, label) converted once to the planes of a frame, then laid over every frame.

use super::colour::ColourSpace;
use super::paint::{Plane, PlaneLayout};

/// B, G, R, A with the colours multiplied by A, as GStreamer's overlay compositions hold them.
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

/// A picture in the components of a frame.
pub struct Stamp {
    pub width: usize,
    pub height: usize,
    /// Per plane layout.
    planes: Vec<StampPlane>,
}

struct StampPlane {
    width: usize,
    height: usize,
    /// Per sample: alpha, then the premultiplied components in the order of the plane layout.
    samples: Vec<u8>,
}

impl Stamp {
    pub fn new(picture: &Picture, layouts: &[PlaneLayout], space: ColourSpace) -> Self {
        let planes = layouts.iter().map(|layout| StampPlane::new(picture, layout, space)).collect();
        Self { width: picture.width, height: picture.height, planes }
    }

    /// Lays the stamp over plane number `index`, upper left corner at a frame pixel. What lies outside is cut off.
    pub fn blend(&self, index: usize, plane: &mut Plane, left: usize, top: usize) {
        let Some(stamp) = self.planes.get(index) else { return };
        let [step_x, step_y] = plane.layout.step;
        let (left, top) = (left / step_x, top / step_y);
        let columns = stamp.width.min(plane.width.saturating_sub(left));
        let rows = stamp.height.min(plane.height.saturating_sub(top));
        let size = 1 + plane.layout.components.len();
        for row in 0..rows {
            let samples = &stamp.samples[row * stamp.width * size..][..columns * size];
            let start = (top + row) * plane.stride + left * plane.layout.pixel_stride;
            for (column, sample) in samples.chunks_exact(size).enumerate() {
                if sample[0] == 0 {
                    continue;
                }
                let at = start + column * plane.layout.pixel_stride;
                for (&(offset, _), &add) in plane.layout.components.iter().zip(&sample[1..]) {
                    let byte = &mut plane.data[at + offset];
                    *byte = divide_by_255(*byte as u32 * (255 - sample[0] as u32)).saturating_add(add);
                }
            }
        }
    }
}

/// Rounded, for products of two bytes.
fn divide_by_255(product: u32) -> u8 {
    ((product + 128 + ((product + 128) >> 8)) >> 8) as u8
}

impl StampPlane {
    fn new(picture: &Picture, layout: &PlaneLayout, space: ColourSpace) -> Self {
        let [step_x, step_y] = layout.step;
        let (width, height) = (picture.width.div_ceil(step_x), picture.height.div_ceil(step_y));
        let mut samples = Vec::with_capacity(width * height * (1 + layout.components.len()));
        for y in 0..height {
            for x in 0..width {
                // A subsampled component takes the mean of its pixels; beyond the picture all is transparent.
                let mut sum = [0u32; 4];
                for row in y * step_y..((y + 1) * step_y).min(picture.height) {
                    for column in x * step_x..((x + 1) * step_x).min(picture.width) {
                        let pixel = &picture.data[(row * picture.width + column) * 4..][..4];
                        for (sum, &byte) in sum.iter_mut().zip(pixel) {
                            *sum += byte as u32;
                        }
                    }
                }
                let [b, g, r, alpha] = sum.map(|sum| sum as f64 / (step_x * step_y) as f64 / 255.0);
                let [c0, c1, c2] = space.premultiplied([r, g, b], alpha);
                let channels = [c0, c1, c2, alpha * 255.0];
                let byte = |value: f64| value.round().clamp(0.0, 255.0) as u8;
                samples.push(byte(alpha * 255.0));
                samples.extend(layout.components.iter().map(|&(_, channel)| byte(channels[channel])));
            }
        }
        Self { width, height, samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray() -> PlaneLayout {
        PlaneLayout { memory: 0, step: [1, 1], pixel_stride: 1, components: vec![(0, 0)] }
    }

    fn blend(picture: &Picture, left: usize, top: usize) -> Vec<u8> {
        let layout = gray();
        let mut data = vec![100u8; 20];
        let stamp = Stamp::new(picture, std::slice::from_ref(&layout), ColourSpace::Rgb);
        let mut plane = Plane { data: &mut data, stride: 5, width: 4, height: 4, layout: &layout };
        stamp.blend(0, &mut plane, left, top);
        data
    }

    #[test]
    fn opaque_replaces_clear_keeps_and_the_rest_is_cut_off() {
        let mut data = vec![0u8; 3 * 3 * 4];
        for pixel in data.chunks_exact_mut(4).skip(1) {
            pixel.copy_from_slice(&[9, 9, 40, 255]);
        }
        let out = blend(&Picture { width: 3, height: 3, data }, 2, 2);
        for (i, &byte) in out.iter().enumerate() {
            let (x, y) = (i % 5, i / 5);
            let inside = (2..4).contains(&x) && (2..4).contains(&y) && (x, y) != (2, 2);
            assert_eq!(byte, if inside { 40 } else { 100 }, "{x},{y}");
        }
    }

    #[test]
    fn half_transparent_adds_half() {
        let out = blend(&Picture { width: 1, height: 1, data: vec![0, 0, 100, 128] }, 0, 0);
        assert_eq!(out[0], 150, "100 * 127 / 255 + 100");
    }

    #[test]
    fn subsampled_components_take_the_mean() {
        let layout = PlaneLayout { memory: 0, step: [2, 2], pixel_stride: 1, components: vec![(0, 0)] };
        let mut data = vec![0u8; 2 * 2 * 4];
        data[..4].copy_from_slice(&[0, 0, 255, 255]);
        let plane = StampPlane::new(&Picture { width: 2, height: 2, data }, &layout, ColourSpace::Rgb);
        assert_eq!(plane.samples, [64, 64]);
    }
}
