// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the streams show, and how it is fed to them.

use gst::prelude::*;
use gst_app::{AppSink, AppSrc};

/// Different pictures that come round and round.
pub const PICTURES: usize = 16;

/// Pushes frames as fast as they are taken, then the end.
pub fn feed(source: &AppSrc, buffers: &[gst::Buffer], frames: usize) {
    for number in 0..frames {
        // The pixels are shared: only times are set.
        let mut buffer = buffers[number % PICTURES].copy();
        buffer.make_mut().set_pts(gst::ClockTime::from_mseconds(40 * number as u64));
        if source.push_buffer(buffer).is_err() {
            return;
        }
    }
    // Refused only when the pipeline has stopped, which its bus tells.
    let _ = source.end_of_stream();
}

/// A ball on its way, as `videotestsrc` draws it.
pub fn pictures() -> Result<(gst::Caps, Vec<gst::Buffer>), Box<dyn std::error::Error>> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::I420)
        .width(640)
        .height(360)
        .framerate(gst::Fraction::new(25, 1))
        .build();
    let pipeline = gst::Pipeline::new();
    let source = gst::ElementFactory::make("videotestsrc")
        .property("num-buffers", PICTURES as i32)
        .property_from_str("pattern", "ball")
        .build()?;
    let sink = AppSink::builder().caps(&caps).sync(false).build();
    pipeline.add_many([&source, sink.upcast_ref()])?;
    source.link(&sink)?;
    pipeline.set_state(gst::State::Playing)?;
    let buffers: Vec<gst::Buffer> =
        std::iter::from_fn(|| sink.pull_sample().ok()?.buffer_owned()).take(PICTURES).collect();
    let negotiated = sink.static_pad("sink").and_then(|pad| pad.current_caps());
    pipeline.set_state(gst::State::Null)?;
    match negotiated {
        Some(negotiated) if buffers.len() == PICTURES => Ok((negotiated, buffers)),
        _ => Err("videotestsrc gives no pictures".into()),
    }
}
