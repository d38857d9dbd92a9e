// SPDX-License-Identifier: MIT OR Apache-2.0
//! Polygons without holes: each hole is joined to the outline around it by a line walked there and back, so that
//! one closed outline fills the region under the even-odd and the non-zero rule alike.

use std::collections::HashMap;

use super::components::Components;
use crate::meta::polygon::{Corner, Ring};

/// Pairs of corners looked at for the shortest lines, over all holes of a mask. Beyond that some corners are skipped:
/// the fill stays right wherever a line runs, and noise with a hundred thousand holes still comes to an end.
const BUDGET: usize = 20_000_000;

/// One polygon for each connected piece of the mask, its holes joined in: value and corners, largest first.
/// `rings` are the exact outlines of the mask whose pieces `components` knows; `simplify` is applied to each before
/// they are joined.
pub fn polygons(
    rings: &[Ring],
    components: &Components,
    simplify: impl Fn(&[Corner]) -> Vec<Corner>,
) -> Vec<(u16, Vec<Corner>)> {
    let mut pieces: HashMap<usize, Piece> = HashMap::new();
    for ring in rings {
        // The first corner is the top left one of a pixel of the region.
        let Some(&(x, y)) = ring.corners.first() else { continue };
        let Some(piece) = components.piece(x, y) else { continue };
        let piece = pieces.entry(piece).or_default();
        piece.value = ring.value;
        let area = twice_area(&ring.corners);
        piece.area += area;
        let corners = simplify(&ring.corners);
        if area > 0 { piece.outline = corners } else { piece.holes.push(corners) }
    }
    let holes: usize = pieces.values().map(|piece| piece.holes.len()).sum();
    let budget = BUDGET / holes.max(1);
    let mut pieces: Vec<Piece> = pieces.into_values().collect();
    // The second key makes the order the same in every run.
    pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.area), piece.outline.first().copied()));
    pieces.into_iter().map(|piece| (piece.value, piece.joined(budget))).collect()
}

#[derive(Default)]
struct Piece {
    value: u16,
    /// Twice its area in pixels, holes subtracted.
    area: i64,
    outline: Vec<Corner>,
    holes: Vec<Vec<Corner>>,
}

impl Piece {
    fn joined(mut self, budget: usize) -> Vec<Corner> {
        // From the left: a hole is then joined to the outline or to a hole already in it.
        self.holes.sort_by_key(|hole| hole.iter().copied().min());
        let mut path = Path::new(self.outline);
        for hole in &self.holes {
            let (at, from) = nearest(&path.corners, hole, budget);
            path.detour(at, hole[from..].iter().chain(&hole[..=from]));
        }
        path.walk()
    }
}

/// A closed line that takes up others without moving what it has.
struct Path {
    corners: Vec<Corner>,
    /// The place of the corner that follows each.
    next: Vec<usize>,
}

impl Path {
    fn new(corners: Vec<Corner>) -> Path {
        let next = (1..corners.len()).chain([0]).take(corners.len()).collect();
        Path { corners, next }
    }

    /// From the corner at place `at` over `corners` and back to it.
    fn detour<'a>(&mut self, at: usize, corners: impl Iterator<Item = &'a Corner>) {
        let Some((&back, &onward)) = self.corners.get(at).zip(self.next.get(at)) else { return };
        let first = self.corners.len();
        self.corners.extend(corners.copied().chain([back]));
        self.next.extend(first + 1..=self.corners.len());
        self.next[at] = first;
        if let Some(last) = self.next.last_mut() {
            *last = onward;
        }
    }

    fn walk(&self) -> Vec<Corner> {
        let mut at = 0;
        let step = |_| {
            let corner = self.corners[at];
            at = self.next[at];
            corner
        };
        (0..self.corners.len()).map(step).collect()
    }
}

/// Places of the two corners that are closest to each other, among so many that `budget` pairs are enough.
fn nearest(outline: &[Corner], hole: &[Corner], budget: usize) -> (usize, usize) {
    let step = (outline.len() * hole.len()).div_ceil(budget.max(1)).max(1);
    let distance = |a: Corner, b: Corner| {
        let (dx, dy) = (i64::from(a.0) - i64::from(b.0), i64::from(a.1) - i64::from(b.1));
        dx * dx + dy * dy
    };
    let mut best = (i64::MAX, (0, 0));
    for (at, &corner) in outline.iter().enumerate().step_by(step) {
        for (from, &other) in hole.iter().enumerate() {
            best = best.min((distance(corner, other), (at, from)));
        }
    }
    best.1
}

/// Positive for outlines, which run clockwise on the screen; negative for holes.
fn twice_area(ring: &[Corner]) -> i64 {
    let pairs = ring.iter().zip(ring.iter().cycle().skip(1));
    pairs.map(|(a, b)| i64::from(a.0) * i64::from(b.1) - i64::from(b.0) * i64::from(a.1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MaskRow;
    use crate::meta::polygon;

    fn polygons_of(mask: &[u8], width: usize) -> Vec<(u16, Vec<Corner>)> {
        let rows = || mask.chunks(width).map(MaskRow::U8);
        polygons(&polygon::rings(rows()), &Components::new(rows()), <[Corner]>::to_vec)
    }

    /// How often a polygon runs around a point, clockwise: the non-zero rule fills where this is not 0.
    fn winding(polygon: &[Corner], x: f64, y: f64) -> i32 {
        let sides = polygon.iter().zip(polygon.iter().cycle().skip(1));
        sides
            .map(|(a, b)| {
                let [(ax, ay), (bx, by)] = [a, b].map(|&(x, y)| (f64::from(x), f64::from(y)));
                let crosses = (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax);
                if crosses { (by - ay).signum() as i32 } else { 0 }
            })
            .sum()
    }

    #[test]
    fn each_polygon_runs_once_around_its_pixels_and_around_no_other() {
        let mut state = 3u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..150 {
            let (height, width, values) = (1 + random(14) as usize, 1 + random(20) as usize, 2 + random(2));
            let mask: Vec<u8> = (0..height * width).map(|_| random(values) as u8).collect();
            let polygons = polygons_of(&mask, width);
            let components = Components::new(mask.chunks(width).map(MaskRow::U8));
            let pieces: std::collections::HashSet<_> = (0..mask.len())
                .filter(|&i| mask[i] != 0)
                .map(|i| components.piece((i % width) as u32, (i / width) as u32))
                .collect();
            assert_eq!(polygons.len(), pieces.len());
            for value in 1..values as u16 {
                for (i, &pixel) in mask.iter().enumerate() {
                    let (x, y) = ((i % width) as f64 + 0.5, (i / width) as f64 + 0.5);
                    let around: i32 =
                        polygons.iter().filter(|of| of.0 == value).map(|of| winding(&of.1, x, y)).sum();
                    assert_eq!(around, i32::from(u16::from(pixel) == value), "{width}: {mask:?} at {i}");
                }
            }
        }
    }

    #[test]
    fn the_largest_piece_comes_first() {
        let polygons = polygons_of(&[1, 0, 1, 1], 4);
        assert_eq!(polygons[0].1, [(2, 0), (4, 0), (4, 1), (2, 1)]);
        assert_eq!(polygons.len(), 2);
    }

    #[test]
    fn noise_comes_to_an_end() {
        let mask: Vec<u8> =
            (0..600u32 * 600).map(|i| u8::from(i.wrapping_mul(2654435761) >> 30 != 0)).collect();
        let start = std::time::Instant::now();
        let polygons = polygons_of(&mask, 600);
        assert!(polygons.iter().map(|polygon| polygon.1.len()).sum::<usize>() > 100_000);
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }
}
