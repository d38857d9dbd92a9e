// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers before any decision: the cosine of each place with each query, for comparison with other code.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use gstgclip::model::decode::Logits;
use gstgclip::model::preprocess::scaled_size;
use gstgclip::model::windows::slide;
use gstgclip::model::{Request, Vocabulary};
use safetensors::tensor::{Dtype, TensorView, serialize};
use tch::{Device, Kind, Tensor};

use crate::model_args::Ready;
use crate::output;

/// Writes `logits`, f32 `[queries, h, w]`: a value a patch for a whole picture, a value a pixel with windows; and
/// `query_class`, i64 `[queries]`: the mask value each query votes for.
pub fn write(path: &Path, ready: &mut Ready, request: &Request) -> Result<()> {
    let logits = match request.options.window {
        None => whole(ready, request)?,
        Some(_) => windowed(ready, request)?,
    };
    let logits = logits.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let shape =
        logits.size().into_iter().map(|side| Ok(usize::try_from(side)?)).collect::<Result<Vec<_>>>()?;
    let values: Vec<f32> = Vec::try_from(&logits.f_flatten(0, -1)?)?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let classes = &ready.vocabulary.query_value;
    let class_bytes: Vec<u8> = classes.iter().flat_map(|&value| i64::from(value).to_le_bytes()).collect();
    let tensors = [
        ("logits", TensorView::new(Dtype::F32, shape, &bytes)?),
        ("query_class", TensorView::new(Dtype::I64, vec![classes.len()], &class_bytes)?),
    ];
    let file = serialize(tensors, None)?;
    output::write(path, |target| Ok(target.write_all(&file)?))
}

/// `[queries, h, w]` on the patch grid.
fn whole(ready: &mut Ready, request: &Request) -> Result<Tensor> {
    let size = ready.vision.network_size(&request.picture, request.options.input_size);
    let input = ready.vision.preprocess(&[&request.picture], size)?;
    ready.vision.logits(&input, &[&request.vocabulary])?.pop().context("the model gave no logits")
}

/// `[queries, H, W]` at the picture's size.
fn windowed(ready: &mut Ready, request: &Request) -> Result<Tensor> {
    let window = request.options.window.context("no windows asked for")?;
    let picture = &request.picture;
    let short = ready.info.image_size;
    let size = scaled_size((picture.width, picture.height), request.options.input_size, short);
    let input = ready.vision.preprocess(&[picture], size)?; // [1, 3, H, W]
    let vision = &mut ready.vision;
    let stitched = slide(&input, window, ready.info.patch_size, |crops| {
        let vocabularies: Vec<&Arc<Vocabulary>> = (0..crops.size()[0]).map(|_| &request.vocabulary).collect();
        Ok(Tensor::f_stack(&vision.logits(crops, &vocabularies)?, 0)?) // N x [Q, h, w] -> [N, Q, h, w]
    })?;
    let every: Vec<i64> = (0..stitched.queries() as i64).collect();
    stitched.upsampled(&every, [picture.height as i64, picture.width as i64])
}
