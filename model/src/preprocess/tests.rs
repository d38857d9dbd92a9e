// SPDX-License-Identifier: MIT OR Apache-2.0
mod layout;

use super::*;

fn picture(format: PixelFormat, width: usize, height: usize, seed: u32) -> Picture {
    let mut state = seed;
    let bytes: Vec<u8> = (0..planes::bytes(format, width, height))
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Picture { format, width, height, colour: Colour::default(), data: Tensor::from_slice(&bytes).into() }
}

#[test]
fn native_rgb_is_exact() {
    let picture = picture(PixelFormat::Rgb, 5, 3, 7);
    let normalisation = Normalisation::default();
    let out = preprocess(&[&picture], (3, 5), &normalisation, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(out.size(), [1, 3, 3, 5]);
    let bytes: Vec<u8> = Vec::try_from(&picture.data).unwrap();
    for (index, &byte) in bytes.iter().enumerate() {
        let (pixel, channel) = (index / 3, index % 3);
        let expected = (f64::from(byte) / 255.0 - normalisation.mean[channel]) / normalisation.std[channel];
        let got = out.double_value(&[0, channel as i64, (pixel / 5) as i64, (pixel % 5) as i64]);
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }
}

#[test]
fn sizes_keep_the_aspect_in_whole_patches() {
    for (picture, size, expected) in [
        ((1920, 1080), InputSize::Short(336), (336, 592)),
        ((1080, 1920), InputSize::Short(336), (592, 336)),
        ((448, 336), InputSize::Native, (336, 448)),
        ((640, 480), InputSize::Model, (224, 304)),
        ((1, 1), InputSize::Native, (16, 16)),
        ((1920, 1080), InputSize::Native, (1088, 1920)),
        ((8000, 1), InputSize::Model, (16, 2048)),
    ] {
        assert_eq!(network_size(picture, size, 224, 16), expected, "{picture:?} {size}");
    }
}

#[test]
fn no_picture_is_too_large() {
    for width in [1, 3, 640, 7680, 100_000, 3_000_000] {
        for height in [1, 2, 480, 4320, 100_000] {
            for size in [InputSize::Model, InputSize::Short(1080), InputSize::Native] {
                let (h, w) = network_size((width, height), size, 224, 16);
                assert!(h >= 16 && w >= 16 && h % 16 == 0 && w % 16 == 0);
                assert!(h * w / 256 <= MAX_PATCHES, "{width}x{height} {size}: {w}x{h}");
            }
        }
    }
}

const FORMATS: [PixelFormat; 8] = [
    PixelFormat::Rgb,
    PixelFormat::Bgr,
    PixelFormat::Rgbx,
    PixelFormat::Bgrx,
    PixelFormat::Gray8,
    PixelFormat::I420,
    PixelFormat::Nv12,
    PixelFormat::Yuy2,
];

/// A component of every pixel, read byte by byte as the format's definition says: R, G, B or Y, Cb, Cr.
fn component(picture: &Picture, bytes: &[u8], component: usize) -> Plane {
    let (w, h) = (picture.width, picture.height);
    let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
    let packed = |step: usize, order: [usize; 3]| {
        Plane::new(w, h, |x, y| bytes[(y * w + x) * step + order[component]])
    };
    match (picture.format, component) {
        (PixelFormat::Rgb, _) => packed(3, [0, 1, 2]),
        (PixelFormat::Bgr, _) => packed(3, [2, 1, 0]),
        (PixelFormat::Rgbx, _) => packed(4, [0, 1, 2]),
        (PixelFormat::Bgrx, _) => packed(4, [2, 1, 0]),
        (PixelFormat::Gray8, _) | (PixelFormat::I420 | PixelFormat::Nv12, 0) => packed(1, [0, 0, 0]),
        (PixelFormat::I420, c) => Plane::new(cw, ch, |x, y| bytes[w * h + (c - 1) * cw * ch + y * cw + x]),
        (PixelFormat::Nv12, c) => Plane::new(cw, ch, |x, y| bytes[w * h + 2 * (y * cw + x) + c - 1]),
        (PixelFormat::Yuy2, 0) => Plane::new(w, h, |x, y| bytes[4 * cw * y + 2 * x]),
        (PixelFormat::Yuy2, c) => Plane::new(cw, h, |x, y| bytes[4 * (cw * y + x) + 2 * c - 1]),
    }
}

struct Plane {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl Plane {
    fn new(width: usize, height: usize, at: impl Fn(usize, usize) -> u8) -> Plane {
        let values = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Plane { width, height, values: values.map(|(x, y)| at(x, y).into()).collect() }
    }

    /// Value at an output pixel of a `width` x `height` picture that this plane is stretched over.
    fn sample(&self, (x, y): (usize, usize), out: (usize, usize), picture: (usize, usize)) -> f64 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (row, wy) in triangle(y, out.1, self.height, picture.1) {
            for &(column, wx) in &triangle(x, out.0, self.width, picture.0) {
                sum += wx * wy * self.values[row * self.width + column];
                weights += wx * wy;
            }
        }
        sum / weights
    }
}

/// Input samples under the triangle filter of an output pixel, as wide as the shrink factor, with their weights.
/// `samples` samples stand for `luma` pixels, every second one if there are fewer.
fn triangle(index: usize, out: usize, samples: usize, luma: usize) -> Vec<(usize, f64)> {
    let step = if samples < luma { 2.0 } else { 1.0 };
    let scale = luma as f64 / step / out as f64;
    let (center, support) = ((index as f64 + 0.5) * scale, scale.max(1.0));
    let near = (0..samples).map(|sample| (sample, 1.0 - (sample as f64 + 0.5 - center).abs() / support));
    near.filter(|(_, weight)| *weight > 0.0).collect()
}

/// R'G'B' in 0..1 from Y'CbCr bytes, by the definitions in ITU-R BT.601-7, BT.709-6 and BT.2020-2.
fn textbook(colour: Colour, [y, cb, cr]: [f64; 3]) -> [f64; 3] {
    let (kr, kb) = match colour.matrix {
        ColourMatrix::Bt601 => (0.299, 0.114),
        ColourMatrix::Bt709 => (0.2126, 0.0722),
        ColourMatrix::Bt2020 => (0.2627, 0.0593),
    };
    let (y, cb, cr) = match colour.full_range {
        true => (y / 255.0, (cb - 128.0) / 255.0, (cr - 128.0) / 255.0),
        false => ((y - 16.0) / 219.0, (cb - 128.0) / 224.0, (cr - 128.0) / 224.0),
    };
    let (r, b) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
    let g = (y - kr * r - kb * b) / (1.0 - kr - kb);
    [r, g, b].map(|value| value.clamp(0.0, 1.0))
}

fn is_yuv(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::I420 | PixelFormat::Nv12 | PixelFormat::Yuy2)
}

/// Largest and mean difference from the scalar reference, in levels of 0..255.
fn difference(picture: &Picture, (height, width): (usize, usize)) -> (f64, f64) {
    let bytes: Vec<u8> = Vec::try_from(&picture.data).unwrap();
    let planes = [0, 1, 2].map(|c| component(picture, &bytes, c));
    let unit = Normalisation { mean: [0.0; 3], std: [1.0 / 255.0; 3] };
    let out = preprocess(&[picture], (height, width), &unit, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(out.size(), [1, 3, height as i64, width as i64]);
    let out: Vec<f32> = Vec::try_from(out.view([-1])).unwrap();
    let (mut largest, mut sum) = (0f64, 0.0);
    for y in 0..height {
        for x in 0..width {
            let at = |plane: &Plane| plane.sample((x, y), (width, height), (picture.width, picture.height));
            let values = [0, 1, 2].map(|c| at(&planes[c]));
            let rgb = match is_yuv(picture.format) {
                true => textbook(picture.colour, values).map(|value| value * 255.0),
                false => values,
            };
            for (channel, expected) in rgb.into_iter().enumerate() {
                let got = f64::from(out[(channel * height + y) * width + x]);
                largest = largest.max((got - expected).abs());
                sum += (got - expected).abs();
            }
        }
    }
    (largest, sum / (3 * width * height) as f64)
}

#[test]
fn every_format_equals_the_scalar_reference() {
    for format in FORMATS {
        for (width, height) in [(37, 23), (64, 48), (8, 90), (1, 1), (1, 7), (9, 1), (2, 2)] {
            let picture = picture(format, width, height, 5);
            for size in [(height, width), (16, 16), (48, 64), (16, 96)] {
                let (largest, mean) = difference(&picture, size);
                // A whole level of rounding in each of luma and chroma, and chroma counts up to 2.2 fold.
                let (most, usual) = if is_yuv(format) { (3.3, 1.0) } else { (1.01, 0.5) };
                let name = format!("{format:?} {width}x{height} to {size:?}");
                assert!(largest <= most && mean <= usual, "{name}: off by {largest:.3}, mean {mean:.3}");
            }
        }
    }
}

#[test]
fn without_resize_packed_formats_are_exact() {
    for format in
        [PixelFormat::Rgb, PixelFormat::Bgr, PixelFormat::Rgbx, PixelFormat::Bgrx, PixelFormat::Gray8]
    {
        assert!(difference(&picture(format, 19, 7, 3), (7, 19)).0 < 1e-4, "{format:?}");
    }
}

/// One colour all over leaves no room for rounding: every matrix and range is exact, at any size.
#[test]
fn flat_colours_are_exact() {
    for matrix in [ColourMatrix::Bt601, ColourMatrix::Bt709, ColourMatrix::Bt2020] {
        for full_range in [false, true] {
            let colour = Colour { matrix, full_range, ..Colour::default() };
            for yuv in [
                [16u8, 128, 128],
                [235, 128, 128],
                [63, 102, 240],
                [0, 0, 0],
                [255, 255, 255],
                [120, 90, 200],
            ] {
                let [y, u, v] = yuv;
                let (width, height) = (7, 5);
                for (format, data) in [
                    (PixelFormat::I420, [vec![y; 35], vec![u; 12], vec![v; 12]].concat()),
                    (PixelFormat::Nv12, [vec![y; 35], [u, v].repeat(12)].concat()),
                    (PixelFormat::Yuy2, [y, u, y, v].repeat(20)),
                ] {
                    let picture =
                        Picture { format, width, height, colour, data: Tensor::from_slice(&data).into() };
                    for size in [(5, 7), (16, 32), (3, 2)] {
                        let (largest, _) = difference(&picture, size);
                        assert!(largest < 1e-3, "{format:?} {colour:?} {yuv:?} {size:?}: {largest}");
                    }
                }
            }
        }
    }
}

#[test]
fn colours_everyone_knows() {
    let limited = |matrix| Colour { matrix, full_range: false, ..Colour::default() };
    for (colour, yuv, rgb) in [
        (limited(ColourMatrix::Bt709), [235.0, 128.0, 128.0], [255, 255, 255]),
        (limited(ColourMatrix::Bt709), [63.0, 102.0, 240.0], [255, 0, 0]),
        (limited(ColourMatrix::Bt601), [81.0, 90.0, 240.0], [255, 0, 0]),
        (limited(ColourMatrix::Bt601), [41.0, 240.0, 110.0], [0, 0, 255]),
        (
            Colour { matrix: ColourMatrix::Bt601, full_range: true, ..Colour::default() },
            [150.0, 44.0, 21.0],
            [0, 255, 0],
        ),
    ] {
        for (value, expected) in textbook(colour, yuv).into_iter().zip(rgb) {
            assert!((value * 255.0 - f64::from(expected)).abs() < 2.0, "{colour:?} {yuv:?}");
        }
    }
}

#[test]
fn a_batch_may_mix_formats_and_sizes() {
    let pictures = [picture(PixelFormat::Rgb, 20, 10, 1), picture(PixelFormat::Nv12, 33, 65, 2)];
    let both: Vec<&Picture> = pictures.iter().collect();
    let size = (16, 32);
    let normalisation = Normalisation::default();
    let batch = preprocess(&both, size, &normalisation, Device::Cpu, Kind::Float).unwrap();
    for (row, picture) in (0i64..).zip(both) {
        let alone = preprocess(&[picture], size, &normalisation, Device::Cpu, Kind::Float).unwrap();
        assert!(batch.narrow(0, row, 1).equal(&alone));
    }
    let half = preprocess(&[&pictures[0]], size, &normalisation, Device::Cpu, Kind::BFloat16).unwrap();
    assert_eq!(half.kind(), Kind::BFloat16);
}

#[test]
fn wrong_bytes_are_an_error() {
    let mut short = picture(PixelFormat::I420, 3, 3, 1);
    short.data = Tensor::from_slice(&[0u8; 16]).into();
    let error =
        preprocess(&[&short], (16, 16), &Normalisation::default(), Device::Cpu, Kind::Float).unwrap_err();
    assert!(format!("{error:#}").contains("3x3 I420"), "{error:#}");
    assert!(preprocess(&[], (16, 16), &Normalisation::default(), Device::Cpu, Kind::Float).is_err());
}

#[test]
fn equal_to_the_published_input() {
    let shared =
        std::env::var("GCLIP_SHARED").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").into());
    let Ok(oracle) = Tensor::read_safetensors(format!("{shared}/oracle/oracle/input.safetensors")) else {
        eprintln!("skipped: no oracle in {shared}");
        return;
    };
    let image = image::open(format!("{shared}/oracle/images/img0.png")).unwrap().into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    let data = Tensor::from_slice(image.as_raw()).into();
    let picture = Picture { format: PixelFormat::Rgb, width, height, colour: Colour::default(), data };
    let size = network_size((width, height), InputSize::Native, 224, 16);
    let out = preprocess(&[&picture], size, &Normalisation::default(), Device::Cpu, Kind::Float).unwrap();
    let expected = &oracle.iter().find(|(key, _)| key == "input/img0").unwrap().1;
    assert!((out.squeeze_dim(0) - expected).abs().max().double_value(&[]) < 1e-6);
}
