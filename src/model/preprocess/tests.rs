// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn picture(format: PixelFormat, width: usize, height: usize, seed: u32) -> Picture {
    let mut state = seed;
    let bytes: Vec<u8> = (0..planes::bytes(format, width, height))
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Picture { format, width, height, colour: Colour::default(), data: Tensor::from_slice(&bytes) }
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
