// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

/// Every plane filled with its own counting bytes, in a buffer whose rows are padded by `padding` bytes.
fn frame_with_padding(
    format: VideoFormat,
    width: u32,
    height: u32,
    padding: usize,
) -> (gst::Buffer, gst_video::VideoInfo, Vec<u8>) {
    gst::init().unwrap();
    let planes = plane_sizes(pixel_format(format).unwrap(), width as usize, height as usize);
    let (mut bytes, mut packed) = (Vec::new(), Vec::new());
    let (mut offsets, mut strides) = (Vec::new(), Vec::new());
    let mut value = 0u8;
    for (row_bytes, rows) in planes {
        offsets.push(bytes.len());
        strides.push((row_bytes + padding) as i32);
        for _ in 0..rows {
            for _ in 0..row_bytes {
                value = value.wrapping_mul(31).wrapping_add(7);
                bytes.push(value);
                packed.push(value);
            }
            bytes.extend(std::iter::repeat_n(0xEE, padding));
        }
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    gst_video::VideoMeta::add_full(
        buffer.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        format,
        width,
        height,
        &offsets,
        &strides,
    )
    .unwrap();
    (buffer, gst_video::VideoInfo::builder(format, width, height).build().unwrap(), packed)
}

fn picture_of(buffer: &gst::Buffer, info: &gst_video::VideoInfo) -> Picture {
    picture(&Mapped::read(buffer, info).unwrap()).unwrap()
}

#[test]
fn every_format_is_packed_whatever_its_stride_and_parity() {
    let deep = |format: &VideoFormat| DEEP.iter().any(|(deep, _)| deep == format);
    for format in FORMATS.into_iter().filter(|format| !deep(format)) {
        for (width, height) in [(1, 1), (2, 2), (5, 3), (16, 8), (33, 17)] {
            for padding in [0, 1, 13] {
                let (buffer, info, packed) = frame_with_padding(format, width, height, padding);
                let picture = picture_of(&buffer, &info);
                let copied: Vec<u8> = Vec::try_from(&picture.data).unwrap();
                assert_eq!(copied, packed, "{format} {width}x{height} padded by {padding}");
                assert_eq!((picture.width, picture.height), (width as usize, height as usize));
            }
        }
    }
}

/// The two ways to a thumbnail's means: samples read by the CPU, and tensors over the frame where it lies, as on a GPU.
#[test]
fn means_of_cells_are_the_same_on_a_device() {
    let cells = |length: usize| -> Vec<Vec<usize>> {
        (0..length)
            .collect::<Vec<_>>()
            .chunks(3)
            .map(|cell| cell.iter().step_by(2).copied().collect())
            .collect()
    };
    let deep = |format: &VideoFormat| DEEP.iter().any(|(deep, _)| deep == format);
    for format in FORMATS.into_iter().filter(|format| !deep(format)) {
        for (width, height) in [(1, 1), (5, 3), (33, 17)] {
            let (buffer, info, _) = frame_with_padding(format, width, height, 5);
            let picture = lent(buffer.clone(), Hold::on(&buffer).unwrap(), &info).unwrap();
            let means =
                crate::model::preprocess::cell_means(&picture, |width, height| (cells(height), cells(width)))
                    .unwrap();
            let mapped = Mapped::read_shown(&buffer, &info).unwrap();
            let read = mapped.colours().into_iter().map(|component| {
                let (rows, columns) = (cells(component.height), cells(component.width));
                let mean = |rows: &Vec<usize>, columns: &Vec<usize>| {
                    let at = |y: usize, x: usize| {
                        component.data[y * component.row_step + x * component.pixel_step]
                    };
                    let samples =
                        rows.iter().flat_map(|&y| columns.iter().map(move |&x| f32::from(at(y, x))));
                    samples.sum::<f32>() / (rows.len() * columns.len()) as f32
                };
                rows.iter()
                    .flat_map(|row| columns.iter().map(|column| mean(row, column)))
                    .collect::<Vec<f32>>()
            });
            let mut read: Vec<Vec<f32>> = read.collect();
            // In the order in which they lie.
            if matches!(format, VideoFormat::Bgr | VideoFormat::Bgra | VideoFormat::Bgrx) {
                read.reverse();
            }
            assert_eq!(means.len(), read.len(), "{format}");
            for (one, other) in means.iter().flatten().zip(read.iter().flatten()) {
                assert!((one - other).abs() < 1e-3, "{format} {width}x{height}: {one} and {other}");
            }
            assert_eq!(means.iter().map(Vec::len).sum::<usize>(), read.iter().map(Vec::len).sum::<usize>());
        }
    }
}

/// Formats of 16-bit samples, and the bits of each below those of a byte.
const DEEP: [(VideoFormat, u32); 4] = [
    (VideoFormat::Gray16Le, 8),
    (VideoFormat::I42010le, 2),
    (VideoFormat::I42012le, 4),
    (VideoFormat::P01010le, 8),
];

#[test]
fn deep_samples_are_rounded_to_bytes() {
    gst::init().unwrap();
    for (format, below) in DEEP {
        let info = gst_video::VideoInfo::builder(format, 5, 3).build().unwrap();
        let top = (256 << below) - 1;
        let values: Vec<u16> = (0..info.size() as u32 / 2).map(|n| (n * 977 % (top + 1)) as u16).collect();
        let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes[..2].copy_from_slice(&(top as u16).to_le_bytes());
        let picture = picture_of(&gst::Buffer::from_mut_slice(bytes.clone()), &info);
        let packed: Vec<u8> = Vec::try_from(&picture.data).unwrap();
        assert_eq!(packed[0], 255, "{format}: the brightest sample does not wrap around");
        let mut places = Vec::new();
        for (plane, (row_bytes, rows)) in plane_sizes(picture.format, 5, 3).into_iter().enumerate() {
            let (offset, stride) = (info.offset()[plane], info.stride()[plane] as usize);
            places
                .extend((0..rows * row_bytes).map(|n| offset + n / row_bytes * stride + 2 * (n % row_bytes)));
        }
        assert_eq!(packed.len(), places.len(), "{format}");
        for (byte, place) in packed.into_iter().zip(places) {
            let sample = f64::from(u16::from_le_bytes([bytes[place], bytes[place + 1]]));
            let difference = f64::from(byte) - (sample / f64::from(1u32 << below)).min(255.0);
            assert!(difference.abs() <= 0.5, "{format}: {sample} became {byte}");
        }
    }
}

#[test]
fn colorimetry_comes_from_the_caps() {
    gst::init().unwrap();
    for (colorimetry, matrix, full_range) in [
        ("bt601", ColourMatrix::Bt601, false),
        ("bt709", ColourMatrix::Bt709, false),
        ("bt2020", ColourMatrix::Bt2020, false),
        ("1:4:0:0", ColourMatrix::Bt601, true),
    ] {
        let parsed = colorimetry.parse::<gst_video::VideoColorimetry>().unwrap();
        assert_eq!(colour(&parsed), Colour { matrix, full_range, ..Colour::default() }, "{colorimetry}");
    }
}

#[test]
fn unsupported_formats_are_named() {
    gst::init().unwrap();
    let error = pixel_format(VideoFormat::Argb64Le).unwrap_err().to_string();
    assert!(error.contains("ARGB64_LE"), "{error}");
}

fn segmentation(width: usize, height: usize, ids: Ids) -> Arc<Segmentation> {
    Arc::new(Segmentation::new(width, height, ids, Vec::new()))
}

#[test]
fn masks_are_lent_not_copied_and_map_as_video() {
    gst::init().unwrap();
    let wide = segmentation(3, 2, Ids::U8(vec![0, 1, 2, 3, 4, 255]));
    let buffer = mask_buffer(&wide).unwrap();
    let Ids::U8(values) = &wide.ids else { unreachable!() };
    assert_eq!(buffer.map_readable().unwrap().as_slice().as_ptr(), values.as_ptr());
    let meta = buffer.meta::<gst_video::VideoMeta>().unwrap();
    assert_eq!((meta.format(), meta.width(), meta.height()), (VideoFormat::Gray8, 3, 2));
    assert_eq!(meta.stride(), [3]);

    let deep = segmentation(3, 1, Ids::U16(vec![1, 256, 65535]));
    let buffer = mask_buffer(&deep).unwrap();
    assert_eq!(buffer.map_readable().unwrap().as_slice(), [1, 0, 0, 1, 255, 255]);
    assert_eq!(buffer.meta::<gst_video::VideoMeta>().unwrap().format(), VideoFormat::Gray16Le);
}

#[test]
fn a_mask_whose_size_does_not_fit_its_values_is_refused() {
    gst::init().unwrap();
    assert!(mask_buffer(&segmentation(3, 2, Ids::U8(vec![0; 5]))).is_err());
    assert!(mask_buffer(&segmentation(0, 0, Ids::U8(vec![]))).is_err());
}

#[test]
fn high_dynamic_range_is_known_by_its_transfer() {
    gst::init().unwrap();
    for (colorimetry, transfer) in [
        ("bt2100-pq", Transfer::Pq),
        ("bt2100-hlg", Transfer::Hlg),
        ("bt2020", Transfer::Sdr),
        ("sRGB", Transfer::Sdr),
    ] {
        let parsed = colorimetry.parse::<gst_video::VideoColorimetry>().unwrap();
        assert_eq!(colour(&parsed).transfer, transfer, "{colorimetry}");
    }
}
