// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the element says on the bus: warnings and errors, QOS, who has entered and left, what is on a frame. Called
//! without any lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::Messages;
use super::imp::Segment;
use super::settings::{Events, Policy};
use super::stream::{Cargo, Times};
use crate::meta::{self, MaskRow, MaskView, Masks, Rect};
use crate::presence::{Change, Raster, Tracker, Zones};

/// What has been told so far. Only the task uses it.
#[derive(Default)]
pub struct Told {
    last_message: Option<Instant>,
    watched: Watched,
}

/// What has been seen so far. Only the task uses it.
#[derive(Default)]
struct Watched {
    /// The mask that was counted last; held, so that its address is not given to another.
    counted: Option<gst::Buffer>,
    picture: Tracker,
    /// One each, in the order of `of`.
    zones: Vec<WatchedZone>,
    of: Arc<Zones>,
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
    /// is known to be the same. Returns what has changed, each with the name of its zone.
    fn observe(&mut self, masks: &Masks, confirmed: bool, events: &Events) -> Vec<(Option<String>, Change)> {
        let again = self.counted.as_ref().is_some_and(|counted| counted.as_ptr() == masks.mask.as_ptr());
        if again && !confirmed {
            return Vec::new();
        }
        self.counted = Some(masks.mask.clone());
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

impl Segment {
    /// The element messages that are asked for, for the masks of a frame.
    pub fn tell(&self, cargo: &Cargo, masks: &Masks, confirmed: bool, policy: &Policy) {
        if policy.messages == Messages::All {
            self.post_regions(cargo, masks, policy);
        }
        if policy.messages != Messages::None {
            self.post_changes(cargo, masks, confirmed, policy);
        }
    }

    pub fn warn(&self, text: &str) {
        gst::element_imp_warning!(self, gst::StreamError::Failed, ("{text}"));
    }

    /// Ends the application's wait when upstream has gone and downstream failed.
    pub fn report_flow_error(&self, flow: gst::FlowError) {
        if matches!(flow, gst::FlowError::Flushing | gst::FlowError::Eos) {
            return;
        }
        gst::element_imp_error!(
            self,
            gst::StreamError::Failed,
            ("The stream stopped: downstream answered {flow}")
        );
    }

    /// Says that a frame got no mask of its own, `late` after its deadline.
    pub fn post_qos(&self, buffer: &gst::BufferRef, times: Times, late: Duration) {
        let (counts, _) = self.stream.counts();
        let live = self.stream.live() == Some(true);
        let message = gst::message::Qos::builder(live)
            .src(&*self.obj())
            .running_time_if_some(times.running)
            .stream_time_if_some(times.stream)
            .timestamp_if_some(buffer.pts())
            .duration_if_some(buffer.duration())
            .values(i64::try_from(late.as_nanos()).unwrap_or(i64::MAX), 1.0, 1_000_000)
            .stats(
                gst::format::Buffers::from_u64(counts.inferred),
                gst::format::Buffers::from_u64(counts.skipped),
            )
            .build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }

    /// The element message `gclip-regions`, when it is asked for and the last one is old enough.
    fn post_regions(&self, cargo: &Cargo, masks: &Masks, policy: &Policy) {
        let rate = policy.events.message_rate;
        let is_due = self.with_told(|told| {
            let waits = |last: Instant| rate > 0.0 && last.elapsed().as_secs_f64() * rate < 1.0;
            let is_due = !told.last_message.is_some_and(waits);
            if is_due {
                told.last_message = Some(Instant::now());
            }
            is_due
        });
        if !is_due {
            return;
        }
        let Cargo { buffer, times, .. } = cargo;
        let structure = gst::Structure::builder("gclip-regions")
            .field("pts", buffer.pts())
            .field("running-time", times.running)
            .field("stream-time", times.stream)
            .field("generation", masks.generation)
            .field("age", masks.age.nseconds())
            .field("regions", gst::Array::new(masks.regions.iter().map(meta::region_structure)))
            .field_if(
                "tags",
                gst::Array::new(masks.tags.iter().map(meta::tag_structure)),
                !masks.tags.is_empty(),
            )
            .build();
        self.post_element_message(structure);
    }

    /// The element messages `gclip-presence`, when they are asked for and something has changed.
    fn post_changes(&self, cargo: &Cargo, masks: &Masks, confirmed: bool, policy: &Policy) {
        let changes = self.with_told(|told| told.watched.observe(masks, confirmed, &policy.events));
        let Cargo { buffer, times, .. } = cargo;
        for (zone, Change { label, presence, area }) in changes {
            let of_label = masks.regions.iter().filter(|region| region.label == label);
            let score = of_label.map(|region| region.score).fold(0.0, f64::max);
            let structure = gst::Structure::builder("gclip-presence")
                .field("label", label)
                .field("zone", zone)
                .field("state", presence.as_str())
                .field("area", area)
                .field("score", score)
                .field_if_some("running-time", times.running)
                .field_if_some("stream-time", times.stream)
                .field_if_some("pts", buffer.pts())
                .field("generation", masks.generation)
                .build();
            self.post_element_message(structure);
        }
    }

    fn post_element_message(&self, structure: gst::Structure) {
        let message = gst::message::Element::builder(structure).src(&*self.obj()).build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }
}
