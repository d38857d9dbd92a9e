// SPDX-License-Identifier: MIT OR Apache-2.0
//! An application that carries the plugin inside: it registers the elements itself, so that no plugin has to be
//! installed, and reads the masks through the crate's safe API. Prints what is in the first frame.
//! In Cargo.toml: `gst-plugin-gclip = "0.1"`; the library is called `gstgclip`.
//!
//! ```sh
//! cargo run --example static_link -- street.mp4 openai/clip-vit-base-patch16 "road; car; sky"
//! ```

use std::error::Error;

use gst::prelude::*;
use gstgclip::meta::Masks;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, file, model, prompts] = &arguments[..] else {
        return Err("usage: static_link VIDEO MODEL PROMPTS".into());
    };
    gst::init()?;
    gstgclip::plugin_register_static()?;

    let pipeline = gst::parse::launch(
        "filesrc name=file ! decodebin ! videoconvert ! videoflip video-direction=auto ! gclipsegment name=segment ! appsink name=out sync=false",
    )?;
    let pipeline = pipeline.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
    let element = |name| pipeline.by_name(name).ok_or("an element of our own pipeline");
    element("file")?.set_property("location", file);
    element("segment")?.set_property("model", model);
    element("segment")?.set_property("prompts", prompts);
    let sink = element("out")?.downcast::<gst_app::AppSink>().map_err(|_| "no appsink")?;

    if pipeline.set_state(gst::State::Playing).is_err() {
        let error = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        pipeline.set_state(gst::State::Null)?;
        return Err(format!("the pipeline does not start: {error:?}").into());
    }
    let sample = sink.pull_sample()?;
    let masks = sample.buffer().and_then(Masks::from_buffer).ok_or("the frame has no masks")?;
    for region in &masks.regions {
        println!("{}: {:.1} % of the frame, score {:.2}", region.label, 100.0 * region.area, region.score);
    }
    let at = masks.region_at(0.5, 0.5).map_or("nothing named", |region| &region.label);
    println!("in the middle: {at}");
    pipeline.set_state(gst::State::Null)?;
    Ok(())
}
