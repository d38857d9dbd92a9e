// SPDX-License-Identifier: MIT OR Apache-2.0
//! The border field seen from the samples of one plane: every row as runs of one class and single edge samples.
//!
//! Each pair of neighbouring mask rows is cut into runs that hold one class and squares ("quads") that a border passes
//! through, once; all plane rows between those two mask rows reuse the cut. Along a run nothing is computed per sample.

use super::field::{Field, UNIT};
use std::ops::Range;

/// One in the fixed point of interpolation weights and of depths in pixels.
pub const ONE: i32 = 256;

/// What lies at one sample near a border.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    pub top: u16,
    pub second: u16,
    /// Share of `top` in this sample, `ONE / 2 ..= ONE`.
    pub mix: i32,
    /// Distance to the border in 1/256 frame pixels.
    pub depth: i32,
}

/// Receives the rows of a plane from top to bottom, each from left to right. Samples not mentioned are background.
pub trait Painter {
    fn row(&mut self, y: usize);
    fn run(&mut self, x: Range<usize>, slot: u16);
    fn edge(&mut self, x: usize, edge: Edge);
}

/// One direction of a plane laid over one direction of the mask.
pub struct Axis {
    cells: usize,
    samples: usize,
    /// Samples that the mask covers.
    covered: Range<usize>,
    /// Per sample: the mask cell left of it (-1 = before the first centre) and the weight of the next one, 0..=256.
    position: Vec<(i32, i32)>,
    /// `first[c + 1]`: first sample at or right of the centre of cell `c`.
    first: Vec<usize>,
    /// Frame pixels per mask cell.
    scale: f32,
}

impl Axis {
    /// `samples` of a plane with one sample every `step` pixels of a frame of `pixels`; the mask's `cells` cover the part
    /// of the frame from `start`, `extent` long (both normalised).
    pub fn new(samples: usize, step: usize, pixels: usize, start: f64, extent: f64, cells: usize) -> Self {
        let scale = extent * pixels as f64 / cells as f64;
        let mut covered = samples..samples;
        let mut position = Vec::with_capacity(samples);
        let mut first = vec![samples; cells + 2];
        for sample in 0..samples {
            let centre = ((sample as f64 + 0.5) * step as f64).min(pixels as f64);
            let cell = (centre - start * pixels as f64) / scale;
            if (0.0..cells as f64).contains(&cell) {
                covered = covered.start.min(sample)..sample + 1;
            }
            let cell = (cell - 0.5).clamp(-1.0, cells as f64);
            let left = cell.floor().clamp(-1.0, cells as f64 - 1.0);
            let weight = ((cell - left) * ONE as f64).round() as i32;
            position.push((left as i32, weight.min(ONE)));
        }
        for sample in covered.clone().rev() {
            first[(position[sample].0 + 1) as usize] = sample;
        }
        // Cells without a sample of their own start where the next one starts.
        let mut next = covered.end;
        for entry in first.iter_mut().rev() {
            if *entry == samples {
                *entry = next;
            }
            next = *entry;
        }
        if covered.is_empty() {
            covered = 0..0;
        }
        Self { cells, samples, covered, position, first, scale: scale as f32 }
    }

    fn clamp(&self, cell: i32) -> usize {
        cell.clamp(0, self.cells as i32 - 1) as usize
    }
}

/// A stretch of the columns between two mask rows; cells count from -1, the half cell before the first centre.
enum Segment {
    Run { cells: Range<i32>, slot: u16 },
    Quad { cell: i32, quad: Quad },
}

/// Four neighbouring cells with a border between them or close by.
struct Quad {
    classes: [u16; 4],
    count: usize,
    /// Signed depth per class and corner (upper left, upper right, lower left, lower right).
    scores: [[i32; 4]; 4],
    /// Frame pixels in 1/256 per depth unit, across the border.
    scale: i32,
}

/// Lays a field over one plane.
pub struct Rows<'a> {
    field: &'a Field,
    columns: &'a Axis,
    lines: &'a Axis,
    /// Pixels per sample of the plane, the width of an edge, as a binary logarithm: 0 or 1.
    step: u32,
    /// Depth in frame pixels from which on a sample cannot be told from the inside of its class.
    reach: f32,
    /// Slot of what the mask does not cover.
    outside: u16,
}

impl<'a> Rows<'a> {
    /// `contour`: the width of a contour in frame pixels, zero if there is none.
    pub fn new(
        field: &'a Field,
        columns: &'a Axis,
        lines: &'a Axis,
        step: usize,
        contour: f32,
        outside: u16,
    ) -> Self {
        Self { field, columns, lines, step: step.ilog2(), reach: contour + 0.5 * step as f32, outside }
    }

    /// Walks over all rows.
    pub fn paint(&self, painter: &mut impl Painter) {
        let mut segments = Vec::new();
        let mut cut = None;
        for y in 0..self.lines.samples {
            painter.row(y);
            if !self.lines.covered.contains(&y) || self.columns.covered.is_empty() {
                painter.run(0..self.columns.samples, self.outside);
                continue;
            }
            let (line, weight) = self.lines.position[y];
            if cut != Some(line) {
                self.cut(line, &mut segments);
                cut = Some(line);
            }
            let covered = self.columns.covered.clone();
            if covered.start > 0 {
                painter.run(0..covered.start, self.outside);
            }
            for segment in &segments {
                self.paint_segment(segment, weight, painter);
            }
            if covered.end < self.columns.samples {
                painter.run(covered.end..self.columns.samples, self.outside);
            }
        }
    }

    fn paint_segment(&self, segment: &Segment, weight: i32, painter: &mut impl Painter) {
        let start = |cell: i32| self.columns.first[(cell + 1) as usize];
        match segment {
            Segment::Run { cells, slot } => {
                let x = start(cells.start)..start(cells.end);
                if !x.is_empty() {
                    painter.run(x, *slot);
                }
            }
            Segment::Quad { cell, quad } => {
                let x = start(*cell)..start(cell + 1);
                if !x.is_empty() {
                    let sides = quad.sides(weight);
                    for x in x {
                        painter.edge(x, quad.at(&sides, self.columns.position[x].1, self.step));
                    }
                }
            }
        }
    }

    /// Cuts the columns between mask rows `line` and `line + 1` into runs and quads.
    fn cut(&self, line: i32, segments: &mut Vec<Segment>) {
        segments.clear();
        let field = self.field;
        let rows = [self.lines.clamp(line) * field.width, self.lines.clamp(line + 1) * field.width];
        let deep = |cell: usize| field.depth[rows[0] + cell].min(field.depth[rows[1] + cell]) == field.deep;
        let last = field.width as i32 - 1;
        let mut cell = -1;
        while cell <= last {
            let left = self.columns.clamp(cell);
            if deep(left) {
                // All of one class as far as both rows stay deep; eight cells at a time.
                let mut end = left;
                let upper = &field.depth[rows[0]..][..field.width];
                let lower = &field.depth[rows[1]..][..field.width];
                let all = [field.deep; 8];
                while end + 8 <= field.width && upper[end..end + 8] == all && lower[end..end + 8] == all {
                    end += 8;
                }
                while end < field.width && deep(end) {
                    end += 1;
                }
                // The square from the last deep cell to its neighbour belongs to what follows.
                let end = if end == field.width { last + 1 } else { end as i32 - 1 };
                if end > cell {
                    push_run(segments, cell..end, field.top[rows[0] + left]);
                    cell = end;
                    continue;
                }
            }
            let right = self.columns.clamp(cell + 1);
            self.cut_quad(cell, [rows[0] + left, rows[0] + right, rows[1] + left, rows[1] + right], segments);
            cell += 1;
        }
    }

    fn cut_quad(&self, cell: i32, corners: [usize; 4], segments: &mut Vec<Segment>) {
        let field = self.field;
        let top = corners.map(|corner| field.top[corner]);
        let depth = corners.map(|corner| field.depth[corner] as i32);
        let mut nearest = 0;
        for corner in 1..4 {
            if depth[corner] < depth[nearest] {
                nearest = corner;
            }
        }
        let uniform = top.iter().all(|&slot| slot == top[0]);
        let smaller = self.columns.scale.min(self.lines.scale);
        if uniform
            && (depth[nearest] == field.deep as i32
                || depth[nearest] as f32 * smaller >= self.reach * UNIT as f32)
        {
            push_run(segments, cell..cell + 1, top[0]);
            return;
        }
        let mut quad =
            Quad { classes: [top[0]; 4], count: 1, scores: [[0; 4]; 4], scale: self.depth_scale(top, depth) };
        for slot in top.into_iter().chain(uniform.then_some(field.second[corners[nearest]])) {
            if !quad.classes[..quad.count].contains(&slot) && quad.count < 4 {
                quad.classes[quad.count] = slot;
                quad.count += 1;
            }
        }
        for (scores, &class) in quad.scores.iter_mut().zip(&quad.classes[..quad.count]) {
            *scores = std::array::from_fn(|i| if top[i] == class { depth[i] } else { -depth[i] });
        }
        segments.push(Segment::Quad { cell, quad });
    }

    /// Pixels (1/256) per depth unit along the gradient: mask cells need not be square on the frame.
    fn depth_scale(&self, top: [u16; 4], depth: [i32; 4]) -> i32 {
        let signed: [f32; 4] =
            std::array::from_fn(|i| if top[i] == top[0] { depth[i] as f32 } else { -depth[i] as f32 });
        let along_x = (signed[1] - signed[0] + signed[3] - signed[2]) / 2.0 / self.columns.scale;
        let along_y = (signed[2] - signed[0] + signed[3] - signed[1]) / 2.0 / self.lines.scale;
        // hypot guards against overflow, and is a call.
        let gradient = (along_x * along_x + along_y * along_y).sqrt();
        // A true distance grows by one cell a cell; less means that two borders meet here.
        let least = 0.7 * UNIT as f32 / self.columns.scale.max(self.lines.scale);
        (ONE as f32 / gradient.max(least)).clamp(1.0, 16_000.0) as i32
    }
}

fn push_run(segments: &mut Vec<Segment>, cells: Range<i32>, slot: u16) {
    match segments.last_mut() {
        Some(Segment::Run { cells: before, slot: same }) if *same == slot => before.end = cells.end,
        _ => segments.push(Segment::Run { cells, slot }),
    }
}

impl Quad {
    /// Scores at the left and right side for a row at `weight` between the two mask rows; times `ONE`.
    fn sides(&self, weight: i32) -> [[i32; 2]; 4] {
        self.scores.map(|[upper_left, upper_right, lower_left, lower_right]| {
            [
                upper_left * (ONE - weight) + lower_left * weight,
                upper_right * (ONE - weight) + lower_right * weight,
            ]
        })
    }

    /// `step` as its binary logarithm.
    #[inline]
    fn at(&self, sides: &[[i32; 2]; 4], weight: i32, step: u32) -> Edge {
        let score = |class: usize| sides[class][0] * (ONE - weight) + sides[class][1] * weight;
        let (top, second, units) = match self.count {
            1 => (0, 0, score(0)),
            // Nearly always; what one class leads by, the other lacks.
            2 => {
                let score = score(0);
                if score >= 0 { (0, 1, score) } else { (1, 0, -score) }
            }
            _ => {
                let (mut first, mut second) = ((0, i32::MIN), (0, i32::MIN));
                for class in 0..self.count {
                    let score = score(class);
                    if score > first.1 {
                        second = first;
                        first = (class, score);
                    } else if score > second.1 {
                        second = (class, score);
                    }
                }
                // Half the lead over the second class is the depth.
                (first.0, second.0, first.1 / 2 - second.1 / 2)
            }
        };
        let depth = ((units >> 8).max(0) * self.scale) >> 8;
        let mix = (ONE / 2 + (depth >> step)).min(ONE);
        Edge { top: self.classes[top], second: self.classes[second], mix, depth }
    }
}

#[cfg(test)]
mod tests;
