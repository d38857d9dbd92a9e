// SPDX-License-Identifier: MIT OR Apache-2.0
//! The text transformer. It runs once per prompt, so always in f32: cached features then do not depend on precision.
//!
//! Shapes: N texts, L tokens, D width, E joint width.

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use super::config::{Architecture, Pooling, TextConfig};
use super::tokenizer::Tokenizer;
use super::transformer::{Block, LayerNorm, Loader, unit_rows};

/// Texts in one forward: enough to fill the machine, small enough to stay in the caches.
const BATCH: usize = 64;

/// The text half of a model: strings to unit features.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    tower: TextTower,
}

impl TextEncoder {
    pub(super) fn new(tokenizer: Tokenizer, tower: TextTower) -> TextEncoder {
        TextEncoder { tokenizer, tower }
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
            let ids: Vec<_> = texts.iter().map(|text| self.tokenizer.encode(text)).collect();
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
    positional_embedding: Tensor,
    blocks: Vec<Block>,
    ln_final: LayerNorm,
    text_projection: Tensor,
}

impl TextTower {
    /// Loads the text tower of a checkpoint that has one.
    pub fn load(loader: &mut Loader, architecture: &Architecture) -> Result<TextTower> {
        let config = architecture.text.context("the checkpoint has no text tower")?;
        let (width, eps) = (config.transformer.width, config.transformer.eps);
        Ok(TextTower {
            config,
            embed_dim: architecture.embed_dim,
            device: loader.device,
            token_embedding: loader.tensor("token_embedding.weight", &[config.vocab_size, width])?,
            positional_embedding: loader.tensor("positional_embedding", &[config.context_length, width])?,
            blocks: loader.blocks("transformer.resblocks.", &config.transformer)?,
            ln_final: loader.layer_norm("ln_final", width, eps)?,
            text_projection: loader.tensor("text_projection", &[width, architecture.embed_dim])?,
        })
    }

    /// Features of token sequences (begin and end marks included, unpadded), not normalised, f32 `[N, E]` on the CPU.
    pub fn encode(&self, texts: &[Vec<i64>]) -> Result<Tensor> {
        if texts.is_empty() {
            return Ok(Tensor::f_zeros([0, self.embed_dim], (Kind::Float, Device::Cpu))?);
        }
        // The mask is causal: nothing after the pooled token has any influence on it, so a batch is only as long as
        // its longest text, and sorting keeps short texts together.
        let pooled: Vec<usize> = texts.iter().map(|ids| self.pooled_token(ids)).collect();
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| pooled[text]);
        let mut features = Vec::new();
        for batch in order.chunks(BATCH) {
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

    fn pooled_token(&self, ids: &[i64]) -> usize {
        let wanted = match self.config.pooling {
            Pooling::HighestId => ids.iter().copied().max().unwrap_or(0),
            Pooling::FirstId(id) => id,
        };
        ids.iter().position(|&id| id == wanted).unwrap_or(0)
    }

    /// `[N, L]` ids and `[N]` pooled positions `-> [N, E]`
    fn forward(&self, ids: &Tensor, pooled: &Tensor) -> Result<Tensor> {
        let (ids, pooled) = (ids.f_to_device(self.device)?, pooled.f_to_device(self.device)?);
        let (n, length) = ids.size2()?;
        let x = Tensor::f_embedding(&self.token_embedding, &ids, -1, false, false)?; // [N, L, D]
        let mut x = x.f_add(&self.positional_embedding.f_narrow(0, 0, length)?)?;
        for block in &self.blocks {
            x = block.forward(&x, true)?;
        }
        let d = self.config.transformer.width;
        let pooled = pooled.f_reshape([n, 1, 1])?.f_expand([n, 1, d], false)?;
        let x = x.f_gather(1, &pooled, false)?.f_squeeze_dim(1)?; // [N, D]
        Ok(self.ln_final.forward(&x)?.f_matmul(&self.text_projection)?)
    }
}
