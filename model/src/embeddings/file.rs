// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of embeddings: an encoded vocabulary with the identity of the weights it belongs to, so that a
//! checkpoint without a text tower can segment too.
//!
//! Safetensors: `features` f32 `[queries, dim]`, `query_class` i64 `[queries]` (mask value; 0 = background), and in
//! the metadata `format`, `model` (hash of the weights), `templates`, and `labels` and `names` as JSON lists.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use super::disk::floats;
use crate::vocabulary::{MAX_CLASSES, Prompts, Vocabulary};

const FORMAT: &str = "gclip embeddings 1";

/// A vocabulary as it is stored: with the name behind each query and what it was made with.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Hash of the weights of the text tower's model.
    pub model: String,
    /// What the names were put into, as the user wrote it or as [`crate::Templates::id`] names it.
    pub templates: String,
    /// The name of each query.
    pub names: Vec<String>,
    pub vocabulary: Vocabulary,
}

impl Embeddings {
    /// Labels a vocabulary built from `prompts` with what it belongs to.
    pub fn new(
        model: &str,
        templates: &str,
        prompts: &Prompts,
        vocabulary: &Vocabulary,
    ) -> Result<Embeddings> {
        let names: Vec<String> = prompts.queries().map(|(name, _)| name.to_string()).collect();
        ensure!(names.len() == vocabulary.queries(), "the vocabulary was built from other prompts");
        Ok(Embeddings {
            model: model.to_string(),
            templates: templates.to_string(),
            names,
            vocabulary: vocabulary.clone(),
        })
    }

    /// Writes the file whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let vocabulary = &self.vocabulary;
        let features: Vec<u8> = vocabulary.features.iter().flat_map(|value| value.to_le_bytes()).collect();
        let classes: Vec<u8> =
            vocabulary.query_value.iter().flat_map(|&value| i64::from(value).to_le_bytes()).collect();
        let queries = vocabulary.queries();
        let tensors = [
            ("features", TensorView::new(Dtype::F32, vec![queries, vocabulary.dim], &features)?),
            ("query_class", TensorView::new(Dtype::I64, vec![queries], &classes)?),
        ];
        let header = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("model".to_string(), self.model.clone()),
            ("templates".to_string(), self.templates.clone()),
            ("labels".to_string(), serde_json::to_string(&vocabulary.labels)?),
            ("names".to_string(), serde_json::to_string(&self.names)?),
        ]);
        write_whole(path, &serialize(tensors, Some(header))?)
            .with_context(|| format!("cannot write the embeddings to {}", path.display()))
    }

    /// Reads a file for the model whose vision tower has hash `model` (`ModelInfo::vision_hash`), and features `dim` wide.
    ///
    /// # Errors
    /// No such file, not an embeddings file, damaged, or made with other weights: one sentence with the path.
    pub fn load(path: &Path, model: &str, dim: usize) -> Result<Embeddings> {
        let bytes =
            fs::read(path).with_context(|| format!("cannot read the embeddings file {}", path.display()))?;
        let embeddings =
            parse(&bytes).with_context(|| format!("{} is not a usable embeddings file", path.display()))?;
        if embeddings.model != model {
            bail!(
                "the embeddings in {} were made with other weights ({}) than this model's ({}): make them again with `gclip text`",
                path.display(),
                short(&embeddings.model),
                short(model)
            );
        }
        if embeddings.vocabulary.dim != dim {
            bail!(
                "the embeddings in {} are {} wide, the model's {dim}",
                path.display(),
                embeddings.vocabulary.dim
            );
        }
        Ok(embeddings)
    }

    /// The vocabulary of prompts whose names are all in the file.
    pub fn select(&self, prompts: &Prompts) -> Result<Vocabulary> {
        let dim = self.vocabulary.dim;
        let rows: HashMap<&str, &[f32]> =
            self.names.iter().map(String::as_str).zip(self.vocabulary.features.chunks(dim)).collect();
        Vocabulary::from_names(prompts, dim, |names| {
            let mut features = Vec::with_capacity(names.len() * dim);
            for name in names {
                let row = rows.get(name.as_str());
                let row = row.with_context(|| format!("the embeddings file has no \"{name}\""))?;
                features.extend_from_slice(row);
            }
            Ok(features)
        })
    }
}

fn parse(bytes: &[u8]) -> Result<Embeddings> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let header = header.metadata().clone().unwrap_or_default();
    let text = |key: &str| header.get(key).with_context(|| format!("it has no {key}"));
    ensure!(text("format")? == FORMAT, "it has another format");
    let labels: Vec<String> = serde_json::from_str(text("labels")?)?;
    let names: Vec<String> = serde_json::from_str(text("names")?)?;
    let file = SafeTensors::deserialize(bytes)?;
    let (features, classes) = (file.tensor("features")?, file.tensor("query_class")?);
    let queries = names.len();
    ensure!(
        features.dtype() == Dtype::F32 && classes.dtype() == Dtype::I64,
        "its tensors are of another type"
    );
    let [rows, dim] = *features.shape() else { bail!("its features are no matrix") };
    ensure!(rows == queries && dim > 0 && classes.shape() == [queries], "its parts do not fit each other");
    ensure!(!labels.is_empty() && labels.len() <= MAX_CLASSES, "it names {} classes", labels.len());
    let query_value = classes
        .data()
        .chunks_exact(8)
        .map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            let value =
                usize::try_from(i64::from_le_bytes(bytes)).ok().filter(|&value| value <= labels.len());
            Ok(value.context("a query belongs to no class")? as u32)
        })
        .collect::<Result<Vec<_>>>()?;
    let features = floats(features.data());
    for row in features.chunks(dim) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        ensure!((norm - 1.0).abs() < 1e-3, "it has features that are not of unit length");
    }
    Ok(Embeddings {
        model: text("model")?.clone(),
        templates: text("templates")?.clone(),
        names,
        vocabulary: Vocabulary { labels, query_value, features, dim, ..Vocabulary::default() },
    })
}

/// Writes beside the target and renames, so that no reader and no crash ever leaves half a file.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().context("it names no file")?;
    let temporary = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing of a failed attempt stays; the first error is the one that matters.
        let _ = fs::remove_file(&temporary);
    }
    Ok(written?)
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
