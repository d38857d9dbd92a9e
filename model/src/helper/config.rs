// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `config.json` of a helper model, as strictly read as CLIP's: what it states must fit the weights, and what nothing
//! here reads is known to change no feature, or an error that names it.

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::config::{Activation, Dinov2};

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

/// Of plain vision transformers: what pools, what draws pictures, and training.
const HARMLESS: [&str; 4] = ["encoder_stride", "hidden_dropout", "pooler_act", "pooler_output_size"];

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
    intermediate_size: Option<i64>,
    #[serde(flatten)]
    tower: Dinov2,
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
    // What is left out is as the classes of transformers have it.
    let eps = match family {
        Family::Vit => 1e-12,
        Family::Dinov2 | Family::Dinov2WithRegisters => 1e-6,
    };
    let tower = &fields.tower;
    let stated = tower.transformer("it", eps, None, &HARMLESS)?;
    Ok(Stated {
        family,
        width: stated.width,
        layers: stated.layers,
        heads: tower.heads(),
        mlp_width: fields.intermediate_size.or(stated.mlp_width),
        activation: stated.activation,
        eps: stated.eps.unwrap_or(eps),
        patch_size: tower.patch_size("it")?,
        image_size: tower.image_size(),
        registers: match family {
            Family::Dinov2WithRegisters => tower.num_register_tokens.unwrap_or(4),
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
