// SPDX-License-Identifier: MIT OR Apache-2.0
//! Legend and labels on a frame: drawn by `text` when their content changes, kept as stamps otherwise.

use super::Position;
use super::colour::Rgb;
use super::layout::FrameLayout;
use super::look::{self, Class};
use super::place::Distances;
use super::stamp::Stamp;
use super::text;
use crate::meta::Rect;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Label pictures kept at most; beyond that the memory starts again.
const MEMORY: usize = 256;

#[derive(Default)]
pub struct Captions {
    legend: Option<(Vec<text::Entry>, Option<Stamp>)>,
    labels: HashMap<(String, Rgb), Option<Stamp>>,
    /// Where the label of a class stood last, normalised to the mask.
    places: HashMap<String, (f64, f64)>,
}

/// A stamp and the frame pixel of its upper left corner.
pub type Placed<'a> = (&'a Stamp, usize, usize);

impl Captions {
    /// Draws the pictures that are missing.
    pub fn update_legend(&mut self, classes: &[Class], frame: &FrameLayout) -> anyhow::Result<()> {
        let entries = look::legend(classes);
        if self.legend.as_ref().is_none_or(|(drawn, _)| *drawn != entries) {
            let (width, height) = (frame.width as f64, frame.height as f64);
            let font = text::font_size(frame.height);
            let picture = text::legend(&entries, font, width * 0.45, height * 0.9)?;
            let stamp = picture.map(|picture| Stamp::new(&picture, &frame.planes, frame.space));
            self.legend = Some((entries, stamp));
        }
        Ok(())
    }

    pub fn legend(&self, position: Position, frame: &FrameLayout) -> Option<Placed<'_>> {
        let (_, stamp) = self.legend.as_ref()?;
        let stamp = stamp.as_ref()?;
        let margin = (0.8 * text::font_size(frame.height)) as usize;
        let far = |side: usize, stamp: usize| side.saturating_sub(stamp + margin);
        let (right, bottom) = (far(frame.width, stamp.width), far(frame.height, stamp.height));
        let (left, top) = match position {
            Position::TopLeft => (margin, margin),
            Position::TopRight => (right, margin),
            Position::BottomLeft => (margin, bottom),
            Position::BottomRight => (right, bottom),
        };
        Some((stamp, left, top))
    }

    /// Draws the pictures of labels that are missing, and finds where each class has its label.
    pub fn update_labels(
        &mut self,
        classes: &[Class],
        distances: &Distances,
        frame: &FrameLayout,
    ) -> anyhow::Result<()> {
        if self.labels.len() + classes.len() > MEMORY {
            self.labels.clear();
            self.places.clear();
        }
        for (index, class) in classes.iter().enumerate() {
            let before = self.places.get(&class.label).copied();
            match distances.place(index as u16 + 1, before) {
                Some(place) => self.places.insert(class.label.clone(), place),
                None => self.places.remove(&class.label),
            };
            if let Entry::Vacant(missing) = self.labels.entry((class.label.clone(), class.colour)) {
                let font = text::font_size(frame.height);
                let picture = text::label(&class.label, class.colour, font, frame.width as f64 * 0.4)?;
                missing.insert(picture.map(|picture| Stamp::new(&picture, &frame.planes, frame.space)));
            }
        }
        Ok(())
    }

    /// Every label with its place in the frame; none covers another where there is room.
    pub fn labels(&self, classes: &[Class], rect: Rect, frame: &FrameLayout) -> Vec<Placed<'_>> {
        let mut placed: Vec<Placed> = Vec::with_capacity(classes.len());
        for class in classes {
            let Some((x, y)) = self.places.get(&class.label) else { continue };
            let Some(Some(stamp)) = self.labels.get(&(class.label.clone(), class.colour)) else { continue };
            let corner = |centre: f64, frame: usize, stamp: usize| {
                let corner = centre * frame as f64 - stamp as f64 / 2.0;
                corner.clamp(0.0, frame.saturating_sub(stamp) as f64) as usize
            };
            let left = corner(rect.x + x * rect.w, frame.width, stamp.width);
            let mut top = corner(rect.y + y * rect.h, frame.height, stamp.height);
            for _ in 0..classes.len() {
                let covers = |other: &&Placed| {
                    left < other.1 + other.0.width
                        && other.1 < left + stamp.width
                        && top < other.2 + other.0.height
                        && other.2 < top + stamp.height
                };
                match placed.iter().find(covers) {
                    Some(other) if other.2 + other.0.height + stamp.height <= frame.height => {
                        top = other.2 + other.0.height;
                    }
                    _ => break,
                }
            }
            placed.push((stamp, left, top));
        }
        placed
    }
}
