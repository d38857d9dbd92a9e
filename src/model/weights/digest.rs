// SPDX-License-Identifier: MIT OR Apache-2.0
//! What weights are known by: SHA-256 over their tensors, whatever files they lie in and in which order.

use std::collections::BTreeMap;

use anyhow::Result;
use sha2::{Digest, Sha256};
use tch::Tensor;

/// One digest a tensor, by the name it has in the file.
#[derive(Default)]
pub struct Digests(BTreeMap<String, Vec<u8>>);

impl Digests {
    pub fn add(&mut self, name: &str, shape: &[i64], bytes: &[u8]) {
        let mut hash = Sha256::new();
        hash.update(format!("{name} {shape:?} "));
        hash.update(bytes);
        self.0.insert(name.into(), hash.finalize().to_vec());
    }

    pub fn add_tensor(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let element = tensor.f_kind()?.elt_size_in_bytes();
        let mut bytes = vec![0; tensor.numel() * element];
        tensor.f_contiguous()?.f_copy_data_u8(&mut bytes, tensor.numel())?;
        self.add(name, &tensor.size(), &bytes);
        Ok(())
    }

    /// Of the vision tower alone, in hex.
    pub fn of_vision(&self) -> String {
        // visual.*, or Hugging Face's vision_model.* and visual_projection.
        self.combined(|name| name.starts_with("vis"), "")
    }

    /// Of all tensors and of `config`, which the weights do not tell, in hex.
    pub fn of_all(&self, config: &str) -> String {
        self.combined(|_| true, config)
    }

    fn combined(&self, chosen: impl Fn(&str) -> bool, config: &str) -> String {
        let mut hash = Sha256::new();
        for digest in self.0.iter().filter(|(name, _)| chosen(name)).map(|(_, digest)| digest) {
            hash.update(digest);
        }
        hash.update(config);
        format!("{:x}", hash.finalize())
    }
}
