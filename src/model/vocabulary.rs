// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prompts: the grammar users type, the templates around each name, and the vocabulary that scores patches.

/// What to look for, as parsed from the prompt grammar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompts {
    /// Foreground classes in order; mask value n is `classes[n - 1]`.
    pub classes: Vec<Class>,
    /// Names that compete for pixels and come out as 0.
    pub background: Vec<String>,
}

/// One class: its label and every name (label included) that votes for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub label: String,
    pub names: Vec<String>,
}

/// The sentences a name is put into before it is encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Templates {
    /// The 80 ImageNet templates of the CLIP paper.
    #[default]
    Imagenet,
    /// The name alone.
    None,
    /// Sentences with `{}` where the name goes.
    Custom(Vec<String>),
}

/// Encoded prompts: plain data, shared by reference with every frame they score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// Label of mask value n at index n - 1.
    pub labels: Vec<String>,
    /// For each query, the mask value it votes for (0 = background).
    pub query_value: Vec<u32>,
    /// `[queries, dim]` row-major, each row of unit length.
    pub features: Vec<f32>,
    pub dim: usize,
}
