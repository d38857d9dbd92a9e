// SPDX-License-Identifier: MIT OR Apache-2.0
//! A file of exemplars: what a model saw in the pictures, so that they are not needed any more.
//!
//! Safetensors: for class k (from 0) `positives.k` f32 `[n, dim]`, `places.k` i64 `[n, 3]` (picture, row, column) and
//! `negatives.k` f32 `[m, dim]`; in the metadata `format`, `model` (hash of the vision tower), `method` (with its options), and
//! `labels` as a JSON list.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use super::{Exemplar, Exemplars, MAX_NEGATIVES, MAX_POSITIVES, Place};
use crate::ModelInfo;
use crate::embeddings::{floats, write_whole};

const FORMAT: &str = "gclip exemplars 1";

impl Exemplars {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut parts: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (index, class) in self.classes.iter().enumerate() {
            let bytes =
                |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
            let rows = |values: &[f32]| vec![values.len() / self.dim, self.dim];
            let places = class.places.iter().flat_map(|place| [place.picture, place.row, place.column]);
            let places = places.flat_map(|value| i64::from(value).to_le_bytes()).collect();
            let (positives, negatives) = (&class.positives, &class.negatives);
            parts.push((format!("positives.{index}"), Dtype::F32, rows(positives), bytes(positives)));
            parts.push((format!("places.{index}"), Dtype::I64, vec![class.places.len(), 3], places));
            parts.push((format!("negatives.{index}"), Dtype::F32, rows(negatives), bytes(negatives)));
        }
        let tensors = parts.iter().map(|(name, kind, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*kind, shape.clone(), bytes)?))
        });
        let labels: Vec<&str> = self.labels().collect();
        let header = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("model".to_string(), self.model.clone()),
            ("method".to_string(), self.method.clone()),
            ("labels".to_string(), serde_json::to_string(&labels)?),
        ]);
        write_whole(path, &serialize(tensors.collect::<Result<Vec<_>>>()?, Some(header))?)
            .with_context(|| format!("cannot write the exemplars to {}", path.display()))
    }

    /// The labels of a file, whatever model it is for.
    ///
    /// # Errors
    /// As [`Exemplars::load`].
    pub fn labels_in(path: &Path) -> Result<Vec<String>> {
        Ok(read(path)?.classes.into_iter().map(|class| class.label).collect())
    }

    /// # Errors
    /// No such file, no file of exemplars, damaged, or made with other weights or another method: one sentence with the path.
    pub fn load(path: &Path, info: &ModelInfo) -> Result<Exemplars> {
        let exemplars = read(path)?;
        let again = "make them again with `gclip exemplar`";
        if exemplars.model != info.vision_hash {
            let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_string();
            bail!(
                "the exemplars in {} were made with other weights ({}) than this model's ({}): {again}",
                path.display(),
                short(&exemplars.model),
                short(&info.vision_hash)
            );
        }
        if exemplars.method != info.method {
            bail!(
                "the exemplars in {} were made with method {}, and this model looks with {}: {again}",
                path.display(),
                exemplars.method,
                info.method
            );
        }
        Ok(exemplars)
    }
}

fn read(path: &Path) -> Result<Exemplars> {
    let bytes =
        std::fs::read(path).with_context(|| format!("cannot read the exemplars in {}", path.display()))?;
    parse(&bytes).with_context(|| format!("{} is not a usable file of exemplars", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Exemplars> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let header = header.metadata().clone().unwrap_or_default();
    let text = |key: &str| header.get(key).with_context(|| format!("it has no {key}"));
    ensure!(text("format")? == FORMAT, "it has another format");
    let labels: Vec<String> = serde_json::from_str(text("labels")?)?;
    ensure!(!labels.is_empty(), "it has no class");
    let file = SafeTensors::deserialize(bytes)?;
    let mut dim = None;
    let mut classes = Vec::with_capacity(labels.len());
    for (index, label) in labels.into_iter().enumerate() {
        let mut features = |name: &str, most: usize| -> Result<Vec<f32>> {
            let tensor = file.tensor(&format!("{name}.{index}"))?;
            let [rows, width] = *tensor.shape() else { bail!("its {name} are no matrix") };
            let same = *dim.get_or_insert(width) == width;
            ensure!(tensor.dtype() == Dtype::F32 && same && width > 0, "its {name} are of another kind");
            ensure!(rows <= most, "it has {rows} {name} of \"{label}\", more than {most}");
            let values = floats(tensor.data());
            for row in values.chunks(width) {
                let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
                ensure!((length - 1.0).abs() < 1e-3, "it has features that are not of unit length");
            }
            Ok(values)
        };
        let positives = features("positives", MAX_POSITIVES)?;
        let negatives = features("negatives", MAX_NEGATIVES)?;
        let places = file.tensor(&format!("places.{index}"))?;
        let count = positives.len() / dim.unwrap_or(1);
        ensure!(
            count > 0 && places.dtype() == Dtype::I64 && places.shape() == [count, 3],
            "its parts do not fit each other"
        );
        let numbers =
            places.data().as_chunks::<8>().0.iter().map(|word| u32::try_from(i64::from_le_bytes(*word)));
        let numbers = numbers.collect::<Result<Vec<u32>, _>>().context("a place is none")?;
        let place = |&[picture, row, column]: &[u32; 3]| Place { picture, row, column };
        let places = numbers.as_chunks::<3>().0.iter().map(place).collect();
        classes.push(Exemplar { label, positives, places, negatives });
    }
    Ok(Exemplars {
        model: text("model")?.clone(),
        method: text("method")?.clone(),
        dim: dim.context("it has no features")?,
        classes,
    })
}
