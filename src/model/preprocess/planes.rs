// SPDX-License-Identifier: MIT OR Apache-2.0
//! The planes of each pixel format, resized and brought to R, G, B.

use anyhow::{Result, bail};
use tch::{Device, Kind, Tensor};

use super::colour::YuvToRgb;
use super::{Picture, PixelFormat};

/// A picture as `[1, 3, H, W]` f32 in 0..255 on `device`, at `size` (height, width).
pub fn rgb(picture: &Picture, size: [i64; 2], device: Device) -> Result<Tensor> {
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
    let data = picture.data.f_to_device(device)?;
    let (chroma_width, chroma_height) = (half(width), half(height));
    let luma = width * height;
    let chroma = chroma_width * chroma_height;
    match picture.format {
        PixelFormat::Rgb => packed(&data, 3, [0, 1, 2], picture, size),
        PixelFormat::Bgr => packed(&data, 3, [2, 1, 0], picture, size),
        PixelFormat::Rgbx => packed(&data, 4, [0, 1, 2], picture, size),
        PixelFormat::Bgrx => packed(&data, 4, [2, 1, 0], picture, size),
        PixelFormat::Gray8 => {
            let gray = resize(&data.f_view([1, 1, height, width])?, size, None)?;
            Ok(gray.f_expand([1, 3, size[0], size[1]], false)?) // [1, 1, H, W] -> [1, 3, H, W]
        }
        PixelFormat::I420 => {
            let y = data.f_narrow(0, 0, luma)?.f_view([1, 1, height, width])?;
            let uv = data.f_narrow(0, luma, 2 * chroma)?.f_view([1, 2, chroma_height, chroma_width])?;
            from_yuv(&y, &uv, picture, size)
        }
        PixelFormat::Nv12 => {
            let y = data.f_narrow(0, 0, luma)?.f_view([1, 1, height, width])?;
            let uv = data.f_narrow(0, luma, 2 * chroma)?.f_view([1, chroma_height, chroma_width, 2])?;
            from_yuv(&y, &uv.f_permute([0, 3, 1, 2])?, picture, size)
        }
        PixelFormat::Yuy2 => {
            let pairs = data.f_view([1, height, chroma_width, 4])?; // Y0 U Y1 V
            let y = pairs.f_slice(3, 0, None, 2)?.f_reshape([1, 1, height, 2 * chroma_width])?;
            let uv = pairs.f_slice(3, 1, None, 2)?.f_permute([0, 3, 1, 2])?; // [1, 2, height, ceil(width / 2)]
            from_yuv(&y.f_narrow(3, 0, width)?, &uv, picture, size)
        }
    }
}

/// Bytes of a packed picture.
pub fn bytes(format: PixelFormat, width: usize, height: usize) -> usize {
    match format {
        PixelFormat::Rgb | PixelFormat::Bgr => width * height * 3,
        PixelFormat::Rgbx | PixelFormat::Bgrx => width * height * 4,
        PixelFormat::Gray8 => width * height,
        PixelFormat::I420 | PixelFormat::Nv12 => width * height + 2 * width.div_ceil(2) * height.div_ceil(2),
        PixelFormat::Yuy2 => width.div_ceil(2) * 4 * height,
    }
}

/// Interleaved R, G, B in `order` among `channels` bytes a pixel.
fn packed(
    data: &Tensor,
    channels: i64,
    order: [i64; 3],
    picture: &Picture,
    size: [i64; 2],
) -> Result<Tensor> {
    let (width, height) = (picture.width as i64, picture.height as i64);
    let pixels = data.f_view([1, height, width, channels])?.f_permute([0, 3, 1, 2])?; // [1, C, h, w]
    let resized = resize(&pixels, size, None)?;
    if order == [0, 1, 2] {
        return Ok(resized.f_narrow(1, 0, 3)?);
    }
    let order = Tensor::f_from_slice(&order)?.f_to_device(resized.device())?;
    Ok(resized.f_index_select(1, &order)?)
}

/// Luma `[1, 1, h, w]` and chroma `[1, 2, h', w']` to `[1, 3, H, W]`.
fn from_yuv(y: &Tensor, uv: &Tensor, picture: &Picture, size: [i64; 2]) -> Result<Tensor> {
    let [_, _, chroma_height, chroma_width] = uv.size()[..] else { bail!("chroma has no four axes") };
    // With an odd side the last chroma sample reaches past the picture: the scale is that of the luma pixels.
    let chroma_scale = |out: i64, chroma: i64, luma: usize| -> f64 {
        let step = if chroma == luma as i64 { 1.0 } else { 2.0 };
        out as f64 * step / luma as f64
    };
    let scales = (
        chroma_scale(size[0], chroma_height, picture.height),
        chroma_scale(size[1], chroma_width, picture.width),
    );
    let y = resize(y, size, None)?; // [1, 1, H, W]
    let uv = resize(uv, size, Some(scales))?; // [1, 2, H, W]
    let map = YuvToRgb::new(picture.colour);
    let channels = map
        .matrix
        .iter()
        .zip(map.offset)
        .map(|([luma, cb, cr], offset)| -> Result<Tensor> {
            let (u, v) = (uv.f_narrow(1, 0, 1)?, uv.f_narrow(1, 1, 1)?);
            let mut sum = y.f_mul_scalar(*luma)?.f_add_scalar(offset)?;
            for (plane, factor) in [(u, *cb), (v, *cr)] {
                if factor != 0.0 {
                    sum = sum.f_add(&plane.f_mul_scalar(factor)?)?;
                }
            }
            Ok(sum.f_clamp(0.0, 255.0)?)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Tensor::f_cat(&channels, 1)?) // 3 x [1, 1, H, W] -> [1, 3, H, W]
}

/// u8 `[1, C, h, w]` to f32 `[1, C, H, W]`: bilinear with antialiasing, or the exact values if the size is right.
/// `scales` (height, width) is out / in where that is not the ratio of the sizes.
fn resize(plane: &Tensor, [height, width]: [i64; 2], scales: Option<(f64, f64)>) -> Result<Tensor> {
    let plane = plane.f_to_kind(Kind::Float)?;
    if scales.is_none() && plane.size()[2..] == [height, width] {
        return Ok(plane);
    }
    let (scale_h, scale_w) = scales.unzip();
    Ok(plane.f_internal_upsample_bilinear2d_aa([height, width], false, scale_h, scale_w)?)
}

fn half(side: i64) -> i64 {
    (side + 1) / 2
}
