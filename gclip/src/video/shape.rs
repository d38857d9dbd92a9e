// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures of a shape that every player takes. Between 4:2:0 and H.264's profiles that all of them know there are no odd sizes:
//! the last column or row of such a picture is left out of the video.

use anyhow::{Context, Result};
use gst::prelude::*;

/// What goes before the encoder, with a `name` by which [`make_even`] finds it.
pub fn playable(name: &str) -> String {
    format!("videoconvert ! video/x-raw,format=I420 ! videocrop name={name}")
}

/// Lets the element of [`playable`] cut odd sizes down, before it learns of them.
pub fn make_even(pipeline: &gst::Pipeline, name: &str) -> Result<()> {
    let crop = pipeline.by_name(name).context("the pipeline has no videocrop")?;
    let sink = crop.static_pad("sink").context("videocrop has no sink pad")?;
    let crop = crop.downgrade();
    sink.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view())
            && let Some(structure) = caps.caps().structure(0)
            && let Some(crop) = crop.upgrade()
        {
            let odd = |name| structure.get::<i32>(name).map_or(0, |side| side % 2);
            crop.set_property("right", odd("width"));
            crop.set_property("bottom", odd("height"));
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}
