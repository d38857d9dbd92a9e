// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the elements share that turn the masks on a video into a data stream beside it: two pads, the stream's
//! times, one buffer for each frame with masks, a GAP event for each without. Lock order: an element's own locks are
//! never held while this one is taken, and none is held across a push.

use anyhow::Result;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use crate::meta::Masks;
use crate::meta::json::{Size, Times};
use crate::pads;

/// An element that writes something for each frame with masks.
pub trait Writer: ElementImpl<Type: IsA<gst::Element>> {
    /// What goes wrong when [`write`](Self::write) fails, as the user reads it.
    const TASK: &'static str;

    fn sidecar(&self) -> &Sidecar;

    /// What is to be said about one frame, without its times; `None` if that is nothing.
    fn write(&self, frame: &Frame) -> Result<Option<gst::Buffer>>;

    /// A new stream, or the same one from somewhere else: nothing was written yet.
    fn reset(&self);
}

/// One frame with masks.
pub struct Frame<'a> {
    pub buffer: &'a gst::BufferRef,
    pub masks: Masks,
    pub times: Times,
    /// `None` where the caps do not say.
    pub size: Option<Size>,
}

pub struct Sidecar {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    stream: Mutex<Stream>,
}

/// What upstream has told so far.
#[derive(Default)]
struct Stream {
    /// Whether the source pad has its caps.
    negotiated: bool,
    size: Option<Size>,
    /// Only a segment in time gives stream and running times.
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
}

impl Sidecar {
    /// Pads from the templates `sink` and `src`.
    pub fn new<T: Writer>(class: &glib::Class<gst::Element>) -> Sidecar {
        let (sinkpad, srcpad) = pads::builders(class);
        let sinkpad = sinkpad
            .chain_function(|_, parent, buffer| {
                T::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |element| chain(element, &buffer),
                )
            })
            .event_function(|_, parent, event| {
                T::catch_panic_pad_function(parent, || false, |element| sink_event(element, event))
            })
            .build();
        let srcpad = srcpad.flags(gst::PadFlags::FIXED_CAPS).build();
        Sidecar { sinkpad, srcpad, stream: Mutex::default() }
    }

    /// To be called once the element is constructed.
    pub fn add_pads(&self, element: &gst::Element) {
        pads::add(element, &self.sinkpad, &self.srcpad);
    }

    /// Forgets the stream.
    pub fn reset(&self) {
        *self.stream.lock() = Stream::default();
    }

    /// Sends our caps downstream, once for each stream.
    fn negotiate(&self) -> bool {
        if self.stream.lock().negotiated {
            return true;
        }
        let accepted = self.srcpad.push_event(gst::event::Caps::new(&self.srcpad.pad_template_caps()));
        self.stream.lock().negotiated = accepted;
        accepted
    }
}

/// Pad templates of an element that reads masks from anything and writes `caps`.
pub fn pad_templates(caps: &gst::Caps) -> Vec<gst::PadTemplate> {
    pads::templates(&gst::Caps::new_any(), caps)
}

fn chain<T: Writer>(element: &T, buffer: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
    let sidecar = element.sidecar();
    let (times, size) = sidecar.stream.lock().about(buffer);
    let output = match Masks::found_on(buffer, size.map(|Size { width, height }| (width, height))) {
        None => Ok(None),
        Some(masks) => element.write(&Frame { buffer, masks, times, size }),
    };
    match output {
        Ok(Some(output)) => sidecar.srcpad.push(timed_as(buffer, output)),
        Ok(None) => {
            if let Some(pts) = buffer.pts() {
                let gap = gst::event::Gap::builder(pts).duration(buffer.duration()).build();
                sidecar.srcpad.push_event(gap);
            }
            Ok(gst::FlowSuccess::Ok)
        }
        Err(error) => {
            gst::element_error!(element.obj(), gst::StreamError::Decode, ("{}: {error:#}", T::TASK));
            Err(gst::FlowError::Error)
        }
    }
}

fn sink_event<T: Writer>(element: &T, event: gst::Event) -> bool {
    let sidecar = element.sidecar();
    match event.view() {
        gst::EventView::Caps(caps) => {
            sidecar.stream.lock().set_caps(caps.caps());
            return sidecar.negotiate();
        }
        gst::EventView::Segment(segment) => {
            sidecar.stream.lock().segment = segment.segment().downcast_ref().cloned();
            // Upstream may send no caps at all; ours go before the segment.
            if !sidecar.negotiate() {
                return false;
            }
        }
        gst::EventView::FlushStop(_) => {
            sidecar.stream.lock().segment = None;
            element.reset();
        }
        gst::EventView::StreamStart(_) => {
            sidecar.reset();
            element.reset();
        }
        _ => {}
    }
    gst::Pad::event_default(&sidecar.sinkpad, Some(&*element.obj()), event)
}

fn timed_as(frame: &gst::BufferRef, mut output: gst::Buffer) -> gst::Buffer {
    let buffer = output.make_mut();
    buffer.set_pts(frame.pts());
    buffer.set_duration(frame.duration());
    let kept = gst::BufferFlags::DISCONT | gst::BufferFlags::LIVE;
    buffer.set_flags(frame.flags() & kept);
    output
}

impl Stream {
    fn set_caps(&mut self, caps: &gst::CapsRef) {
        let side = |name| u32::try_from(caps.structure(0)?.get::<i32>(name).ok()?).ok();
        self.size = side("width").zip(side("height")).map(|(width, height)| Size { width, height });
    }

    fn about(&self, buffer: &gst::BufferRef) -> (Times, Option<Size>) {
        let (pts, segment) = (buffer.pts(), self.segment.as_ref());
        let times = Times {
            pts,
            stream: segment.and_then(|segment| segment.to_stream_time(pts)),
            running: segment.and_then(|segment| segment.to_running_time(pts)),
        };
        (times, self.size)
    }
}
