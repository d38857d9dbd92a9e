// SPDX-License-Identifier: MIT OR Apache-2.0
//! PNG and JPEG files to pictures for the model.

mod entropy;
mod orientation;
mod rgb;

use std::io::Cursor;
use std::path::Path;

use crate::model::{Colour, Picture, PixelFormat};
use anyhow::{Context, Result, anyhow, bail, ensure};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use orientation::Orientation;
pub use rgb::RgbImage;

/// Longest side of a picture: what PNG and JPEG files of cameras and scanners have, and no decompression bomb.
const MAX_SIDE: usize = 65_535;
/// Memory the decoder may take: a picture of 16k x 16k pixels.
const MAX_BYTES: usize = 1 << 30;

/// Which way round a picture is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As viewers show it: turned and mirrored as its EXIF orientation says.
    AsShown,
    /// As its pixels are stored, which is what label pictures follow.
    AsStored,
}

/// A picture, and what is wrong with its file if that can be borne.
pub struct Opened {
    pub image: RgbImage,
    pub doubt: Option<String>,
}

/// Reads a picture; its contents, not its name, say which format it is.
///
/// # Errors
/// The file cannot be read, is neither PNG nor JPEG, is larger than any picture, or is cut off.
pub fn read(path: &Path, turn: Turn) -> Result<Opened> {
    let open = || decode(&bytes(path)?, turn);
    open().with_context(|| format!("cannot read the picture {}", path.display()))
}

/// What is in the file of a picture.
///
/// # Errors
/// It cannot be read, or is larger than any picture.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    ensure!(size <= MAX_BYTES as u64, "it has {size} bytes, more than any picture");
    Ok(std::fs::read(path)?)
}

/// As [`read`], from what is in the file.
pub fn decode(bytes: &[u8], turn: Turn) -> Result<Opened> {
    let (image, orientation, doubt) = match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes)?,
        [0x89, b'P', b'N', b'G', ..] => png(bytes)?,
        _ => bail!("it is neither PNG nor JPEG"),
    };
    let image = match turn {
        Turn::AsShown => orientation.unwrap_or(Orientation::UPRIGHT).upright(image),
        Turn::AsStored => image,
    };
    Ok(Opened { image, doubt })
}

/// The stored pixels, what EXIF says of them (damaged, it fails no picture), and what is wrong with the file.
type Decoded = (RgbImage, Option<Orientation>, Option<String>);

fn check_size(width: usize, height: usize) -> Result<()> {
    let bytes = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
    let fits = width.max(height) <= MAX_SIDE && bytes.is_some_and(|bytes| bytes <= MAX_BYTES);
    ensure!(fits, "it is {width}x{height}, larger than any picture");
    Ok(())
}

/// A decoder of PNG refuses what is cut off or damaged.
fn png(bytes: &[u8]) -> Result<Decoded> {
    let limits = png::Limits { bytes: MAX_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info()?;
    let info = reader.info();
    let (width, height) = (usize::try_from(info.width)?, usize::try_from(info.height)?);
    check_size(width, height)?;
    let orientation = info.exif_metadata.as_ref().and_then(|exif| Orientation::of_exif(exif));
    let mut samples = vec![0; reader.output_buffer_size().context("its size is impossible")?];
    let frame = reader.next_frame(&mut samples)?;
    samples.truncate(frame.buffer_size());
    if frame.bit_depth == png::BitDepth::Sixteen {
        samples = samples.as_chunks().0.iter().map(|pair| to_eight_bits(u16::from_be_bytes(*pair))).collect();
    }
    let data = match frame.color_type {
        png::ColorType::Rgb => samples,
        png::ColorType::Rgba => samples.as_chunks().0.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect(),
        png::ColorType::Grayscale => samples.iter().flat_map(|grey| [*grey; 3]).collect(),
        png::ColorType::GrayscaleAlpha => {
            samples.as_chunks().0.iter().flat_map(|[grey, _]| [*grey; 3]).collect()
        }
        png::ColorType::Indexed => bail!("its palette is missing"),
    };
    let image = RgbImage::from_raw(width, height, data).context("it holds less than its size says")?;
    Ok((image, orientation, None))
}

/// 0 to 65535 as 0 to 255, to the nearest.
fn to_eight_bits(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

/// A decoder of JPEG fills what is missing with grey, unless it is told to be strict. Then it also refuses files that are whole
/// and only untidy.
fn jpeg(bytes: &[u8]) -> Result<Decoded> {
    let whole = match decode_jpeg(bytes, true) {
        Ok((image, orientation)) => {
            let doubt = match entropy::damage(bytes) {
                _ if is_cut_off(bytes) => Some("its end marker is missing".to_owned()),
                Some(damage) => Some(format!("it is damaged: {damage}")),
                None => None,
            };
            return Ok((image, orientation, doubt));
        }
        Err(error) => error,
    };
    ensure!(!is_cut_off(bytes), "the file is cut off");
    let (image, orientation) = decode_jpeg(bytes, false)?;
    Ok((image, orientation, Some(format!("it is damaged ({whole}), and what is missing is grey"))))
}

fn decode_jpeg(bytes: &[u8], strict: bool) -> Result<(RgbImage, Option<Orientation>)> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_strict_mode(strict)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let told = |error: zune_jpeg::errors::DecodeErrors| anyhow!("{error:?}");
    decoder.decode_headers().map_err(told)?;
    let (width, height) = decoder.dimensions().context("it has no size")?;
    check_size(width, height)?;
    let pixels = decoder.decode().map_err(told)?;
    let orientation = decoder.exif().and_then(|exif| Orientation::of_exif(exif));
    let image = RgbImage::from_raw(width, height, pixels).context("it holds less than its size says")?;
    Ok((image, orientation))
}

/// Whether a JPEG ends before its end marker. The pictures in its headers, which have one of their own, do not count.
fn is_cut_off(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        match marker {
            START_OF_SCAN => return !bytes[at..].windows(2).any(|two| two == END),
            // Markers may have any number of fill bytes before them.
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    true
}

/// The picture as the model takes it.
pub fn for_model(image: &RgbImage) -> Result<Picture> {
    Ok(Picture {
        format: PixelFormat::Rgb,
        width: image.width(),
        height: image.height(),
        colour: Colour::default(),
        data: tch::Tensor::f_from_slice(image.as_raw())?.into(), // [height x width x 3]
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

    use super::{Turn, read, rgb};

    /// Four colours: red at the upper left, green at the upper right, blue and white below.
    fn upright() -> RgbImage {
        RgbImage::from_fn(48, 32, |x, y| match (x < 24, y < 16) {
            (true, true) => Rgb([220, 20, 20]),
            (false, true) => Rgb([20, 200, 20]),
            (true, false) => Rgb([20, 20, 220]),
            (false, false) => Rgb([235, 235, 235]),
        })
    }

    fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// TIFF's header and one entry, the orientation (tag 0x0112, one SHORT).
    fn exif(orientation: u8) -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        exif
    }

    /// What is stored so that, turned as EXIF's `orientation` says, it is upright.
    fn stored(orientation: u8) -> RgbImage {
        use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
        let image = upright();
        match orientation {
            2 => flip_horizontal(&image),
            3 => rotate180(&image),
            4 => flip_vertical(&image),
            5 => flip_horizontal(&rotate90(&image)),
            6 => rotate270(&image),
            7 => flip_horizontal(&rotate270(&image)),
            8 => rotate90(&image),
            _ => image,
        }
    }

    fn encoded(image: &RgbImage, exif: Option<Vec<u8>>) -> [(&'static str, Vec<u8>); 2] {
        let (mut png, mut jpeg) = (Vec::new(), Vec::new());
        let mut encoder = PngEncoder::new(&mut png);
        if let Some(exif) = exif.clone() {
            encoder.set_exif_metadata(exif).unwrap();
        }
        encoder.write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8).unwrap();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, 95);
        if let Some(exif) = exif {
            encoder.set_exif_metadata(exif).unwrap();
        }
        encoder.write_image(image, image.width(), image.height(), ExtendedColorType::Rgb8).unwrap();
        [("p.png", png), ("p.jpg", jpeg)]
    }

    fn size(image: &RgbImage) -> (usize, usize) {
        (image.width() as usize, image.height() as usize)
    }

    fn is_upright(image: &rgb::RgbImage) -> bool {
        let upright = upright();
        let near = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) < 40);
        (image.width(), image.height()) == size(&upright)
            && [(6, 6), (40, 6), (6, 26), (40, 26)]
                .iter()
                .all(|&(x, y)| near(image.pixel(x, y), upright.get_pixel(x as u32, y as u32).0))
    }

    #[test]
    fn pictures_are_turned_as_their_exif_orientation_says() {
        let folder = tempfile::tempdir().unwrap();
        for orientation in 1..=8 {
            for (name, bytes) in encoded(&stored(orientation), Some(exif(orientation))) {
                let path = file(&folder, name, &bytes);
                let shown = read(&path, Turn::AsShown).unwrap();
                assert!(is_upright(&shown.image), "{name}, orientation {orientation}");
                assert_eq!(shown.doubt, None);
                let kept = read(&path, Turn::AsStored).unwrap().image;
                let kept = (kept.width(), kept.height());
                assert_eq!(kept, size(&stored(orientation)), "{name} {orientation}");
            }
        }
    }

    #[test]
    fn exif_that_makes_no_sense_does_not_fail_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        for broken in [exif(0), exif(9), exif(6)[..9].to_vec(), b"II*\0\xff\xff\xff\xff".to_vec(), vec![0; 3]]
        {
            for (name, bytes) in encoded(&upright(), Some(broken.clone())) {
                let image = read(&file(&folder, name, &bytes), Turn::AsShown).unwrap().image;
                assert!(is_upright(&image), "{name} {broken:?}");
            }
        }
    }

    /// Noise, so that there is something to cut off anywhere.
    fn noise() -> RgbImage {
        let mut state = 7u32;
        RgbImage::from_fn(64, 64, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [a, b, c, _] = state.to_be_bytes();
            Rgb([a, b, c])
        })
    }

    #[test]
    fn a_picture_that_is_cut_off_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        // EXIF with a picture of its own, which ends.
        let mut thumbnail = exif(1);
        thumbnail.extend([0xff, 0xd8, 0xff, 0xd9]);
        for (name, bytes) in encoded(&noise(), Some(thumbnail)) {
            assert!(read(&file(&folder, name, &bytes), Turn::AsShown).unwrap().doubt.is_none(), "{name}");
            for percent in [15, 40, 90] {
                let cut = &bytes[..bytes.len() * percent / 100];
                let error = read(&file(&folder, name, cut), Turn::AsShown).err();
                let error = format!("{:#}", error.unwrap_or_else(|| panic!("{name} cut at {percent} %")));
                assert!(name == "p.png" || error.contains("cut off"), "{error}");
            }
        }
    }

    /// The data of its only scan, from the place in percent on.
    fn place_in_data(jpeg: &[u8], percent: usize) -> usize {
        let start = jpeg.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap() + 14;
        start + (jpeg.len() - 2 - start) * percent / 100
    }

    #[test]
    fn a_hole_in_a_picture_that_ends_properly_is_told_about() {
        let folder = tempfile::tempdir().unwrap();
        let [_, (_, whole)] = encoded(&noise(), None);
        let (from, to) = (place_in_data(&whole, 30), place_in_data(&whole, 60));
        let with = |hole: &[u8], behind: usize| [&whole[..from], hole, &whole[behind..]].concat();
        let cases = [
            ("left out", with(&[], to)),
            ("one byte", with(&[], from + 1)),
            ("zeros", with(&[0; 64], from + 64)),
            ("its end", with(&[], whole.len() - 2)),
            ("twice", with(&whole[from..to], from)),
        ];
        for (name, bytes) in cases {
            let opened = read(&file(&folder, "hole.jpg", &bytes), Turn::AsShown).unwrap();
            assert!(opened.doubt.is_some_and(|doubt| doubt.contains("damaged")), "{name}");
        }
        assert_eq!(read(&file(&folder, "whole.jpg", &whole), Turn::AsShown).unwrap().doubt, None);
    }

    #[test]
    fn a_picture_without_its_end_marker_is_told_about() {
        let folder = tempfile::tempdir().unwrap();
        let [_, (_, bytes)] = encoded(&upright(), None);
        let opened = read(&file(&folder, "open.jpg", &bytes[..bytes.len() - 2]), Turn::AsShown).unwrap();
        assert!(is_upright(&opened.image) && opened.doubt.unwrap().contains("end marker"));
    }

    /// Every kind of pixel that a PNG may have, against another reader of it.
    #[test]
    fn every_kind_of_png_is_read_as_others_read_it() {
        use image::DynamicImage::{self, *};
        let folder = tempfile::tempdir().unwrap();
        let colours = DynamicImage::from(noise());
        let with_alpha = {
            let mut rgba = colours.to_rgba16();
            rgba.pixels_mut().enumerate().for_each(|(index, pixel)| pixel.0[3] = (index * 16) as u16);
            DynamicImage::from(rgba)
        };
        let deep = DynamicImage::from(image::ImageBuffer::from_fn(64, 64, |x, y| {
            image::Luma([(x * 1021 + y * 37) as u16])
        }));
        let kinds = [
            ImageLuma8(colours.to_luma8()),
            ImageLumaA8(with_alpha.to_luma_alpha8()),
            ImageRgb8(colours.to_rgb8()),
            ImageRgba8(with_alpha.to_rgba8()),
            ImageLuma16(deep.to_luma16()),
            ImageLumaA16(deep.to_luma_alpha16()),
            ImageRgb16(deep.to_rgb16()),
            ImageRgba16(with_alpha.to_rgba16()),
        ];
        for kind in kinds {
            let path = folder.path().join("kind.png");
            kind.save(&path).unwrap();
            let read = read(&path, Turn::AsShown).unwrap().image;
            let other = image::open(&path).unwrap();
            assert_eq!(other.color(), kind.color());
            assert!(read.as_raw() == other.to_rgb8().as_raw().as_slice(), "{:?}", kind.color());
        }
        for depth in [png::BitDepth::One, png::BitDepth::Two, png::BitDepth::Four] {
            for colour in [png::ColorType::Indexed, png::ColorType::Grayscale] {
                let path = folder.path().join("few.png");
                let mut encoder = png::Encoder::new(std::fs::File::create(&path).unwrap(), 8, 1);
                encoder.set_color(colour);
                encoder.set_depth(depth);
                if colour == png::ColorType::Indexed {
                    encoder.set_palette((0..48).map(|value| value * 5).collect::<Vec<u8>>());
                    encoder.set_trns(vec![0, 128]);
                }
                let row = [0b0001_1011, 0b1110_0100, 0b0011_0001, 0b1111_0000];
                encoder.write_header().unwrap().write_image_data(&row[..depth as usize]).unwrap();
                let read = read(&path, Turn::AsShown).unwrap().image;
                let other = image::open(&path).unwrap().to_rgb8();
                assert_eq!(read.as_raw(), other.as_raw().as_slice(), "{colour:?} {depth:?}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let picture = rgb::RgbImage::from_raw(64, 64, noise().into_raw()).unwrap();
        let path = folder.path().join("again.png");
        picture.write_png(std::fs::File::create(&path).unwrap()).unwrap();
        assert!(read(&path, Turn::AsShown).unwrap().image == picture);
    }
}
