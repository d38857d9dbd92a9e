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
#[derive(Default)]
pub struct Field {
    pub width: usize,
    pub height: usize,
    pub top: Vec<u16>,
    /// Meaningful only where `depth < deep`.
    pub second: Vec<u16>,
    pub depth: Vec<u8>,
    /// Depth of a cell with no border in its window.
    pub deep: u8,
    /// The class map as it came.
    labels: Vec<u16>,
    /// 1 for every square of four cells, named by its upper left one, that is not all of one class.
    mixed: Vec<u8>,
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
    /// The field of a class map of `width` x `height` cells, row by row.
    #[cfg(test)]
    pub fn new(slots: Vec<u16>, width: usize, height: usize, window: Window) -> Self {
        let mut field = Self::default();
        field.renew(width, height, window, |labels| *labels = slots);
        field
    }

    /// Becomes the field of another class map of `width` x `height` cells, which `slots` appends row by row. The memory
    /// stays: that of a mask as large as the frame costs as much to get anew for every frame as the work done in it.
    pub fn renew(&mut self, width: usize, height: usize, window: Window, slots: impl FnOnce(&mut Vec<u16>)) {
        let window = Taps::of(window);
        self.labels.clear();
        slots(&mut self.labels);
        let cells = self.labels.len();
        debug_assert_eq!(cells, width * height);
        (self.width, self.height, self.deep) = (width, height, window.deep());
        self.top.clone_from(&self.labels);
        self.second.resize(cells, BACKGROUND);
        self.depth.clear();
        self.depth.resize(cells, self.deep);
        self.mixed.resize(cells, 0);
        if cells > 0 {
            self.measure(window);
        }
    }

    fn measure(&mut self, window: &Taps) {
        let (width, height, radius) = (self.width, self.height, window.radius);
        mark_mixed_quads(&self.labels, width, height, &mut self.mixed);
        // A cell is near a border if any of the squares inside its window is mixed. With `radius` bytes of room on
        // both sides the search along a row is a few shifted ORs over whole rows, which is what keeps large masks cheap.
        let mut squares = vec![0u8; width + 2 * radius];
        let mut near = vec![0u8; width];
        for y in 0..height {
            squares.fill(0);
            for row in y.saturating_sub(radius)..(y + radius).min(height) {
                for (square, &mixed) in squares[radius..].iter_mut().zip(&self.mixed[row * width..][..width])
                {
                    *square |= mixed;
                }
            }
            near.fill(0);
            for shift in 0..2 * radius {
                for (near, &square) in near.iter_mut().zip(&squares[shift..]) {
                    *near |= square;
                }
            }
            for (chunk, cells) in near.chunks(8).enumerate() {
                if cells.iter().fold(0, |any, &cell| any | cell) != 0 {
                    for x in (chunk * 8..).zip(cells).filter(|(_, near)| **near != 0).map(|(x, _)| x) {
                        self.measure_cell(window, x, y);
                    }
                }
            }
        }
    }

    fn measure_cell(&mut self, window: &Taps, x: usize, y: usize) {
        let centre = self.labels[y * self.width + x];
        let (first, second) = match window.radius {
            1 => self.two_classes::<3>(window, x, y),
            2 => self.two_classes::<5>(window, x, y),
            _ => self.two_classes::<7>(window, x, y),
        }
        .unwrap_or_else(|| self.many_classes(window, x, y));
        // On a tie the cell stays what it is.
        let (first, second) =
            if second.1 == first.1 && second.0 == centre { (second, first) } else { (first, second) };
        let cell = y * self.width + x;
        self.top[cell] = first.0;
        self.second[cell] = second.0;
        self.depth[cell] = window.depth(first.1 as i32 - second.1 as i32);
    }

    /// The classes in the window of a cell and their weights, the heavier first, if there are but two and the window
    /// lies inside the mask: nearly all cells. `N` is the number of taps.
    fn two_classes<const N: usize>(
        &self,
        window: &Taps,
        x: usize,
        y: usize,
    ) -> Option<((u16, u32), (u16, u32))> {
        let radius = N / 2;
        if x < radius || y < radius || x + radius >= self.width || y + radius >= self.height {
            return None;
        }
        let labels = &self.labels;
        let taps: &[u32; N] = window.taps.first_chunk()?;
        let row = |j: usize| labels[(y + j - radius) * self.width + x - radius..].first_chunk::<N>();
        let centre = labels[y * self.width + x];
        let other = (0..N).find_map(|j| row(j)?.iter().find(|&&label| label != centre)).copied()?;
        let (mut ours, mut theirs) = (0, 0);
        for (j, &weight) in taps.iter().enumerate() {
            let (mut our_row, mut their_row) = (0, 0);
            for (&label, &tap) in row(j)?.iter().zip(taps) {
                our_row += tap * (label == centre) as u32;
                their_row += tap * (label == other) as u32;
            }
            ours += weight * our_row;
            theirs += weight * their_row;
        }
        let all = taps.iter().sum::<u32>().pow(2);
        let order = if ours >= theirs {
            ((centre, ours), (other, theirs))
        } else {
            ((other, theirs), (centre, ours))
        };
        (ours + theirs == all).then_some(order)
    }

    /// The two heaviest classes in the window of any cell; beyond its border the mask goes on as it ends.
    fn many_classes(&self, window: &Taps, x: usize, y: usize) -> ((u16, u32), (u16, u32)) {
        let (width, height, radius) = (self.width, self.height, window.radius as isize);
        let labels = &self.labels;
        let inside = |at: usize, i: usize, side: usize| {
            (at as isize + i as isize - radius).clamp(0, side as isize - 1) as usize
        };
        let mut classes = [(0u16, 0u32); MOST_TAPS * MOST_TAPS];
        let mut count = 0;
        for (j, &weight_y) in window.taps.iter().enumerate() {
            let row = inside(y, j, height) * width;
            for (i, &weight_x) in window.taps.iter().enumerate() {
                let label = labels[row + inside(x, i, width)];
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
        (first, second)
    }
}

fn mark_mixed_quads(labels: &[u16], width: usize, height: usize, mixed: &mut [u8]) {
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
    fn the_short_way_for_two_classes_agrees_with_the_long_one() {
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 24) as u16
        };
        for (window, classes) in
            [(Window::Narrow, 2), (Window::Medium, 2), (Window::Wide, 2), (Window::Wide, 3)]
        {
            let labels: Vec<u16> = (0..400).map(|_| random() % classes).collect();
            let field = Field::new(labels, 20, 20, window);
            let taps = Taps::of(window);
            for (x, y) in (0..20).flat_map(|y| (0..20).map(move |x| (x, y))) {
                let (first, second) = field.many_classes(taps, x, y);
                let cell = y * 20 + x;
                assert_eq!(
                    field.depth[cell],
                    taps.depth(first.1 as i32 - second.1 as i32),
                    "{window:?} {x},{y}"
                );
                if first.1 != second.1 && field.depth[cell] < field.deep {
                    assert_eq!(
                        (field.top[cell], field.second[cell]),
                        (first.0, second.0),
                        "{window:?} {x},{y}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_renewed_field_keeps_nothing_of_the_last_mask() {
        let mut field = half_plane(Window::Wide);
        let cross: Vec<u16> = (0..81).map(|i| (i % 9 == 4 || i / 9 == 4) as u16).collect();
        field.renew(9, 9, Window::Narrow, |labels| labels.extend(&cross));
        let fresh = Field::new(cross, 9, 9, Window::Narrow);
        assert_eq!((&field.top, &field.depth), (&fresh.top, &fresh.depth));
        let near = |field: &Field| -> Vec<u16> {
            let cells = field.second.iter().zip(&field.depth).filter(|(_, depth)| **depth < field.deep);
            cells.map(|(&second, _)| second).collect()
        };
        assert_eq!(near(&field), near(&fresh));
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
