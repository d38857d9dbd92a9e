// SPDX-License-Identifier: MIT OR Apache-2.0
//! What each class looks like in each mode: from settings and regions to slots, and from slots to inks.

use super::Mode;
use super::colour::{ColourSpace, Palette, Rgb};
use super::field::BACKGROUND;
use super::paint::{Ink, Inks, PlaneLayout};
use super::rows::ONE;
use super::settings::Settings;
use super::text::Entry;
use crate::meta::Region;

/// One class to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub value: u32,
    pub label: String,
    pub colour: Rgb,
    pub area: f64,
}

/// The classes that the settings select, in the order of their values: class `i` has slot `i + 1`.
pub fn classes(regions: &[Region], settings: &Settings, palette: &mut Palette) -> Vec<Class> {
    // The palette sees every region, so that a filter does not change anybody's colour.
    let mut regions: Vec<&Region> = regions.iter().filter(|region| region.value > 0).collect();
    regions.sort_by_key(|region| region.value);
    regions.dedup_by_key(|region| region.value);
    let mut classes = Vec::with_capacity(regions.len());
    for region in regions {
        let stable = palette.colour(&region.label, region.value);
        if settings.only.contains(&region.label) {
            classes.push(Class {
                value: region.value,
                label: region.label.clone(),
                colour: settings.colors.get(&region.label).unwrap_or(stable),
                area: region.area,
            });
        }
    }
    classes.truncate(u16::MAX as usize - 1);
    classes
}

/// Slot by mask value. A value that no selected region has is background.
pub fn slots(classes: &[Class]) -> Vec<u16> {
    let last = classes.last().map_or(0, |class| class.value).min(u16::MAX as u32);
    let mut slots = vec![BACKGROUND; last as usize + 1];
    for (index, class) in classes.iter().enumerate() {
        if let Some(slot) = slots.get_mut(class.value as usize) {
            *slot = index as u16 + 1;
        }
    }
    slots
}

/// Width of the contour in frame pixels; zero if the mode has none. Grows with the frame, as the viewer's eye does.
pub fn contour_width(mode: Mode, frame_height: usize) -> f32 {
    match mode {
        Mode::Tint => (frame_height as f32 / 540.0).max(1.0),
        Mode::Contour => (frame_height as f32 / 270.0).max(1.5),
        _ => 0.0,
    }
}

/// The inks of every slot on one plane, for the modes that paint colours.
pub fn inks(classes: &[Class], settings: &Settings, space: ColourSpace, layout: &PlaneLayout) -> Vec<Inks> {
    let opacity = settings.opacity();
    let ink = |colour: Rgb, alpha: f64| {
        let [c0, c1, c2] = space.components(colour);
        let channels = [c0, c1, c2, 255];
        let mut components = [0; 4];
        for (component, &(_, channel)) in components.iter_mut().zip(&layout.components) {
            *component = channels[channel];
        }
        Ink::new(components, (alpha.clamp(0.0, 1.0) * ONE as f64).round() as u16)
    };
    let look = |colour: Rgb| match settings.mode {
        // The contour is a darker shade, and denser than the tint: it holds the shape together on a busy picture.
        Mode::Tint => {
            Inks { body: ink(colour, opacity), contour: ink(colour.shade(0.62), (opacity * 1.7).min(0.9)) }
        }
        Mode::Contour => Inks { body: Ink::default(), contour: ink(colour, opacity) },
        _ => Inks { body: ink(colour, opacity), contour: ink(colour, opacity) },
    };
    if settings.invert {
        // Everything else has no class of its own: black, or what `colors` says for `*`.
        let rest = look(settings.colors.get("*").unwrap_or(Rgb::BLACK));
        return std::iter::once(rest).chain(classes.iter().map(|_| Inks::default())).collect();
    }
    std::iter::once(Inks::default()).chain(classes.iter().map(|class| look(class.colour))).collect()
}

/// For the modes that alter the picture: how much of the altered one each slot shows, 0..=ONE.
pub fn coverage(classes: &[Class], settings: &Settings) -> Vec<u16> {
    let full = (settings.opacity().clamp(0.0, 1.0) * ONE as f64).round() as u16;
    // Mode `invert` is about the rest by itself; the property turns it round once more.
    let on_rest = settings.invert != (settings.mode == Mode::Invert);
    let (rest, selected) = if on_rest { (full, 0) } else { (0, full) };
    std::iter::once(rest).chain(classes.iter().map(|_| selected)).collect()
}

/// Side of a block in frame pixels for `pixelate`, by strength and height: 2 pixels up to an eighth of the frame.
pub fn block_size(strength: f64, frame_height: usize) -> usize {
    ((strength.clamp(0.0, 1.0).powi(2) * frame_height as f64 / 8.0).round() as usize).max(2)
}

/// The lines of the legend. Shares in whole percent, so that it changes only when there is something new to read.
pub fn legend(classes: &[Class]) -> Vec<Entry> {
    let percent = |area: f64| (area.clamp(0.0, 1.0) * 100.0).round() as u32;
    let entry = |class: &Class| Entry {
        colour: class.colour,
        label: class.label.clone(),
        percent: percent(class.area),
    };
    classes.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::colour::palette;
    use crate::overlay::settings::{Colors, Only};

    fn region(value: u32, label: &str) -> Region {
        Region { value, label: label.into(), score: 0.9, area: 0.25, x: 0.0, y: 0.0, w: 1.0, h: 1.0 }
    }

    #[test]
    fn selected_regions_get_slots_in_the_order_of_their_values() {
        let regions = [region(7, "car"), region(2, "sky"), region(4, "tree")];
        let settings = Settings { only: Only::parse("sky,car"), ..Settings::default() };
        let classes = classes(&regions, &settings, &mut Palette::default());
        assert_eq!(classes.iter().map(|class| class.value).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(slots(&classes), [0, 0, 1, 0, 0, 0, 0, 2]);
        assert_eq!(classes[1].colour, palette(6));
    }

    #[test]
    fn an_override_goes_before_the_palette() {
        let settings = Settings { colors: Colors::parse("sky=#010203").unwrap(), ..Settings::default() };
        let classes = classes(&[region(1, "sky")], &settings, &mut Palette::default());
        assert_eq!(classes[0].colour, Rgb([1, 2, 3]));
    }
}
