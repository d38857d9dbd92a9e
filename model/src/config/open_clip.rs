// SPDX-License-Identifier: MIT OR Apache-2.0
//! open_clip's `open_clip_config.json`: `CLIPVisionCfg` and `CLIPTextCfg` of its `model.py`, with their defaults.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{refuse_unknown, short};
use super::preprocessor;
use super::{Activation, Hints, Pooling, Side, TransformerHints};

/// Defaults of `CLIPVisionCfg` and `CLIPTextCfg` that shapes do not tell.
const HEAD_WIDTH: i64 = 64;
const TEXT_HEADS: i64 = 8;
const EPS: f64 = 1e-5;
const END_OF_TEXT: i64 = 2;
/// open_clip's name of the tokenizer that is built in here.
const CLIP_TOKENIZER: &str = "openai/clip-vit";

/// Beside the towers: a start value, number formats and ways to give results, none of which changes features.
const HARMLESS: [&str; 6] = [
    "custom_text",
    "init_logit_bias",
    "init_logit_scale",
    "nonscalar_logit_scale",
    "cast_dtype",
    "output_dict",
];
/// Training, pooling before or after the last norm (the same for one token), how a table of positions was made.
const HARMLESS_VISION: [&str; 12] = [
    "attn_pooler_heads",
    "attn_pooler_queries",
    "final_ln_after_pool",
    "output_tokens",
    "patch_dropout",
    "pos_embed_type",
    "timm_drop",
    "timm_drop_path",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
];
const HARMLESS_TEXT: [&str; 6] = [
    "final_ln_after_pool",
    "hf_model_pretrained",
    "hf_pooler_type",
    "hf_proj_type",
    "output_tokens",
    "pad_id",
];

#[derive(Deserialize)]
struct ConfigFile {
    model_cfg: ModelConfig,
    #[serde(default)]
    preprocess_cfg: preprocessor::Fields,
}

#[derive(Deserialize)]
struct ModelConfig {
    embed_dim: Option<i64>,
    #[serde(default)]
    quick_gelu: bool,
    #[serde(default)]
    vision_cfg: Vision,
    #[serde(default)]
    text_cfg: Text,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Vision {
    width: Option<i64>,
    /// Four numbers in a ResNet.
    layers: Option<Value>,
    head_width: Option<i64>,
    patch_size: Option<i64>,
    image_size: Option<Side>,
    pool_type: Option<String>,
    timm_model_name: Option<String>,
    attentional_pool: Option<Value>,
    no_ln_pre: bool,
    #[serde(flatten)]
    shared: Shared,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Text {
    width: Option<i64>,
    layers: Option<i64>,
    heads: Option<i64>,
    context_length: Option<i64>,
    vocab_size: Option<i64>,
    eos_id: Option<i64>,
    pool_type: Option<String>,
    hf_model_name: Option<String>,
    hf_tokenizer_name: Option<String>,
    tokenizer_mode: Option<String>,
    tokenizer_kwargs: Option<Map<String, Value>>,
    proj_type: Option<String>,
    #[serde(flatten)]
    shared: Shared,
}

/// What both towers may state of their blocks.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Shared {
    mlp_ratio: Option<f64>,
    act_kwargs: Option<Map<String, Value>>,
    norm_kwargs: Option<Map<String, Value>>,
    block_type: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Switches of a network that is not computed here; harmless when off, as their default is.
const SWITCHES: [&str; 9] = [
    "embed_cls",
    "no_causal_mask",
    "proj_bias",
    "qk_norm",
    "scale_attn",
    "scale_attn_inner",
    "scale_fc",
    "scale_heads",
    "scaled_cosine_attn",
];

impl Shared {
    fn transformer(&self, part: &str, harmless: &[&str], quick_gelu: bool) -> Result<TransformerHints> {
        let on = |(key, value): &(&String, &Value)| {
            !(SWITCHES.contains(&key.as_str()) && **value == Value::Bool(false))
        };
        let rest = self.rest.iter().filter(on).map(|(key, value)| (key.clone(), value.clone())).collect();
        refuse_unknown(part, &rest, harmless)?;
        if let Some(block) = self.block_type.as_deref().filter(|&block| block != "default") {
            bail!("{part} says block_type = {block:?}; only CLIP's own block is supported");
        }
        Ok(TransformerHints {
            activation: self.activation(part, quick_gelu)?,
            eps: Some(self.eps(part)?),
            ..Default::default()
        })
    }

    fn activation(&self, part: &str, quick_gelu: bool) -> Result<Activation> {
        let nothing = Map::new();
        let arguments = self.act_kwargs.as_ref().unwrap_or(&nothing);
        let approximate = arguments.get("approximate").and_then(Value::as_str);
        match (quick_gelu, arguments.len(), approximate) {
            (true, 0, _) => Ok(Activation::QuickGelu),
            (false, 0, _) | (false, 1, Some("none")) => Ok(Activation::Gelu),
            (false, 1, Some("tanh")) => Ok(Activation::GeluTanh),
            _ => {
                bail!("{part} says act_kwargs = {}, which is not supported", short(&arguments.clone().into()))
            }
        }
    }

    fn eps(&self, part: &str) -> Result<f64> {
        let nothing = Map::new();
        let arguments = self.norm_kwargs.as_ref().unwrap_or(&nothing);
        match (arguments.len(), arguments.get("eps").and_then(Value::as_f64)) {
            (0, _) => Ok(EPS),
            (1, Some(eps)) => Ok(eps),
            _ => bail!(
                "{part} says norm_kwargs = {}, which is not supported",
                short(&arguments.clone().into())
            ),
        }
    }

    /// Width of the MLP, where the file says its ratio.
    fn mlp_width(&self, width: Option<i64>) -> Option<i64> {
        Some((width? as f64 * self.mlp_ratio?) as i64)
    }
}

/// Reads an `open_clip_config.json`.
///
/// # Errors
/// Another network than CLIP's, a value that is not supported, or a key that may change the network.
pub fn open_clip(json: &str) -> Result<Hints> {
    let ConfigFile { model_cfg, preprocess_cfg } = serde_json::from_str(json)?;
    let (vision, text) = (&model_cfg.vision_cfg, &model_cfg.text_cfg);
    refuse_unknown("model_cfg", &model_cfg.rest, &HARMLESS)?;
    let mut hints = Hints {
        embed_dim: model_cfg.embed_dim,
        vision: vision.transformer(model_cfg.quick_gelu)?,
        patch_size: vision.patch_size,
        image_size: vision.image_size.as_ref().map(Side::height_width),
        text: text.transformer(model_cfg.quick_gelu)?,
        context_length: text.context_length,
        vocab_size: text.vocab_size,
        pooling: match text.pool_type.as_deref() {
            None | Some("argmax") => Pooling::HighestId,
            Some("eos") => Pooling::FirstId(text.eos_id.unwrap_or(END_OF_TEXT)),
            Some(other) => bail!("text pool_type {other:?} is not supported (argmax, eos)"),
        },
        ..Hints::default()
    };
    hints.apply(&preprocess_cfg)?;
    Ok(hints)
}

impl Vision {
    fn transformer(&self, quick_gelu: bool) -> Result<TransformerHints> {
        if let Some(name) = &self.timm_model_name {
            bail!("its vision tower is timm's {name:?}; only CLIP's own vision transformer is supported");
        }
        let attentional = self.attentional_pool.as_ref().is_some_and(|value| *value != Value::Bool(false));
        if attentional || self.no_ln_pre || !matches!(self.pool_type.as_deref(), None | Some("tok")) {
            bail!(
                "its vision tower does not end in a class token as CLIP's does (attentional_pool, no_ln_pre, pool_type)"
            );
        }
        let layers = match self.layers.as_ref().map(Value::as_i64) {
            Some(None) => bail!("it describes a ResNet; only vision transformers are supported"),
            layers => layers.flatten(),
        };
        Ok(TransformerHints {
            width: self.width,
            layers,
            head_width: Some(self.head_width.unwrap_or(HEAD_WIDTH)),
            mlp_width: self.shared.mlp_width(self.width),
            ..self.shared.transformer("vision_cfg", &HARMLESS_VISION, quick_gelu)?
        })
    }
}

impl Text {
    fn transformer(&self, quick_gelu: bool) -> Result<TransformerHints> {
        if let Some(name) = &self.hf_model_name {
            bail!("its text tower is {name:?}; only CLIP's own text transformer is supported");
        }
        let foreign = |name: &&str| !name.is_empty() && !name.starts_with(CLIP_TOKENIZER);
        if let Some(name) = self.hf_tokenizer_name.as_deref().filter(foreign) {
            bail!("its tokenizer is {name:?}; only CLIP's own byte-pair encoding is supported");
        }
        if let Some(mode) = &self.tokenizer_mode {
            bail!("text_cfg says tokenizer_mode = {mode:?}, which is not supported");
        }
        if let Some(arguments) = self.tokenizer_kwargs.as_ref().filter(|arguments| !arguments.is_empty()) {
            bail!(
                "text_cfg says tokenizer_kwargs = {}, which is not supported",
                short(&arguments.clone().into())
            );
        }
        if let Some(kind) = self.proj_type.as_deref().filter(|&kind| kind != "linear") {
            bail!("text_cfg says proj_type = {kind:?}; only a linear projection is supported");
        }
        Ok(TransformerHints {
            width: self.width,
            layers: self.layers,
            heads: Some(self.heads.unwrap_or(TEXT_HEADS)),
            mlp_width: self.shared.mlp_width(self.width),
            ..self.shared.transformer("text_cfg", &HARMLESS_TEXT, quick_gelu)?
        })
    }
}
