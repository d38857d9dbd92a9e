// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text-prompted segmentation on CLIP and its kin: the order of the steps, none of their details.
//!
//! ```text
//! Picture -> preprocess -> vision (last block by a method) -> x Vocabulary -> decode -> Segmentation
//! Prompts -> tokenizer  -> text  (mean over templates)     -> Vocabulary
//! ```
//! Pure tch: nothing here knows GStreamer, threads or batching policy.

pub mod anomaly;
mod boxes;
mod bpe;
mod clean;
pub mod config;
mod constants;
mod cpu;
pub mod cuda;
pub mod decode;
pub mod device;
pub mod embeddings;
pub mod exemplars;
pub mod gate;
mod gpu_attention;
mod head;
pub mod helper;
mod int8;
mod libtorch;
mod look;
mod memory;
pub mod method;
mod options;
pub mod pieces;
pub mod preprocess;
pub mod prior;
mod probe;
pub mod purify;
pub mod refine;
pub mod reuse;
mod segmenter;
pub mod tagclip;
pub mod temporal;
mod text;
pub mod tokenizer;
mod transformer;
pub mod vision;
pub mod vocabulary;
pub mod weights;
mod wide;
pub mod windows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tch::Kind;

pub use anomaly::{Anomalies, AnomalyMap, AnomalyScore, Suspect};
pub use config::{Architecture, Family};
pub use decode::{Anomaly, DecodeOptions, Histogram, Ids, MaskSize, Region, Segmentation, Tag};
pub use device::{DeviceChoice, PrecisionChoice};
pub use exemplars::{ExemplarOptions, ExemplarScore, Exemplars};
pub use gate::{Absent, Evidence, Gate};
pub use look::Look;
pub use memory::StreamMemory;
pub use method::MethodSpec;
pub use preprocess::{Colour, InputSize, Normalisation, Picture, PixelFormat, Pixels};
pub use prior::Prior;
pub use purify::Purify;
pub use refine::Refine;
pub use reuse::Reuse;
pub use segmenter::{Begun, Segmenter};
pub use temporal::Temporal;
pub use text::TextEncoder;
pub use vision::Positions;
pub use vocabulary::{Descriptions, Prompts, Synonyms, Templates, Thresholds, Vocabulary};
pub use windows::Window;

use helper::Helper;
use pieces::Pieces;
use tagclip::TagOptions;
use text::{TextTower, Words};
use tokenizer::Tokenizer;
use transformer::Loader;
use vision::VisionTower;
use weights::Checkpoint;

/// Everything that decides which numbers a loaded model computes. Two elements may share one loaded model
/// only if their specs are equal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSpec {
    /// A checkpoint folder, a checkpoint file, or a Hugging Face id such as `openai/clip-vit-base-patch16`.
    pub model: String,
    pub method: MethodSpec,
    /// A second model that the method reads beside CLIP: a folder, or a Hugging Face id such as `facebook/dinov2-small`.
    pub helper: Option<String>,
    pub device: DeviceChoice,
    pub precision: PrecisionChoice,
    pub positions: Positions,
}

/// What a loaded model tells about itself.
#[derive(Clone, Debug, Default)]
pub struct ModelInfo {
    /// SHA-256 of the weights, in hex: the identity that cached text embeddings are bound to.
    pub hash: String,
    /// SHA-256 of the vision tower's weights, in hex: what files of text embeddings are bound to, so that they also
    /// serve a copy of the checkpoint without its text tower.
    pub vision_hash: String,
    /// Joint width of image and text features.
    pub embed_dim: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Short side at which the checkpoint looks at pictures by default, in pixels.
    pub image_size: usize,
    pub architecture: Architecture,
    /// What the checkpoint multiplies cosines by, when it says so.
    pub logit_scale: Option<f64>,
    /// Human-readable device and precision, such as `cpu` and `bf16`.
    pub device: String,
    pub precision: String,
    /// The number format of what is neither in f32 always nor in 8 bits.
    pub short: String,
    /// With precision int8: the blocks in 8 bits, counted from 0.
    pub int8_blocks: Option<Vec<usize>>,
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
    /// What the whole picture says about each of its patches.
    pub prior: Prior,
    /// Whether classes that are not in the picture are taken out of it.
    pub purify: Purify,
    pub refine: Refine,
    pub decode: DecodeOptions,
    pub temporal: Temporal,
    /// How often the method's helper model looks, if it has one.
    pub helper: helper::rate::Rate,
    pub reuse: Reuse,
    pub gate: Gate,
    pub anomalies: Anomalies,
    /// Also score how sure it is that each class is in the picture at all: at least one more forward.
    pub tags: bool,
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
        tch::no_grad(|| Model::load_without_grad(spec))
    }

    fn load_without_grad(spec: &ModelSpec) -> Result<Model> {
        device::check_libtorch()?;
        cpu::sleep_while_waiting();
        // What is cheap to check comes before gigabytes are read.
        let device = device::device(spec.device)?;
        let precision = device::precision(spec.precision, device, cpu::int8_is_available())?;
        let kind = precision.kind;
        let mut checkpoint = Checkpoint::open(&spec.model)?;
        let architecture = checkpoint.architecture;
        let mut method = method::build(&spec.method, architecture.vision.transformer.layers as usize)?;
        method::check_family(&*method, &spec.method, architecture.family)?;
        method::check_helper(&*method, &spec.method, spec.helper.as_deref())?;
        if let Some(helper) = &spec.helper {
            method.take_helper(Helper::load(helper, device, kind)?, checkpoint.normalisation);
        }

        let wide = device.is_cuda() && kind == Kind::Half;
        // What goes into 8 bits must not have been rounded before.
        let kind_at_first = if precision.int8 { Kind::Float } else { kind };
        let mut loader = Loader { weights: &mut checkpoint.weights, device, kind: kind_at_first, wide };
        let mut tower = VisionTower::load(&mut loader, &architecture, spec.positions)?;
        let text = match architecture.text {
            None => None,
            Some(config) => {
                let weights = &mut checkpoint.weights;
                let mut loader = Loader { weights, device, kind: Kind::Float, wide: false };
                let tower = TextTower::load(&mut loader, &architecture)?;
                let folder = checkpoint.files.folder();
                let words = match architecture.family {
                    Family::Clip => {
                        Words::Clip(Tokenizer::load(folder, config.vocab_size, config.context_length)?)
                    }
                    Family::Siglip | Family::Tips => Words::Pieces(Box::new(Pieces::load(folder, &config)?)),
                };
                Some(TextEncoder::new(words, tower))
            }
        };
        let network = format!("a {}", architecture.family.name());
        checkpoint.weights.refuse_unused(&network, weights::harmless(architecture.family))?;
        method.prepare(&mut tower).with_context(|| format!("cannot prepare method {}", spec.method.name))?;
        let int8_blocks = match precision.int8 {
            true => Some(int8::quantise(&mut tower, &*method, kind, int8::LEAST_COSINE)?),
            false => None,
        };
        tower.pack();
        device::settle(device)?;

        let patch_size = architecture.vision.patch_size as usize;
        let info = ModelInfo {
            hash: checkpoint.hash,
            vision_hash: checkpoint.vision_hash,
            embed_dim: architecture.embed_dim as usize,
            patch_size,
            image_size: architecture.vision.short_side as usize,
            architecture,
            logit_scale: checkpoint.logit_scale,
            device: device::device_name(device),
            precision: precision.name(),
            int8_blocks,
            short: device::kind_name(kind),
            method: method.describe(),
        };
        let tags = TagOptions::new(checkpoint.logit_scale);
        let vision = Segmenter::new(tower, method, checkpoint.normalisation, device, tags);
        Ok(Model { info, vision, text })
    }
}
