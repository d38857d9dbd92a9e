// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::overlay::field::Window;

/// What a painter was told about each sample.
struct Record {
    width: usize,
    y: usize,
    samples: Vec<Option<Edge>>,
}

impl Record {
    fn put(&mut self, x: usize, edge: Edge) {
        let sample = &mut self.samples[self.y * self.width + x];
        assert!(sample.is_none(), "{x},{} told twice", self.y);
        *sample = Some(edge);
    }
}

impl Painter for Record {
    fn row(&mut self, y: usize) {
        self.y = y;
    }

    fn run(&mut self, x: Range<usize>, slot: u16) {
        for x in x {
            self.put(x, Edge { top: slot, second: slot, mix: ONE, depth: i32::MAX });
        }
    }

    fn edge(&mut self, x: usize, edge: Edge) {
        self.put(x, edge);
    }
}

/// A plane of `size` samples, one every `step` pixels of a frame of `frame` pixels.
fn walk(field: &Field, frame: [usize; 2], step: usize, rect: [f64; 4], contour: f32) -> Vec<Edge> {
    let [width, height] = frame.map(|side| side.div_ceil(step));
    let columns = Axis::new(width, step, frame[0], rect[0], rect[2], field.width);
    let lines = Axis::new(height, step, frame[1], rect[1], rect[3], field.height);
    let mut record = Record { width, y: 0, samples: vec![None; width * height] };
    Rows::new(field, &columns, &lines, step, contour, 9).paint(&mut record);
    record.samples.into_iter().map(|sample| sample.expect("every sample is told")).collect()
}

/// The same by the definition: signed depths of the four nearest cells, interpolated in floating point.
fn reference(
    field: &Field,
    frame: [usize; 2],
    step: usize,
    rect: [f64; 4],
    x: usize,
    y: usize,
) -> Option<(u16, f64)> {
    let place = |i: usize, side: usize, start: f64, extent: f64, cells: usize| {
        let centre = ((i as f64 + 0.5) * step as f64).min(side as f64) / side as f64;
        let cell = (centre - start) / extent * cells as f64;
        (0.0..cells as f64).contains(&cell).then_some(cell - 0.5)
    };
    let u = place(x, frame[0], rect[0], rect[2], field.width)?;
    let v = place(y, frame[1], rect[1], rect[3], field.height)?;
    let clamp = |cell: f64, cells: usize| cell.clamp(0.0, cells as f64 - 1.0) as usize;
    let mut scores = std::collections::BTreeMap::new();
    let corners = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)].map(|(i, j)| {
        let cell = clamp(v.floor() + j, field.height) * field.width + clamp(u.floor() + i, field.width);
        let weight = (1.0 - (u - u.floor() - i).abs()) * (1.0 - (v - v.floor() - j).abs());
        (field.top[cell], weight * field.depth[cell] as f64)
    });
    for (slot, _) in corners {
        let score: f64 = corners.iter().map(|&(top, depth)| if top == slot { depth } else { -depth }).sum();
        scores.insert(slot, score);
    }
    let mut order: Vec<_> = scores.into_iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let lead = match order.get(1) {
        Some(second) => (order[0].1 - second.1) / 2.0,
        None => order[0].1,
    };
    Some((order[0].0, lead / UNIT as f64))
}

fn noise(width: usize, height: usize, classes: u32) -> Field {
    let mut state = 12345u32;
    let mut slots = vec![0u16; width * height];
    for slot in &mut slots {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        *slot = ((state >> 24) % classes) as u16;
    }
    Field::new(slots, width, height, Window::Narrow)
}

fn disc(size: usize, radius: f64, window: Window) -> Field {
    let slot = |i: usize| {
        let (x, y) = ((i % size) as f64 + 0.5, (i / size) as f64 + 0.5);
        ((x - size as f64 / 2.0).hypot(y - size as f64 / 2.0) < radius) as u16
    };
    Field::new((0..size * size).map(slot).collect(), size, size, window)
}

#[test]
fn every_sample_has_the_class_of_the_reference() {
    let whole = [0.0, 0.0, 1.0, 1.0];
    let part = [0.21, 0.3, 0.5, 0.63];
    for (cells, frame, step, rect) in [
        ([9, 7], [64usize, 48], 1usize, whole),
        ([9, 7], [65, 49], 2, whole),
        ([9, 7], [64, 48], 1, part),
        ([9, 7], [33, 5], 2, part),
        ([40, 40], [41, 43], 1, whole),
        ([1, 1], [5, 5], 1, part),
        ([1, 6], [1, 1], 1, whole),
        ([3, 2], [200, 3], 2, whole),
    ] {
        let field = noise(cells[0], cells[1], 3);
        let width = frame[0].div_ceil(step);
        for (i, edge) in walk(&field, frame, step, rect, 0.0).into_iter().enumerate() {
            match reference(&field, frame, step, rect, i % width, i / width) {
                None => assert_eq!(edge.top, 9, "outside the mask: sample {i} of {cells:?} on {frame:?}"),
                // Where two classes are level, rounding decides.
                Some((top, lead)) if lead > 0.01 => {
                    assert_eq!(edge.top, top, "sample {i} of {cells:?} on {frame:?}, lead {lead}");
                }
                Some(_) => {}
            }
        }
    }
}

#[test]
fn runs_hold_no_border() {
    let field = disc(128, 40.0, Window::Wide);
    let frame = [640, 640];
    for (i, edge) in walk(&field, frame, 1, [0.0, 0.0, 1.0, 1.0], 2.0).into_iter().enumerate() {
        let distance = 200.0 - ((i % 640) as f64 - 319.5).hypot((i / 640) as f64 - 319.5);
        if edge.depth == i32::MAX {
            assert_eq!(edge.top, (distance > 0.0) as u16);
            assert!(distance.abs() > 2.0, "{distance} px from the border");
        }
    }
}

#[test]
fn depth_is_the_distance_in_pixels_even_if_cells_are_not_square() {
    // 128 x 128 cells on 640 x 360 pixels: a disc of 40 cells is an ellipse of 200 x 112.5 pixels.
    let field = disc(128, 40.0, Window::Wide);
    let frame = [640, 360];
    let mut worst = 0f64;
    for (i, edge) in walk(&field, frame, 1, [0.0, 0.0, 1.0, 1.0], 3.0).into_iter().enumerate() {
        let (x, y) = ((i % 640) as f64 - 319.5, (i / 640) as f64 - 179.5);
        let (a, b) = (200.0, 112.5);
        // Distance to an ellipse, first order: exact enough within a few pixels of it.
        let (level, gradient) = ((x / a).hypot(y / b), (x / a / a).hypot(y / b / b));
        let distance = (1.0 - level) * level / gradient;
        if edge.depth != i32::MAX && distance.abs() < 3.0 {
            let depth = edge.depth as f64 / ONE as f64 * if edge.top == 1 { 1.0 } else { -1.0 };
            worst = worst.max((depth - distance).abs());
        }
    }
    // A cell is 5 x 2.8 pixels; the steps of the disc's own rasterisation are in this too.
    assert!(worst < 2.0, "{worst} px");
}

#[test]
fn an_edge_is_one_sample_wide() {
    // Classes 1 | 2 with the border in the middle of the frame.
    let field = Field::new((0..40).map(|i| 1 + (i % 10 >= 5) as u16).collect(), 10, 4, Window::Narrow);
    for step in [1, 2] {
        let row: Vec<_> = walk(&field, [200, 40], step, [0.0, 0.0, 1.0, 1.0], 0.0);
        let mixed = row[..200 / step].iter().filter(|edge| edge.mix < ONE - 2).count();
        assert!(mixed <= 2, "{mixed} samples at step {step}");
    }
}
