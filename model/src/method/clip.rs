// SPDX-License-Identifier: MIT OR Apache-2.0
//! CLIP (Radford et al., arXiv 2103.00020; openai/CLIP): the last block as it was trained, every token projected.

use anyhow::Result;
use tch::Tensor;

use super::{Method, Options};
use crate::transformer::attend;
use crate::vision::{Trunk, VisionTower};

struct Clip;

pub fn build(_: &mut Options, _: usize) -> Result<Box<dyn Method>> {
    Ok(Box::new(Clip))
}

impl Method for Clip {
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor> {
        let gathered = attend(&trunk.qkv.q, &trunk.qkv.k, &trunk.qkv.v, false)?;
        tower.patch_features(&tower.last_block()?.residual(&trunk.x, &gathered)?)
    }

    fn describe(&self) -> String {
        "clip".into()
    }
}
