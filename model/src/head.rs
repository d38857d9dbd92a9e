// SPDX-License-Identifier: MIT OR Apache-2.0
//! What follows the last block of a vision tower: from its tokens to the space that text is in.
//!
//! Shapes: N pictures, L tokens, D width, E joint width.

use anyhow::Result;
use tch::Tensor;

use super::config::{Architecture, Family};
use super::transformer::{LayerNorm, Linear, Loader, Mlp, attend, join_heads};
use super::wide::WideMatrix;

pub enum Head {
    /// CLIP's matrix into the joint space, `[D, E]`.
    Projection {
        proj: Tensor,
        /// The same for inputs in f16.
        wide: Option<WideMatrix>,
    },
    /// SigLIP's.
    Pooling(Box<Pooling>),
    /// TIPSv2 has none: the joint space is that of the tokens.
    Identity,
}

/// Attention from one learnt query to all tokens, then an MLP beside what it gathered (`MAPHead` of big_vision).
///
/// A patch by itself goes through it as if it were the whole picture: a softmax over one token is 1, so that its value is what is
/// gathered. That is how MaskCLIP (arXiv 2112.01071) takes the attention out of a ResNet's pooling.
pub struct Pooling {
    /// `[1, 1, D]`
    query: Tensor,
    /// `[D, D]` each.
    to_query: Linear,
    to_key: Linear,
    to_value: Linear,
    out: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: i64,
}

impl Head {
    /// Loads what a checkpoint of this architecture has.
    ///
    /// # Errors
    /// A tensor is missing or of another shape.
    pub fn load(loader: &mut Loader, architecture: &Architecture) -> Result<Head> {
        let transformer = architecture.vision.transformer;
        let width = transformer.width;
        match architecture.family {
            Family::Clip => {
                let proj = loader.tensor("visual.proj", &[width, architecture.embed_dim])?;
                let wide = loader.wide.then(|| WideMatrix::new(&proj)).transpose()?;
                Ok(Head::Projection { proj, wide })
            }
            Family::Siglip => {
                let [to_query, to_key, to_value] = loader.in_projections("visual.head.attention", width)?;
                let (norm, mlp) = loader.mlp("visual.head.layernorm", "visual.head.mlp", &transformer)?;
                Ok(Head::Pooling(Box::new(Pooling {
                    query: loader.tensor("visual.head.probe", &[1, 1, width])?,
                    to_query,
                    to_key,
                    to_value,
                    out: loader.out_projection("visual.head.attention", width)?,
                    norm,
                    mlp,
                    heads: transformer.heads,
                })))
            }
            Family::Tips => Ok(Head::Identity),
        }
    }

    /// For when nobody reads the weights any more: makes the products faster.
    pub fn pack(&mut self) {
        if let Head::Pooling(pooling) = self {
            let Pooling { to_value, out, mlp, .. } = &mut **pooling;
            to_value.pack();
            out.pack();
            mlp.pack();
        }
    }

    /// Tokens by themselves into the joint space, in f32: `[..., D] -> [..., E]`.
    pub fn project(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Head::Projection { wide: Some(wide), .. } => wide.forward(x),
            Head::Projection { proj, wide: None } => Ok(x.f_matmul(proj)?),
            Head::Pooling(pooling) => pooling.finish(&pooling.to_value.forward(x)?),
            Head::Identity => Ok(x.shallow_clone()),
        }
    }
}

impl Pooling {
    /// Whole pictures into the joint space, of all their tokens, in f32: `[N, L, D] -> [N, E]`.
    pub fn pool(&self, x: &Tensor) -> Result<Tensor> {
        let (n, _, width) = x.size3()?;
        let split = |x: &Tensor| -> Result<Tensor> {
            let (n, l, _) = x.size3()?;
            Ok(x.f_reshape([n, l, self.heads, width / self.heads])?.f_transpose(1, 2)?)
        }; // [N, L, D] -> [N, H, L, D / H]
        let query = self.to_query.forward(&self.query)?.f_expand([n, 1, width], false)?;
        let (key, value) = (self.to_key.forward(x)?, self.to_value.forward(x)?);
        let gathered = attend(&split(&query)?, &split(&key)?, &split(&value)?, false)?; // [N, H, 1, D / H]
        Ok(self.finish(&join_heads(&gathered)?)?.f_select(1, 0)?)
    }

    /// What attention gathered, through the rest: `[..., D] -> [..., D]`.
    fn finish(&self, gathered: &Tensor) -> Result<Tensor> {
        let x = self.out.forward(gathered)?;
        self.mlp.add_to(&x, &self.norm.forward(&x)?)
    }
}
