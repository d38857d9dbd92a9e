// SPDX-License-Identifier: MIT OR Apache-2.0
//! One connection to one camera: fetch, decode, look, report. A broken connection's pipeline is thrown away; the
//! model outlives it.

use std::sync::Arc;

use anyhow::{Context, Result};
use gst::prelude::*;

use gstgclip::meta::Masks;

use super::config::{Camera, Certificate, Masks as MaskForm, Protocols};
use super::report::Reporter;
use super::state::Count;
use super::thin;
use crate::property;
use crate::rtsp;

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
    let segment = gst::ElementFactory::make("gclipsegment")
        .name(segment_name(camera))
        .property("model", model)
        .property("model-instance-id", INSTANCE)
        .build()?;
    segment.set_property("prompts", &camera.prompts);
    if !camera.background.is_empty() {
        segment.set_property("background", &camera.background);
    }
    let zones = (!camera.zones.is_empty()).then(|| format!("zones={}", camera.zones));
    let settings: Vec<String> = camera.segment.iter().cloned().chain(zones).collect();
    property::set_all(&segment, &settings)?;
    segment.set_property_from_str("messages", "changes");
    Ok(segment)
}

/// The whole pipeline; what it finds goes to `reporter`.
pub fn build(camera: &Camera, model: &str, reporter: &Arc<Reporter>) -> Result<gst::Pipeline> {
    let make = |factory: &str| {
        gst::ElementFactory::make(factory)
            .build()
            .with_context(|| format!("there is no GStreamer element {factory}"))
    };
    let source = source(camera)?;
    let decode = make("decodebin")?;
    decode.set_property("force-sw-decoders", true);
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
    pipeline.add_many([&source, &decode])?;
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    link_when_ready(&source, &decode);
    link_when_ready(&decode, &queue);
    report_frames(&segment, reporter)?;
    Ok(pipeline)
}

fn source(camera: &Camera) -> Result<gst::Element> {
    let source = gst::ElementFactory::make("rtspsrc").name(format!("{}-rtsp", camera.name)).build();
    let source =
        source.context("there is no GStreamer element rtspsrc (Debian: gstreamer1.0-plugins-good)")?;
    let address = &camera.address;
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
    // Sound and events are not fetched.
    source.connect("select-stream", false, |arguments| {
        let caps = arguments.get(2).and_then(|caps| caps.get::<gst::Caps>().ok());
        let media = caps.as_ref().and_then(|caps| caps.structure(0)?.get::<String>("media").ok());
        Some((media.as_deref() == Some("video")).to_value())
    });
    rtsp::guard(&source);
    Ok(source)
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
    from.connect_pad_added(move |_, pad| {
        let sink = to.upgrade().and_then(|to| to.static_pad("sink"));
        if let Some(sink) = sink.filter(|sink| !sink.is_linked()) {
            // What does not fit stays unlinked; if nothing fits, the camera gives no picture and times out.
            let _ = pad.link(&sink);
        }
    });
}

fn report_frames(segment: &gst::Element, reporter: &Arc<Reporter>) -> Result<()> {
    let pad = segment.static_pad("src").context("gclipsegment has no source pad")?;
    let reporter = reporter.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        if let Some(buffer) = info.buffer() {
            let caps = pad.current_caps();
            let size = caps.as_ref().and_then(|caps| gst_video::VideoInfo::from_caps(caps).ok());
            let size = size.map_or((0, 0), |info| (info.width(), info.height()));
            reporter.frame(size, buffer.pts(), Masks::from_buffer(buffer).as_ref());
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

fn report_lines(json: &gst::Element, reporter: &Arc<Reporter>) -> Result<()> {
    let pad = json.static_pad("src").context("gclipmeta2json has no source pad")?;
    let reporter = reporter.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(line) = info.buffer().and_then(|buffer| buffer.map_readable().ok()) {
            reporter.line(&line);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}
