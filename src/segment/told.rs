// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a stream has told so far, and who is in the picture and its zones by the masks that it has seen.

use std::sync::Arc;
use std::time::Instant;

use super::settings::Events;
use crate::meta::{MaskRow, MaskView, Masks, Rect};
use crate::presence::{Change, Raster, Tracker, Zones};

/// What has been told so far. Only the task uses it.
#[derive(Default)]
pub struct Told {
    pub last_message: Option<Instant>,
    pub watched: Watched,
}

/// What has been seen so far. Only the task uses it.
#[derive(Default)]
pub struct Watched {
    /// The mask that was counted last; held, so that its address is not given to another.
    counted: Option<gst::Buffer>,
    picture: Tracker,
    /// Things that are looked at for damage, with scores in the place of areas.
    things: Tracker,
    /// One each, in the order of `of`.
    zones: Vec<WatchedZone>,
    of: Arc<Zones>,
}

/// What a frame has changed.
#[derive(Default)]
pub struct Changes {
    /// Each with the name of its zone; `None`: the whole picture.
    pub places: Vec<(Option<String>, Change)>,
    /// Things that are damaged, or sound again.
    pub things: Vec<Change>,
}

/// Width and height of masks, and the part of the picture that they cover.
type MaskShape = (usize, usize, [f64; 4]);

#[derive(Default)]
struct WatchedZone {
    tracker: Tracker,
    /// The zone's pixels in masks of this shape.
    raster: Option<(MaskShape, Raster)>,
}

impl Watched {
    /// Takes in the masks of one frame. `confirmed` masks count even if they have been counted before: the picture
    /// is known to be the same.
    pub fn observe(&mut self, masks: &Masks, confirmed: bool, events: &Events) -> Changes {
        let again = self.counted.as_ref().is_some_and(|counted| counted.as_ptr() == masks.mask.as_ptr());
        if again && !confirmed {
            return Changes::default();
        }
        self.counted = Some(masks.mask.clone());
        let things = match events.of_anomalies() {
            Some(rule) => {
                let scores = masks.anomalies.iter().map(|thing| (thing.label.as_str(), thing.score));
                self.things.observe(scores, &rule)
            }
            None => Vec::new(),
        };
        Changes { places: self.observe_places(masks, events), things }
    }

    fn observe_places(&mut self, masks: &Masks, events: &Events) -> Vec<(Option<String>, Change)> {
        self.follow(&events.zones);
        let rule = &events.hysteresis;
        let regions = || masks.regions.iter().map(|region| (region.label.as_str(), region.area));
        let changes = self.picture.observe(regions(), rule);
        let mut all: Vec<_> = changes.into_iter().map(|change| (None, change)).collect();
        if self.zones.is_empty() {
            return all;
        }
        let Some(view) = masks.view() else { return all };
        for (watched, zone) in self.zones.iter_mut().zip(&self.of.0) {
            let Rect { x, y, w, h } = masks.rect;
            let (width, height, covered) = (view.width(), view.height(), [x, y, w, h]);
            let raster = match watched.raster.take() {
                Some((made_for, raster)) if made_for == (width, height, covered) => raster,
                _ => zone.raster_within(width, height, covered),
            };
            let counts = count(&view, &raster, masks.regions.iter().map(|region| region.value).max());
            let share = |value: u32| {
                let count = counts.get(value as usize).copied().unwrap_or(0);
                f64::from(count) / raster.pixels().max(1) as f64
            };
            let seen = masks.regions.iter().map(|region| (region.label.as_str(), share(region.value)));
            let changes = watched.tracker.observe(seen, rule);
            all.extend(changes.into_iter().map(|change| (Some(zone.name.clone()), change)));
            watched.raster = Some(((width, height, covered), raster));
        }
        all
    }

    /// Takes other zones over. What is known about a zone stays with its name.
    fn follow(&mut self, zones: &Arc<Zones>) {
        if Arc::ptr_eq(&self.of, zones) {
            return;
        }
        let before = std::mem::replace(&mut self.of, zones.clone());
        let mut known: Vec<_> = before.0.iter().zip(self.zones.drain(..)).collect();
        let mut take = |name: &str| {
            let at = known.iter().position(|(zone, _)| zone.name == name)?;
            Some(known.swap_remove(at).1.tracker)
        };
        let watched = |zone: &crate::presence::Zone| WatchedZone {
            tracker: take(&zone.name).unwrap_or_default(),
            raster: None,
        };
        self.zones = zones.0.iter().map(watched).collect();
    }
}

/// How many of the zone's pixels have each value up to `most`.
fn count(view: &MaskView, raster: &Raster, most: Option<u32>) -> Vec<u32> {
    let mut counts = vec![0u32; most.map_or(0, |most| most as usize + 1)];
    let mut add = |value: u16| {
        if let Some(count) = counts.get_mut(usize::from(value)) {
            *count += 1;
        }
    };
    for (y, columns) in raster.spans() {
        match view.row(y) {
            MaskRow::U8(values) => {
                values.get(columns).unwrap_or(&[]).iter().for_each(|&value| add(value.into()));
            }
            MaskRow::U16(values) => {
                values.get(columns).unwrap_or(&[]).iter().for_each(|&value| add(u16::from_le_bytes(value)));
            }
        }
    }
    counts
}
