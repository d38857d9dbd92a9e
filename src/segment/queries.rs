// SPDX-License-Identifier: MIT OR Apache-2.0
//! Queries of both pads: latency, buffers, caps, and the CUDA context that the model shares with its neighbours.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::Segment;
use crate::frame::{self, Importer};

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

    /// Asks the pipeline to query the latency again.
    pub fn post_latency(&self) {
        let message = gst::message::Latency::builder().src(&*self.obj()).build();
        // Without a bus there is nobody to ask.
        let _ = self.obj().post_message(message);
    }

    pub fn answer_latency(&self, query: &mut gst::query::Latency) -> bool {
        let mut upstream = gst::query::Latency::new();
        if !self.sinkpad.peer_query(&mut upstream) {
            return false;
        }
        let (live, mut min, mut max) = upstream.result();
        let (own, held) = self.promised(live);
        let clock_time = |time| gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::MAX);
        if live {
            min += clock_time(own);
        }
        max = max.map(|max| max.saturating_add(clock_time(held)));
        gst::debug!(CAT, imp = self, "latency: live {live}, min {min}, max {max:?}");
        if live && max.is_some_and(|max| min > max) {
            gst::warning!(
                CAT,
                imp = self,
                "the latency {min} is more than upstream and this element can hold, {max:?}: raise max-in-flight"
            );
        }
        query.set(live, min, max);
        true
    }

    /// Whether frames may come in the memory of a GPU; before a model is loaded, whether they may on this machine.
    pub fn takes_device_memory(&self) -> bool {
        let loaded = self.loaded.lock();
        loaded.as_ref().is_none_or(|loaded| loaded.importer.takes_device_memory())
    }

    /// The caps that the sink takes with the model that is loaded.
    pub fn acceptable(&self) -> gst::Caps {
        let all = self.sinkpad.pad_template_caps();
        if self.takes_device_memory() { all } else { frame::host_caps(&all) }
    }

    /// Offers the model's CUDA context to every element around: what they allocate in it, the model reads in place.
    pub fn share_context(&self, importer: &Importer) {
        if let Some(why) = importer.why_no_device_memory() {
            gst::info!(CAT, imp = self, "every frame will pass through the host's memory: {why}");
        }
        if let Some(context) = importer.context() {
            gst::debug!(CAT, imp = self, "sharing {context:?}");
            let element = self.obj();
            element.set_context(context);
            let message = gst::message::HaveContext::builder(context.clone()).src(&*element).build();
            // Refused only when there is no bus: then nobody needs to know.
            let _ = element.post_message(message);
        }
    }

    /// Tells a neighbour that asks for a CUDA context the model's. Whether this was such a question, and was answered.
    pub fn answer_context(&self, query: &mut gst::QueryRef) -> bool {
        let gst::QueryViewMut::Context(query) = query.view_mut() else { return false };
        let loaded = self.loaded.lock();
        let Some(context) = loaded.as_ref().and_then(|loaded| loaded.importer.context()) else {
            return false;
        };
        let wanted = query.context_type() == context.context_type();
        if wanted {
            query.set_context(context);
        }
        wanted
    }

    /// Asks downstream for buffers, and for as many more as are held here.
    fn allocate(&self, query: &mut gst::query::Allocation) -> bool {
        let answered = self.srcpad.peer_query(query);
        frame::refuse_crop_metadata(query);
        let held = held_of(query, self.settings.lock().policy.max_in_flight);
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

/// Surfaces of a GPU that are asked for at most. Decoders have a fixed number of them (NVIDIA's at most 32, some of which
/// they need themselves); where fewer are held than `max-in-flight` says, batches are smaller.
const DEVICE_SURFACES: u32 = 16;

/// How many of the buffers that a query is about may be held here.
fn held_of(query: &gst::query::Allocation, max_in_flight: u32) -> u32 {
    let features = query.caps().and_then(|caps| caps.features(0));
    match features.is_some_and(|features| features.contains(frame::cuda::FEATURE)) {
        true => max_in_flight.min(DEVICE_SURFACES),
        false => max_in_flight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_is_asked_for_no_more_surfaces_than_it_has() {
        gst::init().unwrap();
        let held = |features: &str| {
            let caps = format!("video/x-raw{features}, format=NV12, width=64, height=64");
            let query = gst::query::Allocation::new(Some(&caps.parse::<gst::Caps>().unwrap()), true);
            held_of(&query, 64)
        };
        assert_eq!((held(""), held("(memory:CUDAMemory)")), (64, 16));
    }
}
