// SPDX-License-Identifier: MIT OR Apache-2.0
//! Planes with padded rows, and several pictures at once: what frames of a GPU go through.

use super::super::*;
use super::{FORMATS, picture};
use crate::model::cuda::DevicePlane;

/// Each plane of `picture` in memory of its own, its rows padded by `padding` bytes.
fn padded(picture: &Picture, padding: usize) -> Picture {
    let bytes: Vec<u8> = Vec::try_from(&picture.data).unwrap();
    let (mut memory, mut places, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
    for (row_bytes, rows) in plane_sizes(picture.format, picture.width, picture.height) {
        places.push((memory.len(), row_bytes, rows));
        let (plane, after) = rest.split_at(row_bytes * rows);
        for row in plane.chunks(row_bytes) {
            memory.extend_from_slice(row);
            memory.resize(memory.len() + padding, 0xEE);
        }
        rest = after;
    }
    let start = memory.as_ptr() as u64;
    let plane = |(at, row_bytes, rows)| DevicePlane {
        address: start + at as u64,
        stride: row_bytes + padding,
        row_bytes,
        rows,
    };
    let planes = places.into_iter().map(plane).collect();
    // SAFETY: the picture owns the memory, and nobody writes to it.
    let data = unsafe { DevicePixels::new(Device::Cpu, planes, None, Box::new(memory)) };
    Picture { data: Pixels::Device(data), ..*picture }
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
