// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vision transformer up to its last block, which belongs to a method (`method/`).
//!
//! Shapes: N pictures, patches in a grid of h x w, L = l + h w tokens, the first l = `lead` of which are no patches (CLIP: the class
//! token), D width, E joint width.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};
use lru::LruCache;
use tch::{Device, Kind, Tensor};

use super::config::{Architecture, Family, VisionConfig};
use super::head::Head;
use super::transformer::{
    Block, LayerNorm, Loader, Qkv, attend, attend_with_bias, attend_with_mean_map, attention_map, unit_rows,
};
use super::wide::WideMatrix;

/// How the positional embedding is resized to another patch grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Positions {
    /// Bicubic by size, as Hugging Face does.
    #[default]
    Plain,
    /// Bicubic by the scale factors `(h + 0.1) / trained`, as the code of SCLIP and its successors does.
    Scale,
    /// Bilinear by size, the patches' rows rounded to f16, as the code of TagCLIP does.
    Bilinear,
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Positions::Plain => "plain",
            Positions::Scale => "scale",
            Positions::Bilinear => "bilinear",
        })
    }
}

impl FromStr for Positions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "plain" => Ok(Positions::Plain),
            "scale" => Ok(Positions::Scale),
            "bilinear" => Ok(Positions::Bilinear),
            _ => bail!("unknown positions {text:?}: use plain, scale or bilinear"),
        }
    }
}

/// The input of the first block.
pub struct Embedded {
    /// `[N, L, D]`, f32.
    pub x: Tensor,
    /// Rows and columns of the patch grid.
    pub grid: (i64, i64),
}

/// What a method asks the tower to keep from the blocks before the last, by block index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Attention maps, mean over the heads.
    pub mean_maps: Vec<usize>,
    /// Attention maps of every head.
    pub head_maps: Vec<usize>,
    /// Block outputs.
    pub outputs: Vec<usize>,
    pub qkv: Vec<usize>,
}

/// Everything a method needs to compute the last block.
pub struct Trunk {
    /// Normalised pictures, `[N, 3, h patch, w patch]`.
    pub input: Tensor,
    /// Whether the pictures are windows of one.
    pub is_one_picture: bool,
    /// What the method's helper model saw, where it is known already, as [`Method::helper_sees`](super::method::Method) gives it.
    pub helper_saw: Option<Tensor>,
    /// Rows and columns of the patch grid.
    pub grid: (i64, i64),
    /// Input of the last block, `[N, L, D]`.
    pub x: Tensor,
    /// Queries, keys and values of the last block.
    pub qkv: Qkv,
    /// Per wanted block, f32 `[N, L, L]`.
    pub mean_maps: HashMap<usize, Tensor>,
    /// Per wanted block, f32 `[N, H, L, L]`.
    pub head_maps: HashMap<usize, Tensor>,
    /// Per wanted block, `[N, L, D]`.
    pub outputs: HashMap<usize, Tensor>,
    pub earlier_qkv: HashMap<usize, Qkv>,
}

pub struct VisionTower {
    pub config: VisionConfig,
    pub positions: Positions,
    /// Number format of the large products; pictures go in and features come out in f32.
    pub kind: Kind,
    conv1: Tensor,
    /// `[D]`, where there is one.
    conv1_bias: Option<Tensor>,
    /// [`conv1`](Self::conv1) as `[3 patch patch, D]`, where its inputs may be f16.
    wide_conv1: Option<WideMatrix>,
    /// The tokens before the patches with their positions, the same for every picture: `[l, D]`.
    lead: Tensor,
    /// Of the patches, as trained, `[trained h w, D]`.
    positional_embedding: Tensor,
    /// Positional embeddings of the grids seen last, `[1, h w, D]`.
    resized: RefCell<LruCache<(i64, i64), Tensor>>,
    ln_pre: Option<LayerNorm>,
    pub blocks: Vec<Block>,
    ln_post: LayerNorm,
    head: Head,
    /// Joint width of image and text features.
    embed_dim: i64,
    pub family: Family,
}

/// Streams of this many sizes keep their positional embeddings.
const GRIDS_KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

impl VisionTower {
    pub fn load(
        loader: &mut Loader,
        architecture: &Architecture,
        positions: Positions,
    ) -> Result<VisionTower> {
        let (config, family) = (architecture.vision, architecture.family);
        let (width, patch, eps) = (config.transformer.width, config.patch_size, config.transformer.eps);
        if family != Family::Clip && positions != Positions::Plain {
            bail!(
                "positions {positions} are those of published code for CLIP, and this is a {}: leave them plain",
                family.name()
            );
        }
        let patches = config.grid.0 * config.grid.1;
        let conv1 = loader.tensor("visual.conv1.weight", &[width, 3, patch, patch])?;
        let conv1_bias = match family {
            Family::Clip => None,
            Family::Siglip | Family::Tips => Some(loader.tensor("visual.conv1.bias", &[width])?),
        };
        let wide_conv1 =
            loader.wide.then(|| WideMatrix::new(&conv1.f_reshape([width, -1])?.f_transpose(0, 1)?));
        let (lead, positional_embedding) = match family {
            Family::Siglip => {
                let positions = loader.tensor("visual.positional_embedding", &[patches, width])?;
                (positions.f_narrow(0, 0, 0)?, positions)
            }
            Family::Clip | Family::Tips => {
                let class = loader.tensor("visual.class_embedding", &[width])?;
                let positions = loader.tensor("visual.positional_embedding", &[1 + patches, width])?;
                let class = class.f_add(&positions.f_narrow(0, 0, 1)?)?; // [1, D]
                let lead = match family {
                    Family::Tips => {
                        let registers = loader.tensor("visual.register_tokens", &[config.lead - 1, width])?;
                        Tensor::f_cat(&[class, registers], 0)?
                    }
                    Family::Clip | Family::Siglip => class,
                };
                (lead, positions.f_narrow(0, 1, patches)?.f_contiguous()?)
            }
        };
        let ln_pre = match family {
            Family::Clip => Some(loader.layer_norm("visual.ln_pre", width, eps)?),
            Family::Siglip | Family::Tips => None,
        };
        Ok(VisionTower {
            config,
            positions,
            kind: loader.kind,
            conv1,
            conv1_bias,
            wide_conv1: wide_conv1.transpose()?,
            lead,
            positional_embedding,
            resized: RefCell::new(LruCache::new(GRIDS_KEPT)),
            ln_pre,
            blocks: loader.blocks("visual.transformer.resblocks.", &config.transformer)?,
            ln_post: loader.layer_norm("visual.ln_post", width, eps)?,
            head: Head::load(loader, architecture)?,
            embed_dim: architecture.embed_dim,
            family,
        })
    }

    pub fn device(&self) -> Device {
        self.conv1.device()
    }

    /// Joint width of image and text features.
    pub fn embed_dim(&self) -> i64 {
        self.embed_dim
    }

    /// Brings a tower that was loaded in f32 on the CPU into another number format.
    pub fn convert(&mut self, kind: Kind) -> Result<()> {
        self.kind = kind;
        let last = self.blocks.len().saturating_sub(1);
        let mut blocks = self.blocks.iter_mut().enumerate();
        blocks.try_for_each(|(index, block)| block.convert(kind, index == last))
    }

    /// For when nobody edits or reads the weights any more: makes the large products faster.
    pub fn pack(&mut self) {
        self.blocks.iter_mut().for_each(Block::pack);
        self.head.pack();
    }

    pub fn last_block(&self) -> Result<&Block> {
        self.blocks.last().context("a vision tower without blocks")
    }

    /// Patches and the tokens before them with their positions, through CLIP's norm: `[N, 3, H, W] -> [N, L, D]` and the grid.
    pub fn embed(&self, input: &Tensor) -> Result<Embedded> {
        let (n, _, height, width) = input.size4()?;
        let patch = self.config.patch_size;
        if height < patch || width < patch || height % patch != 0 || width % patch != 0 {
            bail!("an input of {width}x{height} pixels is not made of whole {patch}x{patch} patches");
        }
        let (h, w) = (height / patch, width / patch);
        let x = match &self.wide_conv1 {
            // Patches do not overlap: each is a row of a product.
            Some(conv1) => {
                let patches = input.f_reshape([n, 3, h, patch, w, patch])?.f_permute([0, 2, 4, 1, 3, 5])?;
                let x = conv1.forward(&patches.f_reshape([n, h * w, 3 * patch * patch])?)?; // [N, h w, D]
                match &self.conv1_bias {
                    Some(bias) => x.f_add(bias)?,
                    None => x,
                }
            }
            None => {
                let bias = self.conv1_bias.as_ref();
                let x = input.f_conv2d(&self.conv1, bias, [patch, patch], [0, 0], [1, 1], 1)?; // [N, D, h, w]
                x.f_flatten(2, 3)?.f_transpose(1, 2)? // [N, h w, D]
            }
        };
        let x = x.f_add(&self.positional_embedding((h, w))?)?;
        let lead = self.lead.f_unsqueeze(0)?.f_expand([n, -1, -1], false)?; // [N, l, D]
        let x = self.normed(Tensor::f_cat(&[lead, x], 1)?)?; // [N, L, D]
        Ok(Embedded { x, grid: (h, w) })
    }

    /// Through CLIP's norm before the first block.
    fn normed(&self, x: Tensor) -> Result<Tensor> {
        match &self.ln_pre {
            Some(norm) => norm.forward(&x),
            None => Ok(x),
        }
    }

    /// Rows and columns of patches of a picture `[..., H, W]`.
    pub fn grid(&self, input: &Tensor) -> Result<(i64, i64)> {
        let [.., height, width] = input.size()[..] else { bail!("a picture of size {:?}", input.size()) };
        Ok((height / self.config.patch_size, width / self.config.patch_size))
    }

    /// As [`VisionTower::embed`], of some tokens of one picture, in order: `[3, H, W]`, `rows` of it, `[R, D]`.
    pub fn embed_rows(&self, input: &Tensor, rows: &Tensor) -> Result<Tensor> {
        let ((h, w), patch) = (self.grid(input)?, self.config.patch_size);
        let lead = self.config.lead;
        let place = rows.f_sub_scalar(lead)?.f_clamp_min(0)?;
        let (row, column) = (place.f_div_scalar_mode(w, "floor")?, place.f_remainder(w)?);
        let patches = input.f_view([3, h, patch, w, patch])?.f_permute([1, 3, 0, 2, 4])?; // [h, w, 3, patch, patch]
        let patches = patches.f_index(&[Some(row), Some(column)])?.f_flatten(1, 3)?; // [R, 3 patch patch]
        let x = patches.f_linear(&self.conv1.f_flatten(1, 3)?, self.conv1_bias.as_ref())?; // [R, D]
        let x = x.f_add(&self.positional_embedding((h, w))?.f_select(0, 0)?.f_index_select(0, &place)?)?;
        if lead == 0 {
            return self.normed(x);
        }
        let is_patch = rows.f_ge(lead)?.f_unsqueeze(1)?;
        let before = self.lead.f_index_select(0, &rows.f_clamp_max(lead - 1)?)?; // [R, D]
        self.normed(x.f_where_self(&is_patch, &before)?)
    }

    /// `[1, h w, D]` for this grid.
    fn positional_embedding(&self, grid: (i64, i64)) -> Result<Tensor> {
        if let Some(known) = self.resized.borrow_mut().get(&grid) {
            return Ok(known.shallow_clone());
        }
        let resized = self.resize_positions(grid)?;
        self.resized.borrow_mut().put(grid, resized.shallow_clone());
        Ok(resized)
    }

    fn resize_positions(&self, (h, w): (i64, i64)) -> Result<Tensor> {
        let (trained_h, trained_w) = self.config.grid;
        if (h, w) == (trained_h, trained_w) {
            return Ok(self.positional_embedding.f_unsqueeze(0)?);
        }
        let (_, d) = self.positional_embedding.size2()?;
        let patches = &self.positional_embedding; // [trained h w, D]
        let patches = patches.f_reshape([1, trained_h, trained_w, d])?.f_permute([0, 3, 1, 2])?; // [1, D, trained h, w]
        let scale = |side: i64, trained: i64| (side as f64 + 0.1) / trained as f64;
        let patches = match self.positions {
            _ if self.family == Family::Tips => {
                patches.f_internal_upsample_bilinear2d_aa([h, w], false, None, None)?
            }
            Positions::Plain => patches.f_upsample_bicubic2d([h, w], false, None, None)?,
            Positions::Scale => {
                let (vertical, horizontal) = (scale(h, trained_h), scale(w, trained_w));
                patches.f_upsample_bicubic2d([h, w], false, vertical, horizontal)?
            }
            Positions::Bilinear => {
                let resized = patches.f_upsample_bilinear2d([h, w], false, None, None)?;
                resized.f_to_kind(Kind::Half)?.f_to_kind(Kind::Float)?
            }
        }; // [1, D, h, w]
        Ok(patches.f_permute([0, 2, 3, 1])?.f_reshape([1, h * w, d])?)
    }

    /// Runs all blocks but the last: `[N, 3, H, W] -> ` what the method wants.
    pub fn trunk(&self, input: &Tensor, wanted: &Wanted) -> Result<Trunk> {
        let Embedded { mut x, grid } = self.embed(input)?;
        let (mut mean_maps, mut head_maps) = (HashMap::new(), HashMap::new());
        let (mut outputs, mut earlier_qkv) = (HashMap::new(), HashMap::new());
        let last = self.last_block()?;
        for (index, block) in self.blocks.iter().enumerate().take(self.blocks.len() - 1) {
            let qkv = block.qkv(&x)?;
            let (with_heads, with_mean) =
                (wanted.head_maps.contains(&index), wanted.mean_maps.contains(&index));
            let gathered = if with_heads {
                let map = attention_map(&qkv.q, &qkv.k)?; // [N, H, L, L]
                let gathered = map.f_to_kind(self.kind)?.f_matmul(&qkv.v)?;
                if with_mean {
                    mean_maps.insert(index, map.f_mean_dim([1i64].as_slice(), false, Kind::Float)?); // [N, L, L]
                }
                head_maps.insert(index, map);
                gathered
            } else if with_mean {
                let (gathered, map) = attend_with_mean_map(&qkv.q, &qkv.k, &qkv.v)?;
                mean_maps.insert(index, map); // [N, L, L]
                gathered
            } else {
                attend(&qkv.q, &qkv.k, &qkv.v, false)?
            };
            x = block.residual(&x, &gathered)?;
            if wanted.outputs.contains(&index) {
                outputs.insert(index, x.shallow_clone());
            }
            if wanted.qkv.contains(&index) {
                earlier_qkv.insert(index, qkv);
            }
        }
        let qkv = last.qkv(&x)?;
        Ok(Trunk {
            input: input.shallow_clone(),
            is_one_picture: false,
            helper_saw: None,
            grid,
            x,
            qkv,
            mean_maps,
            head_maps,
            outputs,
            earlier_qkv,
        })
    }

    /// Into the joint space, in f32: `[..., D] -> [..., E]`.
    pub fn project(&self, x: &Tensor) -> Result<Tensor> {
        self.head.project(&self.ln_post.forward(&x.f_to_kind(Kind::Float)?)?)
    }

    /// Patch tokens after the last block to features: `[N, L, D] -> [N, h w, E]`, rows of unit length, f32.
    pub fn patch_features(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, _) = x.size3()?;
        let lead = self.config.lead;
        unit_rows(&self.project(&x.f_narrow(1, lead, tokens - lead)?)?)
    }

    /// What each picture is as a whole, by its class token or by SigLIP's pooling, after the plain last block: `[N, E]`, rows of unit
    /// length, f32. Costs one token of one block, or all of them.
    pub fn class_features(&self, trunk: &Trunk) -> Result<Tensor> {
        let Qkv { q, k, v } = &trunk.qkv; // [N, H, L, D / H]
        if let Head::Pooling(_) = &self.head {
            let x = self.last_block()?.residual(&trunk.x, &attend(q, k, v, false)?)?;
            return unit_rows(&self.pool(&x)?);
        }
        let map = attention_map(&q.f_narrow(2, 0, 1)?, k)?; // [N, H, 1, L]
        let gathered = map.f_to_kind(v.kind())?.f_matmul(v)?;
        let class = self.last_block()?.residual(&trunk.x.f_narrow(1, 0, 1)?, &gathered)?; // [N, 1, D]
        unit_rows(&self.project(&class.f_select(1, 0)?)?)
    }

    /// The checkpoint's own picture feature, not normalised, f32: `[N, 3, H, W] -> [N, E]`.
    pub fn encode_image(&self, input: &Tensor) -> Result<Tensor> {
        let Embedded { mut x, .. } = self.embed(input)?;
        for block in &self.blocks {
            x = block.forward(&x, false)?;
        }
        self.pool(&x)
    }

    /// All tokens after the last block to what the picture is as a whole: `[N, L, D] -> [N, E]`, f32.
    fn pool(&self, x: &Tensor) -> Result<Tensor> {
        match &self.head {
            Head::Pooling(pooling) => pooling.pool(&self.ln_post.forward(&x.f_to_kind(Kind::Float)?)?),
            Head::Projection { .. } | Head::Identity => self.project(&x.f_select(1, 0)?),
        }
    }

    /// As [`VisionTower::encode_image`], with `bias` `[L, L]` added to the attention scores of every block.
    pub fn encode_image_with_bias(&self, input: &Tensor, bias: &Tensor) -> Result<Tensor> {
        let Embedded { mut x, .. } = self.embed(input)?;
        for block in &self.blocks {
            let Qkv { q, k, v } = block.qkv(&x)?;
            // In bf16 the first block's input is in f32, and so are its queries.
            let bias = bias.f_to_kind(q.kind())?;
            x = block.residual(&x, &attend_with_bias(&q, &k, &v, &bias)?)?;
        }
        self.pool(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Checkpoint;

    #[test]
    fn the_class_token_of_the_trunk_is_that_of_the_whole_tower() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hugging_face");
        let mut checkpoint = Checkpoint::open(fixture).unwrap();
        let architecture = checkpoint.architecture;
        let weights = &mut checkpoint.weights;
        let mut loader = Loader { weights, device: Device::Cpu, kind: Kind::Float, wide: false };
        let tower = VisionTower::load(&mut loader, &architecture, Positions::Plain).unwrap();
        let input = Tensor::randn([2, 3, 48, 32], (Kind::Float, Device::Cpu));
        let found = tower.class_features(&tower.trunk(&input, &Wanted::default()).unwrap()).unwrap();
        let expected = unit_rows(&tower.encode_image(&input).unwrap()).unwrap();
        assert_eq!(found.size(), expected.size());
        assert!((found - expected).abs().max().double_value(&[]) < 1e-5);
    }

    /// What a GPU computes with inputs in f16, here on the CPU, against f32 throughout.
    #[test]
    fn wide_products_change_features_by_the_rounding_of_their_inputs() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hugging_face");
        let tower = |wide: bool| {
            let mut checkpoint = Checkpoint::open(fixture).unwrap();
            let architecture = checkpoint.architecture;
            let weights = &mut checkpoint.weights;
            let mut loader = Loader { weights, device: Device::Cpu, kind: Kind::Float, wide };
            VisionTower::load(&mut loader, &architecture, Positions::Plain).unwrap()
        };
        let (plain, wide) = (tower(false), tower(true));
        tch::manual_seed(3);
        let input = Tensor::randn([2, 3, 48, 32], (Kind::Float, Device::Cpu));
        let features = |tower: &VisionTower| unit_rows(&tower.encode_image(&input).unwrap()).unwrap();
        let off = (features(&plain) - features(&wide)).abs().max().double_value(&[]);
        println!("largest difference of a feature of unit length: {off:.1e}");
        assert!(off > 0.0 && off < 2e-3, "{off}");
    }
}
