// SPDX-License-Identifier: MIT OR Apache-2.0
//! TIPSv2's `config.json`, as transformers' `Tipsv2Config` writes it, with its defaults.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::refuse_unknown;
use super::transformers::{HARMLESS, activation};
use super::{Activation, Dinov2, Family, Hints, Pooling, TransformerHints};
use crate::preprocess::Normalisation;

/// Of the text tower.
const HEADS: i64 = 12;
const VISION_EPS: f64 = 1e-6;
const TEXT_EPS: f64 = 1e-5;
const REGISTERS: i64 = 1;
const MLP_RATIO: f64 = 4.0;
/// What cosines are divided by: no published checkpoint has it as a tensor.
const TEMPERATURE: f64 = 0.005065968260169029;

/// An epsilon beside whole numbers.
const HARMLESS_IN_TEXT: [&str; 1] = ["pooling_epsilon"];

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole {
    vision_config: Dinov2,
    text_config: Text,
    temperature_init_value: Option<f64>,
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
    let transformer = vision.transformer("vision_config", VISION_EPS, Some(MLP_RATIO), &[])?;
    refuse_unknown("it", &rest, &HARMLESS)?;
    refuse_unknown("text_config", &text.rest, &[&HARMLESS[..], &HARMLESS_IN_TEXT[..]].concat())?;
    if text.scale_sqrt_depth == Some(false) {
        bail!("text_config says scale_sqrt_depth = false, which is not supported");
    }
    let temperature = temperature_init_value.unwrap_or(TEMPERATURE);
    if !(temperature.is_finite() && temperature > 0.0) {
        bail!("it says temperature_init_value = {temperature}, which is above 0 in all others");
    }
    Ok(Hints {
        family: Family::Tips,
        registers: vision.num_register_tokens.unwrap_or(REGISTERS),
        vision: transformer,
        patch_size: vision.patch_size("vision_config")?,
        image_size: vision.image_size(),
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
