// SPDX-License-Identifier: MIT OR Apache-2.0
//! Boxes around the patches of a class, in patches.

/// From `top` to before `bottom`, from `left` to before `right`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Box {
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
}

impl Box {
    pub fn contains(&self, row: usize, column: usize) -> bool {
        (self.top..self.bottom).contains(&row) && (self.left..self.right).contains(&column)
    }

    /// Around one patch.
    fn at(row: usize, column: usize) -> Box {
        Box { top: row, left: column, bottom: row + 1, right: column + 1 }
    }

    fn grow(&mut self, row: usize, column: usize) {
        self.top = self.top.min(row);
        self.left = self.left.min(column);
        self.bottom = self.bottom.max(row + 1);
        self.right = self.right.max(column + 1);
    }

    /// The published code ends boxes before the last row and column of the grid.
    fn trimmed(self, (h, w): (usize, usize)) -> Box {
        Box { bottom: self.bottom.min(h - 1), right: self.right.min(w - 1), ..self }
    }
}

/// Boxes around each connected region (eight neighbours) of patches above `threshold`. `map` is row-major from 0 to 1;
/// as published, both are compared in 256 steps.
pub fn boxes_above(map: &[f32], (h, w): (usize, usize), threshold: f32) -> Vec<Box> {
    let regions = regions(marked_above(map, threshold), (h, w), true);
    regions.into_iter().map(|area| area.trimmed((h, w))).collect()
}

/// As [`boxes_above`], and boxes around the holes in those regions, with the patches around each: what contours of both
/// kinds give.
pub fn boxes_above_and_inside(map: &[f32], (h, w): (usize, usize), threshold: f32) -> Vec<Box> {
    let marked = marked_above(map, threshold);
    let gaps = regions(marked.iter().map(|&marked| !marked).collect(), (h, w), false);
    // What reaches the edge is no hole.
    let holes = gaps.into_iter().filter(|gap| gap.top > 0 && gap.left > 0 && gap.bottom < h && gap.right < w);
    let holes = holes.map(|gap| Box {
        top: gap.top - 1,
        left: gap.left - 1,
        bottom: gap.bottom + 1,
        right: gap.right + 1,
    });
    let regions = regions(marked, (h, w), true);
    regions.into_iter().chain(holes).map(|area| area.trimmed((h, w))).collect()
}

fn marked_above(map: &[f32], threshold: f32) -> Vec<bool> {
    let steps: Vec<u8> = map.iter().map(|value| (value * 255.0) as u8).collect();
    let most = steps.iter().copied().max().unwrap_or(0);
    let threshold = (threshold * f32::from(most)) as u8;
    steps.iter().map(|&step| step > threshold).collect()
}

/// The extent of each connected region of marked patches, with eight neighbours or four.
fn regions(mut open: Vec<bool>, (h, w): (usize, usize), by_corners: bool) -> Vec<Box> {
    let mut boxes = Vec::new();
    for start in 0..open.len() {
        if !open[start] {
            continue;
        }
        let mut area = Box::at(start / w, start % w);
        let mut waiting = vec![start];
        open[start] = false;
        while let Some(place) = waiting.pop() {
            let (row, column) = (place / w, place % w);
            area.grow(row, column);
            for beside_row in row.saturating_sub(1)..=(row + 1).min(h - 1) {
                for beside_column in column.saturating_sub(1)..=(column + 1).min(w - 1) {
                    let neighbour = beside_row * w + beside_column;
                    let reached = by_corners || beside_row == row || beside_column == column;
                    if reached && std::mem::take(&mut open[neighbour]) {
                        waiting.push(neighbour);
                    }
                }
            }
        }
        boxes.push(area);
    }
    boxes
}

/// The box around all patches in the upper half of the range of `scores`, and which patches in it those are, row by row;
/// `None` if nothing is left of it.
pub fn surrounding(scores: &[f32], (h, w): (i64, i64)) -> Option<(Box, Vec<bool>)> {
    let (h, w) = (h as usize, w as usize);
    let least = scores.iter().copied().fold(f32::INFINITY, f32::min);
    let range = scores.iter().map(|score| score - least).fold(0.0, f32::max);
    let marked: Vec<bool> = scores.iter().map(|score| (score - least) / range > 0.5).collect();
    let mut places = (0..marked.len()).filter(|&place| marked[place]);
    let first = places.next()?;
    let mut area = Box::at(first / w, first % w);
    places.for_each(|place| area.grow(place / w, place % w));
    let area = area.trimmed((h, w));
    if area.top >= area.bottom || area.left >= area.right {
        return None;
    }
    let inside =
        (area.top..area.bottom).flat_map(|row| marked[row * w + area.left..row * w + area.right].to_vec());
    Some((area, inside.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_touch_by_their_corners() {
        let map = [1.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.8, 0.0, 0.0, 0.0, 0.0];
        let boxes = boxes_above(&map, (4, 4), 0.2);
        assert_eq!(boxes[0], Box { top: 0, left: 0, bottom: 2, right: 2 });
        // At the right edge nothing is left of the box.
        assert_eq!(boxes[1], Box { top: 2, left: 3, bottom: 3, right: 3 });
        assert!(!boxes[1].contains(2, 3) && boxes[0].contains(1, 0));
        assert!(boxes_above(&[0.5; 4], (2, 2), 1.0).is_empty());
        assert!(boxes_above(&[f32::NAN; 4], (2, 2), f32::NAN).is_empty());
    }

    #[test]
    fn holes_have_boxes_too() {
        let ring = |at: usize| f32::from(u8::from(!(at % 6 == 2 && at / 6 == 2)));
        let map: Vec<f32> = (0..36)
            .map(|at| if (1..4).contains(&(at % 6)) && (1..4).contains(&(at / 6)) { ring(at) } else { 0.0 })
            .collect();
        let whole = Box { top: 1, left: 1, bottom: 4, right: 4 };
        assert_eq!(boxes_above(&map, (6, 6), 0.4), [whole]);
        // Around a hole of one patch lie the same eight.
        assert_eq!(boxes_above_and_inside(&map, (6, 6), 0.4), [whole, whole]);
        assert_eq!(
            boxes_above_and_inside(&[1.0, 0.0, 1.0, 0.0], (1, 4), 0.4).len(),
            2,
            "gaps at the edge are none"
        );
    }

    #[test]
    fn the_surrounding_box_holds_the_upper_half() {
        let scores = [0.2, 0.4, 0.0, 1.0, 0.7, 0.0, 0.0, 0.0, 0.0];
        let (area, marked) = surrounding(&scores, (3, 3)).unwrap();
        assert_eq!(area, Box { top: 1, left: 0, bottom: 2, right: 2 });
        assert_eq!(marked, [true, true]);
        assert_eq!(surrounding(&[0.3; 9], (3, 3)), None, "no range, no box");
        assert_eq!(surrounding(&[0.0, 1.0], (1, 2)), None, "the last column is cut off");
    }
}
