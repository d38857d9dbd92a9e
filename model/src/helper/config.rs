// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `config.json` of a helper model, as strictly read as CLIP's: what it states must fit the weights, and what nothing
//! here reads is known to change no feature, or an error that names it.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{Activation, Side, TRANSFORMERS_HARMLESS, refuse_unknown};

/// The families that can be read, by what their configs call `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Dinov2,
    Dinov2WithRegisters,
    /// A plain vision transformer, such as the first DINO.
    Vit,
}

const FAMILIES: [(&str, Family); 3] = [
    ("dinov2", Family::Dinov2),
    ("dinov2_with_registers", Family::Dinov2WithRegisters),
    ("vit", Family::Vit),
];

/// Training, and the shape in which transformers' own backbones give their outputs.
const HARMLESS: [&str; 14] = [
    "apply_layernorm",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "encoder_stride",
    "hidden_dropout_prob",
    "layerscale_value",
    "out_features",
    "out_indices",
    "pooler_act",
    "pooler_output_size",
    "reshape_hidden_states",
    "stage_names",
    "use_mask_token",
    "hidden_dropout",
];

/// What a config states; `None` where it is silent.
#[derive(Clone, Debug, PartialEq)]
pub struct Stated {
    pub family: Family,
    pub width: Option<i64>,
    pub layers: Option<i64>,
    pub heads: i64,
    pub mlp_width: Option<i64>,
    pub activation: Activation,
    pub eps: f64,
    pub patch_size: Option<i64>,
    /// Height, width in pixels.
    pub image_size: Option<(i64, i64)>,
    pub registers: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Fields {
    model_type: Option<String>,
    hidden_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    intermediate_size: Option<i64>,
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

/// Reads the `config.json` of a `Dinov2Model`, `Dinov2WithRegistersModel` or `ViTModel`.
///
/// # Errors
/// Another kind of model, a value that is not supported, or a key that may change the network.
pub fn read(json: &str) -> Result<Stated> {
    let fields: Fields = serde_json::from_str(json)?;
    let model_type = fields.model_type.as_deref().unwrap_or_default();
    let Some(&(_, family)) = FAMILIES.iter().find(|(name, _)| *name == model_type) else {
        let names = FAMILIES.map(|(name, _)| name).join(", ");
        bail!("its model_type is {model_type:?}; a helper model is one of {names}");
    };
    let harmless: Vec<&str> = TRANSFORMERS_HARMLESS.iter().chain(&HARMLESS).copied().collect();
    refuse_unknown("it", &fields.rest, &harmless)?;
    if fields.use_swiglu_ffn == Some(true) {
        bail!(
            "it says use_swiglu_ffn = true, as the giant DINOv2 does, which is not supported: take a smaller one"
        );
    }
    if fields.qkv_bias == Some(false) {
        bail!("it says qkv_bias = false, which is not supported");
    }
    if let Some(channels) = fields.num_channels.filter(|&channels| channels != 3) {
        bail!("it says num_channels = {channels}; only pictures of 3 channels are supported");
    }
    let activation = match fields.hidden_act.as_deref().unwrap_or("gelu") {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        other => bail!("it says hidden_act = {other:?}, which is not supported (gelu, gelu_new, quick_gelu)"),
    };
    let by_ratio =
        fields.hidden_size.zip(fields.mlp_ratio).map(|(width, ratio)| (width as f64 * ratio) as i64);
    Ok(Stated {
        family,
        width: fields.hidden_size,
        layers: fields.num_hidden_layers,
        // What is left out is as the classes of transformers have it.
        heads: fields.num_attention_heads.unwrap_or(12),
        mlp_width: fields.intermediate_size.or(by_ratio),
        activation,
        eps: fields.layer_norm_eps.unwrap_or(match family {
            Family::Vit => 1e-12,
            Family::Dinov2 | Family::Dinov2WithRegisters => 1e-6,
        }),
        patch_size: fields.patch_size.map(|size| size.square("it")).transpose()?,
        image_size: fields.image_size.as_ref().map(Side::height_width),
        registers: match family {
            Family::Dinov2WithRegisters => fields.num_register_tokens.unwrap_or(4),
            Family::Dinov2 | Family::Vit => 0,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        read(json).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_is_as_transformers_has_it() {
        let stated =
            read(r#"{"model_type": "dinov2_with_registers", "hidden_size": 384, "mlp_ratio": 4}"#).unwrap();
        assert_eq!((stated.heads, stated.mlp_width, stated.eps, stated.registers), (12, Some(1536), 1e-6, 4));
        let stated = read(r#"{"model_type": "vit", "intermediate_size": 64, "patch_size": 8}"#).unwrap();
        assert_eq!((stated.mlp_width, stated.eps, stated.registers), (Some(64), 1e-12, 0));
        assert_eq!((stated.patch_size, stated.activation), (Some(8), Activation::Gelu));
    }

    #[test]
    fn other_networks_are_refused_by_name() {
        assert_eq!(
            error(r#"{"model_type": "clip"}"#),
            "its model_type is \"clip\"; a helper model is one of dinov2, dinov2_with_registers, vit"
        );
        assert!(error(r#"{"model_type": "dinov2", "use_swiglu_ffn": true}"#).contains("use_swiglu_ffn"));
        assert!(error(r#"{"model_type": "vit", "qkv_bias": false}"#).contains("qkv_bias = false"));
        assert!(error(r#"{"model_type": "vit", "hidden_act": "relu"}"#).contains("\"relu\""));
        assert!(error(r#"{"model_type": "dinov2", "num_channels": 4}"#).contains("num_channels = 4"));
        assert!(error(r#"{"model_type": "dinov2", "patch_size": [14, 16]}"#).contains("14 x 16"));
        assert!(error(r#"{"model_type": "dinov2", "rotary": 1}"#).contains("rotary = 1"));
    }
}
