// SPDX-License-Identifier: MIT OR Apache-2.0
//! What CLIPtrase's denoising is made of: DBSCAN, a median filter, a vote.

use std::collections::BTreeMap;

/// DBSCAN (Ester et al., KDD 1996): the cluster of each of `n` points, counted from 0 in the order of their first core
/// points; `None` is noise. `near` is `[n, n]` row-major, true within the radius (each point is near itself); a core
/// point has `min` points near it.
pub fn dbscan(near: &[bool], n: usize, min: usize) -> Vec<Option<usize>> {
    let row = |point: usize| &near[point * n..(point + 1) * n];
    let core: Vec<bool> =
        (0..n).map(|point| row(point).iter().filter(|&&near| near).count() >= min).collect();
    let mut clusters = vec![None; n];
    let mut next = 0;
    for seed in 0..n {
        if clusters[seed].is_some() || !core[seed] {
            continue;
        }
        clusters[seed] = Some(next);
        let mut open = vec![seed];
        while let Some(point) = open.pop() {
            if !core[point] {
                continue; // at the border: belongs to the cluster, but does not extend it
            }
            for (other, _) in row(point).iter().enumerate().filter(|(_, near)| **near) {
                if clusters[other].is_none() {
                    clusters[other] = Some(next);
                    open.push(other);
                }
            }
        }
        next += 1;
    }
    clusters
}

/// Median over squares of `side` (odd) by `side` of an `[height, width]` map; beyond its edges the map is mirrored,
/// the edge repeated (`c b a | a b c`).
pub fn median_filter(map: &[f32], height: usize, width: usize, side: usize) -> Vec<f32> {
    let reach = (side / 2) as isize;
    let mut square = Vec::with_capacity(side * side);
    let mut filtered = Vec::with_capacity(map.len());
    for row in 0..height as isize {
        for column in 0..width as isize {
            square.clear();
            for y in row - reach..=row + reach {
                let line = mirrored(y, height) * width;
                square.extend((column - reach..=column + reach).map(|x| map[line + mirrored(x, width)]));
            }
            let middle = square.len() / 2;
            filtered.push(*square.select_nth_unstable_by(middle, f32::total_cmp).1);
        }
    }
    filtered
}

fn mirrored(place: isize, length: usize) -> usize {
    let length = length as isize;
    let place = place.rem_euclid(2 * length);
    (if place < length { place } else { 2 * length - 1 - place }) as usize
}

/// What most points of a point's region say; of equally many, the lowest.
pub fn vote(said: &[i64], regions: &[i64]) -> Vec<i64> {
    let mut counts: BTreeMap<i64, BTreeMap<i64, usize>> = BTreeMap::new();
    for (&said, &region) in said.iter().zip(regions) {
        *counts.entry(region).or_default().entry(said).or_default() += 1;
    }
    let winner = |counts: &BTreeMap<i64, usize>| {
        let best = counts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        best.map(|(&said, _)| said)
    };
    let winners: BTreeMap<i64, Option<i64>> = counts.iter().map(|(&region, c)| (region, winner(c))).collect();
    let decide = |(&said, region)| winners.get(region).copied().flatten().unwrap_or(said);
    said.iter().zip(regions).map(decide).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(points: &[f32], radius: f32, min: usize) -> Vec<Option<usize>> {
        let near: Vec<bool> =
            points.iter().flat_map(|a| points.iter().map(move |b| (a - b).abs() <= radius)).collect();
        dbscan(&near, points.len(), min)
    }

    #[test]
    fn dense_points_are_clusters_and_lonely_ones_noise() {
        let (a, b) = (Some(0), Some(1));
        // 9 comes first, so its cluster is number 0.
        assert_eq!(cluster(&[9.0, 0.0, 1.0, 2.0, 8.0, 8.5, 50.0], 1.0, 3), [a, b, b, b, a, a, None]);
        // Only 1 has four points near it; 2 is at the border, and no bridge to 3.
        assert_eq!(cluster(&[0.0, 0.5, 1.0, 2.0, 3.0], 1.0, 4), [a, a, a, a, None]);
        assert_eq!(cluster(&[0.0, 5.0], 1.0, 2), [None, None]);
        assert!(cluster(&[], 1.0, 1).is_empty());
    }

    #[test]
    fn the_median_drops_specks_and_mirrors_edges() {
        let mut map = vec![1.0; 25];
        map[12] = 100.0;
        assert_eq!(median_filter(&map, 5, 5, 3), [1.0; 25]);
        // Around 5: 5 5 9 / 5 5 9 / 1 1 2, sorted 1 1 2 5 5.
        assert_eq!(median_filter(&[5.0, 9.0, 1.0, 2.0], 2, 2, 3), [5.0, 5.0, 2.0, 2.0]);
        assert_eq!(median_filter(&[3.0], 1, 1, 7), [3.0]);
    }

    #[test]
    fn the_majority_decides_each_region() {
        assert_eq!(vote(&[4, 4, 1, 2, 7, 1], &[0, 0, 0, 1, 1, 1]), [4, 4, 4, 1, 1, 1]);
        assert!(vote(&[], &[]).is_empty());
    }
}
