// SPDX-License-Identifier: MIT OR Apache-2.0
//! The source pad's task: the head of the queue gets its mask and leaves.

use std::sync::Arc;
use std::time::Instant;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::imp::{CAT, Segment};
use super::super::settings::Policy;
use super::super::{LatePolicy, MetaFlags, OnError};
use super::masks::masks_of;
use super::turn::Turn;
use super::{Frame, Item, Late, Origin, Output, Work};
use crate::batch::Failure;
use crate::meta::{self, Masks};
use crate::model::Segmentation;

/// What became of a frame.
enum Finished {
    /// It leaves, with the masks or without any.
    Push(Option<Arc<Masks>>),
    Drop,
    /// It was flushed on its way out.
    Flushed,
    /// The stream ends here, and an error message has said why.
    Stop,
}

/// Why an item did not get downstream.
struct Ended {
    flow: gst::FlowError,
    /// The application knows already.
    posted: bool,
}

type Left = Result<(), Ended>;

impl Segment {
    /// One turn of the task.
    pub fn run_once(&self) {
        let Some(turn) = self.stream.next_turn() else {
            // Not running any more; whoever starts the flow again starts the task.
            if let Err(error) = self.srcpad.pause_task() {
                gst::warning!(CAT, imp = self, "cannot pause the task: {error}");
            }
            return;
        };
        let was_frame = matches!(turn, Turn::Leave(Item::Frame(_), _));
        let flow = match turn {
            Turn::Leave(Item::Event(event), _) => self.push_event(event),
            Turn::Leave(Item::Frame(frame), was_idle) => self.push_frame(*frame, was_idle),
            Turn::Absorb => self.absorb_late(),
        };

        let mut state = self.stream.state.lock();
        state.busy = false;
        state.frames -= usize::from(was_frame);
        // A flush, or a stop, that came meanwhile has the last word.
        let ended = match (state.flow, flow) {
            (Ok(_), Err(ended)) => {
                let tell = state.input.eos && !ended.posted;
                Some((ended.flow, state.end(ended.flow), tell))
            }
            _ => None,
        };
        self.stream.wake_all();
        drop(state);
        if let Some((error, items, tell)) = ended {
            gst::debug!(CAT, imp = self, "the stream ends with {error:?}");
            // Those that wait for the end get it, though they want no more frames.
            let eos = items.iter().filter_map(Item::sticky_event).find(|e| e.type_() == gst::EventType::Eos);
            drop(items);
            if let Some(eos) = eos.filter(|_| error == gst::FlowError::Eos) {
                self.srcpad.push_event(eos);
            }
            // Upstream is at its end and will not hear of it.
            if tell {
                self.report_flow_error(error);
            }
        }
    }

    fn push_event(&self, event: gst::Event) -> Left {
        {
            let mut state = self.stream.state.lock();
            match event.view() {
                // Masks of another stream are not carried into this one.
                gst::EventView::StreamStart(_) => state.output = Output::default(),
                gst::EventView::Segment(segment) => {
                    let segment = segment.segment().downcast_ref::<gst::ClockTime>();
                    state.output.segment = segment.cloned().unwrap_or_default();
                }
                _ => (),
            }
        }
        // A refusal of caps shows at the next buffer, as for any element that queues.
        if !self.srcpad.push_event(event.clone()) && event.is_sticky() {
            let mut state = self.stream.state.lock();
            if state.flow.is_err() {
                // Flushed on its way out; those behind it are kept already.
                state.kept.insert(0, event);
            }
        }
        Ok(())
    }

    /// Takes over the answers to frames that have left meanwhile.
    fn absorb_late(&self) -> Left {
        let policy = self.settings.lock().policy.clone();
        match self.take_late_answers(&policy).map(|error| self.fail(&error, &policy)) {
            Some(Finished::Stop) => Err(Ended { flow: gst::FlowError::Error, posted: true }),
            _ => Ok(()),
        }
    }

    /// `was_idle`: the task was, until the frame could leave.
    fn push_frame(&self, frame: Frame, was_idle: bool) -> Left {
        let policy = self.settings.lock().policy.clone();
        let Frame { mut buffer, size, origin, work, deadline } = frame;
        // In flight until the frame has left: the ticket is dropped after the push.
        let (mut ticket, mut confirmed) = (None, false);
        let finished = match work {
            Work::Infer(asked) => match asked.poll() {
                Some(answer) => {
                    ticket = Some(asked);
                    self.answered(answer, origin, deadline, was_idle, &policy)
                }
                None => {
                    self.overdue(Late { ticket: asked, origin });
                    self.skip(&buffer, &origin, &policy, deadline)
                }
            },
            Work::Carry => {
                self.stream.state.lock().counts.reused += 1;
                Finished::Push(self.carried_masks(&origin).map(|(masks, _)| masks))
            }
            Work::Still(number) => {
                let carried = self.carried_masks(&origin);
                let counts = &mut self.stream.state.lock().counts;
                counts.reused += 1;
                counts.skipped_static += 1;
                // They speak for this frame too, if they are those of the frame that it repeats.
                confirmed = carried.as_ref().is_some_and(|(_, of)| *of >= number);
                Finished::Push(carried.map(|(masks, _)| masks))
            }
            Work::Skip => self.skip(&buffer, &origin, &policy, None),
            Work::Fail(error) => self.fail(&error, &policy),
        };
        let masks = match finished {
            Finished::Push(masks) => masks,
            Finished::Drop => return Ok(()),
            Finished::Flushed => return Err(Ended { flow: gst::FlowError::Flushing, posted: true }),
            Finished::Stop => return Err(Ended { flow: gst::FlowError::Error, posted: true }),
        };
        if let Some(masks) = &masks {
            attach(masks, buffer.make_mut(), size, policy.meta);
            self.post_regions(&buffer, masks, &policy);
            self.post_changes(&buffer, masks, confirmed, &policy);
        }
        let discont = {
            let mut state = self.stream.state.lock();
            state.counts.frames += 1;
            std::mem::take(&mut state.output.discont)
        };
        if discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        gst::log!(CAT, imp = self, "frame {} leaves", origin.number);
        let flow = self.srcpad.push(buffer);
        drop(ticket);
        flow.map(|_| ()).map_err(|flow| Ended { flow, posted: false })
    }

    /// The model has answered for a frame in time.
    fn answered(
        &self,
        answer: Result<Arc<Segmentation>, Failure>,
        origin: Origin,
        deadline: Option<Instant>,
        was_idle: bool,
        policy: &Policy,
    ) -> Finished {
        if deadline.is_some() {
            self.stream.state.lock().pace.in_time();
        }
        match answer {
            Err(Failure::Cancelled) => Finished::Flushed,
            Err(Failure::Failed(error)) => self.fail(&error, policy),
            Ok(segmentation) => {
                if was_idle {
                    self.measured(origin.arrived.elapsed(), policy);
                }
                match masks_of(&segmentation, &origin) {
                    Ok(masks) => {
                        let masks = Arc::new(masks);
                        let mut state = self.stream.state.lock();
                        state.counts.inferred += 1;
                        state.output.failing = false;
                        state.output.keep(&masks, origin);
                        Finished::Push(Some(masks))
                    }
                    Err(error) => self.fail(&format!("{error:#}"), policy),
                }
            }
        }
    }

    /// Puts an overdue inference aside, for a later frame, and asks for fewer at a time.
    fn overdue(&self, late: Late) {
        let mut state = self.stream.state.lock();
        state.output.late.push_back(late);
        let outstanding = state.outstanding();
        let keep = state.pace.late(outstanding);
        let given_up = state.give_up(keep);
        drop(state);
        // Cancels them, which takes the batcher's lock.
        drop(given_up);
    }

    /// The frame gets no mask of its own: it passes with an earlier one, or is dropped.
    fn skip(
        &self,
        buffer: &gst::BufferRef,
        origin: &Origin,
        policy: &Policy,
        deadline: Option<Instant>,
    ) -> Finished {
        let drops = policy.late == LatePolicy::Drop;
        {
            let mut state = self.stream.state.lock();
            state.counts.skipped += 1;
            if drops {
                state.counts.dropped += 1;
                state.output.discont = true;
            } else {
                state.counts.reused += 1;
            }
        }
        self.post_qos(buffer, deadline.map(|deadline| deadline.elapsed()).unwrap_or_default());
        if drops {
            return Finished::Drop;
        }
        Finished::Push(self.carried_masks(origin).map(|(masks, _)| masks))
    }

    /// The model failed on the frame.
    fn fail(&self, error: &str, policy: &Policy) -> Finished {
        let first = {
            let mut state = self.stream.state.lock();
            state.counts.errors += 1;
            state.forget_looked();
            !std::mem::replace(&mut state.output.failing, true)
        };
        match policy.on_error {
            OnError::Error => {
                gst::element_imp_error!(
                    self,
                    gst::StreamError::Failed,
                    ("The model failed on a frame: {error}"),
                    ["set on-error=passthrough to let such frames pass without a mask"]
                );
                Finished::Stop
            }
            OnError::Passthrough => {
                // Said once per run of failures; `stats` counts them all.
                if first {
                    self.warn(&format!("the model failed on a frame, which passes without a mask: {error}"));
                }
                Finished::Push(None)
            }
        }
    }
}

fn attach(masks: &Masks, buffer: &mut gst::BufferRef, (width, height): (u32, u32), flags: MetaFlags) {
    if flags.contains(MetaFlags::CUSTOM) {
        masks.attach(buffer);
    }
    if flags.contains(MetaFlags::ROI) {
        meta::attach_regions_of_interest(buffer, &masks.regions, width, height);
    }
    #[cfg(feature = "v1_26")]
    if flags.intersects(MetaFlags::ANALYTICS | MetaFlags::ANALYTICS_OBJECTS) {
        let objects = flags.contains(MetaFlags::ANALYTICS_OBJECTS);
        if let Err(error) = meta::attach_analytics(masks, buffer, (width, height), objects) {
            gst::error!(CAT, "no analytics metadata on a frame: {error:#}");
        }
    }
}
