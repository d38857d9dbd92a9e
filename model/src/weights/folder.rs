// SPDX-License-Identifier: MIT OR Apache-2.0
//! A Hugging Face folder of any network: its config, how it wants its pictures, its tensors.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Tensor;

use super::digest::Digester;
use super::{
    PREPROCESSORS, Weights, read_config, read_safetensors, read_small, safetensors_file, unreadable,
};
use crate::config::Hints;

pub struct Folder(PathBuf);

impl Folder {
    pub fn at(folder: PathBuf) -> Folder {
        Folder(folder)
    }

    /// What `parse` makes of `config.json`.
    pub fn read_config<T>(&self, parse: fn(&str) -> Result<T>) -> Result<T> {
        read_config(&self.0.join("config.json"), parse)
    }

    /// Takes over what the preprocessor's file says, if there is one.
    pub fn read_preprocessor(&self, hints: &mut Hints) -> Result<()> {
        let [preprocessor, processor] = PREPROCESSORS.map(|name| self.0.join(name));
        if preprocessor.is_file() {
            let json = read_small(&preprocessor)?;
            hints.read_preprocessor(&json).with_context(|| unreadable(&preprocessor))?;
        } else if processor.is_file() {
            let json = read_small(&processor)?;
            hints.read_processor(&json).with_context(|| unreadable(&processor))?;
        }
        Ok(())
    }

    /// Its tensors under the names that `rename` gives them.
    pub fn weights(
        &self,
        digests: &Digester,
        rename: impl FnOnce(HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>>,
    ) -> Result<Weights> {
        let shards = safetensors_file::files_of(&self.0)?;
        read_safetensors(&shards, digests)?.map(rename)
    }

    /// As [`weights`](Self::weights), with their SHA-256 in hex.
    pub fn weights_and_hash(
        &self,
        rename: impl FnOnce(HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>>,
    ) -> Result<(Weights, String)> {
        let digests = Digester::start()?;
        let weights = self.weights(&digests, rename)?;
        Ok((weights, digests.finish()?.of_all("")))
    }
}
