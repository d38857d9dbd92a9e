// SPDX-License-Identifier: MIT OR Apache-2.0
//! From a class map to a border field: for every cell of the mask its class and how far inside that class it lies.
//!
//! A class map drawn larger than it is shows its cells as steps. Interpolating the *distance to the border* instead
//! gives an edge that is smooth at any size, one pixel wide, and never mixes colours of classes that do not touch.
//! The distance comes from smoothed class coverages (a small binomial window, which also rounds the steps off)
//! through the inverse of the window's response to a straight edge. Only cells near a border are ever looked at.

/// The slot of everything that is not drawn.
pub const BACKGROUND: u16 = 0;
/// Depths are measured in this fraction of a mask cell.
pub const UNIT: i32 = 64;
/// From this size on (shorter side, in cells) steps are finer than what the mask knows, and the wider window is used;
/// below it a single cell may be a whole object and must survive.
const FINE: usize = 96;

/// Per cell: `top` class, `second` class (the neighbour across the nearest border) and `depth` inside `top`.
pub struct Field {
    pub width: usize,
    pub height: usize,
    pub top: Vec<u16>,
    /// Meaningful only where `depth < deep`.
    pub second: Vec<u16>,
    pub depth: Vec<u8>,
    /// Depth of a cell with no border in its window.
    pub deep: u8,
}

struct Window {
    radius: usize,
    /// One dimension; sums to 16.
    taps: &'static [u32],
    /// (margin of the first class over the second, 0..256; depth): response to a straight edge, at cell centres.
    response: &'static [(i32, i32)],
}

const NARROW: Window =
    Window { radius: 1, taps: &[2, 12, 2], response: &[(0, 0), (192, UNIT / 2), (256, UNIT * 3 / 2)] };
const WIDE: Window = Window {
    radius: 2,
    taps: &[1, 4, 6, 4, 1],
    response: &[(0, 0), (96, UNIT / 2), (224, UNIT * 3 / 2), (256, UNIT * 5 / 2)],
};

impl Window {
    fn depth(&self, margin: i32) -> u8 {
        for pair in self.response.windows(2) {
            let ((m0, d0), (m1, d1)) = (pair[0], pair[1]);
            if margin <= m1 {
                return (d0 + (margin - m0) * (d1 - d0) / (m1 - m0)) as u8;
            }
        }
        self.deep()
    }

    fn deep(&self) -> u8 {
        self.response.last().map_or(0, |&(_, depth)| depth as u8)
    }
}

impl Field {
    /// `slots` is a class map of `width` x `height` cells, row by row.
    pub fn new(slots: Vec<u16>, width: usize, height: usize) -> Self {
        debug_assert_eq!(slots.len(), width * height);
        let window = if width.min(height) >= FINE { WIDE } else { NARROW };
        let mut field = Self {
            width,
            height,
            second: vec![BACKGROUND; slots.len()],
            depth: vec![window.deep(); slots.len()],
            top: slots,
            deep: window.deep(),
        };
        field.measure(&window);
        field
    }

    /// Cells `[x0, x1) x [y0, y1)` that hold anything but `slot`; `None` if there are none.
    pub fn bounds(&self, mut wanted: impl FnMut(u16) -> bool) -> Option<[usize; 4]> {
        let mut bounds: Option<[usize; 4]> = None;
        for y in 0..self.height {
            let row = &self.top[y * self.width..][..self.width];
            let Some(first) = row.iter().position(|&slot| wanted(slot)) else { continue };
            let last = row.iter().rposition(|&slot| wanted(slot)).unwrap_or(first) + 1;
            bounds = Some(match bounds {
                None => [first, last, y, y + 1],
                Some([x0, x1, y0, _]) => [x0.min(first), x1.max(last), y0, y + 1],
            });
        }
        bounds
    }

    fn measure(&mut self, window: &Window) {
        let (width, height, radius) = (self.width, self.height, window.radius);
        if width == 0 || height == 0 {
            return;
        }
        let labels = self.top.clone();
        let mixed = mixed_quads(&labels, width, height);
        let mut near = vec![0u8; width];
        for y in 0..height {
            // A cell is near a border if any of the four-cell squares inside its window is mixed.
            near.fill(0);
            for row in y.saturating_sub(radius)..(y + radius).min(height) {
                for (near, &quad) in near.iter_mut().zip(&mixed[row * width..][..width]) {
                    *near |= quad;
                }
            }
            if near.iter().all(|&quad| quad == 0) {
                continue;
            }
            for x in 0..width {
                let quads = x.saturating_sub(radius)..(x + radius).min(width);
                if near[quads].iter().any(|&quad| quad != 0) {
                    self.measure_cell(&labels, window, x, y);
                }
            }
        }
    }

    fn measure_cell(&mut self, labels: &[u16], window: &Window, x: usize, y: usize) {
        let (width, height, radius) = (self.width, self.height, window.radius as isize);
        // At most 25 cells, so at most 25 classes; a linear search beats any map at this size.
        let mut classes = [(0u16, 0u32); 25];
        let mut count = 0;
        for (j, &weight_y) in window.taps.iter().enumerate() {
            let row = (y as isize + j as isize - radius).clamp(0, height as isize - 1) as usize * width;
            for (i, &weight_x) in window.taps.iter().enumerate() {
                let column = (x as isize + i as isize - radius).clamp(0, width as isize - 1) as usize;
                let label = labels[row + column];
                match classes[..count].iter_mut().find(|class| class.0 == label) {
                    Some(class) => class.1 += weight_x * weight_y,
                    None => {
                        classes[count] = (label, weight_x * weight_y);
                        count += 1;
                    }
                }
            }
        }
        let (mut first, mut second) = ((labels[y * width + x], 0u32), (BACKGROUND, 0u32));
        for &class in &classes[..count] {
            if class.1 > first.1 {
                second = first;
                first = class;
            } else if class.1 > second.1 {
                second = class;
            }
        }
        let cell = y * width + x;
        self.top[cell] = first.0;
        self.second[cell] = second.0;
        self.depth[cell] = window.depth(first.1 as i32 - second.1 as i32);
    }
}

/// 1 for every square of four cells, named by its upper left one, that is not all of one class.
fn mixed_quads(labels: &[u16], width: usize, height: usize) -> Vec<u8> {
    let mut mixed = vec![0u8; width * height];
    for y in 0..height {
        let upper = &labels[y * width..][..width];
        let lower = &labels[(y + 1).min(height - 1) * width..][..width];
        let row = &mut mixed[y * width..][..width];
        for (quad, (a, b)) in row.iter_mut().zip(upper.iter().zip(lower)) {
            *quad = (a != b) as u8;
        }
        for ((quad, a), b) in row.iter_mut().zip(upper).zip(&upper[1..]) {
            *quad |= (a != b) as u8;
        }
        for ((quad, a), b) in row.iter_mut().zip(lower).zip(&lower[1..]) {
            *quad |= (a != b) as u8;
        }
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_plane(width: usize, height: usize, border: usize) -> Field {
        let slots = (0..width * height).map(|i| if i % width < border { 1 } else { 2 }).collect();
        Field::new(slots, width, height)
    }

    #[test]
    fn depth_grows_by_one_cell_a_cell_from_a_straight_border() {
        for (size, reach) in [(12, 1), (120, 2)] {
            let field = half_plane(size, size, 6);
            for step in 0..=reach {
                let expected = (UNIT / 2 + UNIT * step) as u8;
                assert_eq!(field.depth[size * 5 + 6 + step as usize], expected, "right, {size}");
                assert_eq!(field.depth[size * 5 + 5 - step as usize], expected, "left, {size}");
            }
            assert_eq!((field.top[size * 5 + 5], field.second[size * 5 + 5]), (1, 2));
            assert_eq!((field.top[size * 5 + 6], field.second[size * 5 + 6]), (2, 1));
        }
    }

    #[test]
    fn cells_far_from_a_border_keep_their_class_and_are_deep() {
        let field = half_plane(120, 100, 60);
        for (cell, (&top, &depth)) in field.top.iter().zip(&field.depth).enumerate() {
            let x = cell % 120;
            assert_eq!(top, if x < 60 { 1 } else { 2 });
            assert_eq!(depth == field.deep, !(58..62).contains(&x), "column {x}");
        }
    }

    #[test]
    fn a_single_cell_of_a_coarse_mask_survives() {
        let mut slots = vec![BACKGROUND; 49];
        slots[24] = 3;
        let field = Field::new(slots, 7, 7);
        assert_eq!((field.top[24], field.second[24]), (3, BACKGROUND));
        assert!(field.depth[24] > 0);
        assert_eq!(field.bounds(|slot| slot == 3), Some([3, 4, 3, 4]));
    }

    #[test]
    fn masks_of_one_cell_one_row_or_one_column_have_no_border() {
        for (width, height) in [(1, 1), (9, 1), (1, 9)] {
            let field = Field::new(vec![5; width * height], width, height);
            assert!(field.depth.iter().all(|&depth| depth == field.deep));
        }
        assert_eq!(Field::new(Vec::new(), 0, 0).bounds(|_| true), None);
    }
}
