// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which block do global tokens emerge: patches that nearly every patch attends to, bright columns of the attention
//! map (GCLIP, arXiv 2502.06818, figure 1). The paper names blocks for ViT-B/16 only; this finds them for any tower.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::vision::{VisionTower, Wanted};

/// A patch is global when it receives this many times the attention of an average patch.
const GLOBAL: f64 = 10.0;
/// Pictures the answer is averaged over.
const PICTURES: i64 = 4;

/// The first block, before the last, whose strongest patch receives more than `GLOBAL` times its share of attention;
/// if none does, the block where the strongest patch gains most over the block before.
pub fn first_global_block(tower: &VisionTower) -> Result<usize> {
    let peaks = peaks(tower)?;
    if let Some(block) = peaks.iter().position(|&peak| peak > GLOBAL) {
        return Ok(block);
    }
    let gain = |block: usize| peaks[block] / peaks[block - 1].max(f64::MIN_POSITIVE);
    Ok((1..peaks.len()).max_by(|&a, &b| gain(a).total_cmp(&gain(b))).unwrap_or(0))
}

/// Per block before the last: attention received by its strongest patch, relative to the mean, over the pictures.
fn peaks(tower: &VisionTower) -> Result<Vec<f64>> {
    let blocks = tower.blocks.len().saturating_sub(1);
    let wanted = Wanted { mean_maps: (0..blocks).collect(), ..Wanted::default() };
    let mut peaks = vec![0.0; blocks];
    // One picture at a time: the maps of all blocks are kept.
    for picture in 0..PICTURES {
        let trunk = tower.trunk(&built_in_picture(tower, picture)?, &wanted)?;
        for (block, peak) in peaks.iter_mut().enumerate() {
            let Some(map) = trunk.mean_maps.get(&block) else { continue };
            let patches = map.size()[1] - 1;
            let map = map.f_narrow(1, 1, patches)?.f_narrow(2, 1, patches)?; // [1, h w, h w]
            let received = map.f_mean_dim([1i64].as_slice(), false, Kind::Float)?; // [1, h w]
            *peak += received.f_max()?.f_double_value(&[])? * patches as f64 / PICTURES as f64;
        }
    }
    Ok(peaks)
}

/// A picture at the trained size, `[1, 3, H, W]`, as normalised colours: soft gradients, with a disc and stripes whose
/// place and colour depend on the index. Only sines and comparisons, so it is the same everywhere.
fn built_in_picture(tower: &VisionTower, index: i64) -> Result<Tensor> {
    let (rows, columns) = tower.config.grid;
    let (height, width) = (rows * tower.config.patch_size, columns * tower.config.patch_size);
    let mut pixels = Vec::with_capacity((3 * height * width) as usize);
    let turn = 1.7 * index as f32;
    for channel in 0..3 {
        let hue = turn + 2.1 * channel as f32;
        for row in 0..height {
            for column in 0..width {
                let (y, x) = (row as f32 / height as f32, column as f32 / width as f32);
                let sky = (1.0 - y) * hue.sin();
                let (dy, dx) = (y - 0.5 - 0.2 * turn.sin(), x - 0.5 - 0.2 * turn.cos());
                let value = if dy * dy + dx * dx < 0.03 {
                    1.5 * (hue + 1.0).cos()
                } else if y > 0.7 && ((x * (8.0 + turn)) as i64) % 2 == 0 {
                    -1.2 * (hue + 0.5).sin()
                } else {
                    sky + 0.3 * (20.0 * x + hue).sin() * (14.0 * y).cos()
                };
                pixels.push(value);
            }
        }
    }
    let picture = Tensor::f_from_slice(&pixels)?.f_reshape([1, 3, height, width])?;
    Ok(picture.f_to_device(tower.device())?)
}
