// SPDX-License-Identifier: MIT OR Apache-2.0
//! One segmentation of a buffer: its mask, what is where in it, and what that is called.

use super::{Location, Rect, Region};
use crate::meta::view::{MaskRow, MaskView};

/// One segmentation on the buffer.
pub struct Part {
    /// GRAY8 or GRAY16_LE
    pub mask: gst::Buffer,
    /// Of the mask: width, height.
    pub size: (usize, usize),
    pub location: Location,
    /// Every value of the mask but 0, with its pixels.
    pub extents: Vec<Extent>,
    /// As many as `extents`.
    pub names: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub label: String,
    /// 0..1; 0 where it is not stated.
    pub confidence: f64,
}

/// Where a value of a mask is: pixels, and the box `x0..x1`, `y0..y1` around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub value: u16,
    pixels: u64,
    x: (usize, usize),
    y: (usize, usize),
}

impl Extent {
    /// As a region of the frame, of which the mask of `width` x `height` covers `rect`.
    pub fn region(&self, name: Name, (width, height): (usize, usize), rect: Rect) -> Region {
        let (cell_w, cell_h) = (rect.w / width as f64, rect.h / height as f64);
        Region {
            value: u32::from(self.value),
            label: name.label,
            score: name.confidence,
            area: self.pixels as f64 * cell_w * cell_h,
            x: rect.x + self.x.0 as f64 * cell_w,
            y: rect.y + self.y.0 as f64 * cell_h,
            w: (self.x.1 - self.x.0) as f64 * cell_w,
            h: (self.y.1 - self.y.0) as f64 * cell_h,
        }
    }
}

pub fn by_falling_area(regions: &mut [Region]) {
    regions.sort_by(|a, b| b.area.total_cmp(&a.area));
}

/// Every value but 0, in rising order.
pub fn extents(view: &MaskView) -> Vec<Extent> {
    let mut found = Found::default();
    for (y, row) in view.rows().enumerate() {
        match row {
            MaskRow::U8(values) => found.row(y, values.iter().map(|&value| u16::from(value))),
            MaskRow::U16(values) => found.row(y, values.iter().map(|&value| u16::from_le_bytes(value))),
        }
    }
    found.0.into_iter().flatten().collect()
}

/// By value.
#[derive(Default)]
struct Found(Vec<Option<Extent>>);

impl Found {
    fn row(&mut self, y: usize, values: impl Iterator<Item = u16>) {
        let mut run = (0, 0);
        let mut end = 0;
        for (x, value) in values.enumerate() {
            if value != run.0 {
                self.add(run.0, (run.1, x), y);
                run = (value, x);
            }
            end = x + 1;
        }
        self.add(run.0, (run.1, end), y);
    }

    fn add(&mut self, value: u16, (start, end): (usize, usize), y: usize) {
        if value == 0 {
            return;
        }
        let place = usize::from(value);
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        let extent = self.0[place].get_or_insert(Extent { value, pixels: 0, x: (start, end), y: (y, y) });
        extent.pixels += (end - start) as u64;
        extent.x = (extent.x.0.min(start), extent.x.1.max(end));
        extent.y.1 = y + 1;
    }
}
