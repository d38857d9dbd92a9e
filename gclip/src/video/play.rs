// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plays a pipeline to its end, and says whose fault it is if it does not get there.

use std::fmt;

use anyhow::{Context, Error, Result, anyhow, bail};
use gst::ResourceError;
use gst::prelude::*;

use super::pipeline::part;
use crate::address::Address;
use crate::redact::Secrets;
use crate::{redact, trouble};

/// How a run ended that has results.
pub enum End {
    Whole,
    /// The source broke off; what came before is whole.
    BrokenOff(Error),
}

/// On what a run failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Of {
    /// What it was given cannot be read now; perhaps it can be later.
    Reading,
    /// What it was given is nothing that can be looked at.
    Source,
    /// A result cannot be written.
    Result,
}

/// An error of a pipeline, in one sentence.
#[derive(Debug)]
pub struct Fault {
    pub of: Of,
    why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Fault {}

/// How far it is.
pub struct Moment<'a> {
    pub position: gst::ClockTime,
    /// Where the source says it.
    pub length: Option<gst::ClockTime>,
    /// What an element has to say.
    pub warning: Option<&'a str>,
}

/// Plays to the end of the stream. Ten times a second `each` says whether it is to end now, properly; an error of its ends
/// it at once. `frames` have come by; of a live source they are worth something when it breaks off.
///
/// # Errors
/// What went wrong, as a [`Fault`] where a pipeline says it.
pub fn play(
    pipeline: &gst::Pipeline,
    source: &str,
    frames: &dyn Fn() -> u64,
    each: &mut dyn FnMut(&Moment) -> Result<bool>,
) -> Result<End> {
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let frames_in = part(pipeline, "segment")?.static_pad("sink").context("gclipsegment has no sink pad")?;
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(first_fault(&bus, pipeline, source));
    }
    let (mut ending, mut broken) = (false, None);
    loop {
        let message = bus.timed_pop_filtered(
            gst::ClockTime::from_mseconds(100),
            &[
                gst::MessageType::Eos,
                gst::MessageType::Error,
                gst::MessageType::Warning,
                gst::MessageType::Element,
            ],
        );
        let mut warning = None;
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => break,
            Some(gst::MessageView::Error(error)) => {
                let from_source = error.src().is_some_and(|src| is_in_source(src, pipeline));
                let why = explain(error, pipeline, source);
                if !is_live(source) || !from_source || broken.is_some() || frames() == 0 {
                    return Err(broken.unwrap_or(why));
                }
                // What a camera has sent so far is not lost with it.
                (ending, broken) = (true, Some(why));
                frames_in.send_event(gst::event::Eos::new());
            }
            Some(gst::MessageView::Element(element)) => {
                if let Some(why) = element.structure().and_then(trouble::missing_decoder) {
                    bail!(Fault { of: Of::Source, why });
                }
            }
            Some(gst::MessageView::Warning(said)) => warning = Some(redact::urls(&said.error().to_string())),
            _ => {}
        }
        let moment = Moment {
            position: pipeline.query_position::<gst::ClockTime>().unwrap_or_default(),
            length: pipeline.query_duration::<gst::ClockTime>(),
            warning: warning.as_deref(),
        };
        if each(&moment)? && !ending {
            ending = true; // EOS rather than a hard stop: the MP4 index is written at the end
            pipeline.send_event(gst::event::Eos::new());
        }
    }
    Ok(broken.map_or(End::Whole, End::BrokenOff))
}

/// Whether what is lost is lost for ever.
fn is_live(source: &str) -> bool {
    source.starts_with("rtsp") && source.contains("://") || source.starts_with("/dev/video")
}

/// Whether something is part of what reads and decodes.
fn is_in_source(object: &gst::Object, pipeline: &gst::Pipeline) -> bool {
    pipeline.by_name("source").is_some_and(|source| *object == source || object.has_as_ancestor(&source))
}

/// Why a pipeline does not start.
fn first_fault(bus: &gst::Bus, pipeline: &gst::Pipeline, source: &str) -> Error {
    let error = bus.timed_pop_filtered(gst::ClockTime::from_seconds(2), &[gst::MessageType::Error]);
    match error.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => explain(error, pipeline, source),
        _ => anyhow!("the pipeline does not start"),
    }
}

/// An error in the words that `gclip watch` has for cameras.
fn explain(error: &gst::message::Error, pipeline: &gst::Pipeline, source: &str) -> Error {
    let why = match Address::parse(source, &["rtsp", "rtsps"]) {
        Ok(address) => {
            let mut secrets = Secrets::default();
            secrets.add(address.secrets.iter().cloned());
            trouble::explain(error, &address, &|text| secrets.hide(text))
        }
        Err(_) => trouble::readable(error),
    };
    let kind = error.error().kind::<ResourceError>();
    let of = match error.src() {
        Some(src) if is_in_source(src, pipeline) => match kind {
            Some(
                ResourceError::NotFound | ResourceError::OpenRead | ResourceError::Read | ResourceError::Busy,
            ) => Of::Reading,
            _ => Of::Source,
        },
        _ => match kind {
            Some(
                ResourceError::OpenWrite
                | ResourceError::OpenReadWrite
                | ResourceError::Write
                | ResourceError::NoSpaceLeft,
            ) => Of::Result,
            _ => Of::Source,
        },
    };
    Error::new(Fault { of, why: format!("{why:#}") })
}
