// SPDX-License-Identifier: MIT OR Apache-2.0
//! One frame: masks, settings and planes go in, a drawn frame comes out. What does not change from frame to frame is kept.

use super::Position;
use super::colour::Palette;
use super::field::{BACKGROUND, Field};
use super::layout::FrameLayout;
use super::look::{self, Class};
use super::paint::{InkPainter, Plane};
use super::rows::{Axis, Rows};
use super::settings::Settings;
use super::stamp::Stamp;
use super::text;
use crate::meta::{MaskRow, MaskView, Masks, Rect};
use std::collections::HashMap;

/// Everything that one stream keeps between frames.
pub struct Drawer {
    layout: FrameLayout,
    palette: Palette,
    /// The last mask, its slots and its border field: a stream that reuses masks does not prepare them again.
    prepared: Option<Prepared>,
    legend: Option<(Vec<text::Entry>, Option<Stamp>)>,
}

struct Prepared {
    /// Held, so that no other mask can take its address.
    mask: gst::Buffer,
    slots: Vec<u16>,
    rect: Rect,
    field: Field,
    /// Columns and lines by the step of a plane.
    axes: HashMap<[usize; 2], (Axis, Axis)>,
}

/// The mapped memory planes of a frame and their strides.
pub type Memory<'a> = Vec<(&'a mut [u8], usize)>;

impl Drawer {
    pub fn new(layout: FrameLayout, palette: Palette) -> Self {
        Self { layout, palette, prepared: None, legend: None }
    }

    pub fn into_palette(self) -> Palette {
        self.palette
    }

    /// Draws the masks over the frame. A mask that cannot be read leaves the frame as it is.
    pub fn draw(&mut self, masks: &Masks, settings: &Settings, memory: &mut Memory) -> anyhow::Result<()> {
        let classes = look::classes(&masks.regions, settings, &mut self.palette);
        if settings.opacity() > 0.0 && self.prepare(masks, &classes).is_some() {
            self.paint(&classes, settings, memory);
        }
        if settings.legend {
            self.update_legend(&classes)?;
            self.stamp_legend(settings.legend_position, memory);
        }
        Ok(())
    }

    fn prepare(&mut self, masks: &Masks, classes: &[Class]) -> Option<()> {
        let slots = look::slots(classes);
        if let Some(prepared) = &self.prepared
            && (prepared.mask.as_ptr(), &prepared.slots, prepared.rect)
                == (masks.mask.as_ptr(), &slots, masks.rect)
        {
            return Some(());
        }
        let (width, height) = (self.layout.width, self.layout.height);
        let Rect { x, y, w, h } = masks.rect;
        let usable = [x, y, w, h].iter().all(|side| side.is_finite()) && w > 0.0 && h > 0.0;
        self.prepared = None;
        if !usable {
            return None;
        }
        let field = masks.with_ids(|view| {
            // More cells than pixels cannot be seen.
            let columns = view.width().min(((w * width as f64).ceil() as usize).max(1));
            let lines = view.height().min(((h * height as f64).ceil() as usize).max(1));
            Field::new(slots_of(view, &slots, columns, lines), columns, lines)
        })?;
        let mut axes = HashMap::new();
        for plane in &self.layout.planes {
            let [step_x, step_y] = plane.step;
            axes.entry(plane.step).or_insert_with(|| {
                (
                    Axis::new(width.div_ceil(step_x), step_x, width, x, w, field.width),
                    Axis::new(height.div_ceil(step_y), step_y, height, y, h, field.height),
                )
            });
        }
        self.prepared = Some(Prepared { mask: masks.mask.clone(), slots, rect: masks.rect, field, axes });
        Some(())
    }

    fn paint(&self, classes: &[Class], settings: &Settings, memory: &mut Memory) {
        let Some(prepared) = &self.prepared else { return };
        let contour = look::contour_width(settings.mode, self.layout.height);
        self.for_each_plane(memory, |_, plane| {
            let layout = plane.layout;
            let Some((columns, lines)) = prepared.axes.get(&layout.step) else { return };
            let step = layout.step[0].max(layout.step[1]);
            let rows = Rows::new(&prepared.field, columns, lines, step, contour, BACKGROUND);
            let inks = look::inks(classes, settings, self.layout.space, layout);
            rows.paint(&mut InkPainter::new(plane, &inks, contour));
        });
    }

    fn update_legend(&mut self, classes: &[Class]) -> anyhow::Result<()> {
        let entries = look::legend(classes);
        if self.legend.as_ref().is_some_and(|(drawn, _)| *drawn == entries) {
            return Ok(());
        }
        let (width, height) = (self.layout.width as f64, self.layout.height as f64);
        let font = text::font_size(self.layout.height);
        let picture = text::legend(&entries, font, width * 0.45, height * 0.9)?;
        let stamp = picture.map(|picture| Stamp::new(&picture, &self.layout.planes, self.layout.space));
        self.legend = Some((entries, stamp));
        Ok(())
    }

    fn stamp_legend(&self, position: Position, memory: &mut Memory) {
        let Some((_, Some(stamp))) = &self.legend else { return };
        let margin = text::font_size(self.layout.height) as usize;
        let far = |side: usize, stamp: usize| side.saturating_sub(stamp + margin);
        let (right, bottom) = (far(self.layout.width, stamp.width), far(self.layout.height, stamp.height));
        let (left, top) = match position {
            Position::TopLeft => (margin, margin),
            Position::TopRight => (right, margin),
            Position::BottomLeft => (margin, bottom),
            Position::BottomRight => (right, bottom),
        };
        // On even pixels, where subsampled chroma has its samples too.
        self.for_each_plane(memory, |index, plane| stamp.blend(index, plane, left & !1, top & !1));
    }

    fn for_each_plane(&self, memory: &mut Memory, mut each: impl FnMut(usize, &mut Plane)) {
        for index in 0..self.layout.planes.len() {
            let Some((data, stride)) = memory.get_mut(self.layout.planes[index].memory) else { continue };
            let mut plane = self.layout.plane(index, data, *stride);
            if plane.is_whole() {
                each(index, &mut plane);
            }
        }
    }
}

/// The mask as slots, at most `columns` x `lines` of its cells.
fn slots_of(view: &MaskView, slots: &[u16], columns: usize, lines: usize) -> Vec<u16> {
    let slot = |value: u16| slots.get(value as usize).copied().unwrap_or(BACKGROUND);
    let centre = |i: usize, of: usize, cells: usize| (2 * i + 1) * cells / (2 * of);
    let mut cells = Vec::with_capacity(columns * lines);
    for line in 0..lines {
        let row = view.row(centre(line, lines, view.height()));
        let all = columns == view.width();
        let pick = (0..columns).map(|column| centre(column, columns, view.width()));
        match row {
            MaskRow::U8(row) if all => cells.extend(row.iter().map(|&value| slot(value.into()))),
            MaskRow::U8(row) => cells.extend(pick.map(|cell| slot(row[cell].into()))),
            MaskRow::U16(row) if all => {
                cells.extend(row.iter().map(|&value| slot(u16::from_le_bytes(value))))
            }
            MaskRow::U16(row) => cells.extend(pick.map(|cell| slot(u16::from_le_bytes(row[cell])))),
        }
    }
    cells
}
