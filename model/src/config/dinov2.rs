// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vision transformer as the configs of DINOv2 describe it, which those of TIPSv2's tower and of helper models are made after.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::refuse_unknown;
use super::transformers::{HARMLESS, activation, refuse_channels};
use super::{Side, TransformerHints};

/// Heads in transformers' classes.
const HEADS: i64 = 12;

/// Training, and the shape in which transformers' own backbones give their outputs.
const HARMLESS_HERE: [&str; 10] = [
    "apply_layernorm",
    "attention_probs_dropout_prob",
    "drop_path_rate",
    "hidden_dropout_prob",
    "layerscale_value",
    "out_features",
    "out_indices",
    "reshape_hidden_states",
    "stage_names",
    "use_mask_token",
];

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Dinov2 {
    hidden_size: Option<i64>,
    num_hidden_layers: Option<i64>,
    num_attention_heads: Option<i64>,
    mlp_ratio: Option<f64>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    image_size: Option<Side>,
    patch_size: Option<Side>,
    num_channels: Option<i64>,
    pub num_register_tokens: Option<i64>,
    qkv_bias: Option<bool>,
    use_swiglu_ffn: Option<bool>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Dinov2 {
    /// What is stated of the transformer, where `part` of a config is this; `eps` and `mlp_ratio` where it is silent.
    ///
    /// # Errors
    /// A value that is not supported, or a key that is neither known nor in `harmless`.
    pub fn transformer(
        &self,
        part: &str,
        eps: f64,
        mlp_ratio: Option<f64>,
        harmless: &[&str],
    ) -> Result<TransformerHints> {
        refuse_unknown(part, &self.rest, &[&HARMLESS[..], &HARMLESS_HERE[..], harmless].concat())?;
        if self.use_swiglu_ffn == Some(true) {
            bail!(
                "{part} says use_swiglu_ffn = true, as the giant of its family does, which is not supported: take a smaller one"
            );
        }
        if self.qkv_bias == Some(false) {
            bail!("{part} says qkv_bias = false, which is not supported");
        }
        refuse_channels(part, self.num_channels)?;
        let by_ratio = self.hidden_size.zip(self.mlp_ratio.or(mlp_ratio));
        Ok(TransformerHints {
            width: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: Some(self.heads()),
            head_width: None,
            mlp_width: by_ratio.map(|(width, ratio)| (width as f64 * ratio) as i64),
            activation: activation(self.hidden_act.as_deref().unwrap_or("gelu"))?,
            eps: Some(self.layer_norm_eps.unwrap_or(eps)),
        })
    }

    pub fn heads(&self) -> i64 {
        self.num_attention_heads.unwrap_or(HEADS)
    }

    pub fn patch_size(&self, part: &str) -> Result<Option<i64>> {
        self.patch_size.map(|size| size.square(part)).transpose()
    }

    /// Height, width in pixels.
    pub fn image_size(&self) -> Option<(i64, i64)> {
        self.image_size.as_ref().map(Side::height_width)
    }
}
