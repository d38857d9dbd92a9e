// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the element says on the bus. Called without any lock.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::Messages;
use super::super::imp::Segment;
use super::super::settings::Policy;
use crate::meta::{self, Masks};

impl Segment {
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
    pub fn post_qos(&self, buffer: &gst::BufferRef, late: Duration) {
        let (running_time, stream_time) = self.times(buffer);
        let (counts, live) = {
            let state = self.stream.state.lock();
            (state.counts, state.input.live == Some(true))
        };
        let message = gst::message::Qos::builder(live)
            .src(&*self.obj())
            .running_time_if_some(running_time)
            .stream_time_if_some(stream_time)
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
    pub fn post_regions(&self, buffer: &gst::BufferRef, masks: &Masks, policy: &Policy) {
        if policy.messages != Messages::All {
            return;
        }
        {
            let last = &mut self.stream.state.lock().output.last_message;
            let rate = policy.events.message_rate;
            if rate > 0.0 && last.is_some_and(|last| last.elapsed().as_secs_f64() * rate < 1.0) {
                return;
            }
            *last = Some(Instant::now());
        }
        let (running_time, stream_time) = self.times(buffer);
        let structure = gst::Structure::builder("gclip-regions")
            .field("pts", buffer.pts())
            .field("running-time", running_time)
            .field("stream-time", stream_time)
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

    pub(super) fn times(&self, buffer: &gst::BufferRef) -> (Option<gst::ClockTime>, Option<gst::ClockTime>) {
        let state = self.stream.state.lock();
        let segment = &state.output.segment;
        (segment.to_running_time(buffer.pts()), segment.to_stream_time(buffer.pts()))
    }
}
