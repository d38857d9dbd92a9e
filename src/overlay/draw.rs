// SPDX-License-Identifier: MIT OR Apache-2.0
//! One frame: masks, settings and planes go in, a drawn frame comes out. What does not change from frame to frame is kept.

use super::Mode;
use super::captions::{Captions, Placed};
use super::colour::{ColourSpace, Palette};
use super::effect::{Effect, EffectPainter, Grey};
use super::field::{BACKGROUND, Field, Window};
use super::layout::FrameLayout;
use super::look::{self, Class};
use super::mosaic::Mosaic;
use super::paint::{InkPainter, Plane};
use super::place::Distances;
use super::rows::{Axis, Rows};
use super::settings::Settings;
use crate::meta::{MaskRow, MaskView, Masks, Rect};
use std::collections::HashMap;

/// From this size on (shorter side, in cells) a cell of a mask is no object.
const FINE: usize = 96;

/// Everything that one stream keeps between frames of one layout.
pub struct Drawer {
    layout: FrameLayout,
    /// The last mask: a stream that reuses masks does not prepare them again.
    prepared: Option<Prepared>,
    captions: Captions,
}

/// A mask ready to be drawn.
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
    pub fn new(layout: FrameLayout) -> Self {
        Self { layout, prepared: None, captions: Captions::default() }
    }

    /// Draws the masks over the frame. A mask that cannot be read leaves the frame as it is.
    pub fn draw(
        &mut self,
        masks: &Masks,
        settings: &Settings,
        palette: &mut Palette,
        memory: &mut Memory,
    ) -> anyhow::Result<()> {
        let classes = look::classes(&masks.regions, settings, palette);
        if !self.prepare(masks, &classes) {
            return Ok(());
        }
        if settings.opacity() > 0.0 {
            self.paint(&classes, settings, memory);
        }
        self.write(&classes, settings, memory)
    }

    /// Makes `self.prepared` fit the masks; `false` if they cannot be used.
    fn prepare(&mut self, masks: &Masks, classes: &[Class]) -> bool {
        let slots = look::slots(classes);
        if let Some(prepared) = &self.prepared
            && (prepared.mask.as_ptr(), &prepared.slots, prepared.rect)
                == (masks.mask.as_ptr(), &slots, masks.rect)
        {
            return true;
        }
        let (width, height) = (self.layout.width, self.layout.height);
        let Rect { x, y, w, h } = masks.rect;
        // The memory of the last one is used again.
        let mut field = self.prepared.take().map(|prepared| prepared.field).unwrap_or_default();
        if ![x, y, w, h].iter().all(|side| side.is_finite()) || w <= 0.0 || h <= 0.0 {
            return false;
        }
        let readable = masks.with_ids(|view| {
            // More cells than pixels cannot be seen.
            let columns = view.width().min(((w * width as f64).ceil() as usize).max(1));
            let lines = view.height().min(((h * height as f64).ceil() as usize).max(1));
            let window = match () {
                _ if columns.min(lines) < FINE => Window::Narrow,
                _ if h * height as f64 >= 2.0 * lines as f64 => Window::Wide,
                _ => Window::Medium,
            };
            field.renew(columns, lines, window, |cells| put_slots(view, &slots, columns, lines, cells));
        });
        if readable.is_none() {
            return false;
        }
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
        true
    }

    fn paint(&self, classes: &[Class], settings: &Settings, memory: &mut Memory) {
        let Some(prepared) = &self.prepared else { return };
        let contour = look::contour_width(settings.mode, self.layout.height);
        let coverage = look::coverage(classes, settings);
        self.for_each_plane(memory, |_, plane| {
            let layout = plane.layout;
            let Some((columns, lines)) = prepared.axes.get(&layout.step) else { return };
            let step = layout.step[0].max(layout.step[1]);
            let rows = Rows::new(&prepared.field, columns, lines, step, contour, BACKGROUND);
            match self.effect(plane, settings) {
                Some(effect) => rows.paint(&mut EffectPainter::new(plane, &effect, &coverage)),
                None => {
                    let inks = look::inks(classes, settings, self.layout.space, layout);
                    rows.paint(&mut InkPainter::new(plane, &inks, contour));
                }
            }
        });
    }

    /// The altered picture, for the modes that show one.
    fn effect(&self, plane: &Plane, settings: &Settings) -> Option<Effect> {
        let block = look::block_size(settings.strength, self.layout.height);
        let size = |block: usize| plane.layout.step.map(|step| block.div_ceil(step));
        match settings.mode {
            Mode::Tint | Mode::Contour | Mode::Fill => None,
            Mode::Pixelate => Some(Effect::Pixelate(Mosaic::new(plane, size(block)))),
            Mode::Blur => Some(Effect::Blur(Mosaic::new(plane, size(block.div_ceil(2))).soften(2))),
            Mode::Invert => Some(Effect::Grey(match self.layout.space {
                ColourSpace::Rgb => Grey::Rgb,
                ColourSpace::Yuv { full_range, .. } => Grey::Yuv(if full_range { 0 } else { 16 }),
            })),
        }
    }

    /// Labels and legend.
    fn write(&mut self, classes: &[Class], settings: &Settings, memory: &mut Memory) -> anyhow::Result<()> {
        let Some(prepared) = &self.prepared else { return Ok(()) };
        if settings.legend {
            self.captions.update_legend(classes, &self.layout)?;
        }
        let legend = || self.captions.legend(settings.legend_position, &self.layout);
        if settings.labels {
            let hidden = match settings.legend {
                true => legend().map(|legend| hidden_by(legend, prepared.rect, &self.layout)),
                false => None,
            };
            let distances = Distances::new(&prepared.field, hidden);
            self.captions.update_labels(classes, &distances, &self.layout)?;
        }
        let mut stamps = match settings.labels {
            true => self.captions.labels(classes, prepared.rect, &self.layout),
            false => Vec::new(),
        };
        if settings.legend {
            stamps.extend(self.captions.legend(settings.legend_position, &self.layout));
        }
        self.for_each_plane(memory, |index, plane| {
            for (stamp, left, top) in &stamps {
                // On even pixels, where subsampled chroma has its samples too.
                stamp.blend(index, plane, left & !1, top & !1);
            }
        });
        Ok(())
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

/// The part of the mask that a stamp covers: left, right, top, bottom, normalised to the mask.
fn hidden_by((stamp, left, top): Placed, rect: Rect, frame: &FrameLayout) -> [f64; 4] {
    let across = |x: usize| (x as f64 / frame.width as f64 - rect.x) / rect.w;
    let down = |y: usize| (y as f64 / frame.height as f64 - rect.y) / rect.h;
    [across(left), across(left + stamp.width), down(top), down(top + stamp.height)]
}

/// Appends the mask as slots, at most `columns` x `lines` of its cells.
fn put_slots(view: &MaskView, slots: &[u16], columns: usize, lines: usize, cells: &mut Vec<u16>) {
    let slot = |value: u16| slots.get(value as usize).copied().unwrap_or(BACKGROUND);
    let by_byte: [u16; 256] = std::array::from_fn(|value| slot(value as u16));
    let centre = |i: usize, of: usize, cells: usize| (2 * i + 1) * cells / (2 * of);
    cells.reserve(columns * lines);
    for line in 0..lines {
        let row = view.row(centre(line, lines, view.height()));
        let all = columns == view.width();
        let pick = (0..columns).map(|column| centre(column, columns, view.width()));
        match row {
            MaskRow::U8(row) if all => cells.extend(row.iter().map(|&value| by_byte[value as usize])),
            MaskRow::U8(row) => cells.extend(pick.map(|cell| by_byte[row[cell] as usize])),
            MaskRow::U16(row) if all => {
                cells.extend(row.iter().map(|&value| slot(u16::from_le_bytes(value))))
            }
            MaskRow::U16(row) => cells.extend(pick.map(|cell| slot(u16::from_le_bytes(row[cell])))),
        }
    }
}
