// SPDX-License-Identifier: MIT OR Apache-2.0
//! GCLIP (Wang et al., arXiv 2502.06818), on top of ClearCLIP's last block without residual connection and MLP:
//!
//! * Attention map fusion (section 3.2): the attention of the blocks where global tokens emerge is averaged with the
//!   last block's query-query attention.
//! * Channel suppression (section 3.3): in each MLP from there on, the one output channel whose weights are abnormally
//!   large is scaled down to the mean norm of the others. A static edit of the weights.
//!
//! The authors published no code. What the text leaves open is an option, with these defaults:
//! `fuse=6+7|auto` (0-based blocks), `heads=mean|each` (one map for all heads, or head by head),
//! `weights=third|half` (every map alike, or half for the query-query map), `suppress=7-10|none|auto`,
//! `bias=keep|scale` (of the suppressed channel).

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};

use super::emergence::first_global_block;
use super::{Method, Options};
use crate::transformer::{Mlp, attention_map, gather, join_heads, mean_attention_map, unit_rows};
use crate::vision::{Trunk, VisionTower, Wanted};

/// The paper's numbers are for towers of this depth; others find theirs.
const PAPER_DEPTH: usize = 12;

enum Blocks {
    Auto,
    These(Vec<usize>),
}

impl Blocks {
    fn resolved(&self) -> &[usize] {
        match self {
            Blocks::Auto => &[],
            Blocks::These(blocks) => blocks,
        }
    }
}

struct Gclip {
    fuse: Blocks,
    suppress: Blocks,
    per_head: bool,
    /// Share of the last block's own query-query map; `None`: all maps weigh the same.
    own_share: Option<f64>,
    scale_bias: bool,
}

pub fn build(options: &mut Options, depth: usize) -> Result<Box<dyn Method>> {
    let fuse = match options.take("fuse").as_deref() {
        None if depth == PAPER_DEPTH => Blocks::These(vec![6, 7]),
        None | Some("auto") => Blocks::Auto,
        Some("none") => Blocks::These(Vec::new()),
        Some(list) => Blocks::These(parse_blocks("fuse", list, '+', depth)?),
    };
    let suppress = match options.take("suppress").as_deref() {
        None if depth == PAPER_DEPTH => Blocks::These((7..=10).collect()),
        None | Some("auto") => Blocks::Auto,
        Some("none") => Blocks::These(Vec::new()),
        Some(range) => match parse_blocks("suppress", range, '-', depth)?[..] {
            [one] => Blocks::These(vec![one]),
            [first, last] if first <= last => Blocks::These((first..=last).collect()),
            _ => bail!("gclip option suppress={range} is no range of blocks such as 7-10"),
        },
    };
    Ok(Box::new(Gclip {
        fuse,
        suppress,
        per_head: options.choice("heads", &[("mean", false), ("each", true)])?,
        own_share: options.choice("weights", &[("third", None), ("half", Some(0.5))])?,
        scale_bias: options.choice("bias", &[("keep", false), ("scale", true)])?,
    }))
}

/// Blocks before the last, counted from 0.
fn parse_blocks(option: &str, list: &str, separator: char, depth: usize) -> Result<Vec<usize>> {
    let block = |word: &str| match word.trim().parse::<usize>() {
        Ok(block) if block + 1 < depth => Ok(block),
        _ => bail!(
            "gclip option {option}={list}: {word:?} is no block before the last, which are 0 to {}",
            depth.saturating_sub(2)
        ),
    };
    list.split(separator).map(block).collect()
}

impl Method for Gclip {
    fn wanted(&self) -> Wanted {
        let blocks = self.fuse.resolved().to_vec();
        match self.per_head {
            true => Wanted { head_maps: blocks, ..Wanted::default() },
            false => Wanted { mean_maps: blocks, ..Wanted::default() },
        }
    }

    fn prepare(&mut self, tower: &mut VisionTower) -> Result<()> {
        let depth = tower.blocks.len();
        if matches!(self.fuse, Blocks::Auto) || matches!(self.suppress, Blocks::Auto) {
            let global = first_global_block(tower)?;
            let before_last = |blocks: std::ops::RangeInclusive<usize>| {
                Blocks::These(blocks.filter(|block| block + 1 < depth).collect())
            };
            if matches!(self.fuse, Blocks::Auto) {
                self.fuse = before_last(global..=global + 1);
            }
            if matches!(self.suppress, Blocks::Auto) {
                self.suppress = before_last(global + 1..=depth);
            }
        }
        for &block in self.suppress.resolved() {
            suppress_channel(
                &mut tower.blocks.get_mut(block).context("no such block")?.mlp,
                self.scale_bias,
            )?;
        }
        Ok(())
    }

    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let (q, v) = (&trunk.qkv.q, &trunk.qkv.v);
        let attn = &tower.last_block()?.attn;
        let x = if self.per_head {
            let map = self.fused(&attention_map(q, q)?, &trunk.head_maps)?; // [N, H, L, L]
            attn.project(&gather(&map, v)?)? // [N, L, D]
        } else {
            let q = q.f_to_kind(tower.kind)?; // as the other maps' queries
            let map = self.fused(&mean_attention_map(&q, &q)?, &trunk.mean_maps)?; // [N, L, L]
            attn.out_proj.forward(&gather(&map, &join_heads(v)?)?)? // [N, L, D]
        };
        tower.patch_features(&x)
    }

    fn features_of(&self, tower: &VisionTower, trunk: &Trunk, rows: &Tensor) -> Result<Option<Tensor>> {
        if self.per_head {
            return Ok(None);
        }
        let q = trunk.qkv.q.f_to_kind(tower.kind)?;
        let own = mean_attention_map(&q.f_index_select(2, rows)?, &q)?; // [1, R, L]
        let earlier = trunk.mean_maps.iter().map(|(&block, map)| Ok((block, map.f_index_select(1, rows)?)));
        let map = self.fused(&own, &earlier.collect::<Result<_>>()?)?;
        let gathered = gather(&map, &join_heads(&trunk.qkv.v)?)?; // [1, R, D]
        let x = tower.last_block()?.attn.out_proj.forward(&gathered)?;
        Ok(Some(unit_rows(&tower.project(&x.f_select(0, 0)?)?)?))
    }

    fn describe(&self) -> String {
        let list = |blocks: &Blocks, separator: &str| match blocks.resolved() {
            [] => "none".into(),
            blocks => blocks.iter().map(usize::to_string).collect::<Vec<_>>().join(separator),
        };
        let suppress = match self.suppress.resolved() {
            [first, .., last] => format!("{first}-{last}"),
            _ => list(&self.suppress, "-"),
        };
        format!(
            "gclip(fuse={},heads={},weights={},suppress={suppress},bias={})",
            list(&self.fuse, "+"),
            if self.per_head { "each" } else { "mean" },
            if self.own_share.is_some() { "half" } else { "third" },
            if self.scale_bias { "scale" } else { "keep" },
        )
    }
}

impl Gclip {
    /// Average of the last block's map with those of earlier blocks. All rows sum to 1, so the average's do too.
    fn fused(&self, own: &Tensor, earlier: &std::collections::HashMap<usize, Tensor>) -> Result<Tensor> {
        let blocks = self.fuse.resolved();
        if blocks.is_empty() {
            return Ok(own.shallow_clone());
        }
        let own_share = self.own_share.unwrap_or(1.0 / (blocks.len() + 1) as f64);
        let share = (1.0 - own_share) / blocks.len() as f64;
        let mut fused = own.f_mul_scalar(own_share)?;
        for block in blocks {
            let map = earlier
                .get(block)
                .with_context(|| format!("the tower kept no attention map of block {block}"))?;
            fused = fused.f_add_(&map.f_mul_scalar(share)?)?;
        }
        Ok(fused)
    }
}

/// Scales the output channel whose weights have the largest norm to the mean norm of the others.
fn suppress_channel(mlp: &mut Mlp, with_bias: bool) -> Result<()> {
    let norms = mlp.output_norms()?; // [D]
    let channel = norms.f_argmax(0, false)?.f_int64_value(&[])?;
    let largest = norms.f_double_value(&[channel])?;
    let others = norms.f_sum(Kind::Double)?.f_double_value(&[])? - largest;
    let mean = others / (norms.size1()? - 1).max(1) as f64;
    if mean > 0.0 {
        mlp.scale_output(channel, mean / largest, with_bias)?;
    }
    Ok(())
}
