// SPDX-License-Identifier: MIT OR Apache-2.0
//! Planes with padded rows, and several pictures at once: what frames of a GPU go through.

use super::super::*;
use super::{FORMATS, picture};
use crate::cuda::tests::padded_pixels;

/// `picture` with each row padded by `padding` bytes.
fn padded(picture: &Picture, padding: usize) -> Picture {
    let bytes: Vec<u8> = Vec::try_from(&picture.data).unwrap();
    let sizes = plane_sizes(picture.format, picture.width, picture.height);
    Picture { data: Pixels::Lent(padded_pixels(&bytes, &sizes, padding)), ..*picture }
}

#[test]
fn planes_are_read_where_they_lie_whatever_their_stride() {
    for format in FORMATS {
        for (width, height) in [(1, 1), (33, 17), (64, 36)] {
            let packed = picture(format, width, height, 5);
            for padding in [0, 1, 24] {
                let padded = padded(&packed, padding);
                let see = |picture: &Picture| {
                    let normalisation = Normalisation::default();
                    preprocess(&[picture], (16, 32), &normalisation, Device::Cpu, Kind::Float).unwrap()
                };
                let same = see(&packed).equal(&see(&padded));
                assert!(same, "{format:?} {width}x{height} padded by {padding}");
            }
        }
    }
    let mut narrow = padded(&picture(PixelFormat::Nv12, 8, 8, 1), 0);
    narrow.width = 10;
    let error =
        preprocess(&[&narrow], (16, 16), &Normalisation::default(), Device::Cpu, Kind::Float).unwrap_err();
    assert!(format!("{error:#}").contains("its planes are"), "{error:#}");
}

/// What a GPU does with a run of pictures at once, here on the CPU.
#[test]
fn pictures_of_one_kind_go_through_the_steps_together() {
    let normalisation = Normalisation::default();
    for format in FORMATS {
        for size in [[16, 32], [17, 33], [40, 70]] {
            let pictures: Vec<Picture> = (0..3).map(|seed| picture(format, 33, 17, seed)).collect();
            let all: Vec<&Picture> = pictures.iter().collect();
            let together = planes::normalised(&all, size, &normalisation, Device::Cpu).unwrap();
            assert_eq!(together.size(), [3, 3, size[0], size[1]]);
            for (row, picture) in (0i64..).zip(all) {
                let alone = planes::normalised(&[picture], size, &normalisation, Device::Cpu).unwrap();
                let off = (together.narrow(0, row, 1) - alone).abs().max().double_value(&[]);
                assert!(off < 1e-5, "{format:?} {size:?}: {off}");
            }
        }
    }
}
