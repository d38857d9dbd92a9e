// SPDX-License-Identifier: MIT OR Apache-2.0
//! `filesrc ! qtdemux ! h264parse ! nvh264dec ! gclipsegment`: whether the decoder's frames stay on the device.

use std::path::Path;
use std::time::Instant;

use gst::prelude::*;
use serde_json::{Value, json};

use crate::{PROMPTS, Plan, Result};
use gclip_testing::playing::{ENDS, ended};

/// Frames a second from the file to the masks, and which way they came. `null` without a decoder or a file.
pub fn measure(plan: &Plan, video: Option<&Path>) -> Result<Value> {
    let Some(video) = video.filter(|_| gst::ElementFactory::find("nvh264dec").is_some()) else {
        return Ok(Value::Null);
    };
    let (model, device) = (&plan.model, &plan.device_name);
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! qtdemux ! h264parse ! nvh264dec name=decoder ! gclipsegment name=segment model={model} \
         device={device} model-instance-id=bench-gpu-decoder prompt-template=none batch-size=16 max-in-flight=32 \
         late-policy=wait ! fakesink sync=false",
        video.display()
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
    let segment = pipeline.by_name("segment").ok_or("an element that has just been made")?;
    segment.set_property("prompts", PROMPTS);
    // The model is loaded with READY: that is not the decoder's time.
    pipeline.set_state(gst::State::Ready)?;
    let start = Instant::now();
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &ENDS);
    let took = start.elapsed().as_secs_f64();
    let stats = segment.property::<gst::Structure>("stats");
    let caps = segment.static_pad("sink").and_then(|pad| pad.current_caps());
    pipeline.set_state(gst::State::Null)?;
    ended(message.as_ref())?;
    let count = |name: &str| stats.get::<u64>(name).unwrap_or(0);
    Ok(json!({
        "caps": caps.map(|caps| caps.to_string()),
        "frames": count("frames"),
        "frames_per_s": count("frames") as f64 / took,
        "device_frames": count("device-frames"),
        "device_copies": count("device-copies"),
        "host_copies": count("host-copies"),
    }))
}
