// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prompts: the grammar users type, the templates around each name, and the vocabulary that scores patches.
//!
//! ```text
//! "person, man; car"  --grammar-->  Prompts  --templates, text encoder-->  Vocabulary [queries, dim]
//! ```

mod build;
mod descriptions;
mod doubts;
mod enrich;
mod grammar;
mod imagenet;
mod lists;
mod synonyms;
mod templates;
#[cfg(test)]
mod tests;
mod thresholds;

use std::ops::Range;

pub use build::name_features;
pub use descriptions::Descriptions;
pub use grammar::MAX_CLASSES;
pub use synonyms::Synonyms;
pub use templates::Templates;
pub use thresholds::Thresholds;

/// What to look for, as parsed from the prompt grammar by [`Prompts::parse`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompts {
    /// Foreground classes in order; mask value n is `classes[n - 1]`.
    pub classes: Vec<Class>,
    /// Names that compete for pixels and come out as 0.
    pub background: Vec<String>,
    /// Of single classes, by label.
    pub thresholds: Thresholds,
    /// What the names of a class are to each other.
    pub synonyms: Synonyms,
}

/// One class: its label and every name (label included) that votes for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub label: String,
    pub names: Vec<String>,
}

/// Encoded prompts: plain data, shared by reference with every frame they score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// Label of mask value n at index n - 1.
    pub labels: Vec<String>,
    /// For each query, the mask value it votes for (0 = background). Classes come first, background last.
    pub query_value: Vec<u32>,
    /// `[queries, dim]` row-major, each row of unit length.
    pub features: Vec<f32>,
    pub dim: usize,
    /// Least probability of the class of mask value n at index n - 1; `None`, or nothing there: that of all classes.
    pub thresholds: Vec<Option<f64>>,
    /// Queries that pictures have a part in; see [`exemplars`](crate::exemplars).
    pub pictured: Vec<Pictured>,
    /// What is looked at for damage, beside the classes.
    pub suspects: Vec<Suspect>,
    /// Mask value of the class that they are looked for in; `None`: everywhere.
    pub within: Option<u32>,
}

/// A thing that is looked at for damage; see [`anomaly`](crate::anomaly).
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    pub label: String,
    pub pair: Pair,
}

/// A thing in both states, as the text tower gives them: `[2, E]` row-major, sound and damaged, each of unit length.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub features: Vec<f32>,
}

/// Queries whose cosines are not the whole score.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictured {
    pub queries: Range<usize>,
    pub scoring: Scoring,
}

/// From the cosines of a query to its score. Descriptors are `[n, dim]`, rows of unit length.
#[derive(Clone, Debug, PartialEq)]
pub enum Scoring {
    /// `gain * cosine + offset`.
    Linear { gain: f64, offset: f64 },
    /// The mean cosine with the nearest positives in the place of the query's own, less half of what the nearest negatives
    /// (if any) are nearer; then as `Linear`.
    Nearest { positives: Vec<f32>, negatives: Vec<f32>, neighbours: usize, gain: f64, offset: f64 },
    /// The cosine, and on top of it `alpha / 100 * sum over keys of exp(-beta (1 - cosine with the key))`.
    Added { keys: Vec<f32>, alpha: f64, beta: f64 },
}
