// SPDX-License-Identifier: MIT OR Apache-2.0
//! What several benches need.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use gstgclip::engine::Engine;
use gstgclip::model::{Ids, ModelInfo, ModelSpec, Region, Request, Segmentation};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The middle one; NaN of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a pipeline is waited for with: its end, or what kept it from that.
pub const ENDS: [gst::MessageType; 2] = [gst::MessageType::Eos, gst::MessageType::Error];

/// # Errors
/// The message is none of the end of the stream.
pub fn ended(message: Option<&gst::Message>) -> Result<()> {
    match message.map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(error)) => Err(error.error().to_string().into()),
        _ => Err("the stream does not end".into()),
    }
}

/// An instance `name` whose model takes this long for a batch and answers with a mask of 37x21 patches and one region
/// for each picture.
pub fn fake_model(name: &str, forward: Duration) -> Result<Arc<Engine>> {
    let spec = ModelSpec { model: name.into(), ..ModelSpec::default() };
    let info =
        ModelInfo { hash: name.into(), embed_dim: 2, patch_size: 16, image_size: 224, ..Default::default() };
    let run = move |requests: Vec<Request>| {
        std::thread::sleep(forward);
        let (width, height) = (37, 21);
        let answer = |request: &Request| {
            let label = request.vocabulary.labels.first().cloned().unwrap_or_default();
            let region = Region { value: 1, label, score: 0.5, area: 1.0, x: 0.0, y: 0.0, w: 1.0, h: 1.0 };
            let ids = Ids::U8(vec![1; width * height]);
            Ok(Arc::new(Segmentation::new(width, height, ids, vec![region])))
        };
        Ok(requests.iter().map(answer).collect())
    };
    let text = |texts: &[String]| Ok(texts.iter().flat_map(|_| [1.0, 0.0]).collect());
    Ok(Engine::install(name, &spec, info, Box::new(run), Box::new(text))?)
}
