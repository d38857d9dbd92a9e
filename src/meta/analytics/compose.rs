// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several segmentations to one mask over the whole frame.

use std::collections::HashMap;

use gst_video::{VideoFormat, VideoFrameFlags, VideoMeta};

use super::part::{Extent, Name, Part, by_falling_area, extents};
use super::{LARGEST_BYTE, Location, Rect, Region};
use crate::meta::view::MaskView;

/// One mask over the frame of `frame` pixels (width, height), as fine as the finest part and at most as the frame.
pub fn over_frame(parts: &[Part], frame: (u32, u32)) -> Option<(gst::Buffer, Vec<Region>)> {
    let parts: Vec<(&Part, MaskView)> =
        parts.iter().filter_map(|part| Some((part, MaskView::new(&part.mask)?))).collect();
    // Cells for each pixel of the frame.
    let finest = |density: fn(&MaskView, Location) -> f64| {
        parts.iter().map(|(part, view)| density(view, part.location)).fold(0.0, f64::max).min(1.0)
    };
    let cells = |side: u32, density: f64| ((f64::from(side) * density).round() as u32).max(1);
    let width = cells(frame.0, finest(|view, at| view.width() as f64 / f64::from(at.w)));
    let height = cells(frame.1, finest(|view, at| view.height() as f64 / f64::from(at.h)));

    let mut classes = Classes::default();
    let mut canvas = Canvas { width: width as usize, height: height as usize, values: Vec::new() };
    canvas.values.resize(canvas.width * canvas.height, 0);
    for (part, view) in &parts {
        let by_value: HashMap<u16, u16> = part
            .extents
            .iter()
            .zip(&part.names)
            .filter_map(|(extent, name)| Some((extent.value, classes.value(name)?)))
            .collect();
        canvas.draw(view, part.location, frame, |value| by_value.get(&value).copied().unwrap_or(0));
    }

    let wide = classes.0.len() > LARGEST_BYTE as usize;
    let mask = mask_of(&canvas.values, width, height, wide)?;
    let found = extents(&MaskView::new(&mask)?);
    let name = |extent: &Extent| classes.0.get(usize::from(extent.value) - 1).cloned();
    let region =
        |extent: &Extent| Some(extent.region(name(extent)?, (canvas.width, canvas.height), Rect::FULL));
    let mut regions: Vec<Region> = found.iter().filter_map(region).collect();
    by_falling_area(&mut regions);
    Some((mask, regions))
}

/// Different names; the nth has value n.
#[derive(Default)]
struct Classes(Vec<Name>);

impl Classes {
    /// The value of a name, with the highest confidence stated for it; `None` above 16 bits.
    fn value(&mut self, name: &Name) -> Option<u16> {
        let known = self.0.iter().position(|known| known.label == name.label);
        let place = known.unwrap_or_else(|| {
            self.0.push(name.clone());
            self.0.len() - 1
        });
        let known = &mut self.0[place];
        known.confidence = known.confidence.max(name.confidence);
        u16::try_from(place + 1).ok()
    }
}

struct Canvas {
    width: usize,
    height: usize,
    /// Row-major `[height, width]`
    values: Vec<u16>,
}

impl Canvas {
    /// Lays a mask over its part of the frame, nearest neighbour; 0 leaves what is there.
    fn draw(&mut self, mask: &MaskView, at: Location, frame: (u32, u32), value: impl Fn(u16) -> u16) {
        let columns = cells(self.width, frame.0, at.x, at.w, mask.width());
        let rows = cells(self.height, frame.1, at.y, at.h, mask.height());
        for (y, mask_y) in rows {
            let (row, out) = (mask.row(mask_y), &mut self.values[y * self.width..][..self.width]);
            let mut last = (0, 0);
            for &(x, mask_x) in &columns {
                let old = row.get(mask_x).unwrap_or(0);
                if old != last.0 {
                    last = (old, value(old));
                }
                if last.1 != 0 {
                    out[x] = last.1;
                }
            }
        }
    }
}

/// For one axis: each of the `canvas` cells whose centre lies in `start..start + length` of the frame's `side` pixels,
/// with the cell of the mask that is there.
fn cells(canvas: usize, side: u32, start: i32, length: u32, mask: usize) -> Vec<(usize, usize)> {
    let (start, length) = (f64::from(start), f64::from(length));
    let place = |cell: usize| {
        let centre = (cell as f64 + 0.5) * f64::from(side) / canvas as f64;
        let share = (centre - start) / length;
        (0.0..1.0).contains(&share).then(|| (cell, ((share * mask as f64) as usize).min(mask - 1)))
    };
    (0..canvas).filter_map(place).collect()
}

/// A mask buffer of `values` (row-major `[height, width]`): GRAY16_LE if `wide`, else GRAY8.
pub fn mask_of(values: &[u16], width: u32, height: u32, wide: bool) -> Option<gst::Buffer> {
    let (format, bytes): (_, Vec<u8>) = if wide {
        (VideoFormat::Gray16Le, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    } else {
        (VideoFormat::Gray8, values.iter().map(|&value| value as u8).collect())
    };
    let stride = i32::try_from(bytes.len() / height as usize).ok()?;
    let mut mask = gst::Buffer::from_mut_slice(bytes);
    VideoMeta::add_full(mask.get_mut()?, VideoFrameFlags::empty(), format, width, height, &[0], &[stride])
        .ok()?;
    Some(mask)
}
