// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upstream thread: frames and events on their way into the queue.

use std::sync::Arc;
use std::time::Instant;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::imp::{CAT, Segment};
use super::super::prompts::Encoded;
use super::super::settings::Policy;
use super::{Frame, Item, Origin, Output, Session, State, Work};
use crate::engine::Job;
use crate::frame::{self, Geometry};
use crate::model::{Request, StreamMemory};

/// Name of the event that changes the prompts exactly at the next buffer.
const PROMPTS_EVENT: &str = "application/x-gclip-prompts";

/// What has been decided about a frame before its pixels are touched.
struct Admitted {
    info: gst_video::VideoInfo,
    origin: Origin,
    deadline: Option<Instant>,
    memory: Arc<StreamMemory>,
}

/// The prompts to score a frame with, unless it takes an earlier mask.
type Plan = Result<Encoded, Work>;

impl Segment {
    pub fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let arrived = Instant::now();
        let session = self.session.lock().clone().ok_or(gst::FlowError::Flushing)?;
        self.ask_whether_live();
        let policy = self.wait_for_room(&session)?;
        let (admitted, plan) = self.admit(&buffer, &policy, arrived)?;
        let work = match plan {
            Ok(prompts) => self.look(&session, &buffer, &admitted, prompts, &policy),
            Err(work) => work,
        };
        if matches!(work, Work::Skip | Work::Still(_)) {
            // The model is behind already, or nothing happens here: its next batch need not wait for this stream.
            session.set_quiet();
        }
        let size = (admitted.info.width(), admitted.info.height());
        let frame = Frame { buffer, size, origin: admitted.origin, work, deadline: admitted.deadline };
        gst::log!(CAT, imp = self, "frame {} enters: {:?}", frame.origin.number, frame.buffer);
        self.enqueue(Item::Frame(Box::new(frame)))
    }

    /// Waits until a frame may enter, and returns the settings it enters under.
    fn wait_for_room(&self, session: &Session) -> Result<Arc<Policy>, gst::FlowError> {
        let mut said_quiet = false;
        loop {
            let policy = self.settings.lock().policy.clone();
            let mut state = self.stream.state.lock();
            state.flow?;
            let prompts_ready = state.prompts.finished >= state.prompts.awaited;
            if prompts_ready && state.frames < policy.max_in_flight as usize {
                return Ok(policy);
            }
            if said_quiet {
                self.stream.input_wake.wait(&mut state);
                continue;
            }
            // Frames without a ticket take room too, and so does a wait for prompts: the batcher, which
            // counts tickets, may still hope for more from here.
            said_quiet = true;
            drop(state);
            session.set_quiet();
        }
    }

    /// Decides where the frame's mask is to come from.
    fn admit(
        &self,
        buffer: &gst::BufferRef,
        policy: &Policy,
        arrived: Instant,
    ) -> Result<(Admitted, Plan), gst::FlowError> {
        let mut state = self.stream.state.lock();
        let skips = policy.skips_when_late(state.input.live.unwrap_or(false));
        let behind = skips && !state.pace.allows(state.outstanding());
        let State { input, prompts, measured, .. } = &mut *state;
        let info = input.caps.clone().ok_or(gst::FlowError::NotNegotiated)?;
        let active = prompts.active.as_ref().ok_or(gst::FlowError::Flushing)?;
        let number = input.seen;
        input.seen += 1;
        let late_at_sink = || {
            let running_time = input.segment.to_running_time(buffer.pts()?)?;
            Some(running_time < input.qos_earliest?)
        };
        // What a decoder knows to be damaged, such as what comes before a stream's first key frame, shows what is not there.
        let damaged = buffer.flags().contains(gst::BufferFlags::CORRUPTED);
        let plan = if damaged || number % u64::from(policy.inference_interval) != 0 {
            Err(Work::Carry)
        } else if behind || (skips && late_at_sink().unwrap_or(false)) {
            Err(Work::Skip)
        } else {
            Ok(active.encoded.clone())
        };
        let deadline = if skips { measured.deadline(policy, &info) } else { None };
        let generation = if plan.is_ok() { active.generation } else { 0 };
        // A buffer that is no frame is told when its pixels are asked for.
        let shown = Geometry::of(buffer, &info).map_or([0.0, 0.0, 1.0, 1.0], |geometry| geometry.covered());
        let admitted = Admitted {
            info,
            origin: Origin { number, pts: buffer.pts(), arrived, generation, shown },
            deadline: deadline.and_then(|allowed| arrived.checked_add(allowed)),
            memory: input.memory.clone(),
        };
        Ok((admitted, plan))
    }

    /// Brings the pixels to the model's device and hands them to the model, unless they are those of the frame before.
    fn look(
        &self,
        session: &Session,
        buffer: &gst::Buffer,
        admitted: &Admitted,
        prompts: Encoded,
        policy: &Policy,
    ) -> Work {
        let Admitted { info, origin, memory, .. } = admitted;
        let mut options = policy.infer.clone();
        memory.remember(&mut options, origin.pts.map(Into::into));
        if policy.skip_static
            && let Some(number) = self.repeats(buffer, info, origin.number, &prompts, &options)
        {
            return Work::Still(number);
        }
        let importer = self.loaded.lock().as_ref().map(|loaded| loaded.importer.clone());
        let Some(importer) = importer else { return Work::Fail("the element is shutting down".into()) };
        match importer.picture(buffer, info) {
            Ok(picture) => {
                let Encoded { vocabulary, weights } = prompts;
                Work::Infer(session.submit(Job::new(Request { picture, vocabulary, options }, weights)))
            }
            Err(error) => Work::Fail(format!("{error:#}")),
        }
    }

    fn enqueue(&self, item: Item) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = self.stream.state.lock();
        // A flush may have come meanwhile; the item, with its ticket, is then dropped after the lock.
        let flow = state.flow;
        if flow.is_ok() {
            self.stream.enqueue(&mut state, item);
        } else {
            state.kept.extend(item.sticky_event());
        }
        drop(state);
        flow
    }

    /// Asks upstream once whether it is live: the late policy depends on it.
    fn ask_whether_live(&self) {
        if self.stream.state.lock().input.live.is_some() {
            return;
        }
        let mut query = gst::query::Latency::new();
        let live = self.sinkpad.peer_query(&mut query) && query.result().0;
        self.stream.state.lock().input.live = Some(live);
    }

    pub fn sink_event(&self, event: gst::Event) -> bool {
        gst::debug!(CAT, imp = self, "sink event {event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.end_flow(gst::FlowError::Flushing);
                let passed = self.srcpad.push_event(event);
                // Waits for the task, which nothing holds any more: the flush has gone ahead downstream.
                if let Err(error) = self.srcpad.pause_task() {
                    gst::warning!(CAT, imp = self, "cannot pause the task: {error}");
                }
                return passed;
            }
            gst::EventView::FlushStop(_) => return self.flush_stop(event),
            _ if !event.is_serialized() => return self.srcpad.push_event(event),
            gst::EventView::Caps(caps) if !self.take_caps(caps.caps()) => return false,
            gst::EventView::Segment(segment) => {
                let mut state = self.stream.state.lock();
                state.input.segment = time_segment(segment.segment());
                state.input.qos_earliest = None;
            }
            gst::EventView::StreamStart(_) => {
                let mut state = self.stream.state.lock();
                (state.input.live, state.input.seen, state.input.qos_earliest) = (None, 0, None);
                state.input.eos = false;
                state.input.forget_pictures();
            }
            gst::EventView::Eos(_) => {
                self.stream.state.lock().input.eos = true;
                self.set_quiet();
            }
            gst::EventView::Gap(_) => self.set_quiet(),
            gst::EventView::CustomDownstream(custom) => {
                if let Some(structure) = custom.structure().filter(|s| s.name() == PROMPTS_EVENT) {
                    self.take_prompts_event(structure);
                }
            }
            _ => (),
        }
        if matches!(event.type_(), gst::EventType::StreamStart | gst::EventType::Segment) {
            // Something new after downstream had enough of the old.
            self.retry_after(gst::FlowError::Eos);
        }
        let is_eos = event.type_() == gst::EventType::Eos;
        match self.enqueue(Item::Event(event.clone())) {
            Ok(_) => true,
            // Downstream had enough of frames; the end itself it may still wait for, as `identity eos-after` does.
            Err(gst::FlowError::Eos) if is_eos => self.srcpad.push_event(event),
            // A stream that ends here gives no later chance to say what went wrong downstream.
            Err(flow) if is_eos => {
                self.report_flow_error(flow);
                false
            }
            // What is wrong shows at the next buffer; sticky events stay on the pad.
            Err(flow) => flow != gst::FlowError::Flushing,
        }
    }

    fn flush_stop(&self, event: gst::Event) -> bool {
        {
            let mut state = self.stream.state.lock();
            state.flow = Ok(gst::FlowSuccess::Ok);
            state.output = Output::default();
            let input = &mut state.input;
            (input.segment, input.qos_earliest, input.eos) = (Default::default(), None, false);
            (input.live, input.seen) = (None, 0);
            input.forget_pictures();
        }
        // First the pad: it takes no other event as long as it is flushing.
        let passed = self.srcpad.push_event(event);
        self.restart(&[gst::EventType::Segment, gst::EventType::Eos]) && passed
    }

    fn take_caps(&self, caps: &gst::CapsRef) -> bool {
        let caps = caps.to_owned();
        match gst_video::VideoInfo::from_caps(&caps) {
            Ok(info) if frame::FORMATS.contains(&info.format()) => {
                self.stream.state.lock().input.caps = Some(info);
                true
            }
            _ => {
                gst::warning!(CAT, imp = self, "cannot read frames of {caps}");
                false
            }
        }
    }

    /// Asks for the prompts of an event; the next frame waits for them.
    fn take_prompts_event(&self, structure: &gst::StructureRef) {
        let wish = structure
            .get::<&str>("prompts")
            .map_err(|error| anyhow::anyhow!("its field \"prompts\" is no string: {error}"))
            .and_then(|prompts| {
                let background = structure.get_optional::<&str>("background").unwrap_or(None);
                let settings = self.settings.lock().clone();
                settings.wish_of_event(prompts, background)
            });
        match wish {
            Ok(wish) => {
                if let Some(generation) = self.ask_for(wish) {
                    self.stream.state.lock().prompts.awaited = generation;
                }
            }
            Err(error) => {
                self.warn(&format!("a {PROMPTS_EVENT} event is ignored, the old prompts stay: {error:#}"));
            }
        }
    }

    /// Lets a batch close without this stream.
    pub fn set_quiet(&self) {
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.set_quiet();
        }
    }
}

fn time_segment(segment: &gst::Segment) -> gst::FormattedSegment<gst::ClockTime> {
    segment.downcast_ref::<gst::ClockTime>().cloned().unwrap_or_default()
}
