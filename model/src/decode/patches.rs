// SPDX-License-Identifier: MIT OR Apache-2.0
//! Logits that are made of patches.

use anyhow::Result;
use tch::Tensor;

use super::Logits;

/// Logits that were computed patch by patch, and can be replaced so.
pub trait PatchLogits: Logits {
    /// Cosines, `[..., Q, rows, columns]`.
    fn patches(&self) -> &Tensor;

    /// The same look with other cosines of the same size.
    fn with_patches(&self, patches: Tensor) -> Box<dyn PatchLogits>;

    /// The mean of a map `[1, 1, H, W]` over each patch's pixels, to be broadcast over [`patches`](Self::patches).
    fn per_patch(&self, map: &Tensor) -> Result<Tensor>;
}

/// A whole picture, `[Q, h, w]`.
impl PatchLogits for Tensor {
    fn patches(&self) -> &Tensor {
        self
    }

    fn with_patches(&self, patches: Tensor) -> Box<dyn PatchLogits> {
        Box::new(patches)
    }

    fn per_patch(&self, map: &Tensor) -> Result<Tensor> {
        let [_, rows, columns] = self.size()[..] else { anyhow::bail!("logits of {} axes", self.dim()) };
        Ok(map.f_adaptive_avg_pool2d([rows, columns])?.f_squeeze_dim(0)?) // [1, 1, H, W] -> [1, h, w]
    }
}
