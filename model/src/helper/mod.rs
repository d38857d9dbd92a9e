// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second vision transformer beside CLIP, whose patches say what belongs together: DINO and DINOv2 in Hugging Face's formats
//! (`vit`, `dinov2`, `dinov2_with_registers`). It runs on the batches that CLIP runs on, in one instance with it.
//!
//! Shapes: N pictures, patches in a grid of h x w, C width.

mod config;
mod names;
pub mod rate;

use std::cell::RefCell;
use std::num::NonZeroUsize;

use anyhow::{Context, Result, bail};
use lru::LruCache;
use tch::{Device, Kind, Tensor};

use super::config::{Hints, Transformer};
use super::preprocess::Normalisation;
use super::transformer::{Block, LayerNorm, Loader};
use super::weights::{Files, Folder, Weights, agree, locate, patch_grid};
use config::{Family, Stated};

/// What DINO models want their pictures' mean and deviation to be where no preprocessor file says so: ImageNet's.
const NORMALISATION: Normalisation =
    Normalisation { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/// Of the last hidden state nothing takes: a token for masked training, and what pools the class token.
const HARMLESS: [&str; 3] = ["embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"];
/// Streams of this many sizes keep their positional embeddings.
const GRIDS_KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);
/// Digits of the digest that tell helpers apart.
const SHOWN: usize = 12;

/// A loaded helper model.
pub struct Helper {
    /// As the user named it, and the beginning of its weights' SHA-256.
    name: String,
    normalisation: Normalisation,
    patch_size: i64,
    /// Rows and columns that the positional embedding was trained on.
    trained: (i64, i64),
    /// Whether positions are resized with a filter that takes in all of what a patch stands for.
    antialias: bool,
    /// `[C, 3, patch, patch]`, `[C]`
    conv: (Tensor, Tensor),
    /// `[1, 1, C]`
    class_embedding: Tensor,
    /// As trained, `[1, 1 + rows columns, C]`.
    positions: Tensor,
    /// Those of the grids seen last.
    resized: RefCell<LruCache<(i64, i64), Tensor>>,
    /// `[1, registers, C]`
    registers: Option<Tensor>,
    blocks: Vec<Block>,
    layer_norm: LayerNorm,
}

impl Helper {
    /// Loads the helper that `model` names, a folder or a Hugging Face id.
    ///
    /// # Errors
    /// It is not there, another kind of network, or its weights do not fit its config; file and cause are named.
    pub fn load(model: &str, device: Device, kind: Kind) -> Result<Helper> {
        Helper::load_named(model, device, kind)
            .with_context(|| format!("cannot use the helper model {model}"))
    }

    fn load_named(model: &str, device: Device, kind: Kind) -> Result<Helper> {
        let Files::HuggingFace { folder } = locate(model)? else {
            bail!("it is no Hugging Face folder with a config.json and safetensors");
        };
        let folder = Folder::at(folder);
        let stated = folder.read_config(config::read)?;
        let mut hints = Hints { normalisation: NORMALISATION, ..Hints::default() };
        folder.read_preprocessor(&mut hints)?;
        let (mut weights, hash) = folder.weights_and_hash(names::canonical)?;
        let (transformer, patch_size, trained) = check(&weights, &stated)?;
        let width = transformer.width;
        let mut loader = Loader { weights: &mut weights, device, kind, wide: false };
        let patches = trained.0 * trained.1;
        let registers = match stated.registers {
            0 => None,
            count => Some(loader.tensor("embeddings.register_tokens", &[1, count, width])?),
        };
        let projection = "embeddings.patch_embeddings.projection";
        let mut helper = Helper {
            name: format!("{model}@{}", hash.get(..SHOWN).unwrap_or(&hash)),
            normalisation: hints.normalisation,
            patch_size,
            trained,
            antialias: stated.family == Family::Dinov2WithRegisters,
            conv: (
                loader.tensor(&format!("{projection}.weight"), &[width, 3, patch_size, patch_size])?,
                loader.tensor(&format!("{projection}.bias"), &[width])?,
            ),
            class_embedding: loader.tensor("embeddings.cls_token", &[1, 1, width])?,
            positions: loader.tensor("embeddings.position_embeddings", &[1, 1 + patches, width])?,
            resized: RefCell::new(LruCache::new(GRIDS_KEPT)),
            registers,
            blocks: loader.blocks(names::BLOCKS, &transformer)?,
            layer_norm: loader.layer_norm("layernorm", width, transformer.eps)?,
        };
        weights.refuse_unused("a helper model", &HARMLESS)?;
        helper.blocks.iter_mut().for_each(Block::pack);
        Ok(helper)
    }

    /// What tells it from other helpers, such as `facebook/dinov2-small@0f1e2d3c4b5a`.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn patch_size(&self) -> i64 {
        self.patch_size
    }

    /// Rows and columns of whole patches of pictures `[..., H, W]`.
    pub fn grid(&self, pictures: &Tensor) -> Result<(i64, i64)> {
        let [.., height, width] = pictures.size()[..] else {
            bail!("a picture of size {:?}", pictures.size())
        };
        let patch = self.patch_size;
        if height < patch || width < patch {
            bail!(
                "a picture of {width}x{height} pixels is smaller than the helper model's patch of {patch}: use a larger input-size"
            );
        }
        Ok((height / patch, width / patch))
    }

    /// The last hidden state of each patch after the final norm, f32 `[N, h w, C]`. `pictures` are `[N, 3, H, W]`, of any
    /// size, normalised as `of` says; what is left of a patch at the right and the bottom is not seen.
    pub fn tokens(&self, pictures: &Tensor, of: &Normalisation) -> Result<Tensor> {
        let (h, w) = self.grid(pictures)?;
        let n = pictures.size().first().copied().unwrap_or(0);
        let pictures = self.renormalise(pictures, of)?;
        let (kernel, bias) = &self.conv;
        let patch = [self.patch_size, self.patch_size];
        let x = pictures.f_conv2d(kernel, Some(bias), patch, [0, 0], [1, 1], 1)?; // [N, C, h, w]
        let x = x.f_flatten(2, 3)?.f_transpose(1, 2)?; // [N, h w, C]
        let class = self.class_embedding.f_expand([n, 1, -1], false)?;
        let mut x = Tensor::f_cat(&[class, x], 1)?.f_add(&self.positions((h, w))?)?; // [N, 1 + h w, C]
        let mut front = 1;
        if let Some(registers) = &self.registers {
            let count = registers.size().get(1).copied().unwrap_or(0);
            let (class, patches) = (x.f_narrow(1, 0, 1)?, x.f_narrow(1, 1, h * w)?);
            x = Tensor::f_cat(&[class, registers.f_expand([n, -1, -1], false)?, patches], 1)?;
            front += count;
        }
        for block in &self.blocks {
            x = block.forward(&x, false)?;
        }
        self.layer_norm.forward(&x.f_to_kind(Kind::Float)?.f_narrow(1, front, h * w)?)
    }

    /// From what CLIP's mean and deviation made of the pixels to what the helper's would.
    fn renormalise(&self, pictures: &Tensor, of: &Normalisation) -> Result<Tensor> {
        if *of == self.normalisation {
            return Ok(pictures.f_to_kind(Kind::Float)?);
        }
        let three = |value: &dyn Fn(usize) -> f64| -> Result<Tensor> {
            let values = [0, 1, 2].map(|colour| value(colour) as f32);
            crate::constants::constant(&values, pictures.device())?
                .f_reshape([1, 3, 1, 1])
                .map_err(Into::into)
        };
        let own = &self.normalisation;
        let factor = three(&|colour| of.std[colour] / own.std[colour])?;
        let shift = three(&|colour| (of.mean[colour] - own.mean[colour]) / own.std[colour])?;
        Ok(pictures.f_to_kind(Kind::Float)?.f_mul(&factor)?.f_add(&shift)?)
    }

    /// `[1, 1 + h w, C]` for this grid.
    fn positions(&self, grid: (i64, i64)) -> Result<Tensor> {
        if grid == self.trained {
            return Ok(self.positions.shallow_clone());
        }
        if let Some(known) = self.resized.borrow_mut().get(&grid) {
            return Ok(known.shallow_clone());
        }
        let (_, tokens, width) = self.positions.size3()?;
        let class = self.positions.f_narrow(1, 0, 1)?;
        let patches = self.positions.f_narrow(1, 1, tokens - 1)?;
        let patches =
            patches.f_reshape([1, self.trained.0, self.trained.1, width])?.f_permute([0, 3, 1, 2])?;
        let size = [grid.0, grid.1];
        let patches = match self.antialias {
            true => patches.f_internal_upsample_bicubic2d_aa(size, false, None, None)?,
            false => patches.f_upsample_bicubic2d(size, false, None, None)?,
        }; // [1, C, h, w]
        let patches = patches.f_permute([0, 2, 3, 1])?.f_reshape([1, grid.0 * grid.1, width])?;
        let resized = Tensor::f_cat(&[class, patches], 1)?;
        self.resized.borrow_mut().put(grid, resized.shallow_clone());
        Ok(resized)
    }
}

/// The architecture as the weights' shapes show it, checked against what the config states; the side of a patch; and the
/// grid of the positional embedding.
fn check(weights: &Weights, stated: &Stated) -> Result<(Transformer, i64, (i64, i64))> {
    let shape = |name: &str| weights.shape(name).with_context(|| format!("tensor {name} is missing"));
    let projection = shape("embeddings.patch_embeddings.projection.weight")?;
    let [width, 3, patch_size, _] = projection[..] else {
        bail!("its patch projection has shape {projection:?}, expected [width, 3, patch, patch]");
    };
    let positions = shape("embeddings.position_embeddings")?;
    let [1, tokens, _] = positions[..] else {
        bail!("its positional embedding has shape {positions:?}, expected [1, tokens, width]");
    };
    let up = shape(&format!("{}0.mlp.c_fc.weight", names::BLOCKS))?;
    let &[mlp_width, _] = &up[..] else {
        bail!("its MLP's weights have shape {up:?}, expected two dimensions")
    };
    let layers = weights.blocks(names::BLOCKS);
    agree("hidden_size", stated.width, width)?;
    agree("num_hidden_layers", stated.layers, layers)?;
    agree("patch_size", stated.patch_size, patch_size)?;
    agree("an MLP width of", stated.mlp_width, mlp_width)?;
    if patch_size < 1 || stated.heads < 1 || width % stated.heads != 0 {
        bail!("a width of {width} does not divide into {} attention heads", stated.heads);
    }
    let grid = patch_grid(tokens - 1, stated.image_size, patch_size)?;
    let Stated { heads, activation, eps, .. } = *stated;
    Ok((Transformer { width, layers, heads, mlp_width, activation, eps }, patch_size, grid))
}

#[cfg(test)]
mod tests;
