// SPDX-License-Identifier: MIT OR Apache-2.0
//! Legend and labels as small pictures, drawn by pango and cairo: any script that the installed fonts know.

use super::colour::Rgb;
use super::stamp::Picture;
use anyhow::{Context, Result};
use std::f64::consts::{FRAC_PI_2, PI};

/// One line of the legend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub colour: Rgb,
    pub label: String,
    /// Share of the frame in whole percent.
    pub percent: u32,
}

const PANEL: [f64; 4] = [0.055, 0.063, 0.078, 0.74];
const BRIGHT: [f64; 4] = [1.0, 1.0, 1.0, 0.96];
const QUIET: [f64; 4] = [1.0, 1.0, 1.0, 0.66];
/// Distance from one line of the legend to the next, in font sizes.
const LINE: f64 = 1.55;
/// Space between the panel's border and its content, in font sizes.
const PADDING: f64 = 0.7;

/// Height of the font in pixels for a frame: readable on a phone, not loud on a wall.
pub fn font_size(frame_height: usize) -> f64 {
    (frame_height as f64 * 0.026).clamp(11.0, 120.0).round()
}

/// The entries, and how many more there are that found no place, in at most `width` x `height` pixels.
/// `None` if the frame is too small for any text or no font is installed.
pub fn legend(entries: &[Entry], font: f64, width: f64, height: f64) -> Result<Option<Picture>> {
    let lines = ((height - 2.0 * PADDING * font) / (LINE * font)).floor().max(0.0) as usize;
    if entries.is_empty() || lines == 0 || width < 6.0 * font {
        return Ok(None);
    }
    let Some(scratch) = Sheet::new(1, 1)? else { return Ok(None) };
    let (shown, hidden) = most_of(entries, lines);
    // Columns: swatch, label, share.
    let label_x = PADDING * font + 1.55 * font;
    let share_width = scratch.layout("100 %", font, false).pixel_size().0 as f64;
    let room = width - label_x - 0.9 * font - share_width - PADDING * font;
    let more = (hidden > 0).then(|| format!("+ {hidden}"));
    let labels = shown.iter().map(|entry| entry.label.as_str()).chain(more.as_deref());
    let widest = labels
        .map(|label| scratch.layout(label, font, true).pixel_size().0 as f64)
        .fold(2.0 * font, f64::max)
        .min(room.max(2.0 * font));
    let full = label_x + widest + 0.9 * font + share_width + PADDING * font;
    let count = shown.len() + more.is_some() as usize;
    let tall = 2.0 * PADDING * font + count as f64 * LINE * font;
    let Some(sheet) = Sheet::new(full.ceil() as i32, tall.ceil() as i32)? else { return Ok(None) };
    sheet.panel(0.55 * font, PANEL);
    for (line, entry) in shown.iter().enumerate() {
        let middle = PADDING * font + (line as f64 + 0.5) * LINE * font;
        let side = 0.95 * font;
        sheet.rounded(PADDING * font, middle - side / 2.0, side, side, 0.26 * font);
        sheet.ink(entry.colour, 1.0);
        sheet.context.fill()?;
        let label = sheet.layout(&entry.label, font, true);
        label.set_width((widest.ceil() as i32 + 1) * pango::SCALE);
        sheet.write(&label, label_x, middle, BRIGHT);
        let percent = match entry.percent {
            0 => "< 1 %".to_owned(),
            percent => format!("{percent} %"),
        };
        let share = sheet.layout(&percent, font, false);
        let x = full - PADDING * font - share.pixel_size().0 as f64;
        sheet.write(&share, x, middle, QUIET);
    }
    if let Some(more) = more {
        let middle = PADDING * font + (shown.len() as f64 + 0.5) * LINE * font;
        sheet.write(&sheet.layout(&more, font, false), label_x, middle, QUIET);
    }
    sheet.finish().map(Some)
}

/// One label on a pill with the colour of its class; at most `width` pixels wide.
pub fn label(text: &str, colour: Rgb, font: f64, width: f64) -> Result<Option<Picture>> {
    if width < 4.0 * font {
        return Ok(None);
    }
    let Some(scratch) = Sheet::new(1, 1)? else { return Ok(None) };
    let text_width = (scratch.layout(text, font, true).pixel_size().0 as f64).min(width - 2.4 * font);
    let (full, tall) = ((text_width + 2.3 * font).ceil(), (1.6 * font).ceil());
    let Some(sheet) = Sheet::new(full as i32, tall as i32)? else { return Ok(None) };
    sheet.panel(tall / 2.0, PANEL);
    sheet.context.arc(0.95 * font, tall / 2.0, 0.32 * font, 0.0, 2.0 * PI);
    sheet.ink(colour, 1.0);
    sheet.context.fill()?;
    let layout = sheet.layout(text, font, true);
    layout.set_width((text_width.ceil() as i32 + 1) * pango::SCALE);
    sheet.write(&layout, 1.55 * font, tall / 2.0, BRIGHT);
    sheet.finish().map(Some)
}

/// The entries with the largest shares that fit `lines`, in their order, and the number of the others,
/// which takes a line of its own.
fn most_of(entries: &[Entry], lines: usize) -> (Vec<&Entry>, usize) {
    if entries.len() <= lines {
        return (entries.iter().collect(), 0);
    }
    let keep = lines - 1;
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(entries[i].percent));
    order.truncate(keep);
    order.sort_unstable();
    (order.into_iter().map(|i| &entries[i]).collect(), entries.len() - keep)
}

/// A transparent picture being drawn on.
struct Sheet {
    surface: cairo::ImageSurface,
    context: cairo::Context,
}

impl Sheet {
    /// `None` if no font is installed: pango would complain at every line.
    fn new(width: i32, height: i32) -> Result<Option<Self>> {
        let surface = cairo::ImageSurface::create(cairo::Format::ARgb32, width.max(1), height.max(1))
            .context("cannot create a picture for text")?;
        let context = cairo::Context::new(&surface)?;
        let has_fonts = !pangocairo::functions::create_context(&context).list_families().is_empty();
        Ok(has_fonts.then_some(Self { surface, context }))
    }

    fn layout(&self, text: &str, font: f64, strong: bool) -> pango::Layout {
        let layout = pangocairo::functions::create_layout(&self.context);
        let mut description = pango::FontDescription::new();
        description.set_family("Sans");
        description.set_absolute_size(font * pango::SCALE as f64);
        description.set_weight(if strong { pango::Weight::Semibold } else { pango::Weight::Normal });
        layout.set_font_description(Some(&description));
        layout.set_single_paragraph_mode(true);
        layout.set_ellipsize(pango::EllipsizeMode::End);
        // Right-to-left labels stand at the left too: the column is what the eye follows.
        layout.set_auto_dir(false);
        // A NUL byte cannot come from a C string, but can from Rust.
        layout.set_text(&text.replace('\0', ""));
        layout
    }

    /// Text with its vertical middle at `middle`.
    fn write(&self, layout: &pango::Layout, x: f64, middle: f64, [r, g, b, alpha]: [f64; 4]) {
        self.context.set_source_rgba(r, g, b, alpha);
        self.context.move_to(x, middle - layout.pixel_size().1 as f64 / 2.0);
        pangocairo::functions::show_layout(&self.context, layout);
    }

    fn ink(&self, Rgb([r, g, b]): Rgb, alpha: f64) {
        self.context.set_source_rgba(r as f64 / 255.0, g as f64 / 255.0, b as f64 / 255.0, alpha);
    }

    /// The whole sheet as a rounded panel.
    fn panel(&self, radius: f64, [r, g, b, alpha]: [f64; 4]) {
        self.rounded(0.0, 0.0, self.surface.width() as f64, self.surface.height() as f64, radius);
        self.context.set_source_rgba(r, g, b, alpha);
        let _ = self.context.fill();
    }

    fn rounded(&self, x: f64, y: f64, width: f64, height: f64, radius: f64) {
        let context = &self.context;
        context.new_sub_path();
        context.arc(x + width - radius, y + radius, radius, -FRAC_PI_2, 0.0);
        context.arc(x + width - radius, y + height - radius, radius, 0.0, FRAC_PI_2);
        context.arc(x + radius, y + height - radius, radius, FRAC_PI_2, PI);
        context.arc(x + radius, y + radius, radius, PI, PI + FRAC_PI_2);
        context.close_path();
    }

    fn finish(self) -> Result<Picture> {
        let (width, height) = (self.surface.width() as usize, self.surface.height() as usize);
        let stride = self.surface.stride() as usize;
        drop(self.context);
        let pixels = self.surface.take_data().context("cannot read the picture of a text")?;
        let mut data = Vec::with_capacity(width * height * 4);
        for row in pixels.chunks_exact(stride).take(height) {
            // Cairo's pixels are numbers in the machine's byte order: 0xAARRGGBB.
            for pixel in row.as_chunks::<4>().0.iter().take(width) {
                data.extend(u32::from_ne_bytes(*pixel).to_le_bytes());
            }
        }
        Ok(Picture { width, height, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(percents: &[u32]) -> Vec<Entry> {
        let entry = |(i, &percent)| Entry { colour: Rgb([255, 0, 0]), label: format!("class {i}"), percent };
        percents.iter().enumerate().map(entry).collect()
    }

    #[test]
    fn a_long_legend_keeps_the_largest_in_order() {
        let entries = entries(&[5, 40, 1, 30]);
        let (shown, hidden) = most_of(&entries, 3);
        assert_eq!(shown.iter().map(|entry| entry.percent).collect::<Vec<_>>(), [40, 30]);
        assert_eq!(hidden, 2);
        assert_eq!(most_of(&entries, 4).1, 0);
    }

    #[test]
    fn a_legend_fits_its_room_and_shows_its_colours() {
        let picture = legend(&entries(&[5, 40]), 20.0, 300.0, 200.0).unwrap().unwrap();
        assert!(picture.width <= 300 && picture.height <= 200);
        assert!(picture.data.as_chunks::<4>().0.contains(&[0, 0, 255, 255]), "a pure red swatch");
        let long = vec![Entry { label: "w".repeat(400), ..entries(&[5])[0].clone() }];
        assert!(legend(&long, 20.0, 300.0, 200.0).unwrap().unwrap().width <= 300);
        assert!(legend(&entries(&[5]), 11.0, 20.0, 20.0).unwrap().is_none());
    }

    #[test]
    fn labels_of_any_script() {
        for text in ["car", "行人", "سيارة", "машина", "", "a\0b"] {
            let picture = label(text, Rgb([0, 255, 0]), 20.0, 200.0).unwrap().unwrap();
            assert!(picture.width <= 200 && picture.data.len() == picture.width * picture.height * 4);
        }
    }
}
