// SPDX-License-Identifier: MIT OR Apache-2.0
//! CLIP (Radford et al., arXiv 2103.00020; openai/CLIP): the last block as it was trained, every token projected. Of TIPSv2 (arXiv
//! 2604.12012), whose patches are trained to meet text, that is all there is to do.

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

    fn takes_any_tower(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "clip".into()
    }
}
