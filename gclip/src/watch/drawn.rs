// SPDX-License-Identifier: MIT OR Apache-2.0
//! A frame as JPEG, with its masks drawn on it or without.

use anyhow::{Context, Result};
use gstgclip::meta::{MaskView, Masks, Rect};

use crate::segment::paint;
use gstgclip::picture::RgbImage;

/// A picture takes milliseconds.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// How strong the colours are, 0..1.
const OPACITY: f64 = 0.4;

/// The frame as it is.
///
/// # Errors
/// GStreamer cannot convert it.
pub fn plain(sample: &gst::Sample) -> Result<Vec<u8>> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().context("the picture has no caps")?)?;
    let colours = info.colorimetry();
    let is_jfif = info.format() == gst_video::VideoFormat::I420
        && colours.range() == gst_video::VideoColorRange::Range0_255
        && colours.matrix() == gst_video::VideoColorMatrix::Bt601;
    let caps = gst::Caps::new_empty_simple("image/jpeg");
    let jpeg = if is_jfif {
        gst_video::convert_sample(sample, &caps, Some(PATIENCE))?
    } else {
        // The encoder writes what it is given, RGB or a camera's colours of television. A JPEG says nothing of that: who reads it
        // expects those of JFIF, BT.601 of the whole range.
        let jfif = gst_video::VideoCapsBuilder::new()
            .format(gst_video::VideoFormat::I420)
            .field("colorimetry", "1:4:0:0")
            .build();
        // GStreamer's converter takes ranges for equal where matrices are (seen in 1.22): such pictures go by way of RGB.
        let rgb = gst_video::VideoCapsBuilder::new().format(gst_video::VideoFormat::Bgrx).build();
        let by_rgb = info.is_yuv() && colours.matrix() == gst_video::VideoColorMatrix::Bt601;
        let by_rgb = by_rgb.then(|| gst_video::convert_sample(sample, &rgb, Some(PATIENCE))).transpose()?;
        let sample = gst_video::convert_sample(by_rgb.as_ref().unwrap_or(sample), &jfif, Some(PATIENCE))?;
        gst_video::convert_sample(&sample, &caps, Some(PATIENCE))?
    };
    let buffer = jpeg.buffer().context("the encoder gave no picture")?;
    Ok(buffer.map_readable()?.to_vec())
}

/// The frame with the colours of its masks and a legend, no wider than `widest` pixels.
///
/// # Errors
/// GStreamer cannot convert it.
pub fn with_masks(sample: &gst::Sample, masks: &Masks, widest: Option<u32>) -> Result<Vec<u8>> {
    let image = rgb(sample, widest)?;
    let (width, height) = (image.width(), image.height());
    let ids = masks.with_ids(|view| stretched(view, masks.rect, width, height));
    let ids = ids.context("the mask cannot be read")?;
    let classes = masks.regions.iter().map(|region| (region.value, region.label.as_str(), region.area));
    plain(&sample_of(&paint::paint_ids(&image, &ids, classes, OPACITY)?)?)
}

fn rgb(sample: &gst::Sample, widest: Option<u32>) -> Result<RgbImage> {
    let info = gst_video::VideoInfo::from_caps(sample.caps().context("the picture has no caps")?)?;
    let width = widest.map_or(info.width(), |widest| info.width().min(widest)).max(1);
    let height = (u64::from(info.height()) * u64::from(width) / u64::from(info.width().max(1))).max(1);
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Rgb)
        .width(i32::try_from(width)?)
        .height(i32::try_from(height)?)
        .build();
    let converted = gst_video::convert_sample(sample, &caps, Some(PATIENCE))?;
    let info = gst_video::VideoInfo::from_caps(converted.caps().context("the picture has no caps")?)?;
    let buffer = converted.buffer().context("the converter gave no picture")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
    let (row, stride) = (info.width() as usize * 3, usize::try_from(info.stride()[0])?);
    let rows = frame.plane_data(0)?.chunks(stride).take(info.height() as usize);
    let pixels: Vec<u8> = rows.flat_map(|pixels| pixels.iter().take(row).copied()).collect();
    RgbImage::from_raw(info.width() as usize, info.height() as usize, pixels).context("half a picture came")
}

fn sample_of(image: &RgbImage) -> Result<gst::Sample> {
    let (width, height) = (u32::try_from(image.width())?, u32::try_from(image.height())?);
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height).build()?;
    let stride = usize::try_from(info.stride()[0])?;
    let mut bytes = vec![0; info.size()];
    for (to, from) in bytes.chunks_mut(stride).zip(image.as_raw().chunks(image.width() * 3)) {
        to[..from.len()].copy_from_slice(from);
    }
    let buffer = gst::Buffer::from_mut_slice(bytes);
    Ok(gst::Sample::builder().buffer(&buffer).caps(&info.to_caps()?).build())
}

/// The values of the mask at the pixels of a picture of this size, of which it covers `rect`.
fn stretched(mask: &MaskView, rect: Rect, width: usize, height: usize) -> Vec<u16> {
    let along = |count: usize, start: f64, extent: f64, values: usize| -> Vec<Option<usize>> {
        let place = |index: usize| ((index as f64 + 0.5) / count as f64 - start) / extent;
        let within = |place: f64| (0.0..1.0).contains(&place).then_some((place * values as f64) as usize);
        (0..count).map(|index| within(place(index))).collect()
    };
    let columns = along(width, rect.x, rect.w, mask.width());
    let rows = along(height, rect.y, rect.h, mask.height());
    let value = |row: Option<usize>, column: Option<usize>| mask.get(column?, row?);
    rows.iter().flat_map(|&row| columns.iter().map(move |&column| value(row, column).unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstgclip::meta::Region;

    fn decoded(jpeg: &[u8]) -> image::RgbImage {
        image::load_from_memory(jpeg).unwrap().to_rgb8()
    }

    /// What cameras send: limited range, and of high definition another matrix than that of JFIF.
    #[test]
    fn colours_are_those_of_the_camera() {
        gst::init().unwrap();
        let (width, height) = (64, 32);
        for (colorimetry, [y, u, v], expected) in [
            ("bt709", [63, 102, 240], [255, 0, 0]),
            ("bt709", [235, 128, 128], [255, 255, 255]),
            ("bt709", [16, 128, 128], [0, 0, 0]),
            ("bt601", [81, 90, 240], [255, 0, 0]),
            ("1:4:0:0", [76, 85, 255], [255, 0, 0]),
        ] {
            let mut bytes = vec![y; width * height];
            bytes.extend(vec![u; width * height / 4]);
            bytes.extend(vec![v; width * height / 4]);
            let caps = gst_video::VideoCapsBuilder::new()
                .format(gst_video::VideoFormat::I420)
                .width(width as i32)
                .height(height as i32)
                .framerate((10, 1).into())
                .field("colorimetry", colorimetry)
                .build();
            let buffer = gst::Buffer::from_mut_slice(bytes);
            let sample = gst::Sample::builder().buffer(&buffer).caps(&caps).build();
            let seen = decoded(&plain(&sample).unwrap()).get_pixel(30, 15).0;
            let off = seen.iter().zip(expected).map(|(seen, expected)| seen.abs_diff(expected)).max();
            assert!(off < Some(6), "{colorimetry} {:?}: {seen:?}, not {expected:?}", [y, u, v]);
        }
    }

    #[test]
    fn the_picture_is_drawn_on_where_its_mask_is() {
        gst::init().unwrap();
        let grey = RgbImage::from_raw(90, 30, vec![30; 90 * 30 * 3]).unwrap();
        let sample = sample_of(&grey).unwrap();
        let plain = decoded(&plain(&sample).unwrap());
        assert_eq!(plain.dimensions(), (90, 30), "a width that leaves a gap in each row");
        // GStreamer's encoder spoils the last columns of a width that is no multiple of its blocks of 16, and one beside.
        let off = |image: &image::RgbImage| -> Vec<_> {
            let wrong = |pixel: &image::Rgb<u8>| pixel.0.iter().any(|value| value.abs_diff(30) > 3);
            let pixels = image.enumerate_pixels().filter(|(x, _, pixel)| *x < 79 && wrong(pixel));
            pixels.map(|(x, y, pixel)| (x, y, pixel.0)).collect()
        };
        assert_eq!(off(&plain), []);
        // The right half of a mask that covers the right two thirds.
        let mut mask = gst::Buffer::from_slice([0u8, 0, 1, 1]);
        gst_video::VideoMeta::add(
            mask.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::Gray8,
            4,
            1,
        )
        .unwrap();
        let cat =
            Region { value: 1, label: "cat".into(), score: 0.5, area: 0.3, x: 0.6, y: 0.0, w: 0.3, h: 1.0 };
        let rect = Rect { x: 1.0 / 3.0, y: 0.0, w: 2.0 / 3.0, h: 1.0 };
        let masks = Masks { rect, ..Masks::new(1, mask, vec![cat]) };
        let drawn = decoded(&with_masks(&sample, &masks, Some(45)).unwrap());
        assert_eq!(drawn.dimensions(), (45, 15));
        let off_by = |x: u32| drawn.get_pixel(x, 2).0.iter().map(|value| value.abs_diff(30)).max().unwrap();
        assert!(off_by(5) < 6 && off_by(22) < 30 && off_by(38) > 30, "{:?}", [5, 22, 38].map(off_by));
    }
}
