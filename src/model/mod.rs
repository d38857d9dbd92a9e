// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text-prompted segmentation on CLIP: the order of the steps, none of their details.
//!
//! ```text
//! Picture -> preprocess -> vision (last block by a method) -> x Vocabulary -> decode -> Segmentation
//! Prompts -> tokenizer  -> text  (mean over templates)     -> Vocabulary
//! ```
//! Pure tch: nothing here knows GStreamer, threads or batching policy.

pub mod decode;
pub mod device;
pub mod embeddings;
pub mod method;
pub mod preprocess;
pub mod refine;
pub mod vocabulary;
pub mod windows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};

pub use decode::{DecodeOptions, Ids, MaskSize, Region, Segmentation};
pub use device::{DeviceChoice, PrecisionChoice};
pub use method::MethodSpec;
pub use preprocess::{Colour, InputSize, Normalisation, Picture, PixelFormat};
pub use refine::Refine;
pub use vocabulary::{Prompts, Templates, Vocabulary};
pub use windows::Window;

/// Everything that decides which numbers a loaded model computes. Two elements may share one loaded model
/// only if their specs are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSpec {
    /// A checkpoint folder, a checkpoint file, or a Hugging Face id such as `openai/clip-vit-base-patch16`.
    pub model: String,
    pub method: MethodSpec,
    pub device: DeviceChoice,
    pub precision: PrecisionChoice,
}

/// What a loaded model tells about itself.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// SHA-256 of the weights, in hex: the identity that cached text embeddings are bound to.
    pub hash: String,
    /// Joint width of image and text features.
    pub embed_dim: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Short side the checkpoint was trained at, in pixels.
    pub image_size: usize,
    /// Human-readable device and precision, such as `cpu` and `bf16`.
    pub device: String,
    pub precision: String,
    /// The method with the options it resolved to, such as `gclip(fuse=6+7,suppress=7-10)`.
    pub method: String,
}

/// One picture with what to look for in it.
pub struct Request {
    pub picture: Picture,
    pub vocabulary: Arc<Vocabulary>,
    pub options: InferOptions,
}

/// How one picture is looked at; may differ between requests of one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferOptions {
    pub input_size: InputSize,
    /// Sliding windows; `None` looks at the whole picture at once.
    pub window: Option<Window>,
    pub refine: Refine,
    pub decode: DecodeOptions,
}

/// Time one batch spent in each stage.
#[derive(Clone, Copy, Debug, Default)]
pub struct StageTimes {
    pub preprocess: Duration,
    pub forward: Duration,
    pub decode: Duration,
}

/// A loaded checkpoint, in its two halves: they live on different threads.
pub struct Model {
    pub info: ModelInfo,
    pub vision: Segmenter,
    /// `None` when the checkpoint has no text tower: vocabularies then come from an embeddings file.
    pub text: Option<TextEncoder>,
}

impl Model {
    /// Loads a checkpoint. Errors name the file and the cause.
    pub fn load(spec: &ModelSpec) -> Result<Model> {
        bail!("cannot load {}: no loader yet", spec.model)
    }
}

/// The vision half: pictures to masks. Owned by one thread at a time.
pub struct Segmenter {}

impl Segmenter {
    /// Runs a batch; one segmentation per request, in order.
    pub fn infer(&mut self, requests: &[Request]) -> Result<(Vec<Segmentation>, StageTimes)> {
        bail!("{} requests and no model", requests.len())
    }
}

/// The text half: strings to unit features.
pub struct TextEncoder {}

impl TextEncoder {
    /// Features of plain texts, `[texts, embed_dim]` row-major, each row of unit length.
    pub fn encode(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        bail!("{} texts and no model", texts.len())
    }
}
