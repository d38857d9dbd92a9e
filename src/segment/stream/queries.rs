// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queries of both pads, and the events that come from downstream.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::imp::{CAT, Segment};
use crate::frame;

impl Segment {
    pub fn sink_query(&self, query: &mut gst::QueryRef) -> bool {
        gst::log!(CAT, imp = self, "sink query {query:?}");
        let serialized = query.is_serialized();
        if self.answer_context(query) {
            return true;
        }
        match query.view_mut() {
            gst::QueryViewMut::AcceptCaps(accept) => {
                let caps = accept.caps_owned();
                let ours = caps.is_subset(&self.acceptable());
                // The question goes on only for caps that we take ourselves; without a peer, ours will do.
                let theirs = ours && (!self.srcpad.is_linked() || self.srcpad.peer_query_accept_caps(&caps));
                accept.set_result(theirs);
                true
            }
            gst::QueryViewMut::Caps(_) => {
                let answered = gst::Pad::query_default(&self.sinkpad, Some(&*self.obj()), query);
                if let gst::QueryViewMut::Caps(caps) = query.view_mut()
                    && let Some(possible) = caps.result_owned()
                    && !self.takes_device_memory()
                {
                    caps.set_result(&frame::host_caps(&possible));
                }
                answered
            }
            gst::QueryViewMut::Allocation(query) => self.wait_until_empty() && self.allocate(query),
            _ if serialized => self.wait_until_empty() && self.srcpad.peer_query(query),
            _ => gst::Pad::query_default(&self.sinkpad, Some(&*self.obj()), query),
        }
    }

    pub fn src_query(&self, query: &mut gst::QueryRef) -> bool {
        gst::log!(CAT, imp = self, "src query {query:?}");
        if self.answer_context(query) {
            return true;
        }
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) => self.answer_latency(latency),
            _ => gst::Pad::query_default(&self.srcpad, Some(&*self.obj()), query),
        }
    }

    pub fn src_event(&self, event: gst::Event) -> bool {
        gst::debug!(CAT, imp = self, "src event {event:?}");
        match event.view() {
            gst::EventView::Qos(qos) => {
                let (_, _, jitter, timestamp) = qos.get();
                // A frame that was late by `jitter` will be followed by frames as late until we catch up.
                let earliest = timestamp.zip(u64::try_from(jitter).ok()).and_then(|(timestamp, late)| {
                    (late > 0).then(|| timestamp.saturating_add(gst::ClockTime::from_nseconds(late)))
                });
                self.stream.state.lock().input.qos_earliest = earliest;
            }
            // Downstream may have been linked again: try once more.
            gst::EventView::Reconfigure(_) => self.retry_after(gst::FlowError::NotLinked),
            _ => (),
        }
        self.sinkpad.push_event(event)
    }

    /// A serialized query is answered when everything before it has left.
    fn wait_until_empty(&self) -> bool {
        self.set_quiet();
        let mut state = self.stream.state.lock();
        while state.flow.is_ok() && (state.busy || !state.queue.is_empty()) {
            self.stream.input_wake.wait(&mut state);
        }
        state.flow.is_ok()
    }

    /// Asks downstream for buffers, and for as many more as are held here.
    fn allocate(&self, query: &mut gst::query::Allocation) -> bool {
        let answered = self.srcpad.peer_query(query);
        frame::refuse_crop_metadata(query);
        let held = self.settings.lock().policy.max_in_flight;
        let raised: Vec<_> = query
            .allocation_pools()
            .map(|(pool, size, min, max)| {
                let max = if max == 0 { 0 } else { max.saturating_add(held) };
                (pool, size, min.saturating_add(held), max)
            })
            .collect();
        for (index, (pool, size, min, max)) in raised.iter().enumerate() {
            query.set_nth_allocation_pool(index as u32, pool.as_ref(), *size, *min, *max);
        }
        if raised.is_empty() {
            let caps = query.caps().map(|caps| caps.to_owned());
            let Some(info) = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok()) else {
                return answered;
            };
            // No pool of our own: upstream makes one, large enough for what is held here.
            let size = u32::try_from(info.size()).unwrap_or(u32::MAX);
            query.add_allocation_pool(None::<&gst::BufferPool>, size, held, 0);
        }
        true
    }
}
