// SPDX-License-Identifier: MIT OR Apache-2.0
//! What to do in the last block: one file per published method, one small trait between them and the tower.

mod clearclip;
mod clip;
mod cliptrase;
mod cluster;
mod emergence;
mod feedback;
mod gclip;
mod maskclip;
mod naclip;
mod outliers;
mod pearl;
mod proxyclip;
mod resclip;
mod scclip;
mod sclip;

use anyhow::{Result, bail};
use tch::Tensor;

use super::config::Family;
use super::helper::Helper;
use super::options::Options;
use super::preprocess::Normalisation;
use super::vision::{Trunk, VisionTower, Wanted};

/// A method as the user names it, with its switches (`key=value,key=value`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodSpec {
    pub name: String,
    pub options: String,
}

impl Default for MethodSpec {
    fn default() -> Self {
        MethodSpec { name: "gclip".into(), options: String::new() }
    }
}

/// One way to get patch features that match text out of CLIP's last block.
///
/// Shapes: N pictures, h x w patches, L = 1 + h w tokens, D width, E joint width, Q queries.
pub trait Method: Send {
    /// What the tower must keep from the blocks before the last.
    fn wanted(&self) -> Wanted {
        Wanted::default()
    }

    /// Whether it goes with towers other than CLIP's, as published code does it or as they were trained.
    fn takes_any_tower(&self) -> bool {
        false
    }

    /// Whether it needs a helper model beside CLIP; others must not be given one.
    fn reads_helper(&self) -> bool {
        false
    }

    /// Takes its helper model; `normalisation` is that of the pictures that the tower reads.
    fn take_helper(&mut self, helper: Helper, normalisation: Normalisation) {
        let _ = (helper, normalisation);
    }

    /// What its helper model sees of pictures as the tower reads them, `[N, 3, H, W]`, by patch: `[N, h' w', C]`. `None` without one.
    fn helper_sees(&self, input: &Tensor, grid: (i64, i64)) -> Result<Option<Tensor>> {
        let _ = (input, grid);
        Ok(None)
    }

    /// Rows and columns of the features.
    fn grid(&self, trunk: &Trunk) -> Result<(i64, i64)> {
        Ok(trunk.grid)
    }

    /// Edits the tower's weights, or learns something from them; called once, before the first picture.
    fn prepare(&mut self, tower: &mut VisionTower) -> Result<()> {
        let _ = tower;
        Ok(())
    }

    /// Patch features `[N, h w, E]`, f32, rows of unit length, on its [grid](Self::grid).
    fn features(&self, tower: &VisionTower, trunk: &Trunk) -> Result<Tensor>;

    /// As [`Method::features`] for a batch of one picture, of some of its tokens: `rows` `[R]`, where 0 is the class token and
    /// none is asked for, `[R, E]`. `None`: this method's last block needs all of them.
    fn features_of(&self, tower: &VisionTower, trunk: &Trunk, rows: &Tensor) -> Result<Option<Tensor>> {
        let _ = (tower, trunk, rows);
        Ok(None)
    }

    /// Logits of picture `n` of the batch against queries `[Q, E]`: `[Q, h, w]`, f32, on the scale of cosines; `[Q, H, W]`
    /// of the input's size where a method decides by the pixel. `features` is what the method of that name returned.
    fn logits(
        &self,
        tower: &VisionTower,
        trunk: &Trunk,
        features: &Tensor,
        n: i64,
        queries: &Tensor,
    ) -> Result<Tensor> {
        let _ = tower;
        cosines(&features.f_select(0, n)?, queries, self.grid(trunk)?)
    }

    /// Whether [`logits`](Self::logits) is that of this trait: then those of a whole batch are one product.
    fn compares_patches(&self) -> bool {
        true
    }

    /// The method with every option it resolved to, such as `gclip(fuse=6+7,suppress=7-10)`.
    fn describe(&self) -> String;
}

/// `[h w, E]` x `[Q, E] -> [Q, h, w]`
pub fn cosines(features: &Tensor, queries: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
    let (q, _) = queries.size2()?;
    Ok(queries.f_matmul(&features.f_transpose(0, 1)?)?.f_reshape([q, h, w])?)
}

/// Of every picture at once: `[N, h w, E]` x `[Q, E] -> [N, Q, h, w]`.
pub fn cosines_of_all(features: &Tensor, queries: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
    let ((n, _, _), (q, _)) = (features.size3()?, queries.size2()?);
    Ok(queries.f_matmul(&features.f_transpose(1, 2)?)?.f_reshape([n, q, h, w])?)
}

/// Whether `method` and the helper model that was named for it go together.
///
/// # Errors
/// It needs one and there is none, or the other way around.
pub fn check_helper(method: &dyn Method, spec: &MethodSpec, helper: Option<&str>) -> Result<()> {
    let name = &spec.name;
    match (method.reads_helper(), helper) {
        (true, None) => bail!(
            "method {name} needs a helper model beside CLIP: set helper-model to a DINO or DINOv2 in Hugging Face's format, \
             such as facebook/dinov2-small"
        ),
        (false, Some(helper)) => bail!(
            "method {name} reads no helper model, and helper-model is {helper}: leave it out, or use method proxyclip"
        ),
        _ => Ok(()),
    }
}

/// Whether `method` can be had of a network of this family.
///
/// # Errors
/// It is made for CLIP's tower, and this is another.
pub fn check_family(method: &dyn Method, spec: &MethodSpec, family: Family) -> Result<()> {
    if family == Family::Clip || method.takes_any_tower() {
        return Ok(());
    }
    bail!(
        "method {} is made for CLIP's vision tower, and this checkpoint is a {}: use method maskclip (each patch by its own value, as \
         TIPSv2 is published) or clip (as it was trained)",
        spec.name,
        family.name()
    )
}

type Build = fn(&mut Options, usize) -> Result<Box<dyn Method>>;

/// Every method by name. A builder gets the options and the number of blocks.
const METHODS: [(&str, Build); 11] = [
    ("gclip", gclip::build),
    ("clip", clip::build),
    ("maskclip", maskclip::build),
    ("sclip", sclip::build),
    ("clearclip", clearclip::build),
    ("naclip", naclip::build),
    ("resclip", resclip::build),
    ("scclip", scclip::build),
    ("pearl", pearl::build),
    ("proxyclip", proxyclip::build),
    ("cliptrase", cliptrase::build),
];

/// The names a user can choose from.
pub fn names() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|(name, _)| *name)
}

/// Builds a method for a tower of `depth` blocks.
pub fn build(spec: &MethodSpec, depth: usize) -> Result<Box<dyn Method>> {
    let Some((name, build)) = METHODS.iter().find(|(name, _)| *name == spec.name) else {
        bail!("unknown method {:?}: use one of {}", spec.name, names().collect::<Vec<_>>().join(", "));
    };
    let mut options = Options::parse("method", name, &spec.options)?;
    let method = build(&mut options, depth)?;
    options.finish()?;
    Ok(method)
}

#[cfg(test)]
pub(super) mod tests;
