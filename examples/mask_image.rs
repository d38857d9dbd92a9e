// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads the masks in Rust with stock GStreamer: paints the first frame with masks that reaches the appsink `out` as
//! a picture, one colour for each class, and prints which is which. The application does not link the plugin.
//!
//! ```sh
//! cargo run --example mask_image -- street.png "filesrc location=street.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto \
//!   ! gclipsegment model=models/demo prompts=\"road; car; sky\" ! appsink name=out"
//! ```

use std::error::Error;

use gst::prelude::*;
use image::{Rgb, RgbImage};

/// Distinct hues, the background black.
fn colour(value: u16) -> Rgb<u8> {
    if value == 0 {
        return Rgb([0; 3]);
    }
    let hue = f32::from(value) * 0.618 % 1.0 * 6.0;
    let channel = |shift: f32| (((hue + shift) % 6.0 - 3.0).abs() - 1.0).clamp(0.0, 1.0) * 255.0;
    Rgb([channel(0.0) as u8, channel(4.0) as u8, channel(2.0) as u8])
}

/// GRAY8 or, above 255 classes, GRAY16_LE.
fn paint(mask: &gst::BufferRef) -> Result<RgbImage, Box<dyn Error>> {
    let video = mask.meta::<gst_video::VideoMeta>().ok_or("the mask has no video meta")?;
    let (offset, stride) = (video.offset()[0], video.stride()[0] as usize);
    let wide = video.format() == gst_video::VideoFormat::Gray16Le;
    let bytes = mask.map_readable()?;
    Ok(RgbImage::from_fn(video.width(), video.height(), |x, y| {
        let row = &bytes[offset + y as usize * stride..];
        let x = x as usize;
        colour(if wide { u16::from_le_bytes([row[2 * x], row[2 * x + 1]]) } else { row[x].into() })
    }))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, description] = &arguments[..] else {
        return Err("usage: mask_image PICTURE PIPELINE".into());
    };
    gst::init()?;
    let pipeline = gst::parse::launch(description)?.downcast::<gst::Pipeline>().map_err(|_| "no pipeline")?;
    let sink = pipeline.by_name("out").and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
    let sink = sink.ok_or("the pipeline has no `appsink name=out`")?;
    pipeline.set_state(gst::State::Playing)?;
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().ok_or("a sample without a buffer")?;
        // An error here means that this frame has no masks.
        let Ok(meta) = gst::meta::CustomMeta::from_buffer(buffer, "GclipSegmentationMeta") else { continue };
        let mask = meta.structure().get::<gst::Buffer>("mask")?;
        paint(&mask)?.save(path)?;
        for region in meta.structure().get::<gst::ArrayRef>("regions")?.as_slice() {
            let region = region.get::<gst::Structure>()?;
            let value = region.get::<u32>("value")?;
            let Rgb(rgb) = colour(u16::try_from(value)?);
            println!(
                "{rgb:?} {} ({:.3} of the frame)",
                region.get::<&str>("label")?,
                region.get::<f64>("area")?
            );
        }
        pipeline.set_state(gst::State::Null)?;
        return Ok(());
    }
    let error = pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
    pipeline.set_state(gst::State::Null)?;
    Err(format!("no masks came: {error:?}").into())
}
