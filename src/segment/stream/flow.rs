// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data side of the element: carries out what the `machine` decides.
//!
//! ```text
//! upstream thread                      model's worker             source pad's task
//! chain: knock, enter                  batches, forward           run_once: step
//! bring: pixels, submit -> ticket      answers tickets            masks, messages, push
//!                                      waker: answered            left
//! events: into the queue                                          push in their place
//! ```
//!
//! All decisions are made under the one lock of `core`, and what they start or pause (the pad's task) is started and
//! paused under it too: whoever decides that data flows has started the task before anybody else can decide otherwise.
//! GStreamer calls nothing of ours in there: starting takes the pad's own locks only, and a task that pauses itself
//! waits for nobody.
//!
//! Lock order: settings -> loaded -> core -> batcher. Neither of the first three is held across a push, a query, a posted
//! message, the copy of pixels, or the drop of what others made (frames, events, tickets).

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::MutexGuard;

use super::{Answer, Cargo, Core, GONE, Held, Looked, Next};
use crate::batch::Ticket;
use crate::engine::{Active, Job};
use crate::frame::{self, Mapped};
use crate::meta::Masks;
use crate::model::preprocess::cell_means;
use crate::model::{InferOptions, Picture, Request, Segmentation};
use crate::segment::CAT;
use crate::segment::imp::Segment;
use crate::segment::machine::{
    Arrival, Ask, Asked, Carries, Dropped, Effects, End, Ended, Failed, Kind, Knock, Origin, Restart, Step,
};
use crate::segment::masks::{attach, masks_of};
use crate::segment::still::{Thumbnail, cells_of};
use crate::segment::told::Told;

/// Name of the event that changes the prompts exactly at the next buffer.
const PROMPTS_EVENT: &str = "application/x-gclip-prompts";

/// Flow errors that mean nothing to the machine.
const OTHERS: [gst::FlowError; 6] = [
    gst::FlowError::Error,
    gst::FlowError::NotNegotiated,
    gst::FlowError::NotSupported,
    gst::FlowError::CustomError,
    gst::FlowError::CustomError1,
    gst::FlowError::CustomError2,
];

fn end_of(flow: gst::FlowError) -> End {
    match flow {
        gst::FlowError::Flushing => End::Flushing,
        gst::FlowError::Eos => End::Eos,
        gst::FlowError::NotLinked => End::NotLinked,
        other => {
            let at = OTHERS.iter().position(|flow| *flow == other).unwrap_or(0);
            End::Other(i32::try_from(at).unwrap_or(0))
        }
    }
}

fn flow_of(end: End) -> gst::FlowError {
    match end {
        End::Flushing => gst::FlowError::Flushing,
        End::Eos => gst::FlowError::Eos,
        End::NotLinked => gst::FlowError::NotLinked,
        End::Other(at) => {
            usize::try_from(at).ok().and_then(|at| OTHERS.get(at)).copied().unwrap_or(gst::FlowError::Error)
        }
    }
}

fn kind_of(event: &gst::Event) -> Kind {
    match event.type_() {
        gst::EventType::StreamStart => Kind::StreamStart,
        gst::EventType::Segment => Kind::Segment,
        gst::EventType::Eos => Kind::Eos,
        gst::EventType::Gap => Kind::Gap,
        _ => Kind::Other,
    }
}

/// Whether an event was taken, as a flow.
fn taken(taken: bool) -> Result<gst::FlowSuccess, gst::FlowError> {
    if taken { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Error) }
}

/// The application has been told of this end.
const POSTED: (End, bool) = (End::Other(0), true);

/// What the model's answer to a frame will come by, with the generation of the prompts that it was asked with.
type Handed = (Ticket<Arc<Segmentation>>, u64);

/// Of the frame as it is shown; `there` is the frame as a picture, where that lies in the memory of a GPU. `None`: it
/// cannot be read, which is told when the model is asked about it.
fn thumbnail(cargo: &Cargo, there: Option<&Picture>) -> Option<Thumbnail> {
    if let Some(picture) = there {
        return cell_means(picture, cells_of).ok().map(Thumbnail::of_means);
    }
    Thumbnail::of(Mapped::read_shown(&cargo.buffer, &cargo.info).ok()?.colours())
}

impl Segment {
    // ---- upstream's thread ----

    pub fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let arrived = self.stream.now();
        let mut said_quiet = false;
        let mut core = self.stream.core.lock();
        if core.machine.live().is_none() {
            drop(core);
            self.ask_whether_live();
            core = self.stream.core.lock();
        }
        loop {
            match core.machine.knock(arrived, self.stream.now()) {
                Knock::Enter => break,
                Knock::End(end) => return Err(flow_of(end)),
                Knock::TurnedAway => {
                    let times = core.times(&buffer);
                    self.settle(core);
                    self.post_qos(&buffer, times, Duration::ZERO);
                    return Ok(gst::FlowSuccess::Ok);
                }
                Knock::Wait(until) => {
                    if std::mem::take(&mut core.machine.fx.wake_task) {
                        self.stream.output_wake.notify_one();
                    }
                    // Frames without a ticket take room too, and so does a wait for prompts: the batcher, which
                    // counts tickets, may still hope for more from here.
                    if std::mem::take(&mut core.machine.fx.quiet) && !said_quiet {
                        said_quiet = true;
                        MutexGuard::unlocked(&mut core, || self.set_quiet());
                        continue;
                    }
                    self.stream.sleep(&self.stream.input_wake, &mut core, until);
                }
            }
        }
        let cargo = core.cargo(buffer).ok_or(gst::FlowError::NotNegotiated)?;
        gst::log!(CAT, imp = self, "a frame enters: {:?}", cargo.buffer);
        let times = [cargo.buffer.pts(), cargo.times.running];
        let [pts, running_time] = times.map(|time| time.map(gst::ClockTime::nseconds));
        // What a decoder knows to be damaged, such as what comes before a stream's first key frame, shows what is not
        // there.
        let damaged = cargo.buffer.flags().contains(gst::BufferFlags::CORRUPTED);
        let arrival = Arrival { cargo, arrived, pts, running_time, damaged };
        core.machine.enter(arrival, self.stream.now());
        self.settle(core);
        Ok(gst::FlowSuccess::Ok)
    }

    /// Asks upstream whether it is live: the late policy depends on it.
    fn ask_whether_live(&self) {
        let mut query = gst::query::Latency::new();
        let live = self.sinkpad.peer_query(&mut query) && query.result().0;
        let mut core = self.stream.core.lock();
        core.machine.set_live(live);
        self.stream.wake(core);
    }

    /// Does, without the lock, what the decisions under it ask for.
    fn settle(&self, core: MutexGuard<Core>) {
        if let Some(next) = self.effect(core) {
            self.bring(next);
        }
    }

    /// The same but for the frame that the model is to be asked about, which is returned.
    fn effect(&self, mut core: MutexGuard<Core>) -> Option<Next> {
        let fx = std::mem::take(&mut core.machine.fx);
        let next = if fx.ask { core.next_ask() } else { None };
        drop(core);
        if fx.wake_task {
            self.stream.output_wake.notify_one();
        }
        if fx.wake_upstream {
            self.stream.input_wake.notify_all();
        }
        if fx.quiet {
            self.set_quiet();
        }
        if fx.latency {
            self.post_latency();
        }
        next
    }

    /// Brings a frame to the model, and the next ones for as long as there are some, in their order.
    fn bring(&self, first: Next) {
        let mut next = Some(first);
        while let Some(Next { ask, cargo, lost_looks }) = next {
            let (outcome, ticket, replaced) = self.look(&ask, &cargo, lost_looks);
            let shown = cargo.shown;
            drop(cargo);
            let mut core = self.stream.core.lock();
            let replaced: Vec<Held> =
                core.held.extract_if(.., |held| replaced.contains(&held.ticket.number())).collect();
            let outcome = match outcome {
                Asked::Waits { .. } => {
                    Asked::Waits { instead_of: replaced.iter().map(|held| held.frame).collect() }
                }
                other => other,
            };
            let (dropped, wanted) = core.machine.asked(ask.number, outcome);
            let new = core.held.len();
            let ticket = ticket.and_then(|(ticket, generation)| {
                let held = Held { frame: ask.number, ticket, generation, shown, told: false };
                if !wanted {
                    return Some(held);
                }
                core.held.push(held);
                None
            });
            // It may have been answered already: its waker came before there was a ticket here.
            let gone = core.collect(new, self.stream.now());
            next = self.effect(core);
            for Dropped { cargo, late } in dropped {
                self.post_qos(&cargo.buffer, cargo.times, late);
            }
            drop((replaced, ticket, gone));
        }
    }

    /// Brings the pixels to the model's device and hands them to the model, unless they are those of the frame before.
    fn look(&self, ask: &Ask, cargo: &Cargo, lost_looks: u64) -> (Asked, Option<Handed>, Vec<u64>) {
        let failed = |why: String| (Asked::Failed(why), None, Vec::new());
        let policy = self.settings.lock().policy.clone();
        let loaded =
            self.loaded.lock().as_ref().map(|loaded| (loaded.importer.clone(), loaded.client.active()));
        let session = self.session.lock().clone();
        let (Some((importer, Some(active))), Some(session)) = (loaded, session) else {
            return failed("the element is shutting down".into());
        };
        let mut options = policy.infer.clone();
        cargo.memory.remember(&mut options, cargo.buffer.pts().map(Into::into));
        // A frame in the memory of a GPU is looked at there, so it is a picture already; to bring one from the host there is
        // what a repeated frame is spared.
        let bring = || importer.picture(&cargo.buffer, &cargo.info);
        let there = match importer.is_on_device(&cargo.buffer).then(bring).transpose() {
            Ok(there) => there,
            Err(error) => return failed(format!("{error:#}")),
        };
        if policy.skip_static
            && let Some(thumbnail) = thumbnail(cargo, there.as_ref())
            && let Some(of) = self.repeats(ask.number, thumbnail, cargo, &active, &options, lost_looks)
        {
            return (Asked::Repeats(of), None, Vec::new());
        }
        let picture = match there.map_or_else(bring, Ok) {
            Ok(picture) => picture,
            Err(error) => return failed(format!("{error:#}")),
        };
        let Active { vocabulary, weights, generation, .. } = &*active;
        let job = Job::new(Request { picture, vocabulary: vocabulary.clone(), options }, weights.clone());
        let (ticket, replaced) = match ask.newest {
            _ if ask.at_once => (session.submit_at_once(job), Vec::new()),
            Some(newest) => session.submit_newest(job, newest),
            None => (session.submit(job), Vec::new()),
        };
        (Asked::Waits { instead_of: Vec::new() }, Some((ticket, *generation)), replaced)
    }

    /// The number of the frame that this one repeats, asked about in the same way. If there is none, this frame is
    /// the one to compare the next with.
    fn repeats(
        &self,
        number: u64,
        thumbnail: Thumbnail,
        cargo: &Cargo,
        active: &Active,
        options: &InferOptions,
        lost_looks: u64,
    ) -> Option<u64> {
        let vocabulary = active.vocabulary.clone();
        let mut looked = self.stream.looked.lock();
        let same = looked.as_ref().filter(|looked| {
            looked.lost_looks == lost_looks
                && Arc::ptr_eq(&looked.vocabulary, &vocabulary)
                && Arc::ptr_eq(&looked.memory, &cargo.memory)
                && looked.options == *options
                && looked.info == cargo.info
                && looked.thumbnail.is_same(&thumbnail)
        });
        if let Some(same) = same {
            return Some(same.number);
        }
        let (options, info, memory) = (options.clone(), cargo.info.clone(), cargo.memory.clone());
        *looked = Some(Looked { number, lost_looks, thumbnail, vocabulary, options, info, memory });
        None
    }

    /// Returns a flow and not whether the event was taken: a sticky event that only a stop refuses has to stop upstream
    /// like a frame would, not to fail it.
    pub fn sink_event(&self, event: gst::Event) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::debug!(CAT, imp = self, "sink event {event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => {
                self.end_flow();
                let passed = self.srcpad.push_event(event);
                // Waits for the task, which nothing holds any more: the flush has gone ahead downstream. Nobody starts
                // it before the flush stops.
                self.pause_task();
                return taken(passed);
            }
            gst::EventView::FlushStop(_) => return taken(self.flush_stop(event)),
            _ if !event.is_serialized() => return taken(self.srcpad.push_event(event)),
            gst::EventView::Caps(caps) if !self.take_caps(caps.caps()) => {
                return Err(gst::FlowError::NotNegotiated);
            }
            gst::EventView::Segment(segment) => {
                let segment = segment.segment().downcast_ref::<gst::ClockTime>();
                self.stream.core.lock().segment = segment.cloned().unwrap_or_default();
            }
            gst::EventView::StreamStart(_) => {
                let memory = self.stream.core.lock().forget_pictures();
                drop(memory);
            }
            gst::EventView::CustomDownstream(custom) => {
                if let Some(structure) = custom.structure().filter(|s| s.name() == PROMPTS_EVENT) {
                    self.take_prompts_event(structure);
                }
            }
            _ => (),
        }
        let kind = kind_of(&event);
        if matches!(kind, Kind::StreamStart | Kind::Segment) {
            // Something new after downstream had enough of the old.
            self.restart(End::Eos, &[Kind::Eos]);
        }
        let mut core = self.stream.core.lock();
        let queued = core.machine.event(event.clone(), kind, event.is_sticky());
        self.settle(core);
        match queued.map_err(flow_of) {
            Ok(()) => Ok(gst::FlowSuccess::Ok),
            // Downstream had enough of frames; the end itself it may still wait for, as `identity eos-after` does.
            Err(gst::FlowError::Eos) if kind == Kind::Eos => taken(self.srcpad.push_event(event)),
            // A stream that ends here gives no later chance to say what went wrong downstream.
            Err(flow) if kind == Kind::Eos => {
                self.report_flow_error(flow);
                Err(flow)
            }
            Err(gst::FlowError::Flushing) => Err(gst::FlowError::Flushing),
            // What is wrong shows at the next buffer; sticky events stay on the pad.
            Err(_) => Ok(gst::FlowSuccess::Ok),
        }
    }

    fn flush_stop(&self, event: gst::Event) -> bool {
        let mut core = self.stream.core.lock();
        core.machine.flushed();
        core.segment = gst::FormattedSegment::default();
        let memory = core.forget_pictures();
        drop(core);
        let outlet = std::mem::take(&mut *self.stream.outlet.lock());
        drop((memory, outlet));
        // First the pad: it takes no other event as long as it is flushing.
        let passed = self.srcpad.push_event(event);
        self.restart(End::Flushing, &[Kind::Segment, Kind::Eos]) && passed
    }

    fn take_caps(&self, caps: &gst::CapsRef) -> bool {
        let caps = caps.to_owned();
        match gst_video::VideoInfo::from_caps(&caps) {
            Ok(info) if frame::is_read(info.format()) => {
                let (frames, seconds) = (info.fps().numer(), info.fps().denom());
                let interval = (frames > 0).then(|| f64::from(seconds) / f64::from(frames));
                let interval = interval.and_then(|interval| Duration::try_from_secs_f64(interval).ok());
                let mut core = self.stream.core.lock();
                core.machine.hint(interval);
                core.caps = Some(Arc::new(info));
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
                self.tell_doubts(&wish);
                if let Some(generation) = self.ask_for(wish) {
                    self.stream.core.lock().machine.await_prompts(generation);
                }
            }
            Err(error) => {
                self.warn(&format!("a {PROMPTS_EVENT} event is ignored, the old prompts stay: {error:#}"));
            }
        }
    }

    /// Prompts up to this generation are in force, or could not be encoded.
    pub fn prompts_ready(&self, generation: u64) {
        let mut core = self.stream.core.lock();
        core.machine.prompts_ready(generation);
        self.settle(core);
    }

    /// Lets a batch close without this stream.
    pub fn set_quiet(&self) {
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.set_quiet();
        }
    }

    // ---- how data starts and stops to flow ----

    pub fn activate_sink(&self, active: bool) {
        if !active {
            self.end_flow();
            // Waits for no frame to come: what they left in the model is tens of megabytes.
            let memory = self.stream.core.lock().forget_pictures();
            drop(memory);
        } else if self.srcpad.is_active() {
            self.restart(End::Flushing, &[]);
        }
    }

    pub fn activate_src(&self, active: bool) -> Result<(), gst::LoggableError> {
        if active {
            match self.restart(End::Flushing, &[]) {
                true => Ok(()),
                false => Err(gst::loggable_error!(CAT, "the task cannot be started")),
            }
        } else {
            self.end_flow();
            Ok(self.srcpad.stop_task()?)
        }
    }

    /// Lets data flow again if `why` is what stopped it. Says whether it flows.
    fn restart(&self, why: End, over: &[Kind]) -> bool {
        loop {
            let mut core = self.stream.core.lock();
            match core.machine.restart(why, over) {
                Restart::No => return core.machine.flow().is_ok(),
                Restart::Store(events) => {
                    drop(core);
                    for event in events {
                        if let Err(error) = self.srcpad.store_sticky_event(&event) {
                            gst::warning!(CAT, imp = self, "{event:?} is lost: {error}");
                        }
                    }
                }
                Restart::Start => {
                    // Under the lock: nobody can decide to pause it before it is started.
                    let started = self.start_task();
                    self.settle(core);
                    if let Err(error) = &started {
                        gst::error!(CAT, imp = self, "cannot start the task: {error}");
                    }
                    return started.is_ok();
                }
            }
        }
    }

    fn start_task(&self) -> Result<(), glib::BoolError> {
        // A weak reference: the task belongs to the pad, the pad to the element.
        let element = self.obj().downgrade();
        self.srcpad.start_task(move || {
            if let Some(element) = element.upgrade() {
                element.imp().run_once();
            }
        })
    }

    fn pause_task(&self) {
        if let Err(error) = self.srcpad.pause_task()
            // A pad that is being stopped has let go of its task, which ends by itself.
            && self.srcpad.task_state() != gst::TaskState::Stopped
        {
            gst::warning!(CAT, imp = self, "cannot pause the task: {error}");
        }
    }

    /// Stops both threads and gives up what is in flight, without waiting for the model.
    fn end_flow(&self) {
        let mut core = self.stream.core.lock();
        let ended = core.machine.stop();
        let held = std::mem::take(&mut core.held);
        self.settle(core);
        // Nothing of this stream is waited for, and no batch begins with what it has asked.
        let session = self.session.lock().clone();
        if let Some(session) = session {
            session.flush();
        }
        drop((ended, held));
    }

    pub fn src_event(&self, event: gst::Event) -> bool {
        gst::debug!(CAT, imp = self, "src event {event:?}");
        match event.view() {
            gst::EventView::Qos(qos) => {
                let (_, _, jitter, timestamp) = qos.get();
                self.stream.core.lock().machine.qos(timestamp.map(gst::ClockTime::nseconds), jitter);
            }
            gst::EventView::Reconfigure(_) => {
                self.stream.core.lock().machine.relinked();
                // Downstream may have been linked again: try once more.
                self.restart(End::NotLinked, &[Kind::Eos]);
            }
            _ => (),
        }
        self.sinkpad.push_event(event)
    }

    /// Waits until everything has left that has entered. Whether it has.
    pub fn wait_until_empty(&self) -> bool {
        self.set_quiet();
        let mut core = self.stream.core.lock();
        loop {
            match core.machine.is_empty() {
                Ok(true) => return true,
                Ok(false) => self.stream.input_wake.wait(&mut core),
                Err(_) => return false,
            }
        }
    }

    /// Upstream's latency and what is promised here: live, promise, and the time that the frames inside may cover.
    pub fn promised(&self, live: bool) -> (Duration, Duration) {
        let mut core = self.stream.core.lock();
        core.machine.set_live(live);
        let promise = core.machine.promise();
        let capacity = core.machine.capacity().unwrap_or(promise);
        self.stream.wake(core);
        (promise, capacity)
    }

    // ---- the source pad's task ----

    /// One turn of the task.
    fn run_once(&self) {
        let mut core = self.stream.core.lock();
        let step = loop {
            match core.machine.step(self.stream.now()) {
                Step::Pause => {
                    // Under the lock: whoever lets data flow again comes after this, and starts the task again. The
                    // task does not wait for itself here.
                    self.pause_task();
                    return;
                }
                Step::Wait(until) => {
                    core.machine.fx.wake_task = false; // That is this thread.
                    if core.machine.fx == Effects::default() {
                        self.stream.sleep(&self.stream.output_wake, &mut core, until);
                    } else {
                        self.settle(core);
                        core = self.stream.core.lock();
                    }
                }
                step => break step,
            }
        };
        self.settle(core);
        let (number, end) = match step {
            Step::Push { origin, cargo, carries, discont, late, failed } => {
                let end = self.push_frame(&origin, cargo, carries, discont, late, failed);
                (origin.number, end)
            }
            Step::Event(event) => {
                self.push_event(event);
                (GONE, None)
            }
            Step::Drop(Dropped { cargo, late }) => {
                self.post_qos(&cargo.buffer, cargo.times, late);
                (GONE, None)
            }
            Step::Fail(failed) => (GONE, self.report(&failed).then_some(POSTED)),
            Step::Wait(_) | Step::Pause => (GONE, None),
        };
        let mut core = self.stream.core.lock();
        let left = core.machine.left(end);
        let answered = core.held.iter().position(|held| held.told && held.frame == number);
        let gone = answered.map(|at| core.held.remove(at));
        let given_up = if left.ended.is_some() { std::mem::take(&mut core.held) } else { Vec::new() };
        self.settle(core);
        drop((gone, given_up, left.freed));
        if let Some(ended) = left.ended {
            self.ended(ended);
        }
    }

    /// Downstream has ended the flow.
    fn ended(&self, ended: Ended<Cargo, gst::Event>) {
        let Ended { why, frames, eos, tell } = ended;
        let flow = flow_of(why);
        gst::debug!(CAT, imp = self, "the stream ends with {flow:?}");
        drop(frames);
        // Those that wait for the end get it, though they want no more frames.
        if let Some(eos) = eos {
            self.srcpad.push_event(eos);
        }
        if tell {
            self.report_flow_error(flow);
        }
    }

    fn push_event(&self, event: gst::Event) {
        if event.type_() == gst::EventType::StreamStart {
            // Masks of another stream are not carried into this one.
            let outlet = std::mem::take(&mut *self.stream.outlet.lock());
            drop(outlet);
        }
        // A refusal of caps shows at the next buffer, as for any element that queues.
        if !self.srcpad.push_event(event.clone()) && event.is_sticky() {
            let kind = kind_of(&event);
            self.stream.core.lock().machine.refused(event, kind);
        }
    }

    /// Returns with what the flow ends, if it does.
    fn push_frame(
        &self,
        origin: &Origin,
        cargo: Cargo,
        carries: Carries<Answer>,
        discont: bool,
        late: Option<Duration>,
        failed: Option<Failed>,
    ) -> Option<(End, bool)> {
        let policy = self.settings.lock().policy.clone();
        if let Some(late) = late {
            self.post_qos(&cargo.buffer, cargo.times, late);
        }
        if failed.is_some_and(|failed| self.report(&failed)) {
            return Some(POSTED);
        }
        let confirmed = matches!(carries, Carries::Earlier { confirmed: true, .. });
        let masks = match self.masks(origin, carries) {
            Ok(masks) => masks,
            Err(error) => {
                let failed = self.stream.core.lock().machine.unusable(format!("{error:#}"));
                if self.report(&failed) {
                    return Some(POSTED);
                }
                None
            }
        };
        let size = (cargo.info.width(), cargo.info.height());
        if let Some(masks) = &masks {
            self.tell(&cargo, masks, confirmed, &policy);
        }
        let mut buffer = cargo.buffer;
        if let Some(masks) = &masks {
            attach(masks, buffer.make_mut(), size, policy.meta);
        }
        if discont {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        gst::log!(CAT, imp = self, "frame {} leaves", origin.number);
        match self.srcpad.push(buffer) {
            Ok(_) => None,
            // An event that could not pass a pad which is just being stopped counts as an error of that pad; it stops.
            Err(gst::FlowError::Error) if self.peer_is_stopping() => Some((End::Flushing, true)),
            Err(flow) => Some((end_of(flow), false)),
        }
    }

    fn peer_is_stopping(&self) -> bool {
        let peer = self.srcpad.peer();
        peer.is_some_and(|peer| peer.pad_flags().contains(gst::PadFlags::FLUSHING) || !peer.is_active())
    }

    /// The masks that a frame carries: its own, or the newest, aged for it.
    fn masks(&self, origin: &Origin, carries: Carries<Answer>) -> anyhow::Result<Option<Arc<Masks>>> {
        let (answer, number, age) = match carries {
            Carries::Nothing => return Ok(None),
            Carries::Own(answer) => (answer, origin.number, None),
            Carries::Earlier { answer, origin, age, .. } => (answer, origin.number, Some(age)),
        };
        let made = &mut self.stream.outlet.lock().made;
        let own = match made.as_ref().filter(|(of, _)| *of == number) {
            Some((_, masks)) => masks.clone(),
            None => {
                let masks = Arc::new(masks_of(&answer.segmentation, answer.generation, answer.shown)?);
                *made = Some((number, masks.clone()));
                masks
            }
        };
        let Some(age) = age else { return Ok(Some(own)) };
        let mut masks = Masks::clone(&own);
        masks.age = gst::ClockTime::try_from(age).unwrap_or(gst::ClockTime::MAX);
        Ok(Some(Arc::new(masks)))
    }

    /// Says that the model failed. Whether the stream ends with it.
    fn report(&self, failed: &Failed) -> bool {
        let error = &failed.why;
        if failed.ends {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("The model failed on a frame: {error}"),
                ["set on-error=passthrough to let such frames pass without a mask"]
            );
        } else if failed.first {
            // Said once per run of failures; `stats` counts them all.
            self.warn(&format!("the model failed on a frame, which passes without a mask: {error}"));
        }
        failed.ends
    }

    /// What the task has told, for the functions that tell more.
    pub fn with_told<R>(&self, tell: impl FnOnce(&mut Told) -> R) -> R {
        tell(&mut self.stream.outlet.lock().told)
    }
}
