// SPDX-License-Identifier: MIT OR Apache-2.0
//! TIPSv2's `config.json`, as transformers' `Tipsv2Config` writes it, with its defaults.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::refuse_unknown;
use super::transformers::{HARMLESS, activation};
use super::{Activation, Family, Hints, Pooling, Side, TransformerHints};
use crate::preprocess::Normalisation;

/// Heads of both towers.
const HEADS: i64 = 12;
const VISION_EPS: f64 = 1e-6;
const TEXT_EPS: f64 = 1e-5;
const REGISTERS: i64 = 1;
const MLP_RATIO: f64 = 4.0;
/// What cosines are divided by: no published checkpoint has it as a tensor.
const TEMPERATURE: f64 = 0.005065968260169029;

/// Training, the shape in which transformers' backbones give their outputs, and an epsilon beside whole numbers.
const HARMLESS_HERE: [&str; 11] = [
    "apply_layernorm",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "hidden_dropout_prob",
    "layerscale_value",
    "out_features",
    "out_indices",
    "pooling_epsilon",
    "reshape_hidden_states",
    "stage_names",
    "use_mask_token",
];

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole {
    vision_config: Vision,
    text_config: Text,
    temperature_init_value: Option<f64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Vision {
    hidden_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    mlp_ratio: Option<f64>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    image_size: Option<Side>,
    patch_size: Option<Side>,
    num_channels: Option<i64>,
    num_register_tokens: Option<i64>,
    qkv_bias: Option<bool>,
    use_swiglu_ffn: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Text {
    hidden_size: Option<i64>,
    intermediate_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    max_position_embeddings: Option<i64>,
    vocab_size: Option<i64>,
    eos_token_id: Option<Value>,
    scale_sqrt_depth: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Reads the config of a `Tipsv2Model`.
///
/// # Errors
/// A value that is not supported, or a key that may change the network.
pub fn read(json: &str) -> Result<Hints> {
    let Whole { vision_config: vision, text_config: text, temperature_init_value, rest } =
        serde_json::from_str(json)?;
    let harmless: Vec<&str> = HARMLESS.iter().chain(&HARMLESS_HERE).copied().collect();
    for (part, rest) in [("it", &rest), ("vision_config", &vision.rest), ("text_config", &text.rest)] {
        refuse_unknown(part, rest, &harmless)?;
    }
    if vision.use_swiglu_ffn == Some(true) {
        bail!(
            "vision_config says use_swiglu_ffn = true, as the giant TIPSv2 does, which is not supported: take a smaller one"
        );
    }
    for (part, key, value, wanted) in [
        ("vision_config", "qkv_bias", vision.qkv_bias, true),
        ("text_config", "scale_sqrt_depth", text.scale_sqrt_depth, true),
    ] {
        if value.is_some_and(|value| value != wanted) {
            bail!("{part} says {key} = {}, which is not supported", !wanted);
        }
    }
    if let Some(channels) = vision.num_channels.filter(|&channels| channels != 3) {
        bail!("vision_config says num_channels = {channels}; only pictures of 3 channels are supported");
    }
    let temperature = temperature_init_value.unwrap_or(TEMPERATURE);
    if !(temperature.is_finite() && temperature > 0.0) {
        bail!("it says temperature_init_value = {temperature}, which is above 0 in all others");
    }
    let ratio = vision.mlp_ratio.unwrap_or(MLP_RATIO);
    Ok(Hints {
        family: Family::Tips,
        registers: vision.num_register_tokens.unwrap_or(REGISTERS),
        vision: TransformerHints {
            width: vision.hidden_size,
            layers: vision.num_hidden_layers,
            heads: Some(vision.num_attention_heads.unwrap_or(HEADS)),
            head_width: None,
            mlp_width: vision.hidden_size.map(|width| (width as f64 * ratio) as i64),
            activation: vision.hidden_act.as_deref().map_or(Ok(Activation::Gelu), activation)?,
            eps: Some(vision.layer_norm_eps.unwrap_or(VISION_EPS)),
        },
        patch_size: vision.patch_size.map(|size| size.square("vision_config")).transpose()?,
        image_size: vision.image_size.as_ref().map(Side::height_width),
        text: TransformerHints {
            width: text.hidden_size,
            layers: text.num_hidden_layers,
            heads: Some(text.num_attention_heads.unwrap_or(HEADS)),
            head_width: None,
            mlp_width: text.intermediate_size,
            activation: match text.hidden_act.as_deref() {
                None | Some("relu") => Activation::Relu,
                Some(other) => activation(other)?,
            },
            eps: Some(text.layer_norm_eps.unwrap_or(TEXT_EPS)),
        },
        context_length: text.max_position_embeddings,
        vocab_size: text.vocab_size,
        pooling: Pooling::Mean,
        temperature: Some(temperature),
        normalisation: Normalisation { mean: [0.0; 3], std: [1.0; 3] },
        ..Hints::default()
    })
}
