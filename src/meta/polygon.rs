// SPDX-License-Identifier: MIT OR Apache-2.0
//! Outlines of the regions of a mask: the cracks between pixels, followed around, then simplified
//! (Douglas and Peucker 1973). Rings are closed; together they fill a region by the even-odd rule, so holes need
//! no list of their own: outer rings run clockwise on the screen, holes anticlockwise.

use super::view::MaskRow;

/// A corner of pixels: columns from the left edge, rows from the top edge.
pub type Corner = (u32, u32);

/// One closed outline; the last corner joins the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    pub value: u16,
    pub corners: Vec<Corner>,
}

/// How far an outline may leave the cracks, in pixels of the mask: a slanted line has steps of one pixel.
pub const TOLERANCE: f64 = 1.0;

/// Exact outlines of every value above 0. Pixels that touch only at a corner are not connected.
pub fn rings<'a>(rows: impl Iterator<Item = MaskRow<'a>>) -> Vec<Ring> {
    let rows: Vec<_> = rows.collect();
    let Some(width) = rows.first().map(|row| row.len()) else { return Vec::new() };
    let cells = Cells { height: rows.len(), rows, width };
    let mut seen = vec![false; cells.width * cells.height];
    let mut rings = Vec::new();
    let mut start = |x: usize, y: usize| {
        let value = cells.at(x as i64, y as i64);
        if value != 0 && !seen[y * cells.width + x] {
            let corners = follow(&cells, (x as i64, y as i64), value, &mut seen);
            rings.push(Ring { value, corners });
        }
    };
    // Every ring runs eastward somewhere, along the top of a pixel that differs from the one above it.
    (0..cells.width).for_each(|x| start(x, 0));
    for y in 1..cells.height {
        cells.rows[y - 1].for_each_difference(cells.rows[y], |x| start(x, y));
    }
    rings
}

/// The values, reachable by any coordinates.
struct Cells<'a> {
    rows: Vec<MaskRow<'a>>,
    width: usize,
    height: usize,
}

impl Cells<'_> {
    /// 0 outside the mask.
    fn at(&self, x: i64, y: i64) -> u16 {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return 0 };
        self.rows.get(y).and_then(|row| row.get(x)).unwrap_or(0)
    }
}

/// Walks around with the region on the right hand, from the top left corner of a pixel eastward; marks the tops passed.
fn follow(cells: &Cells, start: (i64, i64), value: u16, seen: &mut [bool]) -> Vec<Corner> {
    let (mut corner, mut step) = (start, (1, 0));
    let mut corners = Vec::new();
    let mut last_step = (0, 0);
    loop {
        if step != last_step {
            corners.push((corner.0 as u32, corner.1 as u32));
            last_step = step;
        }
        if step == (1, 0) {
            seen[corner.1 as usize * cells.width + corner.0 as usize] = true;
        }
        corner = (corner.0 + step.0, corner.1 + step.1);
        let (ahead_left, ahead_right) = pixels_ahead(corner, step);
        let inside = |(x, y)| cells.at(x, y) == value;
        let (dx, dy) = step;
        if !inside(ahead_right) {
            step = (-dy, dx); // right
        } else if inside(ahead_left) {
            step = (dy, -dx); // left
        }
        if corner == start && step == (1, 0) {
            break;
        }
    }
    corners
}

/// The two pixels in front of a corner, left and right of the line of walking.
fn pixels_ahead((x, y): (i64, i64), step: (i64, i64)) -> ((i64, i64), (i64, i64)) {
    match step {
        (1, 0) => ((x, y - 1), (x, y)),
        (0, 1) => ((x, y), (x - 1, y)),
        (-1, 0) => ((x - 1, y), (x - 1, y - 1)),
        _ => ((x - 1, y - 1), (x, y - 1)),
    }
}

/// Leaves out corners that are within `tolerance` pixels of the line through those that stay. A ring that would
/// shrink to a line stays as it is.
pub fn simplify(ring: &[Corner], tolerance: f64) -> Vec<Corner> {
    let distance = |a: Corner, b: Corner| {
        let (dx, dy) = (f64::from(a.0) - f64::from(b.0), f64::from(a.1) - f64::from(b.1));
        dx * dx + dy * dy
    };
    let Some(&first) = ring.first() else { return Vec::new() };
    // A ring has no ends: the first corner and the one farthest from it stand in for them.
    let farthest =
        (0..ring.len()).max_by(|&a, &b| distance(first, ring[a]).total_cmp(&distance(first, ring[b])));
    let farthest = farthest.unwrap_or(0);
    let mut kept = vec![false; ring.len()];
    (kept[0], kept[farthest]) = (true, true);
    let mut open = vec![(0, farthest), (farthest, ring.len())];
    while let Some((from, to)) = open.pop() {
        let chord = Chord::new(ring[from], ring[to % ring.len()]);
        let (mut worst, mut worst_distance) = (from, tolerance * tolerance);
        for (at, &corner) in ring.iter().enumerate().take(to).skip(from + 1) {
            let distance = chord.squared_distance(corner);
            if distance > worst_distance {
                (worst, worst_distance) = (at, distance);
            }
        }
        if worst != from {
            kept[worst] = true;
            open.extend([(from, worst), (worst, to)]);
        }
    }
    let simple: Vec<Corner> =
        ring.iter().zip(kept).filter_map(|(&corner, kept)| kept.then_some(corner)).collect();
    if simple.len() < 3 { ring.to_vec() } else { simple }
}

/// A line between two corners, ends included.
struct Chord {
    from: (f64, f64),
    along: (f64, f64),
    /// One over its squared length; 0 if both corners are one.
    scale: f64,
}

impl Chord {
    fn new(a: Corner, b: Corner) -> Chord {
        let from = (f64::from(a.0), f64::from(a.1));
        let along = (f64::from(b.0) - from.0, f64::from(b.1) - from.1);
        let length = along.0 * along.0 + along.1 * along.1;
        Chord { from, along, scale: if length > 0.0 { 1.0 / length } else { 0.0 } }
    }

    fn squared_distance(&self, corner: Corner) -> f64 {
        let (x, y) = (f64::from(corner.0) - self.from.0, f64::from(corner.1) - self.from.1);
        let share = ((x * self.along.0 + y * self.along.1) * self.scale).clamp(0.0, 1.0);
        let (dx, dy) = (x - share * self.along.0, y - share * self.along.1);
        dx * dx + dy * dy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Even-odd fill at the pixels' centres.
    fn fill(rings: &[Vec<Corner>], height: usize, width: usize) -> Vec<bool> {
        let inside = |x: f64, y: f64| {
            let crossings = rings
                .iter()
                .flat_map(|ring| ring.iter().zip(ring.iter().cycle().skip(1)))
                .filter(|(a, b)| {
                    let [(ax, ay), (bx, by)] = [a, b].map(|&&(x, y)| (f64::from(x), f64::from(y)));
                    (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
                });
            crossings.count() % 2 == 1
        };
        (0..height * width).map(|i| inside((i % width) as f64 + 0.5, (i / width) as f64 + 0.5)).collect()
    }

    fn rings_of(mask: &[u8], width: usize) -> Vec<Ring> {
        rings(mask.chunks(width).map(MaskRow::U8))
    }

    fn of_value(rings: &[Ring], value: u16) -> Vec<Vec<Corner>> {
        rings.iter().filter(|ring| ring.value == value).map(|ring| ring.corners.clone()).collect()
    }

    /// Twice the area; positive for clockwise on the screen.
    fn shoelace(ring: &[Corner]) -> i64 {
        let pairs = ring.iter().zip(ring.iter().cycle().skip(1));
        pairs.map(|(a, b)| i64::from(a.0) * i64::from(b.1) - i64::from(b.0) * i64::from(a.1)).sum()
    }

    #[test]
    fn exact_outlines_fill_the_mask_again() {
        let mut state = 1u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (height, width) = (1 + random(20) as usize, 1 + random(50) as usize);
            let (values, block) = (1 + random(4), 1 + random(6) as usize);
            let cells: Vec<u8> = (0..20 * 50).map(|_| random(values) as u8).collect();
            let mask: Vec<u8> =
                (0..height * width).map(|i| cells[i / width / block * 50 + i % width / block]).collect();
            let rings = rings_of(&mask, width);
            for value in 1..4 {
                let expected: Vec<bool> = mask.iter().map(|&v| v == value).collect();
                let rings = of_value(&rings, u16::from(value));
                assert_eq!(fill(&rings, height, width), expected, "{height}x{width} {mask:?}");
                let area: i64 = rings.iter().map(|ring| shoelace(ring)).sum();
                assert_eq!(
                    area,
                    2 * expected.iter().filter(|&&on| on).count() as i64,
                    "holes run the other way"
                );
            }
        }
    }

    #[test]
    fn a_hole_is_a_ring_of_its_own() {
        #[rustfmt::skip]
        let mask = [
            1, 1, 1,
            1, 0, 1,
            1, 1, 1,
        ];
        let expected = [vec![(0, 0), (3, 0), (3, 3), (0, 3)], vec![(1, 2), (2, 2), (2, 1), (1, 1)]];
        assert_eq!(of_value(&rings_of(&mask, 3), 1), expected);
    }

    #[test]
    fn pixels_that_touch_at_a_corner_are_apart() {
        assert_eq!(rings_of(&[1, 0, 0, 1], 2).len(), 2);
        assert_eq!(rings_of(&[], 1).len(), 0);
    }

    #[test]
    fn a_slanted_edge_becomes_one_line() {
        let mask: Vec<u8> = (0..40 * 40).map(|i| u8::from(i % 40 <= i / 40)).collect();
        let exact = &rings_of(&mask, 40)[0].corners;
        assert!(exact.len() > 75);
        let simple = simplify(exact, TOLERANCE);
        assert!(simple.len() <= 5, "{simple:?}");
        let filled = fill(&[simple], 40, 40);
        let agree = filled.iter().zip(&mask).filter(|&(&a, &b)| a == (b == 1)).count();
        assert!(agree >= 40 * 40 - 60, "{agree}");
    }

    #[test]
    fn a_simplified_disc_stays_a_disc() {
        let at = |i: usize| (((i % 100) as f64 - 50.0).powi(2) + ((i / 100) as f64 - 50.0).powi(2)).sqrt();
        let mask: Vec<u8> = (0..100 * 100).map(|i| u8::from(at(i) < 40.0 && at(i) > 15.0)).collect();
        let exact = of_value(&rings_of(&mask, 100), 1);
        let simple: Vec<_> = exact.iter().map(|ring| simplify(ring, TOLERANCE)).collect();
        assert_eq!(simple.len(), 2);
        assert!(simple.iter().flatten().count() * 5 < exact.iter().flatten().count());
        let filled = fill(&simple, 100, 100);
        let pairs = || filled.iter().zip(&mask).map(|(&a, &b)| (a, b == 1));
        let (both, either) = (pairs().filter(|p| p.0 && p.1).count(), pairs().filter(|p| p.0 || p.1).count());
        assert!(both as f64 / either as f64 > 0.96, "{both}/{either}");
    }

    #[test]
    fn one_pixel_stays_a_square() {
        let ring = &rings_of(&[1], 1)[0].corners;
        assert_eq!(simplify(ring, TOLERANCE), [(0, 0), (1, 0), (1, 1), (0, 1)]);
    }
}
