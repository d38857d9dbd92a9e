// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a checkpoint's config file says about the architecture. Sizes come from the weights' own shapes
//! (see `weights`); the config adds what shapes cannot tell (heads, activation, epsilon, pooling) and every
//! size it does state must agree with the weights.

use anyhow::{Result, bail};
use serde::Deserialize;

use super::preprocess::Normalisation;

/// The MLP's non-linearity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, as in OpenAI's CLIP.
    #[default]
    QuickGelu,
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
}

/// Which token of a sentence stands for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// The first token with the highest id, as in OpenAI's CLIP (its end-of-text token has the highest id).
    #[default]
    HighestId,
    /// The first token with this id.
    FirstId(i64),
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
    pub embed_dim: Option<i64>,
    pub vision: TransformerHints,
    pub patch_size: Option<i64>,
    /// Height, width in pixels.
    pub image_size: Option<(i64, i64)>,
    pub text: TransformerHints,
    pub context_length: Option<i64>,
    pub vocab_size: Option<i64>,
    pub pooling: Pooling,
    pub normalisation: Normalisation,
    /// Short side to which pictures are scaled, in pixels.
    pub short_side: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    Square(i64),
    Rectangle([i64; 2]),
}

impl Side {
    fn height_width(&self) -> (i64, i64) {
        match *self {
            Side::Square(side) => (side, side),
            Side::Rectangle([height, width]) => (height, width),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HfTower {
    hidden_size: Option<i64>,
    intermediate_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    projection_dim: Option<i64>,
    image_size: Option<Side>,
    patch_size: Option<i64>,
    max_position_embeddings: Option<i64>,
    vocab_size: Option<i64>,
    eos_token_id: Option<i64>,
}

#[derive(Deserialize)]
struct HfConfig {
    model_type: Option<String>,
    vision_config: Option<HfTower>,
    text_config: Option<HfTower>,
    projection_dim: Option<i64>,
    // A vision tower saved alone keeps its fields at the top level.
    #[serde(flatten)]
    own: HfTower,
}

fn activation(name: Option<&str>) -> Result<Activation> {
    match name.unwrap_or("quick_gelu") {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => {
            bail!("hidden_act {other:?} is not supported (quick_gelu, gelu, gelu_new, gelu_pytorch_tanh)")
        }
    }
}

fn hf_transformer(tower: &HfTower) -> Result<TransformerHints> {
    Ok(TransformerHints {
        width: tower.hidden_size,
        layers: tower.num_hidden_layers,
        heads: tower.num_attention_heads,
        head_width: None,
        mlp_width: tower.intermediate_size,
        activation: activation(tower.hidden_act.as_deref())?,
        eps: tower.layer_norm_eps,
    })
}

/// Reads a Hugging Face `config.json` (`CLIPModel`, `CLIPVisionModelWithProjection`).
pub fn hugging_face(json: &str) -> Result<Hints> {
    let config: HfConfig = serde_json::from_str(json)?;
    let kind = config.model_type.as_deref().unwrap_or("clip");
    if !matches!(kind, "clip" | "clip_vision_model" | "clip_text_model") {
        bail!("model_type is {kind:?}, not \"clip\"");
    }
    let vision = config.vision_config.as_ref().unwrap_or(&config.own);
    let silent = HfTower::default();
    let text = config.text_config.as_ref().unwrap_or(&silent);
    Ok(Hints {
        embed_dim: config.projection_dim.or(vision.projection_dim),
        vision: hf_transformer(vision)?,
        patch_size: vision.patch_size,
        image_size: vision.image_size.as_ref().map(Side::height_width),
        text: hf_transformer(text)?,
        context_length: text.max_position_embeddings,
        vocab_size: text.vocab_size,
        // Old configs carry eos_token_id 2 by mistake; the models behind them pool at the highest id.
        pooling: match text.eos_token_id {
            None | Some(2) => Pooling::HighestId,
            Some(id) => Pooling::FirstId(id),
        },
        normalisation: Normalisation::default(),
        short_side: None,
    })
}

#[derive(Deserialize)]
struct OpenClipFile {
    model_cfg: OpenClipModel,
    #[serde(default)]
    preprocess_cfg: PreprocessFields,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PreprocessFields {
    #[serde(alias = "image_mean")]
    mean: Option<[f64; 3]>,
    #[serde(alias = "image_std")]
    std: Option<[f64; 3]>,
    size: Option<PreprocessSize>,
}

/// `224`, `[224, 224]`, `{"shortest_edge": 224}` or `{"height": 224, "width": 224}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum PreprocessSize {
    Side(Side),
    ShortestEdge { shortest_edge: i64 },
    Fixed { height: i64, width: i64 },
}

impl PreprocessSize {
    fn short_side(&self) -> i64 {
        match self {
            PreprocessSize::Side(side) => side.height_width().0.min(side.height_width().1),
            PreprocessSize::ShortestEdge { shortest_edge } => *shortest_edge,
            PreprocessSize::Fixed { height, width } => *height.min(width),
        }
    }
}

#[derive(Deserialize)]
struct OpenClipModel {
    embed_dim: Option<i64>,
    #[serde(default)]
    quick_gelu: bool,
    #[serde(default)]
    vision_cfg: OpenClipTower,
    #[serde(default)]
    text_cfg: OpenClipTower,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct OpenClipTower {
    width: Option<i64>,
    layers: Option<serde_json::Value>,
    heads: Option<i64>,
    head_width: Option<i64>,
    patch_size: Option<i64>,
    image_size: Option<Side>,
    context_length: Option<i64>,
    vocab_size: Option<i64>,
    eos_id: Option<i64>,
    pool_type: Option<String>,
    timm_model_name: Option<String>,
    hf_model_name: Option<String>,
    attentional_pool: bool,
    no_ln_pre: bool,
    norm_kwargs: NormKwargs,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NormKwargs {
    eps: Option<f64>,
}

fn open_clip_transformer(tower: &OpenClipTower, quick_gelu: bool) -> Result<TransformerHints> {
    let layers = match &tower.layers {
        None => None,
        Some(layers) => match layers.as_i64() {
            Some(layers) => Some(layers),
            None => bail!("it describes a ResNet; only vision transformers are supported"),
        },
    };
    Ok(TransformerHints {
        width: tower.width,
        layers,
        heads: tower.heads,
        head_width: tower.head_width,
        mlp_width: None,
        activation: if quick_gelu { Activation::QuickGelu } else { Activation::Gelu },
        eps: tower.norm_kwargs.eps,
    })
}

/// Reads an `open_clip_config.json`.
pub fn open_clip(json: &str) -> Result<Hints> {
    let OpenClipFile { model_cfg, preprocess_cfg } = serde_json::from_str(json)?;
    let (vision, text) = (&model_cfg.vision_cfg, &model_cfg.text_cfg);
    if let Some(name) = &vision.timm_model_name {
        bail!("its vision tower is timm's {name:?}; only CLIP's own vision transformer is supported");
    }
    if let Some(name) = &text.hf_model_name {
        bail!("its text tower is {name:?}; only CLIP's own text transformer is supported");
    }
    if vision.attentional_pool
        || vision.no_ln_pre
        || !matches!(vision.pool_type.as_deref(), None | Some("tok"))
    {
        bail!(
            "its vision tower does not end in a class token as CLIP's does (attentional_pool, no_ln_pre, pool_type)"
        );
    }
    let mut hints = Hints {
        embed_dim: model_cfg.embed_dim,
        vision: open_clip_transformer(vision, model_cfg.quick_gelu)?,
        patch_size: vision.patch_size,
        image_size: vision.image_size.as_ref().map(Side::height_width),
        text: open_clip_transformer(text, model_cfg.quick_gelu)?,
        context_length: text.context_length,
        vocab_size: text.vocab_size,
        pooling: match (text.pool_type.as_deref(), text.eos_id) {
            (None | Some("argmax"), _) => Pooling::HighestId,
            (Some("eos"), Some(id)) => Pooling::FirstId(id),
            (Some(other), _) => bail!("text pool_type {other:?} is not supported (argmax, eos)"),
        },
        normalisation: Normalisation::default(),
        short_side: None,
    };
    hints.apply_preprocess(&preprocess_cfg);
    Ok(hints)
}

impl Hints {
    /// Takes mean, standard deviation and short side from a Hugging Face `preprocessor_config.json`.
    pub fn read_preprocessor(&mut self, json: &str) -> Result<()> {
        self.apply_preprocess(&serde_json::from_str(json)?);
        Ok(())
    }

    fn apply_preprocess(&mut self, fields: &PreprocessFields) {
        self.normalisation.mean = fields.mean.unwrap_or(self.normalisation.mean);
        self.normalisation.std = fields.std.unwrap_or(self.normalisation.std);
        self.short_side = fields.size.as_ref().map(PreprocessSize::short_side).or(self.short_side);
    }
}
