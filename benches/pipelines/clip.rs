// SPDX-License-Identifier: MIT OR Apache-2.0
//! The video that the pipelines read.

use std::path::{Path, PathBuf};

use gst::prelude::*;

use gclip_testing::playing::{ENDS, ended};

/// Scales a video, twice in a row, to 16:9 of this height and encodes it as H.264, at what a camera of that size would use.
pub fn make(folder: &Path, height: u32) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let file = folder.join(format!("{height}p.mp4"));
    if file.exists() {
        return Ok(file);
    }
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/models/demo/demo.mp4");
    let source = std::env::var("GCLIP_BENCH_VIDEO").unwrap_or_else(|_| demo.to_owned());
    let (width, kilobits) = (height * 16 / 9, height * height / 220);
    let pipeline = gst::parse::launch(&format!(
        "filesrc name=once ! decodebin ! both. filesrc name=again ! decodebin ! both. \
         concat name=both ! videoconvert ! videoscale add-borders=false ! videorate \
         ! video/x-raw,format=I420,width={width},height={height},framerate=25/1,pixel-aspect-ratio=1/1 \
         ! x264enc bitrate={kilobits} key-int-max=50 speed-preset=veryfast ! h264parse ! mp4mux ! filesink name=sink"
    ))?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "not a pipeline")?;
    for reader in ["once", "again"] {
        pipeline.by_name(reader).ok_or("no source")?.set_property("location", &source);
    }
    pipeline.by_name("sink").ok_or("no sink")?.set_property("location", file.to_str().ok_or("no name")?);
    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().ok_or("a pipeline has a bus")?;
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &ENDS);
    pipeline.set_state(gst::State::Null)?;
    ended(message.as_ref())?;
    Ok(file)
}
