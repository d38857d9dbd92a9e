// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model without a pipeline: is it right, and how fast by batch and size?

use std::path::Path;
use std::sync::Arc;

use gstgclip::model::{
    Architecture, Colour, DeviceChoice, Ids, InferOptions, Model, ModelSpec, Picture, PixelFormat,
    PrecisionChoice, Prompts, Request, Templates, Vocabulary,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::card::{issue_seconds, seconds};
use crate::{PROMPTS, Plan, Result, frames};

/// Height and width in pixels, before they are rounded to whole patches.
const SIZES: [(usize, usize); 3] = [(224, 398), (336, 597), (448, 796)];
const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

pub fn load(
    model: &str,
    device: DeviceChoice,
    precision: PrecisionChoice,
) -> Result<(Model, Arc<Vocabulary>)> {
    let spec = ModelSpec { model: model.into(), device, precision, ..ModelSpec::default() };
    let mut model = Model::load(&spec)?;
    let text = model.text.as_mut().ok_or("the checkpoint has no text tower")?;
    let mut encode = |texts: &[String]| text.encode(texts);
    let prompts = Prompts::parse(PROMPTS, "")?;
    let vocabulary = Vocabulary::build(&prompts, &Templates::None, model.info.embed_dim, &mut encode)?;
    Ok((model, Arc::new(vocabulary)))
}

/// This device in its own precision against the CPU in f32: logits of the patches, and classes of the pixels.
pub fn correctness(plan: &Plan, trained: Option<&str>, picture: Option<&Path>) -> Result<Value> {
    let mut all = Vec::new();
    for (what, model) in [("random weights", Some(plan.model.as_str())), ("trained weights", trained)] {
        let Some(model) = model else { continue };
        let failed = |error: Box<dyn std::error::Error>| json!({ "error": error.to_string() });
        let mut numbers = compare(plan, model, picture).unwrap_or_else(failed);
        numbers["weights"] = json!(what);
        all.push(numbers);
    }
    Ok(json!(all))
}

fn compare(plan: &Plan, model: &str, picture: Option<&Path>) -> Result<Value> {
    let (mut exact, vocabulary) = load(model, DeviceChoice::Cpu, PrecisionChoice::F32)?;
    let (mut tested, _) = load(model, plan.device_name.parse()?, PrecisionChoice::Auto)?;
    let requests = || -> Result<Vec<Request>> {
        let mut pictures = vec![frames::nv12_picture(1920, 1080, 3)?];
        if let Some(path) = picture {
            let image = image::open(path)?.into_rgb8();
            let (width, height) = (image.width() as usize, image.height() as usize);
            let data = Tensor::f_from_slice(image.as_raw())?.into();
            let colour = Colour::default();
            pictures.push(Picture { format: PixelFormat::Rgb, width, height, colour, data });
        }
        let request =
            |picture| Request { picture, vocabulary: vocabulary.clone(), options: InferOptions::default() };
        Ok(pictures.into_iter().map(request).collect())
    };
    let (mut largest, mut range) = (0f64, 0f64);
    let every: Vec<i64> = (0..vocabulary.queries() as i64).collect();
    for request in requests()? {
        let request = [request];
        let logits = |model: &mut Model| -> Result<Tensor> {
            let (looks, _) = model.vision.look(&request)?;
            let look = looks.first().ok_or("no answer")?;
            let grid = (look.sizes.grid.0 as i64, look.sizes.grid.1 as i64);
            let logits = look.logits.upsampled(&every, [grid.0, grid.1])?;
            Ok(logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)
        };
        let (truth, found) = (logits(&mut exact)?, logits(&mut tested)?);
        range = range.max((truth.f_max()? - truth.f_min()?).f_double_value(&[])?);
        largest = largest.max((found - truth).f_abs()?.f_max()?.f_double_value(&[])?);
    }
    let ids = |model: &mut Model| -> Result<Vec<u32>> {
        let (answers, _) = model.vision.infer(&requests()?)?;
        let each = answers.into_iter().map(|answer| match answer.ids {
            Ids::U8(ids) => ids.into_iter().map(u32::from).collect::<Vec<_>>(),
            Ids::U16(ids) => ids.into_iter().map(u32::from).collect(),
        });
        Ok(each.collect::<Vec<_>>().concat())
    };
    let (truth, found) = (ids(&mut exact)?, ids(&mut tested)?);
    let same = truth.iter().zip(&found).filter(|(a, b)| a == b).count();
    Ok(json!({
        "precision": tested.info.precision,
        "method": tested.info.method,
        "pictures": requests()?.len(),
        "largest_logit_difference": largest,
        "logit_range": range,
        "class_agreement": same as f64 / truth.len().max(1) as f64,
        "pixels": truth.len(),
    }))
}

/// Pictures per second, of the forward (normalised pixels to cosines) and of everything (frames in the device's memory
/// to masks in the host's), by size and batch.
pub fn throughput(plan: &Plan) -> Result<Value> {
    let (mut model, vocabulary) = load(&plan.model, plan.device_name.parse()?, PrecisionChoice::Auto)?;
    let patch = model.info.patch_size;
    let (sizes, batches) = if plan.quick { (&SIZES[..1], &BATCHES[..2]) } else { (&SIZES[..], &BATCHES[..]) };
    let mut points = Vec::new();
    for &(height, width) in sizes {
        let size = [height, width].map(|side| ((side as f64 / patch as f64).round() as usize).max(1) * patch);
        let flops = flops(&model.info.architecture, size);
        for &batch in batches {
            if !plan.goes_on() {
                break;
            }
            let shape = [batch as i64, 3, size[0] as i64, size[1] as i64];
            let input = Tensor::f_randn(shape, (Kind::Float, plan.device))?;
            let words = vec![&vocabulary; batch];
            let mut forward = || {
                model.vision.logits(&input, &words)?;
                Ok(())
            };
            // A batch that does not fit is a result, too.
            let times =
                seconds(plan, &mut forward).and_then(|time| Ok((time, issue_seconds(plan, forward)?)));
            let (time, issue) = match times {
                Ok(times) => times,
                Err(error) => {
                    let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                    points.push(json!({ "size": size, "batch": batch, "error": first }));
                    break;
                }
            };
            let masks = match height == 336 || plan.quick {
                true => infer_seconds(plan, &mut model, &vocabulary, batch, size[0])
                    .inspect_err(|error| eprintln!("infer of {batch}: {error}"))
                    .ok()
                    .map(|time| batch as f64 / time),
                false => None,
            };
            points.push(json!({
                "size": size,
                "batch": batch,
                "forward_per_s": batch as f64 / time,
                "forward_ms": time * 1e3,
                "issue_ms": issue * 1e3,
                "tflops": flops * batch as f64 / time / 1e12,
                "gflop_per_picture": flops / 1e9,
                "infer_per_s": masks,
            }));
        }
    }
    Ok(json!({ "precision": model.info.precision, "method": model.info.method, "points": points }))
}

/// Seconds for one batch of 1080p frames in the device's memory to masks in the host's.
fn infer_seconds(
    plan: &Plan,
    model: &mut Model,
    vocabulary: &Arc<Vocabulary>,
    batch: usize,
    short_side: usize,
) -> Result<f64> {
    let input_size = gstgclip::model::InputSize::Short(short_side);
    let request = |number: usize| -> Result<Request> {
        let picture = frames::nv12_picture_on(plan.device, 1920, 1080, number)?;
        let options = InferOptions { input_size, ..InferOptions::default() };
        Ok(Request { picture, vocabulary: vocabulary.clone(), options })
    };
    let requests = (0..batch).map(request).collect::<Result<Vec<_>>>()?;
    seconds(plan, || {
        model.vision.infer(&requests)?;
        Ok(())
    })
}

/// Floating-point operations of one picture's forward with GCLIP at its defaults: products only, each multiplication
/// and addition counted. D width, L tokens, H = D / heads summed over the heads.
fn flops(architecture: &Architecture, [height, width]: [usize; 2]) -> f64 {
    let vision = &architecture.vision;
    let transformer = &vision.transformer;
    let (d, mlp, layers) =
        (transformer.width as f64, transformer.mlp_width as f64, transformer.layers as f64);
    let (patch, joint) = (vision.patch_size as f64, architecture.embed_dim as f64);
    let patches = height as f64 / patch * (width as f64 / patch);
    let l = 1.0 + patches;
    let embed = 2.0 * patches * d * 3.0 * patch * patch;
    let (qkv, out, feed) = (6.0 * l * d * d, 2.0 * l * d * d, 4.0 * l * d * mlp);
    let map = 2.0 * l * l * d; // scores of every head, or a map times the values
    let block = qkv + 2.0 * map + out + feed;
    let fused = 2.0 * map; // the maps of two blocks once more, which attention itself does not keep
    let last = qkv + map + map + out + 2.0 * l * d * joint;
    embed + (layers - 1.0) * block + fused + last
}
