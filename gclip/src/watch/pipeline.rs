// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection to one camera: fetch, decode, look, report. A broken connection's pipeline is thrown away; the
//! model outlives it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use gst::prelude::*;

use gstgclip::meta::Masks;

use super::config::{Camera, Certificate, Decode, Masks as MaskForm, Protocols};
use super::console::Console;
use super::local;
use super::report::Reporter;
use super::state::Count;
use super::thin;
use crate::address::Address;
use crate::property;
use crate::rtsp::{self, Counter, Talk};
use crate::trouble::is_other_transport;

/// All cameras name the same instance: one model, and batches of whoever has a frame.
const INSTANCE: &str = "gclip-watch";

/// The name of the camera's `gclipsegment`.
pub fn segment_name(camera: &Camera) -> String {
    format!("{}-segment", camera.name)
}

/// A `gclipsegment` with the camera's prompts and settings.
///
/// # Errors
/// A property that does not exist or does not take the value.
pub fn segment(camera: &Camera, model: &str) -> Result<gst::Element> {
    let segment = of_model(&segment_name(camera), model, &camera.segment)?;
    set_words(&segment, camera)?;
    segment.set_property_from_str("messages", "changes");
    Ok(segment)
}

fn of_model(name: &str, model: &str, properties: &[String]) -> Result<gst::Element> {
    let segment = gst::ElementFactory::make("gclipsegment")
        .name(name)
        .property("model", model)
        .property("model-instance-id", INSTANCE)
        .build()?;
    property::set_all(&segment, properties)?;
    Ok(segment)
}

/// A `gclipsegment` that loads the model while there is no camera yet.
///
/// # Errors
/// A property that does not exist or does not take the value.
pub fn loader(model: &str, properties: &[String]) -> Result<gst::Element> {
    let segment = of_model("loader", model, properties)?;
    // It does not load without a word to look for.
    segment.set_property("prompts", "thing");
    Ok(segment)
}

/// What is looked for, and where: it may change while the camera plays.
///
/// # Errors
/// A value that the element does not take.
pub fn set_words(segment: &gst::Element, camera: &Camera) -> Result<()> {
    // Thresholds of labels that there are not would be told.
    segment.set_property("prompt-thresholds", None::<&str>);
    segment.set_property("background", &camera.background);
    segment.set_property("prompts", &camera.prompts);
    segment.set_property("prompt-thresholds", camera.prompt_thresholds.to_string());
    property::set_all(segment, &[format!("zones={}", camera.zones)])
}

/// One connection, not started yet.
pub struct Connection {
    pub pipeline: gst::Pipeline,
    pub segment: gst::Element,
    /// What is said with the camera.
    pub talk: Option<Arc<Talk>>,
}

/// The whole pipeline; what it finds goes to `reporter`.
pub fn build(camera: &Camera, model: &str, reporter: &Arc<Reporter>) -> Result<Connection> {
    let (source, talk) = source(camera, reporter.state.counter(Count::Source))?;
    report_clock(&source, reporter);
    // Decoded frames wait here while the model takes its time; when it takes too long the oldest go.
    let queue = make("queue")?;
    queue.set_property_from_str("leaky", "downstream");
    queue.set_property("max-size-buffers", 4u32);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    let counting = reporter.clone();
    queue.connect("overrun", false, move |_| {
        counting.state.count(Count::Dropped);
        None
    });
    if let Some(fps) = camera.fps {
        thin::limit(&queue.static_pad("sink").context("queue has no sink pad")?, fps)?;
    }
    let mut chain = vec![queue.clone(), make("videoscale")?, make("videoconvert")?, size_limit(camera)?];
    let segment = segment(camera, model)?;
    chain.push(segment.clone());
    let sink = make("fakesink")?;
    sink.set_property("sync", false);
    if reporter.wants_frames() {
        let json = make("gclipmeta2json")?;
        json.set_property_from_str("mask", mask_form(camera.masks));
        report_lines(&json, reporter)?;
        chain.push(json);
    }
    chain.push(sink);

    let pipeline = gst::Pipeline::with_name(&camera.name);
    pipeline.add(&source)?;
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    if camera.source.address().is_some() {
        let decode = decoder(camera)?;
        pipeline.add(&decode)?;
        link_when_ready(&source, &decode);
        link_when_ready(&decode, &queue);
    } else {
        source.link(&queue)?;
    }
    report_frames(&segment, reporter)?;
    Ok(Connection { pipeline, segment, talk })
}

fn make(factory: &str) -> Result<gst::Element> {
    let element = gst::ElementFactory::make(factory).build();
    element.with_context(|| format!("there is no GStreamer element {factory}"))
}

/// Decodes what there is of video; by hardware only where that is wished, as drivers differ in what they bear.
pub fn decoder(camera: &Camera) -> Result<gst::Element> {
    let decode = make("decodebin")?;
    decode.set_property("force-sw-decoders", camera.decode != Decode::Auto);
    let (fps, keys) = (camera.fps, camera.decode == Decode::Keyframes);
    if let Some(bin) = decode.downcast_ref::<gst::Bin>() {
        bin.connect_deep_element_added(move |_, _, element| {
            let kind = element.metadata(gst::ELEMENT_METADATA_KLASS).unwrap_or_default();
            let pad =
                element.static_pad("sink").filter(|_| kind.contains("Decoder") && kind.contains("Video"));
            if let Some(pad) = pad {
                if keys && element.find_property("max-threads").is_some() {
                    // Threads that each decode a frame give the first when the last has one.
                    element.set_property("max-threads", 1i32);
                }
                // Without the gate more is decoded than is needed, and nothing else.
                let _ = thin::limit_to_keys(&pad, fps, keys);
            }
        });
    }
    Ok(decode)
}

/// The camera, and what is said with it; its frames are counted. What is on this machine comes decoded.
pub fn source(camera: &Camera, frames: Counter) -> Result<(gst::Element, Option<Arc<Talk>>)> {
    match camera.source.address() {
        Some(address) => in_network(camera, address, frames),
        None => Ok((local::source(&camera.source, frames)?, None)),
    }
}

fn in_network(
    camera: &Camera,
    address: &Address,
    frames: Counter,
) -> Result<(gst::Element, Option<Arc<Talk>>)> {
    let source = gst::ElementFactory::make("rtspsrc").name(format!("{}-rtsp", camera.name)).build();
    let source =
        source.context("there is no GStreamer element rtspsrc (Debian: gstreamer1.0-plugins-good)")?;
    source.set_property("location", &address.location);
    // Beside the location and not in it: GStreamer puts the location into its messages.
    source.set_property("user-id", &address.user);
    source.set_property("user-pw", &address.password);
    source.set_property_from_str(
        "protocols",
        match camera.protocols {
            Protocols::Tcp => "tcp",
            Protocols::Udp => "udp",
            Protocols::UdpMcast => "udp-mcast",
            Protocols::Any => "tcp+udp-mcast+udp",
        },
    );
    if camera.certificate == Certificate::Any {
        accept_any_certificate(&source)?;
    }
    source.set_property("latency", camera.latency.as_millis() as u32);
    source.set_property("tcp-timeout", camera.timeout.as_micros() as u64);
    if source.find_property("add-reference-timestamp-meta").is_some() {
        source.set_property("add-reference-timestamp-meta", true);
    }
    let talk = rtsp::guard(&source, frames);
    // Sound and events are not fetched, nor is a second video.
    let choosing = talk.clone();
    source.connect("select-stream", false, move |arguments| {
        let number = arguments.get(1).and_then(|number| number.get::<u32>().ok()).unwrap_or_default();
        let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let media = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("media").ok());
        let is_video = media.as_deref() == Some("video");
        Some(choosing.as_ref().is_none_or(|talk| talk.takes(number, is_video)).to_value())
    });
    Ok((source, talk))
}

/// An error of a pipeline that reads the camera, as one sentence.
pub fn explain(
    error: &gst::message::Error,
    camera: &Camera,
    talk: Option<&Talk>,
    console: &Console,
) -> Error {
    let source = &camera.source;
    if !talk.is_some_and(Talk::has_video) || !is_other_transport(error) {
        return source.explain(error, &|text| console.hide(text));
    }
    let (asked, other) = match camera.protocols {
        Protocols::Tcp => ("tcp", "protocols = \"any\" or \"udp\""),
        Protocols::Udp => ("udp", "protocols = \"any\" or \"tcp\""),
        Protocols::UdpMcast => ("multicast", "protocols = \"any\" or \"tcp\""),
        Protocols::Any => ("udp, multicast or tcp", "another stream of it"),
    };
    anyhow!("{source} does not send by {asked}: try {other}")
}

/// Why a connection is over of which the pipeline posts no error: `silence` is the time without a picture.
pub fn given_up(camera: &Camera, talk: Option<&Talk>, silence: Duration) -> Option<Error> {
    let source = &camera.source;
    if let Some(trouble) = talk.and_then(Talk::trouble) {
        return Some(anyhow!("{source} {trouble}"));
    }
    if silence <= camera.timeout {
        return None;
    }
    Some(match talk {
        Some(talk) if talk.is_without_video() => anyhow!("{source} sends no video"),
        _ => anyhow!("no picture for {}", seconds(camera.timeout)),
    })
}

fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
}

/// Seconds from NTP's beginning, 1900, to Unix's, 1970.
const NTP: gst::ClockTime = gst::ClockTime::from_seconds(2_208_988_800);

/// Notes what the camera's clock shows, where the camera tells it (RTCP sender reports, or RFC 6051).
fn report_clock(source: &gst::Element, reporter: &Arc<Reporter>) {
    reporter.set_clock(None);
    let reporter = reporter.clone();
    source.connect_pad_added(move |_, pad| {
        let reporter = reporter.clone();
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, info| {
            let packet = match &info.data {
                Some(gst::PadProbeData::Buffer(packet)) => Some(packet.as_ref()),
                Some(gst::PadProbeData::BufferList(packets)) => packets.get(0),
                _ => None,
            };
            if let Some(clock) = packet.and_then(camera_clock) {
                reporter.set_clock(Some(clock));
            }
            gst::PadProbeReturn::Ok
        });
    });
}

/// A packet's time, and the camera's at it in nanoseconds since 1970. Clocks that were never set tell nothing.
fn camera_clock(packet: &gst::BufferRef) -> Option<(gst::ClockTime, u64)> {
    let meta = packet.iter_meta::<gst::ReferenceTimestampMeta>().find(|meta| {
        meta.reference().structure(0).is_some_and(|structure| structure.name() == "timestamp/x-ntp")
    })?;
    let since_1970 = meta
        .timestamp()
        .checked_sub(NTP)
        .filter(|time| *time > gst::ClockTime::from_seconds(86_400 * 365))?;
    Some((packet.pts()?, since_1970.nseconds()))
}

fn accept_any_certificate(source: &gst::Element) -> Result<()> {
    // The type of these flags is GIO's, which is not linked here.
    let property = source.find_property("tls-validation-flags").context("rtspsrc knows no TLS")?;
    let flags = glib::FlagsClass::with_type(property.value_type()).context("no flags")?;
    let none = flags.builder().build().context("no value without flags")?;
    source.set_property_from_value("tls-validation-flags", &none);
    Ok(())
}

/// The size that the camera's `width` leaves.
fn size_limit(camera: &Camera) -> Result<gst::Element> {
    let mut caps = gst::Caps::builder("video/x-raw");
    if let Some(width) = camera.width {
        let widths = gst::IntRange::new(1, width as i32);
        caps = caps.field("width", widths).field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    }
    Ok(gst::ElementFactory::make("capsfilter").property("caps", caps.build()).build()?)
}

fn mask_form(form: MaskForm) -> &'static str {
    match form {
        MaskForm::None => "none",
        MaskForm::Rle => "rle",
        MaskForm::Polygon => "polygon",
        MaskForm::Png => "png",
    }
}

/// Links the first pad that `from` gets later and that fits.
fn link_when_ready(from: &gst::Element, to: &gst::Element) {
    let to = to.downgrade();
    from.connect_pad_added(move |_, pad| link(pad, to.upgrade()));
}

/// Links a pad if nothing was linked before. What does not fit stays unlinked; if nothing fits, the camera gives no
/// picture and times out.
pub fn link(pad: &gst::Pad, to: Option<gst::Element>) {
    let sink = to.and_then(|to| to.static_pad("sink"));
    if let Some(sink) = sink.filter(|sink| !sink.is_linked()) {
        // See above.
        let _ = pad.link(&sink);
    }
}

fn report_frames(segment: &gst::Element, reporter: &Arc<Reporter>) -> Result<()> {
    let pad = segment.static_pad("src").context("gclipsegment has no source pad")?;
    let reporter = reporter.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer() {
            let caps = pad.current_caps();
            let size = caps.as_ref().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
            let size = size.map_or((0, 0), |info| (info.width(), info.height()));
            let masks = Masks::from_buffer(buffer);
            reporter.frame(size, buffer.pts(), masks.as_ref());
            reporter.view.offer(pad, buffer, masks.as_ref());
            reporter.keep(caps.as_ref(), buffer, masks);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn report_lines(json: &gst::Element, reporter: &Arc<Reporter>) -> Result<()> {
    let pad = json.static_pad("src").context("gclipmeta2json has no source pad")?;
    let reporter = reporter.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let pts = info.buffer().and_then(|buffer| buffer.pts());
        if let Some(line) = info.buffer().and_then(|buffer| buffer.map_readable().ok()) {
            reporter.line(&line, pts);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}
