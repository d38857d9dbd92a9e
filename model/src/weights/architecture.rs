// SPDX-License-Identifier: MIT OR Apache-2.0
//! The architecture as the weights' shapes show it, checked against what the config states: CLIP's and its kin's.

use anyhow::{Context, Result, bail};

use super::Weights;
use crate::config::{
    Architecture, Family, Hints, Pooling, TextConfig, Transformer, TransformerHints, VisionConfig,
};

/// Width of an attention head in every CLIP that OpenAI published.
const HEAD_WIDTH: i64 = 64;
/// Tokens of a text of TIPSv2, whose positions are computed.
const TIPS_CONTEXT: i64 = 64;
/// Longest context: of TIPSv2 the config alone states it, and a table of its length is made.
const MAX_CONTEXT: i64 = 65_536;
/// Longest short side that a preprocessor file may ask for, in pixels.
const MAX_SHORT_SIDE: i64 = 16_384;

/// Reads the architecture off the shapes. An error says what is missing or what disagrees.
pub fn check(weights: &Weights, hints: &Hints) -> Result<Architecture> {
    if weights.shape("visual.layer1.0.conv1.weight").is_some() {
        bail!("it holds a ResNet; only vision transformers are supported");
    }
    let family = hints.family;
    let vision = vision(weights, hints)?;
    let embed_dim = match family {
        Family::Clip => {
            if weights.shape("visual.proj").is_none() {
                bail!(
                    "it holds a vision tower without its projection, as a CLIPVisionModel is saved: save the CLIPModel, or a \
                     CLIPVisionModelWithProjection"
                );
            }
            matrix(weights, "visual.proj")?[1]
        }
        Family::Siglip | Family::Tips => vision.transformer.width,
    };
    agree("embed dim", hints.embed_dim, embed_dim)?;
    let has_text = weights.shape("token_embedding.weight").is_some();
    let text = if has_text { Some(text(weights, hints, embed_dim)?) } else { None };
    Ok(Architecture { family, embed_dim, vision, text })
}

/// What the names of the tensors have in common, for whoever has to find out what a file is.
fn names_in(weights: &Weights) -> String {
    let mut names: Vec<&str> = weights.names().collect();
    names.sort_unstable();
    let prefix = |name: &&str| name.split_once('.').map(|(prefix, _)| prefix.to_string());
    match (names.first(), names.first().and_then(prefix)) {
        (_, Some(common)) if names.iter().all(|name| prefix(name).as_deref() == Some(common.as_str())) => {
            format!("its tensors begin with `{common}.`")
        }
        (Some(first), _) => format!("its first tensor is `{first}`"),
        (None, _) => "it holds no tensor".to_string(),
    }
}

fn vision(weights: &Weights, hints: &Hints) -> Result<VisionConfig> {
    let conv1 = weights
        .shape("visual.conv1.weight")
        .with_context(|| format!("it holds no CLIP vision tower; {}", names_in(weights)))?;
    let [width, 3, patch_size, _] = conv1[..] else {
        bail!("visual.conv1.weight has shape {conv1:?}, expected [width, 3, patch, patch]");
    };
    agree("patch size", hints.patch_size, patch_size)?;
    if patch_size < 1 {
        bail!("the patch size is 0");
    }
    let [positions, _] = matrix(weights, "visual.positional_embedding")?;
    // Of the tokens before the patches, only the class token has a position.
    let (classes, registers) = match hints.family {
        Family::Clip => (1, 0),
        Family::Siglip => (0, 0),
        Family::Tips => (1, hints.registers),
    };
    let grid = patch_grid(positions - classes, hints.image_size, patch_size)?;
    let transformer = transformer(weights, "visual.transformer.resblocks.", width, &hints.vision)?;
    let short_side = hints.short_side.unwrap_or(grid.0.min(grid.1) * patch_size);
    if !(1..=MAX_SHORT_SIDE).contains(&short_side) {
        bail!("the preprocessor's short side of {short_side} pixels is not in 1 to {MAX_SHORT_SIDE}");
    }
    Ok(VisionConfig { transformer, lead: classes + registers, patch_size, grid, short_side })
}

fn text(weights: &Weights, hints: &Hints, embed_dim: i64) -> Result<TextConfig> {
    let [vocab_size, width] = matrix(weights, "token_embedding.weight")?;
    let context_length = match hints.pooling {
        Pooling::Mean => hints.context_length.unwrap_or(TIPS_CONTEXT),
        _ => matrix(weights, "positional_embedding")?[0],
    };
    let text_dim = match hints.pooling {
        Pooling::Mean => width,
        Pooling::LastPlace => matrix(weights, "text_head.weight")?[0],
        Pooling::HighestId | Pooling::FirstId(_) => matrix(weights, "text_projection")?[1],
    };
    agree("vocabulary size", hints.vocab_size, vocab_size)?;
    agree("context length", hints.context_length, context_length)?;
    if text_dim != embed_dim {
        bail!("its text features are {text_dim} wide, its image features {embed_dim}");
    }
    if context_length < 2 {
        bail!("a context of {context_length} tokens has no room for a text");
    }
    if context_length > MAX_CONTEXT {
        bail!("a context of {context_length} tokens is beyond {MAX_CONTEXT}, the longest that is read");
    }
    let transformer = transformer(weights, "transformer.resblocks.", width, &hints.text)?;
    Ok(TextConfig { transformer, context_length, vocab_size, pooling: hints.pooling })
}

fn transformer(weights: &Weights, prefix: &str, width: i64, hints: &TransformerHints) -> Result<Transformer> {
    let layers = weights.blocks(prefix);
    if layers < 1 {
        bail!("it holds no tensor {prefix}0.*");
    }
    let [mlp_width, _] = matrix(weights, &format!("{prefix}0.mlp.c_fc.weight"))?;
    agree("width", hints.width, width)?;
    agree("number of layers", hints.layers, layers)?;
    agree("MLP width", hints.mlp_width, mlp_width)?;
    let heads = match (hints.heads, hints.head_width) {
        (Some(heads), _) => heads,
        (None, Some(head_width)) if head_width > 0 => width / head_width,
        _ => width / HEAD_WIDTH,
    };
    if heads < 1 || width % heads != 0 {
        bail!("a width of {width} does not divide into {heads} attention heads");
    }
    let eps = hints.eps.unwrap_or(1e-5);
    Ok(Transformer { width, layers, heads, mlp_width, activation: hints.activation, eps })
}

fn matrix(weights: &Weights, name: &str) -> Result<[i64; 2]> {
    let shape = weights.shape(name).with_context(|| format!("tensor {name} is missing"))?;
    match shape[..] {
        [rows, columns] => Ok([rows, columns]),
        _ => bail!("tensor {name} has shape {shape:?}, expected two dimensions"),
    }
}

/// Rows and columns of the patches that a positional embedding was trained on: of pictures of this height and width, or of
/// square ones. A patch has at least one pixel.
pub fn patch_grid(patches: i64, image_size: Option<(i64, i64)>, patch_size: i64) -> Result<(i64, i64)> {
    let grid = match image_size {
        Some((height, width)) => (height / patch_size, width / patch_size),
        None => {
            let side = (patches as f64).sqrt().round() as i64;
            (side, side)
        }
    };
    if grid.0 < 1 || grid.1 < 1 || grid.0.checked_mul(grid.1) != Some(patches) {
        bail!(
            "its positional embedding covers {patches} patches, the config's image size needs {} x {}",
            grid.0,
            grid.1
        );
    }
    Ok(grid)
}

/// Whether the weights are as the config says, if it says anything.
pub fn agree(what: &str, stated: Option<i64>, found: i64) -> Result<()> {
    match stated {
        Some(stated) if stated != found => {
            bail!("the config says {what} {stated}, the weights have {found}")
        }
        _ => Ok(()),
    }
}
