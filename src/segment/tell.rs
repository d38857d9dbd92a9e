// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the element says on the bus: warnings and errors, QOS, who has entered and left, what is on a frame. Called
//! without any lock.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::Messages;
use super::imp::Segment;
use super::settings::Policy;
use super::stream::{Cargo, Times};
use crate::meta::{self, Masks};
use crate::presence::{Change, Presence};

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
            .field_if(
                "anomalies",
                gst::Array::new(masks.anomalies.iter().map(meta::anomaly_structure)),
                !masks.anomalies.is_empty(),
            )
            .build();
        self.post_element_message(structure);
    }

    /// The element messages `gclip-presence` and `gclip-anomaly`, when they are asked for and something has changed.
    fn post_changes(&self, cargo: &Cargo, masks: &Masks, confirmed: bool, policy: &Policy) {
        let changes = self.with_told(|told| told.watched.observe(masks, confirmed, &policy.events));
        let Cargo { buffer, times, .. } = cargo;
        let when = |message: gst::structure::Builder| {
            message
                .field_if_some("running-time", times.running)
                .field_if_some("stream-time", times.stream)
                .field_if_some("pts", buffer.pts())
                .field("generation", masks.generation)
                .build()
        };
        for Change { label, presence, area: score } in changes.things {
            let state = if presence == Presence::Entered { "damaged" } else { "sound" };
            let message = gst::Structure::builder("gclip-anomaly")
                .field("label", label)
                .field("state", state)
                .field("score", score)
                .field("threshold", policy.events.anomaly_threshold);
            self.post_element_message(when(message));
        }
        for (zone, Change { label, presence, area }) in changes.places {
            let of_label = masks.regions.iter().filter(|region| region.label == label);
            let score = of_label.map(|region| region.score).fold(0.0, f64::max);
            let message = gst::Structure::builder("gclip-presence")
                .field("label", label)
                .field("zone", zone)
                .field("state", presence.as_str())
                .field("area", area)
                .field("score", score);
            self.post_element_message(when(message));
        }
    }

    fn post_element_message(&self, structure: gst::Structure) {
        let message = gst::message::Element::builder(structure).src(&*self.obj()).build();
        // Without a bus there is nobody to tell.
        let _ = self.obj().post_message(message);
    }
}
