// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bilinear resize with antialiasing, fast where frames are large.
//!
//! On the CPU it stays in u8, as PIL does when CLIP's training pictures are prepared: libtorch has vector code for
//! u8 with three or four interleaved channels, 10 to 25 times faster than its f32 path (1080p to 336x592).
//! Values are rounded to whole levels on the way, at most one level from the f32 result. CUDA computes in f32.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Out / in of height and width, where that is not the ratio of the sizes.
pub type Scales = (Option<f64>, Option<f64>);

/// u8 `[N, C, h, w]` to f32 `[N, C, H, W]`, 0..255; exact values if the size is right already.
pub fn resize(plane: &Tensor, [height, width]: [i64; 2], scales: Scales) -> Result<Tensor> {
    let [_, _, h, w] = plane.size()[..] else { anyhow::bail!("a plane of {} axes", plane.dim()) };
    let same = |from: i64, to: i64, scale: Option<f64>| from == to && scale.is_none_or(|scale| scale == 1.0);
    if same(h, height, scales.0) && same(w, width, scales.1) {
        return Ok(plane.f_to_kind(Kind::Float)?);
    }
    let plane = match plane.device() {
        Device::Cpu => plane.shallow_clone(),
        _ => plane.f_to_kind(Kind::Float)?,
    };
    let out = plane.f_internal_upsample_bilinear2d_aa([height, width], false, scales.0, scales.1)?;
    Ok(out.f_to_kind(Kind::Float)?)
}

/// Rows of bytes `[N, h, bytes]`, whatever they mean, to fewer rows `[N, H, bytes]`: four neighbouring bytes pass for
/// the channels of a pixel. The columns are left to [`resize`], which then has fewer rows to read. Gives the input back
/// where that would not help; callers read the number of rows from the result.
pub fn shrink_rows(rows: &Tensor, height: i64, scale: Option<f64>) -> Result<Tensor> {
    let [n, h, bytes] = rows.size()[..] else { anyhow::bail!("rows of {} axes", rows.dim()) };
    if rows.device() != Device::Cpu || height >= h || bytes % 4 != 0 {
        return Ok(rows.shallow_clone());
    }
    let pixels = rows.f_view([n, h, bytes / 4, 4])?.f_permute([0, 3, 1, 2])?; // [N, 4, h, bytes / 4]
    let fewer = pixels.f_internal_upsample_bilinear2d_aa([height, bytes / 4], false, scale, None)?;
    Ok(fewer.f_permute([0, 2, 3, 1])?.f_reshape([n, height, bytes])?)
}
