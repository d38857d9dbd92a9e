// SPDX-License-Identifier: MIT OR Apache-2.0
//! NACLIP (Hajimiri et al., WACV 2025, arXiv 2404.08181; sinahmr/NACLIP): key-key attention with a Gaussian around each
//! patch added to its scores, so that neighbours attend to one another; no residual connection, no MLP.
//!
//! The switches of the published code: `arch=reduced|vanilla` (vanilla: residual connection and MLP stay),
//! `attention=naclip|kk|nonly|vanilla` (the Gaussian and key-key scores, only key-key, only the Gaussian, CLIP's own),
//! `std=5` (of the Gaussian, in patches).

use std::cell::RefCell;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::{Method, Options};
use crate::options::word;
use crate::transformer::{attend, attend_with_bias, gather};
use crate::vision::{Trunk, VisionTower};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Attention {
    KeysAndNeighbours,
    Keys,
    Neighbours,
    Vanilla,
}

const ATTENTIONS: [(&str, Attention); 4] = [
    ("naclip", Attention::KeysAndNeighbours),
    ("kk", Attention::Keys),
    ("nonly", Attention::Neighbours),
    ("vanilla", Attention::Vanilla),
];
const ARCHITECTURES: [(&str, bool); 2] = [("reduced", true), ("vanilla", false)];

struct Naclip {
    attention: Attention,
    reduced: bool,
    std: f64,
    /// The Gaussian of the grid seen last.
    bias: RefCell<Option<((i64, i64), Tensor)>>,
}

pub fn build(options: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    Ok(Box::new(Naclip {
        reduced: options.choice("arch", &ARCHITECTURES)?,
        attention: options.choice("attention", &ATTENTIONS)?,
        std: options.number("std", 5.0, 0.01..=1e4)?,
        bias: RefCell::default(),
    }))
}

/// `exp(-|p_i - p_j|^2 / (2 std^2))` for all pairs of patches, 0 for the class token: f32 `[L, L]`.
pub fn neighbourhood((h, w): (i64, i64), std: f64, device: Device) -> Result<Tensor> {
    let options = (Kind::Float, device);
    let along = |side: i64| -> Result<Tensor> {
        let place = Tensor::f_arange(side, options)?;
        let distance = place.f_unsqueeze(1)?.f_sub(&place)?; // [side, side]
        Ok(distance.f_square()?.f_mul_scalar(-1.0 / (2.0 * std * std))?.f_exp()?)
    };
    // A Gaussian over the grid is the product of one along its rows and one along its columns.
    let patches = Tensor::f_kron(&along(h)?, &along(w)?)?; // [h w, h w]
    Ok(patches.f_constant_pad_nd([1i64, 0, 1, 0])?) // [L, L]
}

/// Without scores of its own, the Gaussian is brought to their size: per picture, the mean of
/// `|q_i| |k_j| / sqrt(D / H)` over heads and pairs of tokens. Two `[N, H, L, D / H] -> [N, 1, 1, 1]`.
fn mean_score_bound(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let (_, _, _, head_width) = q.size4()?;
    // The mean over pairs is the product of the means.
    let mean_norm = |x: &Tensor| -> Result<Tensor> {
        let norms = x.f_norm_scalaropt_dim(2, [-1], true)?; // [N, H, L, 1]
        Ok(norms.f_mean_dim([2i64].as_slice(), true, None)?) // [N, H, 1, 1]
    };
    let bound = mean_norm(q)?.f_mul(&mean_norm(k)?)?.f_mean_dim([1i64].as_slice(), true, None)?;
    Ok(bound.f_mul_scalar((head_width as f64).powf(-0.5))?)
}

impl Naclip {
    /// `[L, L]` in the tower's number format.
    fn bias(&self, tower: &VisionTower, grid: (i64, i64)) -> Result<Tensor> {
        let mut kept = self.bias.borrow_mut();
        if let Some((known, bias)) = kept.as_ref()
            && *known == grid
        {
            return Ok(bias.shallow_clone());
        }
        let bias = neighbourhood(grid, self.std, tower.device())?.f_to_kind(tower.kind)?;
        *kept = Some((grid, bias.shallow_clone()));
        Ok(bias)
    }
}

impl Method for Naclip {
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let (q, k, v) = (&trunk.qkv.q, &trunk.qkv.k, &trunk.qkv.v);
        let gathered = match self.attention {
            Attention::KeysAndNeighbours => attend_with_bias(k, k, v, &self.bias(tower, trunk.grid)?)?,
            Attention::Keys => attend(k, k, v, false)?,
            Attention::Neighbours => {
                let scores = self.bias(tower, trunk.grid)?.f_mul(&mean_score_bound(q, k)?)?; // [N, 1, L, L]
                gather(&scores.f_softmax(-1, Kind::Float)?, v)?
            }
            Attention::Vanilla => attend(q, k, v, false)?,
        }; // [N, H, L, D / H]
        let block = tower.last_block()?;
        tower.patch_features(&match self.reduced {
            true => block.attn.project(&gathered)?,
            false => block.residual(&trunk.x, &gathered)?,
        })
    }

    fn describe(&self) -> String {
        let arch = word(&ARCHITECTURES, self.reduced);
        let attention = word(&ATTENTIONS, self.attention);
        format!("naclip(arch={arch},attention={attention},std={})", self.std)
    }
}
