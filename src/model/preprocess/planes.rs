// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planes of each pixel format, brought to the tower's size and to normalised R, G, B.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::colour::YuvToRgb;
use super::resize::{resize, shrink_rows};
use super::{Normalisation, Picture, PixelFormat};

/// Bytes of a packed picture.
pub fn bytes(format: PixelFormat, width: usize, height: usize) -> usize {
    let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
    match format {
        PixelFormat::Rgb | PixelFormat::Bgr => width * height * 3,
        PixelFormat::Rgbx | PixelFormat::Bgrx => width * height * 4,
        PixelFormat::Gray8 => width * height,
        PixelFormat::I420 | PixelFormat::Nv12 => width * height + 2 * chroma_width * chroma_height,
        PixelFormat::Yuy2 => 4 * chroma_width * height,
    }
}

/// A picture as `[1, 3, H, W]` f32, normalised, on `device`, at `size` (height, width).
pub fn normalised(
    picture: &Picture,
    size: [i64; 2],
    normalisation: &Normalisation,
    device: Device,
) -> Result<Tensor> {
    let (width, height) = (picture.width as i64, picture.height as i64);
    if width == 0 || height == 0 {
        bail!("it is empty");
    }
    let expected = bytes(picture.format, picture.width, picture.height);
    if picture.data.numel() != expected || picture.data.kind() != Kind::Uint8 {
        bail!(
            "it has {} values of {:?} in place of {expected} bytes",
            picture.data.numel(),
            picture.data.kind()
        );
    }
    let data = picture.data.f_to_device(device)?.f_contiguous()?;
    match picture.format {
        PixelFormat::Rgb => packed(&data, 3, [0, 1, 2], picture, size, normalisation),
        PixelFormat::Bgr => packed(&data, 3, [2, 1, 0], picture, size, normalisation),
        PixelFormat::Rgbx => packed(&data, 4, [0, 1, 2], picture, size, normalisation),
        PixelFormat::Bgrx => packed(&data, 4, [2, 1, 0], picture, size, normalisation),
        PixelFormat::Gray8 => {
            let gray = single(&data.f_view([height, width])?, size)?;
            normalise(&gray.f_expand([1, 3, -1, -1], false)?, normalisation) // [1, 1, H, W] -> [1, 3, H, W]
        }
        PixelFormat::I420 | PixelFormat::Nv12 => {
            let luma = data.f_narrow(0, 0, width * height)?.f_view([height, width])?;
            let (chroma_height, chroma_width) = ((height + 1) / 2, (width + 1) / 2);
            let chroma = data.f_narrow(0, width * height, 2 * chroma_height * chroma_width)?;
            let chroma = match picture.format {
                PixelFormat::I420 => chroma.f_view([1, 2, chroma_height, chroma_width])?,
                _ => chroma.f_view([1, chroma_height, chroma_width, 2])?.f_permute([0, 3, 1, 2])?,
            };
            let scales =
                (chroma_scale(size[0], height, chroma_height), chroma_scale(size[1], width, chroma_width));
            yuv(&single(&luma, size)?, &resize(&chroma, size, scales)?, picture, normalisation)
        }
        PixelFormat::Yuy2 => {
            let pairs = (width + 1) / 2;
            let rows = shrink_rows(&data.f_view([height, 4 * pairs])?, size[0], None)?;
            let rows = rows.f_view([1, -1, pairs, 4])?; // Y0 U Y1 V
            let luma = rows.f_slice(3, 0, None, 2)?.f_reshape([1, 1, -1, 2 * pairs])?;
            let luma = resize(&luma.f_narrow(3, 0, width)?.f_contiguous()?, size, (None, None))?;
            let chroma = rows.f_slice(3, 1, None, 2)?.f_permute([0, 3, 1, 2])?.f_contiguous()?; // [1, 2, h, pairs]
            let chroma = resize(&chroma, size, (None, chroma_scale(size[1], width, pairs)))?;
            yuv(&luma, &chroma, picture, normalisation)
        }
    }
}

/// Interleaved R, G, B at the places `order` among `channels` bytes a pixel.
fn packed(
    data: &Tensor,
    channels: i64,
    order: [i64; 3],
    picture: &Picture,
    size: [i64; 2],
    normalisation: &Normalisation,
) -> Result<Tensor> {
    let (width, height) = (picture.width as i64, picture.height as i64);
    let pixels = data.f_view([1, height, width, channels])?.f_permute([0, 3, 1, 2])?; // [1, C, h, w]
    let resized = resize(&pixels, size, (None, None))?;
    let rgb = match order {
        [0, 1, 2] => resized.f_narrow(1, 0, 3)?,
        _ => resized.f_index_select(1, &Tensor::f_from_slice(&order)?.f_to_device(resized.device())?)?,
    };
    normalise(&rgb, normalisation)
}

/// One plane `[h, w]` to `[1, 1, H, W]`.
fn single(plane: &Tensor, size: [i64; 2]) -> Result<Tensor> {
    let rows = shrink_rows(plane, size[0], None)?;
    resize(&rows.f_unsqueeze(0)?.f_unsqueeze(0)?, size, (None, None))
}

/// Out / in of a chroma axis, in chroma samples: with an odd number of luma pixels the last sample reaches past the
/// picture, so the ratio is that of the luma pixels.
fn chroma_scale(out: i64, luma: i64, chroma: i64) -> Option<f64> {
    (luma != 2 * chroma).then(|| 2.0 * out as f64 / luma as f64)
}

/// `[1, 3, H, W]` in 0..255 to the tower's values.
fn normalise(rgb: &Tensor, normalisation: &Normalisation) -> Result<Tensor> {
    let device = rgb.device();
    let scale = row(normalisation.std.map(|std| 1.0 / (255.0 * std)), device)?.f_view([1, 3, 1, 1])?;
    let shift = row(normalisation.shift(), device)?.f_view([1, 3, 1, 1])?;
    Ok(rgb.f_contiguous()?.f_mul(&scale)?.f_add(&shift)?)
}

/// Luma `[1, 1, H, W]` and chroma `[1, 2, H, W]` in 0..255 to the tower's values `[1, 3, H, W]`: colour conversion
/// and normalisation are one affine map, and the clamp to valid colours follows in normalised units.
fn yuv(luma: &Tensor, chroma: &Tensor, picture: &Picture, normalisation: &Normalisation) -> Result<Tensor> {
    let device = luma.device();
    let [_, _, height, width] = luma.size()[..] else { bail!("luma of {} axes", luma.dim()) };
    let map = YuvToRgb::new(picture.colour);
    let unit = normalisation.std.map(|std| 1.0 / (255.0 * std));
    let shift = normalisation.shift();
    let mut matrix = [0f32; 9];
    let mut offset = [0f64; 3];
    for channel in 0..3 {
        for (entry, factor) in matrix[3 * channel..].iter_mut().zip(map.matrix[channel]) {
            *entry = (factor * unit[channel]) as f32;
        }
        offset[channel] = map.offset[channel] * unit[channel] + shift[channel];
    }
    let matrix = Tensor::f_from_slice(&matrix)?.f_to_device(device)?.f_view([3, 3])?;
    let planes = Tensor::f_cat(&[luma, chroma], 1)?.f_view([3, height * width])?;
    let rgb = row(offset, device)?.f_view([3, 1])?.f_addmm(&matrix, &planes)?; // [3, HW]
    for (channel, std) in (0i64..).zip(normalisation.std) {
        let low = shift[channel as usize];
        let _ = rgb.f_select(0, channel)?.f_clamp_(low, low + 1.0 / std)?;
    }
    Ok(rgb.f_view_([1, 3, height, width])?)
}

fn row(values: [f64; 3], device: Device) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&values.map(|value| value as f32))?.f_to_device(device)?)
}
