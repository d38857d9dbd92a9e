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
    let steps: Vec<u8> = map.iter().map(|value| (value * 255.0) as u8).collect();
    let most = steps.iter().copied().max().unwrap_or(0);
    let threshold = (threshold * f32::from(most)) as u8;
    let mut open: Vec<bool> = steps.iter().map(|&step| step > threshold).collect();
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
            for row in row.saturating_sub(1)..=(row + 1).min(h - 1) {
                for column in column.saturating_sub(1)..=(column + 1).min(w - 1) {
                    let neighbour = row * w + column;
                    if std::mem::take(&mut open[neighbour]) {
                        waiting.push(neighbour);
                    }
                }
            }
        }
        boxes.push(area.trimmed((h, w)));
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
    fn the_surrounding_box_holds_the_upper_half() {
        let scores = [0.2, 0.4, 0.0, 1.0, 0.7, 0.0, 0.0, 0.0, 0.0];
        let (area, marked) = surrounding(&scores, (3, 3)).unwrap();
        assert_eq!(area, Box { top: 1, left: 0, bottom: 2, right: 2 });
        assert_eq!(marked, [true, true]);
        assert_eq!(surrounding(&[0.3; 9], (3, 3)), None, "no range, no box");
        assert_eq!(surrounding(&[0.0, 1.0], (1, 2)), None, "the last column is cut off");
    }
}
