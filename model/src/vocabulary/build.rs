// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prompts and a text encoder to a vocabulary: every name in every template, normalised, averaged, normalised.

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::{Prompts, Synonyms, Templates, Vocabulary};

/// Texts handed to the encoder at a time, so that 10,000 prompts in 80 templates stay small in memory.
const TEXTS_AT_A_TIME: usize = 2560;

impl Prompts {
    /// Neither a class nor a background name.
    pub fn names_nothing(&self) -> bool {
        self.classes.is_empty() && self.background.is_empty()
    }

    /// Every name with the mask value it votes for: classes in order, then background (value 0).
    pub(crate) fn queries(&self) -> impl Iterator<Item = (&str, u32)> {
        let classes = (1u32..).zip(&self.classes);
        let classes =
            classes.flat_map(|(value, class)| class.names.iter().map(move |name| (name.as_str(), value)));
        classes.chain(self.background.iter().map(|name| (name.as_str(), 0)))
    }
}

impl Vocabulary {
    /// Encodes prompts. `encode` turns texts into `[texts, dim]` row-major features of unit length.
    pub fn build(
        prompts: &Prompts,
        templates: &Templates,
        dim: usize,
        encode: &mut dyn FnMut(&[String]) -> Result<Vec<f32>>,
    ) -> Result<Vocabulary> {
        Vocabulary::from_names(prompts, dim, |names| name_features(names, templates, dim, encode))
    }

    /// Assembles a vocabulary from any source of name features, such as a cache. `features` is called once, with
    /// every distinct name, and returns `[names, dim]` row-major, each row of unit length.
    pub fn from_names(
        prompts: &Prompts,
        dim: usize,
        features: impl FnOnce(&[String]) -> Result<Vec<f32>>,
    ) -> Result<Vocabulary> {
        let mut names: Vec<String> = Vec::new();
        let mut row_of: HashMap<&str, usize> = HashMap::new();
        let mut queries: Vec<(u32, usize)> = Vec::new();
        for (name, value) in prompts.queries() {
            let row = *row_of.entry(name).or_insert_with(|| {
                names.push(name.to_string());
                names.len() - 1
            });
            queries.push((value, row));
        }
        if queries.is_empty() {
            bail!("the prompts name nothing");
        }
        let by_name = features(&names)?;
        check_rows(&by_name, names.len(), dim)?;
        let of_name = |(_, row): &(u32, usize)| &by_name[row * dim..(row + 1) * dim];
        let (mut features, mut query_value) = (Vec::with_capacity(queries.len() * dim), Vec::new());
        for class in queries.chunk_by(|(a, _), (b, _)| a == b) {
            let (value, row) = class[0];
            let of_class: Vec<f32> = class.iter().flat_map(of_name).copied().collect();
            // Names of the background are no synonyms of each other.
            if prompts.synonyms == Synonyms::Mean && value > 0 && class.len() > 1 {
                features.extend(mean_direction(&names[row], &of_class, dim)?);
                query_value.push(value);
            } else {
                features.extend(of_class);
                query_value.extend(class.iter().map(|_| value));
            }
        }
        let labels: Vec<String> = prompts.classes.iter().map(|class| class.label.clone()).collect();
        let thresholds = match prompts.thresholds.is_empty() {
            true => Vec::new(),
            false => labels.iter().map(|label| prompts.thresholds.of(label)).collect(),
        };
        Ok(Vocabulary { labels, query_value, features, dim, thresholds, ..Vocabulary::default() })
    }

    /// Number of queries: rows of `features`.
    pub fn queries(&self) -> usize {
        self.query_value.len()
    }
}

/// Features of names, `[names, dim]` row-major: each name in every template, each text's feature of unit length,
/// their mean, scaled to unit length again (openai/CLIP, "Prompt Engineering for ImageNet").
pub fn name_features(
    names: &[String],
    templates: &Templates,
    dim: usize,
    encode: &mut dyn FnMut(&[String]) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let sentences = templates.len();
    let mut features = Vec::with_capacity(names.len() * dim);
    for chunk in names.chunks((TEXTS_AT_A_TIME / sentences.max(1)).max(1)) {
        let texts: Vec<String> = chunk.iter().flat_map(|name| templates.fill(name)).collect();
        let encoded = encode(&texts)?; // [names x sentences, dim]
        check_rows(&encoded, texts.len(), dim)?;
        for (name, rows) in chunk.iter().zip(encoded.chunks(sentences * dim)) {
            features.extend(mean_direction(name, rows, dim)?); // [sentences, dim] -> [dim]
        }
    }
    Ok(features)
}

fn mean_direction(name: &str, rows: &[f32], dim: usize) -> Result<Vec<f32>> {
    let mut sum = vec![0f64; dim];
    for row in rows.chunks(dim) {
        let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        for (total, &x) in sum.iter_mut().zip(row) {
            *total += f64::from(x) / norm;
        }
    }
    let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    if !norm.is_finite() || norm == 0.0 {
        bail!("the text encoder gives no usable feature for \"{name}\"");
    }
    Ok(sum.iter().map(|x| (x / norm) as f32).collect())
}

fn check_rows(features: &[f32], rows: usize, dim: usize) -> Result<()> {
    if dim == 0 || features.len() != rows * dim {
        bail!("the text encoder gave {} numbers for {rows} texts of width {dim}", features.len());
    }
    Ok(())
}
