// SPDX-License-Identifier: MIT OR Apache-2.0
//! WinCLIP's windows: groups of few neighbouring patches, each with a class token of its own, that the tower sees alone.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::transformer::unit_rows;
use crate::vision::{Embedded, VisionTower};

/// Sides of the windows in patches.
pub const WINDOWS: [i64; 2] = [2, 3];
/// Tokens in one forward.
const TOKENS_AT_A_TIME: i64 = 4096;

pub struct Windows;

impl Windows {
    /// Features of all windows of `size` x `size` patches, row by row, of one picture `[1, 3, H, W]`: `[n, E]`, rows of unit
    /// length. A picture with fewer patches along a side has windows of what there is.
    pub fn features(tower: &VisionTower, input: &Tensor, size: i64) -> Result<Tensor> {
        let Embedded { x, grid } = tower.embed(input)?; // [1, L, D], with positions, normalised token by token
        let tokens = Tensor::f_from_slice(&tokens(size, grid).concat())?.f_to_device(x.device())?;
        let [high, wide] = sides(size, grid);
        let each = 1 + high * wide;
        let x = x.f_select(0, 0)?; // [L, D]
        let mut features = Vec::new();
        for some in tokens.f_view([-1, each])?.f_split((TOKENS_AT_A_TIME / each).max(1), 0)? {
            let mut some = x.f_index_select(0, &some.f_flatten(0, -1)?)?.f_view([-1, each, x.size2()?.1])?;
            for block in &tower.blocks {
                some = block.forward(&some, false)?;
            }
            features.push(unit_rows(&tower.project(&some.f_select(1, 0)?)?)?);
        }
        Ok(Tensor::f_cat(&features, 0)?)
    }
}

fn sides(size: i64, (rows, columns): (i64, i64)) -> [i64; 2] {
    [size.min(rows), size.min(columns)]
}

/// Places of the upper left patches, row by row.
fn corners(size: i64, grid: (i64, i64)) -> Vec<(i64, i64)> {
    let [high, wide] = sides(size, grid);
    let columns = grid.1 - wide + 1;
    (0..grid.0 - high + 1).flat_map(|top| (0..columns).map(move |left| (top, left))).collect()
}

/// Tokens of each window: the class token, and its patches row by row.
fn tokens(size: i64, grid: (i64, i64)) -> Vec<Vec<i64>> {
    let [high, wide] = sides(size, grid);
    let patches = |(top, left): (i64, i64)| {
        (top..top + high)
            .flat_map(move |row| (left..left + wide).map(move |column| 1 + row * grid.1 + column))
    };
    corners(size, grid)
        .into_iter()
        .map(|corner| std::iter::once(0).chain(patches(corner)).collect())
        .collect()
}

/// The mean over the windows that each patch is in of a value of each window, `[n] -> [h w]`.
pub fn spread(values: &Tensor, size: i64, grid: (i64, i64)) -> Result<Tensor> {
    let windows = tokens(size, grid);
    let owners: Vec<i64> =
        (0..).zip(&windows).flat_map(|(window, tokens)| tokens[1..].iter().map(move |_| window)).collect();
    let patches: Vec<i64> =
        windows.iter().flat_map(|tokens| tokens[1..].iter().map(|token| token - 1)).collect();
    let device = values.device();
    let owners = Tensor::f_from_slice(&owners)?.f_to_device(device)?;
    let patches = Tensor::f_from_slice(&patches)?.f_to_device(device)?;
    let zeros = || Tensor::f_zeros([grid.0 * grid.1], (Kind::Float, device));
    let sums = zeros()?.f_index_add_(0, &patches, &values.f_index_select(0, &owners)?)?;
    let counts =
        zeros()?.f_index_add_(0, &patches, &Tensor::f_ones_like(&owners)?.f_to_kind(Kind::Float)?)?;
    Ok(sums.f_div(&counts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_a_small_grid() {
        assert_eq!(tokens(2, (2, 3)), [[0, 1, 2, 4, 5], [0, 2, 3, 5, 6]]);
        assert_eq!(tokens(3, (1, 2)), [[0, 1, 2]], "no larger than the picture");
        let spread = spread(&Tensor::from_slice(&[1f32, 3.0]), 2, (2, 3)).unwrap();
        assert_eq!(Vec::<f32>::try_from(spread).unwrap(), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    }
}
