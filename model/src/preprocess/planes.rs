// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planes of each pixel format, brought to the tower's size and to normalised R, G, B.
//!
//! Shapes: N pictures of one format and size, w x h pixels each; H x W is the tower's size.

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::colour::YuvToRgb;
use super::resize::{resize, shrink_rows};
use super::{Normalisation, Picture, PixelFormat, Pixels};
use crate::constants::constant;

/// Bytes per row and rows of each plane of a packed picture.
pub fn plane_sizes(format: PixelFormat, width: usize, height: usize) -> Vec<(usize, usize)> {
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    match format {
        PixelFormat::Rgb | PixelFormat::Bgr => vec![(3 * width, height)],
        PixelFormat::Rgbx | PixelFormat::Bgrx => vec![(4 * width, height)],
        PixelFormat::Gray8 => vec![(width, height)],
        PixelFormat::I420 => vec![(width, height), (half_width, half_height), (half_width, half_height)],
        PixelFormat::Nv12 => vec![(width, height), (2 * half_width, half_height)],
        PixelFormat::Yuy2 => vec![(4 * half_width, height)],
    }
}

/// Bytes of a packed picture.
#[cfg(test)]
pub fn bytes(format: PixelFormat, width: usize, height: usize) -> usize {
    plane_sizes(format, width, height).iter().map(|(row_bytes, rows)| row_bytes * rows).sum()
}

/// Pictures of one format, size and colour as `[N, 3, H, W]` f32, normalised, on `device`, at `size` (height, width).
pub fn normalised(
    pictures: &[&Picture],
    size: [i64; 2],
    normalisation: &Normalisation,
    device: Device,
) -> Result<Tensor> {
    let picture = pictures.first().context("no picture")?;
    let (width, height) = (picture.width as i64, picture.height as i64);
    if width == 0 || height == 0 {
        bail!("it is empty");
    }
    let n = pictures.len() as i64;
    let stacks = stacks(pictures, device)?; // planes of [N, rows, bytes]
    let stack = |index: usize| stacks.get(index).context("a plane is missing");
    match picture.format {
        PixelFormat::Rgb => packed(stack(0)?, 3, [0, 1, 2], size, normalisation),
        PixelFormat::Bgr => packed(stack(0)?, 3, [2, 1, 0], size, normalisation),
        PixelFormat::Rgbx => packed(stack(0)?, 4, [0, 1, 2], size, normalisation),
        PixelFormat::Bgrx => packed(stack(0)?, 4, [2, 1, 0], size, normalisation),
        PixelFormat::Gray8 => {
            let gray = single(stack(0)?, size)?;
            normalise(&gray.f_expand([n, 3, -1, -1], false)?, normalisation) // [N, 1, H, W] -> [N, 3, H, W]
        }
        PixelFormat::I420 | PixelFormat::Nv12 => {
            let (chroma_height, chroma_width) = ((height + 1) / 2, (width + 1) / 2);
            let chroma = match picture.format {
                PixelFormat::I420 => stack(1)?.f_view([n, 2, chroma_height, chroma_width])?,
                _ => stack(1)?.f_view([n, chroma_height, chroma_width, 2])?.f_permute([0, 3, 1, 2])?,
            };
            let scales =
                (chroma_scale(size[0], height, chroma_height), chroma_scale(size[1], width, chroma_width));
            yuv(&single(stack(0)?, size)?, &resize(&chroma, size, scales)?, picture, normalisation)
        }
        PixelFormat::Yuy2 => {
            let pairs = (width + 1) / 2;
            let rows = shrink_rows(stack(0)?, size[0], None)?;
            let rows = rows.f_view([n, -1, pairs, 4])?; // Y0 U Y1 V
            let luma = rows.f_slice(3, 0, None, 2)?.f_reshape([n, 1, -1, 2 * pairs])?;
            let luma = resize(&luma.f_narrow(3, 0, width)?.f_contiguous()?, size, (None, None))?;
            let chroma = rows.f_slice(3, 1, None, 2)?.f_permute([0, 3, 1, 2])?.f_contiguous()?; // [N, 2, h, pairs]
            let chroma = resize(&chroma, size, (None, chroma_scale(size[1], width, pairs)))?;
            yuv(&luma, &chroma, picture, normalisation)
        }
    }
}

/// The planes of the pictures on top of each other, `[N, rows, row bytes]` u8 on `device`; those of I420's chroma,
/// which have one size, side by side as `[N, 2 x rows, row bytes]`.
fn stacks(pictures: &[&Picture], device: Device) -> Result<Vec<Tensor>> {
    let each = pictures.iter().map(|picture| planes(picture, device)).collect::<Result<Vec<_>>>()?;
    let count = each.first().map_or(0, Vec::len);
    (0..count)
        .map(|index| match &each[..] {
            [only] => Ok(only[index].f_contiguous()?.f_unsqueeze(0)?),
            _ => Ok(Tensor::f_stack(&each.iter().map(|planes| &planes[index]).collect::<Vec<_>>(), 0)?),
        })
        .collect()
}

/// The planes of one picture, `[rows, row bytes]` u8 on `device`, rows perhaps apart; the two of I420's chroma as one.
fn planes(picture: &Picture, device: Device) -> Result<Vec<Tensor>> {
    let sizes = plane_sizes(picture.format, picture.width, picture.height);
    let mut planes = match &picture.data {
        Pixels::Packed(data) => {
            let expected: usize = sizes.iter().map(|(row_bytes, rows)| row_bytes * rows).sum();
            if data.numel() != expected || data.kind() != Kind::Uint8 {
                bail!("it has {} values of {:?} in place of {expected} bytes", data.numel(), data.kind());
            }
            let data = data.f_to_device(device)?.f_contiguous()?;
            if picture.format == PixelFormat::I420 {
                // its two chroma planes follow each other already
                let (luma, chroma) = ((sizes[0].0 * sizes[0].1) as i64, sizes[1]);
                let chroma_size = [2 * chroma.1 as i64, chroma.0 as i64];
                return Ok(vec![
                    data.f_narrow(0, 0, luma)?.f_view([sizes[0].1 as i64, sizes[0].0 as i64])?,
                    data.f_narrow(0, luma, chroma_size[0] * chroma_size[1])?.f_view(chroma_size)?,
                ]);
            }
            let mut start = 0;
            let mut next = |&(row_bytes, rows): &(usize, usize)| -> Result<Tensor> {
                let plane = data.f_narrow(0, start, (row_bytes * rows) as i64)?;
                start += (row_bytes * rows) as i64;
                Ok(plane.f_view([rows as i64, row_bytes as i64])?)
            };
            sizes.iter().map(&mut next).collect::<Result<Vec<_>>>()?
        }
        Pixels::Lent(data) => {
            let found = data.planes().iter().map(|plane| (plane.row_bytes, plane.rows));
            ensure!(
                found.eq(sizes.iter().copied()),
                "its planes are {:?} in place of {sizes:?}",
                data.planes()
            );
            data.hold_compute()?;
            (0..sizes.len())
                .map(|index| Ok(data.plane(index)?.f_to_device(device)?))
                .collect::<Result<Vec<_>>>()?
        }
    };
    if let (PixelFormat::I420, [_, u, v]) = (picture.format, &planes[..]) {
        let chroma = Tensor::f_cat(&[u, v], 0)?;
        planes.truncate(1);
        planes.push(chroma);
    }
    Ok(planes)
}

/// Interleaved R, G, B at the places `order` among `channels` bytes a pixel: `[N, h, w channels] -> [N, 3, H, W]`.
fn packed(
    stack: &Tensor,
    channels: i64,
    order: [i64; 3],
    size: [i64; 2],
    normalisation: &Normalisation,
) -> Result<Tensor> {
    let (n, height, row_bytes) = stack.size3()?;
    let pixels = stack.f_view([n, height, row_bytes / channels, channels])?.f_permute([0, 3, 1, 2])?; // [N, C, h, w]
    let resized = resize(&pixels, size, (None, None))?;
    let rgb = match order {
        [0, 1, 2] => resized.f_narrow(1, 0, 3)?,
        _ => resized.f_narrow(1, 0, 3)?.f_flip([1])?,
    };
    normalise(&rgb, normalisation)
}

/// One plane `[N, h, w]` to `[N, 1, H, W]`.
fn single(plane: &Tensor, size: [i64; 2]) -> Result<Tensor> {
    let rows = shrink_rows(plane, size[0], None)?;
    resize(&rows.f_unsqueeze(1)?, size, (None, None))
}

/// Out / in of a chroma axis, in chroma samples: with an odd number of luma pixels the last sample reaches past the
/// picture, so the ratio is that of the luma pixels.
fn chroma_scale(out: i64, luma: i64, chroma: i64) -> Option<f64> {
    (luma != 2 * chroma).then(|| 2.0 * out as f64 / luma as f64)
}

/// `[N, 3, H, W]` in 0..255 to the tower's values.
fn normalise(rgb: &Tensor, normalisation: &Normalisation) -> Result<Tensor> {
    let device = rgb.device();
    let scale = row(normalisation.std.map(|std| 1.0 / (255.0 * std)), device)?.f_view([1, 3, 1, 1])?;
    let shift = row(normalisation.shift(), device)?.f_view([1, 3, 1, 1])?;
    Ok(rgb.f_contiguous()?.f_mul(&scale)?.f_add(&shift)?)
}

/// Luma `[N, 1, H, W]` and chroma `[N, 2, H, W]` in 0..255 to the tower's values `[N, 3, H, W]`: colour conversion
/// and normalisation are one affine map, and the clamp to valid colours follows in normalised units.
fn yuv(luma: &Tensor, chroma: &Tensor, picture: &Picture, normalisation: &Normalisation) -> Result<Tensor> {
    let device = luma.device();
    let [n, _, height, width] = luma.size()[..] else { bail!("luma of {} axes", luma.dim()) };
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
    let matrix = constant(&matrix, device)?.f_view([1, 3, 3])?.f_expand([n, 3, 3], false)?;
    let planes = Tensor::f_cat(&[luma, chroma], 1)?.f_reshape([n, 3, height * width])?;
    let rgb = row(offset, device)?.f_view([1, 3, 1])?.f_baddbmm(&matrix, &planes, 1.0, 1.0)?; // [N, 3, HW]
    for (channel, std) in (0i64..).zip(normalisation.std) {
        let low = shift[channel as usize];
        let _ = rgb.f_select(1, channel)?.f_clamp_(low, low + 1.0 / std)?;
    }
    Ok(rgb.f_view([n, 3, height, width])?)
}

fn row(values: [f64; 3], device: Device) -> Result<Tensor> {
    constant(&values.map(|value| value as f32), device)
}
