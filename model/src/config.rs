// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a checkpoint's config file says about the architecture. Sizes come from the weights' own shapes
//! (see `weights`); the config adds what shapes cannot tell (heads, activation, epsilon, pooling), by the format's own
//! defaults where it is silent, and every size it does state must agree with the weights. What it states beyond that
//! either has no influence on features (`keys`), or is an error that names it.

mod dinov2;
mod hugging_face;
mod keys;
mod open_clip;
mod preprocessor;
#[cfg(test)]
mod tests;
mod tips;
mod transformers;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::preprocess::Normalisation;
pub(crate) use dinov2::Dinov2;
pub use hugging_face::hugging_face;
pub use open_clip::open_clip;

/// Whose network it is: which tokens go before the patches, how positions are resized, and what follows the last block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// CLIP (arXiv 2103.00020): a class token, and a matrix into the joint space.
    #[default]
    Clip,
    /// SigLIP and SigLIP 2 (arXiv 2303.15343, 2502.14786): patches alone, pooled by attention.
    Siglip,
    /// TIPSv2 (arXiv 2604.12012): two class tokens, and text that is trained to meet the patches as they are.
    Tips,
}

impl Family {
    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Family::Clip => "CLIP",
            Family::Siglip => "SigLIP",
            Family::Tips => "TIPSv2",
        }
    }
}

/// The MLP's non-linearity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, as in OpenAI's CLIP.
    #[default]
    QuickGelu,
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// As in the text tower of TIPSv2.
    Relu,
}

/// What of a sentence stands for it. In CLIP's text tower a token sees those before it, so one late token stands for all; in the
/// others every token sees every other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The first token with the highest id, as in OpenAI's CLIP (its end-of-text token has the highest id).
    #[default]
    HighestId,
    /// The first token with this id.
    FirstId(i64),
    /// The last place of the context, as in SigLIP: texts are filled up to its length.
    LastPlace,
    /// The mean over the tokens, as in TIPSv2.
    Mean,
}

/// Sizes and constants of one transformer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Transformer {
    pub width: i64,
    pub layers: i64,
    pub heads: i64,
    pub mlp_width: i64,
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub eps: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct VisionConfig {
    pub transformer: Transformer,
    /// Tokens before the patches.
    pub lead: i64,
    /// Side of a patch in pixels.
    pub patch_size: i64,
    /// Patches the positional embedding was trained on: rows, columns.
    pub grid: (i64, i64),
    /// Short side to which pictures are scaled unless asked otherwise, in pixels: what the checkpoint's preprocessor
    /// says, else the size of `grid`.
    pub short_side: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextConfig {
    pub transformer: Transformer,
    pub context_length: i64,
    pub vocab_size: i64,
    pub pooling: Pooling,
}

/// The whole architecture of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Architecture {
    pub family: Family,
    /// Joint width of image and text features.
    pub embed_dim: i64,
    pub vision: VisionConfig,
    /// `None` when the checkpoint has no text tower.
    pub text: Option<TextConfig>,
}

/// What a config file states about one transformer; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransformerHints {
    pub width: Option<i64>,
    pub layers: Option<i64>,
    pub heads: Option<i64>,
    pub head_width: Option<i64>,
    pub mlp_width: Option<i64>,
    pub activation: Activation,
    pub eps: Option<f64>,
}

/// What a config file states; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hints {
    pub family: Family,
    /// Class tokens beyond the first, or registers.
    pub registers: i64,
    pub embed_dim: Option<i64>,
    pub vision: TransformerHints,
    pub patch_size: Option<i64>,
    /// Height, width in pixels.
    pub image_size: Option<(i64, i64)>,
    pub text: TransformerHints,
    pub context_length: Option<i64>,
    pub vocab_size: Option<i64>,
    pub pooling: Pooling,
    /// What cosines are divided by, where no tensor says it.
    pub temperature: Option<f64>,
    pub normalisation: Normalisation,
    /// Short side to which pictures are scaled, in pixels.
    pub short_side: Option<i64>,
}

/// A size: `224`, or `[224, 336]` (height, width).
#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
pub(crate) enum Side {
    Square(i64),
    Rectangle([i64; 2]),
}

impl Side {
    pub(crate) fn height_width(&self) -> (i64, i64) {
        match *self {
            Side::Square(side) => (side, side),
            Side::Rectangle([height, width]) => (height, width),
        }
    }

    /// The side of a patch, as `part` of a config states it.
    pub(crate) fn square(&self, part: &str) -> Result<i64> {
        let (height, width) = self.height_width();
        if height != width {
            bail!("{part} says a patch_size of {height} x {width}; only square patches are supported");
        }
        Ok(height)
    }
}
