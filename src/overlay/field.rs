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

/// How far around itself a cell looks. The wider, the rounder the steps of the mask, and the more of its detail is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// For coarse masks: a single cell may be a whole object and must survive.
    Narrow,
    /// For masks about as fine as the frame.
    Medium,
    /// For masks in between: fine enough that a cell is no object, coarse enough that its steps would show.
    Wide,
}

/// Taps of the widest window.
const MOST_TAPS: usize = 7;

struct Taps {
    radius: usize,
    /// Binomial weights in one dimension.
    taps: &'static [u32],
    /// (lead of the first class over the second, of the sum of the weights; depth): response to a straight edge at
    /// the cells beside it.
    response: &'static [(i32, i32)],
}

const NARROW: Taps = Taps { radius: 1, taps: &[1, 6, 1], response: &[(0, 0), (6, 32), (8, 96)] };
const MEDIUM: Taps =
    Taps { radius: 2, taps: &[1, 4, 6, 4, 1], response: &[(0, 0), (6, 32), (14, 96), (16, 160)] };
const WIDE: Taps = Taps {
    radius: 3,
    taps: &[1, 6, 15, 20, 15, 6, 1],
    response: &[(0, 0), (20, 32), (50, 96), (62, 160), (64, 224)],
};

impl Taps {
    fn of(window: Window) -> &'static Taps {
        match window {
            Window::Narrow => &NARROW,
            Window::Medium => &MEDIUM,
            Window::Wide => &WIDE,
        }
    }

    /// From a lead in two dimensions: the sum of the weights is in it twice.
    fn depth(&self, lead: i32) -> u8 {
        let sum: i32 = self.taps.iter().sum::<u32>() as i32;
        for pair in self.response.windows(2) {
            let ((l0, d0), (l1, d1)) = (pair[0], pair[1]);
            if lead <= l1 * sum {
                return (d0 + (lead - l0 * sum) * (d1 - d0) / ((l1 - l0) * sum)) as u8;
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
    pub fn new(slots: Vec<u16>, width: usize, height: usize, window: Window) -> Self {
        debug_assert_eq!(slots.len(), width * height);
        let window = Taps::of(window);
        let mut field = Self {
            width,
            height,
            second: vec![BACKGROUND; slots.len()],
            depth: vec![window.deep(); slots.len()],
            top: slots,
            deep: window.deep(),
        };
        field.measure(window);
        field
    }

    fn measure(&mut self, window: &Taps) {
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

    fn measure_cell(&mut self, labels: &[u16], window: &Taps, x: usize, y: usize) {
        let (width, height, radius) = (self.width, self.height, window.radius as isize);
        let columns: [usize; MOST_TAPS] =
            std::array::from_fn(|i| (x as isize + i as isize - radius).clamp(0, width as isize - 1) as usize);
        // A linear search beats any map at this size: nearly always two classes, rarely more than four.
        let mut classes = [(0u16, 0u32); MOST_TAPS * MOST_TAPS];
        let mut count = 0;
        for (j, &weight_y) in window.taps.iter().enumerate() {
            let row = (y as isize + j as isize - radius).clamp(0, height as isize - 1) as usize * width;
            for (&column, &weight_x) in columns.iter().zip(window.taps) {
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

    fn half_plane(window: Window) -> Field {
        let slots = (0..24 * 20).map(|i| if i % 24 < 12 { 1 } else { 2 }).collect();
        Field::new(slots, 24, 20, window)
    }

    #[test]
    fn depth_grows_by_one_cell_a_cell_from_a_straight_border() {
        for (window, reach) in [(Window::Narrow, 1), (Window::Medium, 2), (Window::Wide, 3)] {
            let field = half_plane(window);
            for step in 0..=reach {
                let expected = (UNIT / 2 + UNIT * step) as u8;
                assert_eq!(field.depth[24 * 5 + 12 + step as usize], expected, "right, {window:?}");
                assert_eq!(field.depth[24 * 5 + 11 - step as usize], expected, "left, {window:?}");
            }
            assert_eq!((field.top[24 * 5 + 11], field.second[24 * 5 + 11]), (1, 2));
            assert_eq!((field.top[24 * 5 + 12], field.second[24 * 5 + 12]), (2, 1));
        }
    }

    #[test]
    fn cells_far_from_a_border_keep_their_class_and_are_deep() {
        let field = half_plane(Window::Wide);
        for (cell, (&top, &depth)) in field.top.iter().zip(&field.depth).enumerate() {
            let x = cell % 24;
            assert_eq!(top, if x < 12 { 1 } else { 2 });
            assert_eq!(depth == field.deep, !(9..15).contains(&x), "column {x}");
        }
    }

    #[test]
    fn a_single_cell_of_a_coarse_mask_survives() {
        let mut slots = vec![BACKGROUND; 49];
        slots[24] = 3;
        let field = Field::new(slots, 7, 7, Window::Narrow);
        assert_eq!((field.top[24], field.second[24]), (3, BACKGROUND));
        assert!(field.depth[24] > 0);
    }

    #[test]
    fn masks_of_one_cell_one_row_or_one_column_have_no_border() {
        for (width, height) in [(1, 1), (9, 1), (1, 9), (0, 0)] {
            let field = Field::new(vec![5; width * height], width, height, Window::Wide);
            assert!(field.depth.iter().all(|&depth| depth == field.deep));
        }
    }
}
