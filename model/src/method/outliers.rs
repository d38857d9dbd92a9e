// SPDX-License-Identifier: MIT OR Apache-2.0
//! Local outlier factors, as SC-CLIP's published code computes them: which points lie in a thinner place than their
//! nearest neighbours do.
//!
//! The factor of Breunig et al. (SIGMOD 2000) compares reachability distances; SC-CLIP takes a point's own distance to
//! its furthest neighbour for all of them, so its density is the inverse of that distance.

/// Factor of each of `n` points. `distances` is `[n, n]` row-major; `neighbours` is capped at n - 1.
pub fn outlier_factors(distances: &[f32], n: usize, neighbours: usize) -> Vec<f32> {
    let neighbours = neighbours.min(n.saturating_sub(1));
    if neighbours == 0 {
        return vec![1.0; n];
    }
    let mut nearest = Vec::with_capacity(n);
    let mut density = Vec::with_capacity(n);
    for (point, row) in distances.chunks_exact(n).enumerate() {
        let mut others: Vec<usize> = (0..n).filter(|&other| other != point).collect();
        let _ = others.select_nth_unstable_by(neighbours - 1, |&a, &b| row[a].total_cmp(&row[b]));
        others.truncate(neighbours);
        let furthest = row[others[neighbours - 1]];
        // Equal points have no distance; their density stays finite.
        density.push(1.0 / furthest.max(1e-12));
        nearest.push(others);
    }
    let factor = |point: usize| {
        let around: f32 = nearest[point].iter().map(|&other| density[other] / density[point]).sum();
        around / neighbours as f32
    };
    (0..n).map(factor).collect()
}

/// Which values exceed the `1 - share` quantile (between two values: their linear interpolation).
pub fn largest_share(values: &[f32], share: f64) -> Vec<bool> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let place = sorted.len().saturating_sub(1) as f64 * (1.0 - share);
    let (below, part) = (place.floor() as usize, place.fract() as f32);
    let Some(&low) = sorted.get(below) else { return Vec::new() };
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    let threshold = low + part * (high - low);
    values.iter().map(|&value| value > threshold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(points: &[f32]) -> Vec<f32> {
        points.iter().flat_map(|a| points.iter().map(move |b| (a - b) * (a - b))).collect()
    }

    #[test]
    fn a_lonely_point_stands_out() {
        let points = [0.0, 1.0, 2.0, 3.0, 4.0, 100.0];
        let factors = outlier_factors(&distances(&points), points.len(), 2);
        // From 100 the second neighbour is 3, 97 away; from 4 it is 2 and from 3 a neighbour 1 away.
        let expected = (97.0 * 97.0 / 4.0 + 97.0 * 97.0) / 2.0;
        assert!((factors[5] / expected - 1.0).abs() < 1e-5, "{factors:?}");
        assert!(factors[..5].iter().all(|&factor| factor < 5.0), "{factors:?}");
        assert_eq!(largest_share(&factors, 0.1), [false, false, false, false, false, true]);
    }

    #[test]
    fn few_or_equal_points_stay_finite() {
        assert_eq!(outlier_factors(&[0.0], 1, 30), [1.0]);
        assert_eq!(outlier_factors(&[0.0; 9], 3, 30), [1.0; 3]);
        assert_eq!(outlier_factors(&[], 0, 30), [0.0; 0]);
        assert_eq!(largest_share(&[1.0; 4], 0.05), [false; 4]);
        assert!(largest_share(&[], 0.05).is_empty());
    }

    #[test]
    fn the_quantile_is_interpolated() {
        // Place 3 x 0.5 = 1.5: half way between 2 and 3.
        assert_eq!(largest_share(&[4.0, 3.0, 2.0, 1.0], 0.5), [true, true, false, false]);
        assert_eq!(largest_share(&[4.0, 3.0, 2.0, 1.0], 0.0), [false; 4]);
    }
}
