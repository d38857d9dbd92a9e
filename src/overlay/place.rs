// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a label stands: at the cell of its class that lies furthest from the border.

use super::field::Field;

/// Columns of the coarse map that distances are measured on: finer than a label, cheaper than the mask.
const COLUMNS: usize = 160;
/// A label stays where it was while that place is at least this good compared with the best one: labels must not jump.
const GOOD_ENOUGH: f64 = 0.7;

/// The slot of cells under the legend; classes are fewer.
const HIDDEN: u16 = u16::MAX;

/// Distances to the nearest other class or the mask's end, in thirds of a coarse cell.
pub struct Distances {
    columns: usize,
    lines: usize,
    slots: Vec<u16>,
    distance: Vec<u16>,
}

impl Distances {
    /// `hidden`: left, right, top and bottom of what the legend covers, normalised to the mask; no label stands there.
    pub fn new(field: &Field, hidden: Option<[f64; 4]>) -> Self {
        let stride = field.width.div_ceil(COLUMNS).max(1);
        let (columns, lines) = (field.width.div_ceil(stride), field.height.div_ceil(stride));
        let centre = |i: usize, of: usize| (i as f64 + 0.5) / of as f64;
        let cell = |i: usize| {
            let (u, v) = (centre(i % columns, columns), centre(i / columns, lines));
            if hidden.is_some_and(|[x0, x1, y0, y1]| (x0..x1).contains(&u) && (y0..y1).contains(&v)) {
                return HIDDEN;
            }
            let x = (i % columns * stride + stride / 2).min(field.width - 1);
            let y = (i / columns * stride + stride / 2).min(field.height - 1);
            field.top[y * field.width + x]
        };
        let slots: Vec<u16> = (0..columns * lines).map(cell).collect();
        let mut distances = Self { columns, lines, distance: vec![0; slots.len()], slots };
        distances.measure();
        distances
    }

    /// Two passes of the 3-4 chamfer distance (Borgefors 1986).
    fn measure(&mut self) {
        let (columns, lines) = (self.columns as isize, self.lines as isize);
        let passes = [
            [(-1, 0, 3), (0, -1, 3), (-1, -1, 4), (1, -1, 4)],
            [(1, 0, 3), (0, 1, 3), (1, 1, 4), (-1, 1, 4)],
        ];
        self.distance.fill(u16::MAX - 4);
        for (pass, neighbours) in passes.iter().enumerate() {
            for i in 0..self.slots.len() {
                let i = if pass == 0 { i } else { self.slots.len() - 1 - i };
                let (x, y) = (i as isize % columns, i as isize / columns);
                for &(dx, dy, step) in neighbours {
                    let (x, y) = (x + dx, y + dy);
                    let inside = (0..columns).contains(&x) && (0..lines).contains(&y);
                    let other = (y * columns + x) as usize;
                    let through = match inside && self.slots[other] == self.slots[i] {
                        true => self.distance[other] + step,
                        // A border is half a cell away.
                        false => step / 2,
                    };
                    self.distance[i] = self.distance[i].min(through);
                }
            }
        }
    }

    /// Where the label of a slot stands, normalised to the mask; near `before` if that place is still good.
    /// `None` if the mask has no cell of it.
    pub fn place(&self, slot: u16, before: Option<(f64, f64)>) -> Option<(f64, f64)> {
        let (best, &distance) = self
            .distance
            .iter()
            .enumerate()
            .filter(|(i, _)| self.slots[*i] == slot)
            .max_by_key(|(i, distance)| (**distance, std::cmp::Reverse(*i)))?;
        if let Some((x, y)) = before {
            let column = ((x * self.columns as f64) as usize).min(self.columns - 1);
            let line = ((y * self.lines as f64) as usize).min(self.lines - 1);
            let here = line * self.columns + column;
            if self.slots[here] == slot && self.distance[here] as f64 >= GOOD_ENOUGH * distance as f64 {
                return before;
            }
        }
        let centre = |i: usize, of: usize| (i as f64 + 0.5) / of as f64;
        Some((centre(best % self.columns, self.columns), centre(best / self.columns, self.lines)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::field::Window;

    fn distances(width: usize, height: usize, slot: impl Fn(usize, usize) -> u16) -> Distances {
        let slots = (0..width * height).map(|i| slot(i % width, i / width)).collect();
        Distances::new(&Field::new(slots, width, height, Window::Narrow), None)
    }

    #[test]
    fn the_label_stands_in_the_thickest_part() {
        // A large square with a long thin tail: the centre of the bounding box would be in the tail.
        let distances = distances(60, 20, |x, y| ((x < 20) || y == 10) as u16);
        let (x, y) = distances.place(1, None).unwrap();
        assert!((x - 10.0 / 60.0).abs() < 0.05 && (y - 0.5).abs() < 0.1, "{x} {y}");
        assert_eq!(distances.place(2, None), None);
    }

    #[test]
    fn the_label_stays_while_its_place_is_good() {
        let distances = distances(40, 40, |x, _| (x < 20) as u16);
        let here = Some((0.22, 0.6));
        assert_eq!(distances.place(1, here), here);
        let moved = distances.place(1, Some((0.49, 0.6))).unwrap();
        assert!((moved.0 - 0.25).abs() < 0.05, "at the border it may not stay: {moved:?}");
    }

    #[test]
    fn no_label_stands_under_the_legend() {
        let field = Field::new(vec![1; 400], 20, 20, Window::Narrow);
        let (x, y) = Distances::new(&field, Some([0.0, 0.6, 0.0, 0.6])).place(1, Some((0.3, 0.3))).unwrap();
        assert!(x > 0.6 || y > 0.6, "{x} {y}");
        assert_eq!(Distances::new(&field, Some([0.0, 1.0, 0.0, 1.0])).place(1, None), None);
    }

    #[test]
    fn one_cell_is_its_own_place() {
        assert_eq!(distances(1, 1, |_, _| 1).place(1, None), Some((0.5, 0.5)));
    }
}
