// SPDX-License-Identifier: MIT OR Apache-2.0
//! Few of many descriptors, that still cover them all.

use anyhow::Result;
use tch::{Kind, Tensor};

/// Indices of at most `most` rows of `[n, E]` (of unit length), rising: farthest-point selection by cosine, which begins with the
/// row nearest to the mean. The same rows give the same choice.
pub fn farthest(rows: &Tensor, most: usize) -> Result<Vec<i64>> {
    let (count, _) = rows.size2()?;
    if count as usize <= most {
        return Ok((0..count).collect());
    }
    let mean = rows.f_mean_dim([0i64].as_slice(), false, Kind::Float)?; // [E]
    let mut next = rows.f_mv(&mean)?.f_argmax(0, false)?.f_int64_value(&[])?;
    let mut chosen = vec![next];
    // The cosine of each row with the nearest of those chosen.
    let mut nearest = rows.f_mv(&rows.f_select(0, next)?)?;
    while chosen.len() < most {
        next = nearest.f_argmin(0, false)?.f_int64_value(&[])?;
        chosen.push(next);
        nearest = nearest.f_maximum(&rows.f_mv(&rows.f_select(0, next)?)?)?;
    }
    chosen.sort_unstable();
    chosen.dedup(); // of equal rows one is enough
    Ok(chosen)
}

/// Centres of at most `count` groups of rows `[n, E]` (of unit length), `[k, E]`, of unit length: spherical k-means from
/// farthest points, so the same rows give the same centres.
pub fn centres(rows: &Tensor, count: usize) -> Result<Tensor> {
    const ROUNDS: usize = 20;
    let start = farthest(rows, count)?;
    let mut centres = rows.f_index_select(0, &Tensor::f_from_slice(&start)?)?; // [k, E]
    for _ in 0..ROUNDS {
        let nearest = rows.f_matmul(&centres.f_transpose(0, 1)?)?.f_argmax(1, false)?; // [n]
        let mut sums = centres.f_zeros_like()?;
        sums = sums.f_index_add_(0, &nearest, rows)?;
        // A group that has lost all of its rows keeps its centre.
        let lengths = sums.f_norm_scalaropt_dim(2, [1i64].as_slice(), true)?; // [k, 1]
        let moved = sums.f_div(&lengths.f_clamp_min(1e-12)?)?;
        centres = moved.f_where_self(&lengths.f_gt(1e-6)?, &centres)?;
    }
    Ok(centres)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(angles: &[f64]) -> Tensor {
        let rows: Vec<f32> =
            angles.iter().flat_map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect();
        Tensor::from_slice(&rows).reshape([-1, 2])
    }

    #[test]
    fn the_ends_and_the_middle_are_kept() {
        let rows = unit(&[0.0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0]);
        assert_eq!(farthest(&rows, 3).unwrap(), [0, 3, 6]);
        assert_eq!(farthest(&rows, 7).unwrap(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(farthest(&unit(&[1.0; 9]), 3).unwrap().len(), 1, "equal rows");
    }

    #[test]
    fn centres_are_those_of_the_groups() {
        let rows = unit(&[0.0, 0.1, -0.1, 1.5, 1.6, 1.4]);
        let centres = centres(&rows, 2).unwrap();
        let mut angles: Vec<f64> =
            (0..2).map(|k| centres.double_value(&[k, 1]).atan2(centres.double_value(&[k, 0]))).collect();
        angles.sort_by(f64::total_cmp);
        assert!((angles[0]).abs() < 1e-3 && (angles[1] - 1.5).abs() < 1e-3, "{angles:?}");
    }
}
