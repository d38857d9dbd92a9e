// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checkpoints: three file formats to one set of tensors under openai/CLIP's names, with a checked architecture.

mod architecture;
mod digest;
mod folder;
mod locate;
mod names;
mod safetensors_file;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tch::{CModule, Device, Kind, Tensor};

use super::config::{self, Architecture, Family, Hints};
use super::preprocess::Normalisation;
pub(super) use architecture::{agree, patch_grid};
use digest::Digester;
pub use folder::Folder;
pub use locate::{Files, hub_cache, locate};
pub(super) use names::{fold_scales, join_attention};

/// Largest JSON file that is read: configs are some kilobytes, tokenizers a few megabytes.
const MAX_JSON: u64 = 16 << 20;
/// Gemma's, which SigLIP 2 has, takes 34 MB.
#[cfg(feature = "tokenizers")]
const MAX_TOKENIZER: u64 = 128 << 20;

/// Where a Hugging Face folder says how it wants its pictures: the first that is there counts. The second is what
/// transformers 5 writes.
pub const PREPROCESSORS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Tensors that change no feature: the scale and shift of cosines, a mask that is the same for all, a token for masked training.
pub fn harmless(family: Family) -> &'static [&'static str] {
    match family {
        Family::Clip | Family::Siglip => &["logit_scale", "logit_bias", "attn_mask"],
        Family::Tips => &["temperature", "mask_token"],
    }
}
/// Counts up from 0 in every checkpoint.
const POSITION_IDS: &str = "position_ids";

/// A checkpoint read into memory: its architecture, and its tensors to be taken one by one.
pub struct Checkpoint {
    pub files: Files,
    pub architecture: Architecture,
    pub normalisation: Normalisation,
    /// Multiplies cosines before the softmax over queries: `exp(logit_scale)` of the checkpoint.
    pub logit_scale: Option<f64>,
    pub weights: Weights,
    /// SHA-256 of the weights (and of what the config adds to them), in hex.
    pub hash: String,
    /// SHA-256 of the vision tower's weights, in hex.
    pub vision_hash: String,
}

impl Checkpoint {
    /// Reads the checkpoint that `model` names. Errors name the file and the cause.
    pub fn open(model: &str) -> Result<Checkpoint> {
        let files = locate(model)?;
        let digests = Digester::start()?;
        let (weights, hints) = match &files {
            Files::HuggingFace { folder } => {
                let folder = Folder::at(folder.clone());
                let mut hints = folder.read_config(config::hugging_face)?;
                folder.read_preprocessor(&mut hints)?;
                let rename = match hints.family {
                    Family::Clip | Family::Siglip => names::from_hugging_face,
                    Family::Tips => names::from_tips,
                };
                (folder.weights(&digests, rename)?, hints)
            }
            Files::OpenClip { folder } => {
                let hints = read_config(&folder.join("open_clip_config.json"), config::open_clip)?;
                let weights = read_safetensors(&[folder.join("open_clip_model.safetensors")], &digests)?;
                (weights.map(|tensors| Ok(names::from_open_clip(tensors)))?, hints)
            }
            Files::TorchScript { file } => (read_torchscript(file, &digests)?, Hints::default()),
        };
        let architecture = architecture::check(&weights, &hints).with_context(|| weights.source())?;
        let digests = digests.finish()?;
        // The same weights under another activation or epsilon give other embeddings.
        let hash = digests.of_all(&format!("{:?}", architecture.text));
        let scale = weights.optional_scalar("logit_scale")?.map(f64::exp);
        let temperature = weights.optional_scalar("temperature")?.or(hints.temperature);
        let temperature = temperature.filter(|&temperature| temperature > 0.0);
        let logit_scale = scale.or_else(|| temperature.map(f64::recip));
        Ok(Checkpoint {
            files,
            architecture,
            normalisation: hints.normalisation,
            logit_scale,
            weights,
            hash,
            vision_hash: digests.of_vision(),
        })
    }
}

/// Tensors under canonical names. Taking one removes it, so that no weight is held twice for long.
pub struct Weights {
    file: PathBuf,
    tensors: HashMap<String, Tensor>,
    /// Names of tensors of whole numbers, which are not read.
    whole_numbers: Vec<String>,
}

impl Weights {
    fn map(
        self,
        rename: impl FnOnce(HashMap<String, Tensor>) -> Result<HashMap<String, Tensor>>,
    ) -> Result<Weights> {
        let tensors = rename(self.tensors).with_context(|| unreadable(&self.file))?;
        Ok(Weights { tensors, ..self })
    }

    fn source(&self) -> String {
        unreadable(&self.file)
    }

    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        self.tensors.get(name).map(Tensor::size)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Takes tensor `name` as f32. It must have this shape and hold finite numbers only.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let Some(tensor) = self.tensors.remove(name) else {
            bail!("{}: tensor {name} is missing", self.source());
        };
        if tensor.size() != shape {
            bail!("{}: tensor {name} has shape {:?}, expected {shape:?}", self.source(), tensor.size());
        }
        let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
        // One sum finds every NaN and infinity in a single pass.
        if !tensor.f_sum(Kind::Float)?.f_double_value(&[])?.is_finite() {
            bail!("{}: tensor {name} holds numbers that are not finite (NaN or infinity)", self.source());
        }
        Ok(tensor)
    }

    /// How many blocks there are whose tensors' names are `prefix` and a number, counted from 0.
    pub fn blocks(&self, prefix: &str) -> i64 {
        let index = |name: &str| name.strip_prefix(prefix)?.split_once('.')?.0.parse::<i64>().ok();
        self.names().filter_map(index).max().map_or(0, |last| last.saturating_add(1))
    }

    /// To be asked when all of `network`, such as a CLIP, is loaded: what is left is either `harmless`, or part of a network
    /// that has not been built.
    ///
    /// # Errors
    /// There is a tensor that nothing took; it is named.
    pub fn refuse_unused(&self, network: &str, harmless: &[&str]) -> Result<()> {
        let whole_numbers = self.whole_numbers.iter().filter(|name| !name.ends_with(POSITION_IDS));
        let unused = self.tensors.keys().filter(|name| !harmless.contains(&name.as_str()));
        let mut unused: Vec<&str> = unused
            .filter(|name| !name.ends_with(POSITION_IDS))
            .chain(whole_numbers)
            .map(String::as_str)
            .collect();
        unused.sort_unstable();
        let Some((first, others)) = unused.split_first() else { return Ok(()) };
        let others = match others.len() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        bail!(
            "{}: nothing of {network} takes its tensor {first}{others}: it belongs to another network",
            self.source()
        )
    }

    fn optional_scalar(&self, name: &str) -> Result<Option<f64>> {
        match self.tensors.get(name) {
            Some(tensor) if tensor.numel() == 1 => Ok(Some(tensor.f_reshape([1])?.f_double_value(&[0])?)),
            _ => Ok(None),
        }
    }
}

fn unreadable(file: &Path) -> String {
    format!("cannot use {}", file.display())
}

fn read_config<T>(file: &Path, parse: fn(&str) -> Result<T>) -> Result<T> {
    parse(&read_small(file)?).with_context(|| unreadable(file))
}

/// Reads a text file that should be small; a huge one is refused before it fills the memory.
pub(super) fn read_small(file: &Path) -> Result<String> {
    read_at_most(file, MAX_JSON)
}

/// As [`read_small`], of a tokenizer with some hundred thousand tokens.
#[cfg(feature = "tokenizers")]
pub(super) fn read_long(file: &Path) -> Result<String> {
    read_at_most(file, MAX_TOKENIZER)
}

fn read_at_most(file: &Path, most: u64) -> Result<String> {
    let mut text = String::new();
    let mut read = || -> Result<()> {
        let reader = File::open(file)?;
        let length = reader.metadata()?.len();
        if length > most {
            bail!("the file has {length} bytes, which is too large for a JSON file of a checkpoint");
        }
        reader.take(most).read_to_string(&mut text)?;
        Ok(())
    };
    read().with_context(|| unreadable(file))?;
    Ok(text)
}

fn read_safetensors(files: &[PathBuf], digests: &Digester) -> Result<Weights> {
    let file = files.first().cloned().unwrap_or_default();
    let mut weights = Weights { file, tensors: HashMap::new(), whole_numbers: Vec::new() };
    for file in files {
        let whole_numbers = safetensors_file::read(file, &mut weights.tensors, digests);
        weights.whole_numbers.extend(whole_numbers.with_context(|| unreadable(file))?);
    }
    Ok(weights)
}

/// OpenAI's released files are TorchScript archives whose parameters bear the canonical names.
fn read_torchscript(file: &Path, digests: &Digester) -> Result<Weights> {
    File::open(file).with_context(|| unreadable(file))?;
    let parameters = CModule::load_on_device(file, Device::Cpu)
        .and_then(|module| module.named_parameters())
        // libtorch's own message is a page of C++ frames.
        .map_err(|_| {
            anyhow::anyhow!("{}: it is no TorchScript archive, or it is damaged", unreadable(file))
        })?;
    let mut tensors = HashMap::new();
    for (name, tensor) in parameters {
        digests.add_tensor(&name, &tensor)?;
        tensors.insert(name, tensor.f_detach()?);
    }
    Ok(Weights { file: file.into(), tensors, whole_numbers: Vec::new() })
}
