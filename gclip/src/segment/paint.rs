// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture tinted with its mask, with a legend of what is in it.

use anyhow::{Context, Result};
use cairo::{Context as Cairo, Format, ImageSurface};
use gstgclip::model::Segmentation;
use gstgclip::overlay::palette;

use crate::eval::values;
use gstgclip::picture::RgbImage;

/// Colour of a mask value: that of gclipoverlay, and black for 0.
pub fn colour(value: u32) -> [u8; 3] {
    value.checked_sub(1).map_or([0; 3], |index| palette(index as usize).0)
}

/// The picture with every class in its colour, `opacity` 0 to 1, and a legend. The mask has the picture's size.
pub fn paint(image: &RgbImage, answer: &Segmentation, opacity: f64) -> Result<RgbImage> {
    let classes = answer.regions.iter().map(|region| (region.value, region.label.as_str(), region.area));
    paint_ids(image, &values(&answer.ids), classes, opacity)
}

/// As [`paint`], of the values of the pixels, and of each class its value, label and share of the picture.
pub fn paint_ids<'a>(
    image: &RgbImage,
    ids: &[u16],
    classes: impl Iterator<Item = (u32, &'a str, f64)>,
    opacity: f64,
) -> Result<RgbImage> {
    let mut painted = image.clone();
    tint(&mut painted, ids, opacity);
    let entries: Vec<Entry> = classes.map(|(value, label, area)| Entry { value, label, area }).collect();
    legend(painted, &entries)
}

/// A line of the legend.
struct Entry<'a> {
    value: u32,
    label: &'a str,
    /// 0..1
    area: f64,
}

/// Lays the colours over the pixels; the border of a class is twice as strong.
fn tint(image: &mut RgbImage, ids: &[u16], opacity: f64) {
    let width = image.width();
    for (index, pixel) in image.pixels_mut().iter_mut().enumerate() {
        let Some(&id) = ids.get(index).filter(|id| **id != 0) else { continue };
        let right = if (index + 1) % width == 0 { Some(&id) } else { ids.get(index + 1) };
        let border = right.is_some_and(|other| *other != id)
            || ids.get(index + width).is_some_and(|other| *other != id);
        let share = if border { (2.0 * opacity).min(1.0) } else { opacity };
        for (channel, tint) in pixel.iter_mut().zip(colour(id.into())) {
            *channel = (f64::from(*channel) * (1.0 - share) + f64::from(tint) * share).round() as u8;
        }
    }
}

/// A box at the lower left: a swatch, the label and the share of each class, largest first, as many as fit.
fn legend(image: RgbImage, entries: &[Entry]) -> Result<RgbImage> {
    let (width, height) = (i32::try_from(image.width())?, i32::try_from(image.height())?);
    let line = f64::from(height.min(width) / 24).clamp(12.0, 40.0);
    let rows = ((f64::from(height) / line) as usize).saturating_sub(2).min(entries.len());
    if rows == 0 {
        return Ok(image);
    }
    let mut surface = to_surface(&image, width, height)?;
    {
        let cairo = Cairo::new(&surface)?;
        let layouts = entries[..rows].iter().map(|entry| {
            let layout = pangocairo::functions::create_layout(&cairo);
            let mut font = pango::FontDescription::from_string("Sans");
            font.set_absolute_size(line * 0.7 * f64::from(pango::SCALE));
            layout.set_font_description(Some(&font));
            // Right-to-left labels stand beside their swatches too, not at the far end of the width that they may have.
            layout.set_auto_dir(false);
            layout.set_text(&format!("{}  {:.1} %", entry.label, 100.0 * entry.area));
            // A label of a thousand characters does not push the box out of the picture.
            layout.set_width((f64::from(width) * 0.6) as i32 * pango::SCALE);
            layout.set_ellipsize(pango::EllipsizeMode::End);
            layout.set_single_paragraph_mode(true);
            layout
        });
        let layouts: Vec<pango::Layout> = layouts.collect();
        let widest = layouts.iter().map(|layout| layout.pixel_size().0).max().unwrap_or(0);
        let (left, box_height) = (line * 0.5, line * (rows as f64 + 0.5));
        let top = f64::from(height) - box_height - line * 0.5;
        cairo.set_source_rgba(0.0, 0.0, 0.0, 0.6);
        cairo.rectangle(left, top, f64::from(widest) + line * 2.0, box_height);
        cairo.fill()?;
        for (row, (layout, entry)) in layouts.iter().zip(entries).enumerate() {
            let y = top + line * (row as f64 + 0.25);
            let [r, g, b] = colour(entry.value).map(|channel| f64::from(channel) / 255.0);
            cairo.set_source_rgb(r, g, b);
            cairo.rectangle(left + line * 0.4, y + line * 0.15, line * 0.7, line * 0.7);
            cairo.fill()?;
            cairo.set_source_rgb(1.0, 1.0, 1.0);
            cairo.move_to(left + line * 1.5, y + (line - f64::from(layout.pixel_size().1)) / 2.0);
            pangocairo::functions::show_layout(&cairo, layout);
        }
    }
    from_surface(&mut surface, image)
}

fn to_surface(image: &RgbImage, width: i32, height: i32) -> Result<ImageSurface> {
    let mut surface = ImageSurface::create(Format::Rgb24, width, height)
        .context("the picture is too large for a legend")?;
    let stride = usize::try_from(surface.stride())?;
    let mut data = surface.data()?;
    for (row, pixels) in data.chunks_exact_mut(stride).zip(image.pixels().chunks_exact(image.width())) {
        for (target, pixel) in row.chunks_exact_mut(4).zip(pixels) {
            let [r, g, b] = *pixel;
            target.copy_from_slice(&u32::from_be_bytes([0, r, g, b]).to_ne_bytes());
        }
    }
    drop(data);
    Ok(surface)
}

fn from_surface(surface: &mut ImageSurface, mut image: RgbImage) -> Result<RgbImage> {
    let stride = usize::try_from(surface.stride())?;
    let data = surface.data()?;
    let width = image.width();
    for (row, pixels) in data.chunks_exact(stride).zip(image.pixels_mut().chunks_exact_mut(width)) {
        for (source, pixel) in row.chunks_exact(4).zip(pixels) {
            let [_, r, g, b] = u32::from_ne_bytes([source[0], source[1], source[2], source[3]]).to_be_bytes();
            *pixel = [r, g, b];
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstgclip::model::{Ids, Region};

    fn answer(width: usize, ids: Vec<u8>, labels: &[&str]) -> Segmentation {
        let region = |(index, label): (usize, &&str)| Region {
            value: index as u32 + 1,
            label: label.to_string(),
            score: 0.5,
            area: 0.5,
            x: 0.0,
            y: 0.0,
            w: 1.0,
            h: 1.0,
        };
        let regions = labels.iter().enumerate().map(region).collect();
        Segmentation::new(width, ids.len() / width, Ids::U8(ids), regions)
    }

    #[test]
    fn tint_leaves_the_background_and_marks_borders() {
        let mut image = RgbImage::filled(4, 1, [100; 3]);
        tint(&mut image, &[0, 1, 1, 1], 0.25);
        let [_, inside, ..] = [0, 1, 2, 3].map(|x| image.pixel(x, 0));
        assert_eq!(image.pixel(0, 0), [100; 3]);
        let blend = |share: f64| {
            colour(1).map(|tint| (100.0 * (1.0 - share) + f64::from(tint) * share).round() as u8)
        };
        assert_eq!(inside, blend(0.25));
        let mut image = RgbImage::filled(2, 1, [100; 3]);
        tint(&mut image, &[1, 2], 0.25);
        assert_eq!(image.pixel(0, 0), blend(0.5));
    }

    #[test]
    fn the_legend_draws_and_keeps_the_rest() {
        let image = RgbImage::filled(200, 100, [10, 200, 30]);
        let painted = paint(&image, &answer(200, vec![0; 20_000], &["a class"]), 0.5).unwrap();
        assert_eq!(painted.pixel(199, 0), [10, 200, 30]);
        let changed = painted.pixels().iter().filter(|pixel| **pixel != [10, 200, 30]).count();
        assert!(changed > 500, "{changed} pixels of legend");
        assert!(painted.pixels().contains(&colour(1)), "the swatch has the colour of the class");
    }

    /// The columns that the legend changes, first and last.
    fn extent(label: &str) -> (usize, usize) {
        let grey = [90; 3];
        let image = RgbImage::filled(800, 300, grey);
        let painted = paint(&image, &answer(800, vec![0; 240_000], &[label]), 0.5).unwrap();
        let changed = |&x: &usize| (0..300).any(|y| painted.pixel(x, y) != grey);
        ((0..800).find(changed).unwrap(), (0..800).rev().find(changed).unwrap())
    }

    #[test]
    fn labels_of_every_script_stand_inside_the_box() {
        let (left, right) = extent("tree");
        for label in ["شجرة", "עץ", "شجرة tree", "樹"] {
            let found = extent(label);
            assert!(
                found.0 == left && found.1 < right + 100,
                "{label}: {found:?}, a Latin one {left} to {right}"
            );
        }
    }

    #[test]
    fn a_picture_too_small_for_a_legend_is_only_tinted() {
        let image = RgbImage::filled(1, 1, [0; 3]);
        let painted = paint(&image, &answer(1, vec![1], &["dot"]), 1.0).unwrap();
        assert_eq!(painted.pixel(0, 0), colour(1));
    }
}
