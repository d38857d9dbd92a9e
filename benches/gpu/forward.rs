// SPDX-License-Identifier: MIT OR Apache-2.0
//! The model without a pipeline: is it right, and how fast by batch and size?

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gstgclip::model::cuda::allow_cudnn_attention;
use gstgclip::model::decode::decode;
use gstgclip::model::{
    Architecture, Colour, DeviceChoice, Ids, InferOptions, Model, ModelSpec, Picture, PixelFormat,
    PrecisionChoice, Prompts, Request, Templates, Vocabulary,
};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::card::{issue_seconds, seconds};
use crate::{PROMPTS, Plan, Result, frames};

/// Height and width in pixels, before they are rounded to whole patches: the size that the targets are for, and others.
pub const TARGET_SIZE: (usize, usize) = (336, 597);
pub const OTHER_SIZES: [(usize, usize); 2] = [(224, 398), (448, 796)];
/// Those that decide come first.
const BATCHES: [usize; 7] = [32, 1, 8, 64, 16, 4, 2];

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
    let (mut largest, mut range, mut pixels_off) = (0f64, 0f64, 0f64);
    let (mut same, mut count) = (0, 0);
    for request in requests()? {
        let (picture, options) = (&request.picture, &request.options);
        let size = exact.vision.network_size(picture, options.input_size);
        // Both sides look at one tensor: how pictures become one is compared apart from the model.
        let input = exact.vision.preprocess(&[picture], size)?;
        let theirs = tested.vision.preprocess(&[picture], size)?.f_to_device(Device::Cpu)?;
        pixels_off = pixels_off.max((theirs - &input).f_abs()?.f_max()?.f_double_value(&[])?);
        let look = |model: &mut Model, device: Device| -> Result<(Tensor, Vec<u32>)> {
            let logits = model.vision.logits(&input.f_to_device(device)?, &[&vocabulary])?;
            let logits = logits.first().ok_or("no answer")?;
            let frame = (picture.height, picture.width);
            let ids = numbers_of(decode(logits, &vocabulary, &options.decode, frame, size)?.ids);
            Ok((logits.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?, ids))
        };
        let (truth, true_ids) = look(&mut exact, Device::Cpu)?;
        let (found, found_ids) = look(&mut tested, plan.device)?;
        range = range.max((truth.f_max()? - truth.f_min()?).f_double_value(&[])?);
        largest = largest.max((found - truth).f_abs()?.f_max()?.f_double_value(&[])?);
        same += true_ids.iter().zip(&found_ids).filter(|(a, b)| a == b).count();
        count += true_ids.len();
    }
    let ids = |model: &mut Model| -> Result<Vec<u32>> {
        let (answers, _) = model.vision.infer(&requests()?)?;
        Ok(answers.into_iter().map(|answer| numbers_of(answer.ids)).collect::<Vec<_>>().concat())
    };
    let (truth, found) = (ids(&mut exact)?, ids(&mut tested)?);
    let whole = truth.iter().zip(&found).filter(|(a, b)| a == b).count();
    Ok(json!({
        "precision": tested.info.precision,
        "method": tested.info.method,
        "pictures": requests()?.len(),
        "largest_pixel_difference": pixels_off,
        "largest_logit_difference": largest,
        "logit_range": range,
        "class_agreement": same as f64 / count.max(1) as f64,
        "pixels": count,
        // From frame to mask, each side all by itself.
        "whole_agreement": whole as f64 / truth.len().max(1) as f64,
    }))
}

fn numbers_of(ids: Ids) -> Vec<u32> {
    match ids {
        Ids::U8(ids) => ids.into_iter().map(u32::from).collect(),
        Ids::U16(ids) => ids.into_iter().map(u32::from).collect(),
    }
}

/// The first batch of a size that no batch had before, and the next, with cuDNN's attention and without: what a plan costs,
/// and what it brings. On a thread of its own each, as plans are made for each thread.
pub fn attention(plan: &Plan) -> Result<Value> {
    if !plan.device.is_cuda() {
        return Ok(json!([]));
    }
    let mut points = Vec::new();
    for cudnn in [true, false] {
        allow_cudnn_attention(cudnn)?;
        let times = std::thread::scope(|scope| {
            let measure = || -> std::result::Result<Vec<Value>, String> {
                attention_times(plan).map_err(|error| error.to_string())
            };
            scope.spawn(measure).join().map_err(|_| "a thread panicked".to_owned())?
        });
        points.push(json!({ "cudnn": cudnn, "batches": times? }));
    }
    // As the product has it.
    allow_cudnn_attention(false)?;
    Ok(json!(points))
}

fn attention_times(plan: &Plan) -> Result<Vec<Value>> {
    let (mut model, vocabulary) = load(&plan.model, plan.device_name.parse()?, PrecisionChoice::Auto)?;
    let size = whole_patches(TARGET_SIZE, model.info.patch_size);
    let mut points = Vec::new();
    for batch in [32usize, 31, 1, 3] {
        if !plan.goes_on() {
            break;
        }
        let input =
            Tensor::f_randn([batch as i64, 3, size[0] as i64, size[1] as i64], (Kind::Float, plan.device))?;
        let words = vec![&vocabulary; batch];
        let mut forward = || {
            model.vision.logits(&input, &words)?;
            Ok(())
        };
        plan.finish();
        let start = Instant::now();
        forward()?;
        plan.finish();
        let first = start.elapsed().as_secs_f64();
        points.push(json!({ "batch": batch, "first_ms": first * 1e3, "ms": seconds(plan, forward)? * 1e3 }));
    }
    Ok(points)
}

fn whole_patches((height, width): (usize, usize), patch: usize) -> [usize; 2] {
    [height, width].map(|side| ((side as f64 / patch as f64).round() as usize).max(1) * patch)
}

/// Pictures per second, of the forward (normalised pixels to cosines) and of everything (frames in the device's memory
/// to masks in the host's), by size and batch.
pub fn throughput(plan: &Plan, sizes: &[(usize, usize)]) -> Result<Value> {
    let (mut model, vocabulary) = load(&plan.model, plan.device_name.parse()?, PrecisionChoice::Auto)?;
    let patch = model.info.patch_size;
    let batches = if plan.quick { &[2, 1][..] } else { &BATCHES[..] };
    let mut points = Vec::new();
    for &(height, width) in sizes {
        let size = whole_patches((height, width), patch);
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
            let masks = match (height, width) == TARGET_SIZE {
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
    // As the element does: the next batch is begun before the one before is waited for.
    let mut before = None;
    let time = seconds(plan, || {
        let begun = model.vision.begin(&requests)?;
        if let Some(before) = before.replace(begun) {
            model.vision.finish(&requests, before)?;
        }
        Ok(())
    })?;
    if let Some(before) = before {
        model.vision.finish(&requests, before)?;
    }
    Ok(time)
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
