// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text transformer. It runs once per prompt, so always in f32: cached features then do not depend on precision.
//!
//! Shapes: N texts, L tokens, D width, E joint width.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::config::{Architecture, Family, Pooling, TextConfig};
use super::pieces::Pieces;
use super::tokenizer::Tokenizer;
use super::transformer::{Block, LayerNorm, Loader, unit_rows};

/// Texts in one forward: enough to fill the machine, small enough to stay in the caches.
const BATCH: usize = 64;

/// The text half of a model: strings to unit features.
pub struct TextEncoder {
    words: Words,
    tower: TextTower,
}

/// What cuts a text into tokens.
pub enum Words {
    Clip(Tokenizer),
    Pieces(Box<Pieces>),
}

impl Words {
    fn encode(&self, text: &str) -> Result<Vec<i64>> {
        match self {
            Words::Clip(tokenizer) => Ok(tokenizer.encode(text)),
            Words::Pieces(pieces) => pieces.encode(text),
        }
    }
}

impl TextEncoder {
    pub(super) fn new(words: Words, tower: TextTower) -> TextEncoder {
        TextEncoder { words, tower }
    }

    /// Features of plain texts, `[texts, embed_dim]` row-major, each row of unit length.
    pub fn encode(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        self.rows(texts, unit_rows)
    }

    /// As `encode`, as the text tower gives them: not of unit length.
    pub fn encode_raw(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        self.rows(texts, |features| Ok(features.shallow_clone()))
    }

    fn rows(&self, texts: &[String], finish: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<f32>> {
        tch::no_grad(|| {
            let ids = texts.iter().map(|text| self.words.encode(text)).collect::<Result<Vec<_>>>()?;
            let features = finish(&self.tower.encode(&ids)?)?; // [texts, E]
            Ok(Vec::try_from(&features.f_flatten(0, -1)?)?)
        })
    }
}

pub struct TextTower {
    pub config: TextConfig,
    embed_dim: i64,
    device: Device,
    token_embedding: Tensor,
    /// `[context, D]`
    positional_embedding: Tensor,
    /// What tokens are multiplied by before their positions are added.
    token_scale: f64,
    blocks: Vec<Block>,
    ln_final: LayerNorm,
    /// Into the joint space: `[D, E]` and `[E]`; TIPSv2 has neither.
    projection: Option<Tensor>,
    projection_bias: Option<Tensor>,
}

impl TextTower {
    /// Loads the text tower of a checkpoint that has one.
    pub fn load(loader: &mut Loader, architecture: &Architecture) -> Result<TextTower> {
        let config = architecture.text.context("the checkpoint has no text tower")?;
        let (width, eps, embed_dim) =
            (config.transformer.width, config.transformer.eps, architecture.embed_dim);
        let (projection, projection_bias) = match architecture.family {
            Family::Clip => (Some(loader.tensor("text_projection", &[width, embed_dim])?), None),
            Family::Siglip => {
                let weight = loader.tensor("text_head.weight", &[embed_dim, width])?;
                let bias = loader.tensor("text_head.bias", &[embed_dim])?;
                (Some(weight.f_transpose(0, 1)?), Some(bias))
            }
            Family::Tips => (None, None),
        };
        let is_tips = architecture.family == Family::Tips;
        Ok(TextTower {
            config,
            embed_dim,
            device: loader.device,
            token_embedding: loader.tensor("token_embedding.weight", &[config.vocab_size, width])?,
            positional_embedding: match is_tips {
                true => sinusoids(config.context_length, width)?.f_to_device(loader.device)?,
                false => loader.tensor("positional_embedding", &[config.context_length, width])?,
            },
            token_scale: if is_tips { (width as f64).sqrt() } else { 1.0 },
            blocks: loader.blocks("transformer.resblocks.", &config.transformer)?,
            ln_final: loader.layer_norm("ln_final", width, eps)?,
            projection,
            projection_bias,
        })
    }

    /// Features of token sequences (begin and end marks included, unpadded), not normalised, f32 `[N, E]` on the CPU.
    pub fn encode(&self, texts: &[Vec<i64>]) -> Result<Tensor> {
        if texts.is_empty() {
            return Ok(Tensor::f_zeros([0, self.embed_dim], (Kind::Float, Device::Cpu))?);
        }
        // Where the mask is causal, nothing after the pooled token has any influence on it: a batch is only as long as its longest
        // text, and sorting keeps short texts together. Where it is not, texts of one length go together.
        let pooled: Vec<usize> = texts.iter().map(|ids| self.pooled_token(ids)).collect();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| pooled[text]);
        let is_causal = self.is_causal();
        let of_a_kind = order.chunk_by(|&one, &other| is_causal || pooled[one] == pooled[other]);
        let mut features = Vec::new();
        for batch in of_a_kind.flat_map(|texts| texts.chunks(BATCH)) {
            let length = batch.iter().map(|&text| pooled[text] + 1).max().unwrap_or(1);
            let row = |&text: &usize| texts[text].iter().copied().chain(std::iter::repeat(0)).take(length);
            let ids: Vec<i64> = batch.iter().flat_map(row).collect();
            let ids = Tensor::f_from_slice(&ids)?.f_reshape([batch.len() as i64, length as i64])?;
            let at: Vec<i64> = batch.iter().map(|&text| pooled[text] as i64).collect();
            features.push(self.forward(&ids, &Tensor::f_from_slice(&at)?)?);
        }
        let features = Tensor::f_cat(&features, 0)?; // [N, E], in sorted order
        let mut place = vec![0i64; texts.len()];
        for (row, &text) in order.iter().enumerate() {
            place[text] = row as i64;
        }
        Ok(features.f_to_device(Device::Cpu)?.f_index_select(0, &Tensor::f_from_slice(&place)?)?)
    }

    fn is_causal(&self) -> bool {
        matches!(self.config.pooling, Pooling::HighestId | Pooling::FirstId(_))
    }

    /// The place of the token that stands for the text, or of its last token.
    fn pooled_token(&self, ids: &[i64]) -> usize {
        let wanted = match self.config.pooling {
            Pooling::HighestId => ids.iter().copied().max().unwrap_or(0),
            Pooling::FirstId(id) => id,
            Pooling::LastPlace | Pooling::Mean => return ids.len().saturating_sub(1),
        };
        ids.iter().position(|&id| id == wanted).unwrap_or(0)
    }

    /// `[N, L]` ids and `[N]` pooled positions `-> [N, E]`
    fn forward(&self, ids: &Tensor, pooled: &Tensor) -> Result<Tensor> {
        let (ids, pooled) = (ids.f_to_device(self.device)?, pooled.f_to_device(self.device)?);
        let (n, length) = ids.size2()?;
        let x = Tensor::f_embedding(&self.token_embedding, &ids, -1, false, false)?; // [N, L, D]
        let x = if self.token_scale == 1.0 { x } else { x.f_mul_scalar(self.token_scale)? };
        let mut x = x.f_add(&self.positional_embedding.f_narrow(0, 0, length)?)?;
        for block in &self.blocks {
            x = block.forward(&x, self.is_causal())?;
        }
        let x = if self.config.pooling == Pooling::Mean {
            self.ln_final.forward(&x)?.f_mean_dim([1i64].as_slice(), false, Kind::Float)?
        } else {
            let d = self.config.transformer.width;
            let pooled = pooled.f_reshape([n, 1, 1])?.f_expand([n, 1, d], false)?;
            self.ln_final.forward(&x.f_gather(1, &pooled, false)?.f_squeeze_dim(1)?)?
        }; // [N, D]
        let x = match &self.projection {
            Some(projection) => x.f_matmul(projection)?,
            None => x,
        };
        match &self.projection_bias {
            Some(bias) => Ok(x.f_add(bias)?),
            None => Ok(x),
        }
    }
}

/// Positions as sines and cosines of falling frequency, `[length, width]`: the sines first, as tensor2tensor has them.
fn sinusoids(length: i64, width: i64) -> Result<Tensor> {
    let options = (Kind::Float, Device::Cpu);
    let half = width / 2;
    let step = -(10_000f64.ln()) / (half - 1).max(1) as f64;
    let frequencies = Tensor::f_arange(half, options)?.f_mul_scalar(step)?.f_exp()?;
    let angles = Tensor::f_arange(length, options)?.f_outer(&frequencies)?; // [length, half]
    let positions = Tensor::f_cat(&[angles.f_sin()?, angles.f_cos()?], 1)?;
    Ok(positions.f_constant_pad_nd([0, width - 2 * half])?)
}
