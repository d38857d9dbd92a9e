// SPDX-License-Identifier: MIT OR Apache-2.0
//! In which block do global tokens emerge: patches that nearly every patch attends to, bright columns of the attention
//! map (GCLIP, arXiv 2502.06818, figure 1). The paper names blocks for ViT-B/16 only; this finds them for any tower.

use anyhow::Result;
use tch::Kind;

use crate::probe::built_in_picture;
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
