// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hugging Face's `config.json` of CLIP, SigLIP and TIPSv2. transformers 4 leaves out of it what equals the defaults of
//! `CLIPVisionConfig`, `CLIPTextConfig` and so on, so silence means those.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{refuse_unknown, short};
use super::transformers::{HARMLESS, activation, refuse_channels};
use super::{Family, Hints, Pooling, Side, TransformerHints, tips};
use crate::preprocess::Normalisation;

/// What `transformers` takes where a config is silent.
struct Defaults {
    vision_heads: i64,
    text_heads: i64,
    activation: &'static str,
    eps: f64,
}

/// Of `CLIPVisionConfig` and `CLIPTextConfig`.
const CLIP: Defaults = Defaults { vision_heads: 12, text_heads: 8, activation: "quick_gelu", eps: 1e-5 };
/// Of `SiglipVisionConfig` and `SiglipTextConfig`.
const SIGLIP: Defaults =
    Defaults { vision_heads: 12, text_heads: 12, activation: "gelu_pytorch_tanh", eps: 1e-6 };
/// End-of-text token of `CLIPTextConfig`.
const END_OF_TEXT: i64 = 49_407;

/// Fields of both towers; each reads those that are its own.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Tower {
    hidden_size: Option<i64>,
    intermediate_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    projection_dim: Option<i64>,
    image_size: Option<Side>,
    patch_size: Option<Side>,
    num_channels: Option<i64>,
    max_position_embeddings: Option<i64>,
    vocab_size: Option<i64>,
    eos_token_id: Option<Value>,
    /// SigLIP's: whether the tower ends in its pooling, and how wide a text's features are.
    vision_use_head: Option<bool>,
    projection_size: Option<i64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole {
    vision_config: Option<Tower>,
    text_config: Option<Tower>,
    /// Of configs from the first versions; where they are, they count, with the defaults for what they leave out.
    vision_config_dict: Option<Tower>,
    text_config_dict: Option<Tower>,
    projection_dim: Option<i64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
}

/// Reads a Hugging Face `config.json` (`CLIPModel`, `CLIPVisionModelWithProjection`, `SiglipModel`, `Tipsv2Model`).
///
/// # Errors
/// Another kind of model, a value that is not supported, or a key that may change the network.
pub fn hugging_face(json: &str) -> Result<Hints> {
    let Kind { model_type } = serde_json::from_str(json)?;
    match model_type.as_deref().unwrap_or("clip") {
        "clip" => {
            let whole: Whole = serde_json::from_str(json)?;
            refuse_unknown("it", &whole.rest, &HARMLESS)?;
            let vision = whole.vision_config_dict.or(whole.vision_config).unwrap_or_default();
            let text = whole.text_config_dict.or(whole.text_config).unwrap_or_default();
            hints(&CLIP, whole.projection_dim, &vision, &text, "vision_config")
        }
        "siglip" => {
            let whole: Whole = serde_json::from_str(json)?;
            refuse_unknown("it", &whole.rest, &HARMLESS)?;
            siglip(&whole.vision_config.unwrap_or_default(), &whole.text_config.unwrap_or_default())
        }
        "tipsv2" => tips::read(json),
        // A tower saved alone keeps its fields at the top level.
        "clip_vision_model" => {
            let vision: Tower = serde_json::from_str(json)?;
            hints(&CLIP, vision.projection_dim, &vision, &Tower::default(), "it")
        }
        other => bail!("model_type is {other:?}, none of \"clip\", \"siglip\" and \"tipsv2\""),
    }
}

/// SigLIP, and SigLIP 2 of a fixed size (that of any size, NaFlex, calls itself `siglip2`).
fn siglip(vision: &Tower, text: &Tower) -> Result<Hints> {
    if vision.vision_use_head == Some(false) {
        bail!("vision_config says vision_use_head = false: without its pooling nothing of it meets text");
    }
    Ok(Hints {
        family: Family::Siglip,
        embed_dim: text.projection_size,
        pooling: Pooling::LastPlace,
        normalisation: Normalisation { mean: [0.5; 3], std: [0.5; 3] },
        ..hints(&SIGLIP, None, vision, text, "vision_config")?
    })
}

fn hints(
    defaults: &Defaults,
    embed_dim: Option<i64>,
    vision: &Tower,
    text: &Tower,
    vision_part: &str,
) -> Result<Hints> {
    refuse_unknown(vision_part, &vision.rest, &HARMLESS)?;
    refuse_unknown("text_config", &text.rest, &HARMLESS)?;
    refuse_channels(vision_part, vision.num_channels)?;
    Ok(Hints {
        embed_dim,
        vision: transformer(vision, defaults, defaults.vision_heads)?,
        patch_size: vision.patch_size.map(|size| size.square(vision_part)).transpose()?,
        image_size: vision.image_size.as_ref().map(Side::height_width),
        text: transformer(text, defaults, defaults.text_heads)?,
        context_length: text.max_position_embeddings,
        vocab_size: text.vocab_size,
        pooling: pooling(text)?,
        ..Hints::default()
    })
}

fn transformer(tower: &Tower, defaults: &Defaults, default_heads: i64) -> Result<TransformerHints> {
    Ok(TransformerHints {
        width: tower.hidden_size,
        layers: tower.num_hidden_layers,
        heads: Some(tower.num_attention_heads.unwrap_or(default_heads)),
        head_width: None,
        mlp_width: tower.intermediate_size,
        activation: activation(tower.hidden_act.as_deref().unwrap_or(defaults.activation))?,
        eps: Some(tower.layer_norm_eps.unwrap_or(defaults.eps)),
    })
}

fn pooling(text: &Tower) -> Result<Pooling> {
    let id = match &text.eos_token_id {
        None => END_OF_TEXT,
        Some(value) => match value.as_i64().or_else(|| value.as_array()?.first()?.as_i64()) {
            Some(id) => id,
            None => bail!("text_config says eos_token_id = {}, which is no token", short(value)),
        },
    };
    // Old configs carry 2 by mistake, and transformers takes the highest id there. In CLIP's own vocabulary, and in a
    // smaller one than the default is made for, the end of text is the highest id.
    let unsaid = text.eos_token_id.is_none();
    Ok(match id {
        2 => Pooling::HighestId,
        END_OF_TEXT if unsaid && text.vocab_size.is_none_or(|size| size <= END_OF_TEXT + 1) => {
            Pooling::HighestId
        }
        id => Pooling::FirstId(id),
    })
}
