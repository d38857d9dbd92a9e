// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which size a picture is looked at: short side or native, aspect ratio kept, whole patches, bounded.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// Most patches of one look at a whole picture; larger requests shrink to it. Attention grows with its square:
/// 8192 patches of 16 px are a native 1080p frame, and 268 MB for one head's f32 map. Windows have no such limit.
pub const MAX_PATCHES: usize = 8192;
/// Long side of a picture scaled by its short side, at least this (mmseg's `scale=(2048, short)`), so that a very
/// long picture does not become a huge one. Aspect ratios up to 4:1 are always kept at the short side asked for.
const LONG_SIDE: usize = 2048;
const KEPT_ASPECT: usize = 4;

/// Size at which the tower looks at a picture. Both sides are then rounded to whole patches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputSize {
    /// The checkpoint's own short side.
    #[default]
    Model,
    /// Short side in pixels; the aspect ratio is kept.
    Short(usize),
    /// No resize beyond rounding to whole patches.
    Native,
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputSize::Model => f.write_str("model"),
            InputSize::Short(pixels) => write!(f, "{pixels}"),
            InputSize::Native => f.write_str("native"),
        }
    }
}

impl FromStr for InputSize {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "model" => Ok(InputSize::Model),
            "native" => Ok(InputSize::Native),
            text => match text.parse::<usize>() {
                Ok(pixels @ 1..=16_384) => Ok(InputSize::Short(pixels)),
                _ => bail!("input size \"{text}\" is not model, native or a short side of 1 to 16384 pixels"),
            },
        }
    }
}

/// (height, width) of a picture scaled to `size` with its aspect ratio kept, in any number of pixels: what sliding
/// windows run over. Sides are rounded as mmseg does, `int(side * factor + 0.5)`, and are at least 1.
pub fn scaled_size(
    (width, height): (usize, usize),
    size: InputSize,
    model_short_side: usize,
) -> (usize, usize) {
    let target = match size {
        InputSize::Native => return (height.max(1), width.max(1)),
        InputSize::Model => model_short_side,
        InputSize::Short(pixels) => pixels,
    };
    let (short, long) = (width.min(height).max(1) as f64, width.max(height).max(1) as f64);
    let longest = LONG_SIDE.max(KEPT_ASPECT * target) as f64;
    let factor = (target as f64 / short).min(longest / long);
    let scale = |side: usize| ((side as f64 * factor + 0.5) as usize).max(1);
    (scale(height), scale(width))
}

/// (height, width) at which the tower sees a whole picture: [`scaled_size`], each side rounded to the nearest whole
/// number of patches, at least one, and at most [`MAX_PATCHES`] in all.
pub fn network_size(
    picture: (usize, usize),
    size: InputSize,
    model_short_side: usize,
    patch: usize,
) -> (usize, usize) {
    let (height, width) = scaled_size(picture, size, model_short_side);
    let patch = patch.max(1);
    let patches = |side: f64| ((side / patch as f64).round() as usize).max(1);
    let (mut rows, mut columns) = (patches(height as f64), patches(width as f64));
    if rows * columns > MAX_PATCHES {
        let shrink = (MAX_PATCHES as f64 / (rows * columns) as f64).sqrt();
        // Rounding down keeps the product below the limit, unless one side is a single patch already.
        let fewer = |side: usize| ((side as f64 * shrink) as usize).max(1);
        (rows, columns) = (fewer(rows), fewer(columns));
        rows = rows.min(MAX_PATCHES / columns.min(MAX_PATCHES));
        columns = columns.min(MAX_PATCHES / rows.max(1));
    }
    (rows.max(1) * patch, columns.max(1) * patch)
}
