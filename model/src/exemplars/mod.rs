// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes from example pictures, without training: the patches of a picture that show the object are descriptors of its
//! class, and a patch of a frame is compared with them.
//!
//! ```text
//! pictures, boxes, masks  --the model's method-->  patches  --select-->  Exemplars  --file-->  FILE
//! Vocabulary (of words)  +  Exemplars  --band-->  Vocabulary  --score, for each frame-->  cosines of all classes
//! ```
//! The scores are those of DN4 (Li et al., CVPR 2019, image-to-class nearest neighbours, as LDCA's, arXiv 2401.13499) and of
//! Tip-Adapter (Zhang et al., ECCV 2022, arXiv 2111.03930). Descriptors depend on the weights and on the method.

mod band;
mod file;
mod gather;
mod score;
mod select;
mod spec;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, Result, bail};

pub use gather::{Gathering, Looked, Shape};
pub(crate) use score::Ready;
pub use score::{tip_adapter, top_cosines};
pub use spec::{Area, Example, Examples, MAX_PICTURES};

/// Descriptors of one class at most.
pub const MAX_POSITIVES: usize = 2048;
pub const MAX_NEGATIVES: usize = 512;

/// Where a patch was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the class, counted from 0.
    pub picture: u32,
    pub row: u32,
    pub column: u32,
}

/// What its pictures say of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub label: String,
    /// Patches that show it, `[n, dim]`, rows of unit length.
    pub positives: Vec<f32>,
    /// Where each of them was.
    pub places: Vec<Place>,
    /// Patches of the same pictures that do not show it, `[m, dim]`, rows of unit length.
    pub negatives: Vec<f32>,
}

impl Exemplar {
    /// How many pictures its patches are of.
    pub fn pictures(&self) -> usize {
        let mut pictures: Vec<u32> = self.places.iter().map(|place| place.picture).collect();
        pictures.sort_unstable();
        pictures.dedup();
        pictures.len()
    }
}

/// Classes by pictures, as one model sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplars {
    /// Hash of the vision tower's weights, as in [`ModelInfo::vision_hash`](crate::ModelInfo::vision_hash).
    pub model: String,
    /// The method with its options, as in [`ModelInfo::method`](crate::ModelInfo::method).
    pub method: String,
    pub dim: usize,
    pub classes: Vec<Exemplar>,
}

/// How a patch is compared with a class's descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExemplarScore {
    /// With their mean direction: one query more, whatever the number of pictures.
    #[default]
    Prototype,
    /// The mean cosine of the nearest ones (DN4).
    Nearest,
    /// The same, less half of what the nearest patches that do not show the object are nearer.
    Contrast,
}

impl FromStr for ExemplarScore {
    type Err = Error;

    fn from_str(text: &str) -> Result<ExemplarScore> {
        match text {
            "prototype" => Ok(ExemplarScore::Prototype),
            "nearest" => Ok(ExemplarScore::Nearest),
            "contrast" => Ok(ExemplarScore::Contrast),
            other => bail!("\"{other}\" is no score of exemplars: prototype, nearest or contrast"),
        }
    }
}

impl fmt::Display for ExemplarScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExemplarScore::Prototype => "prototype",
            ExemplarScore::Nearest => "nearest",
            ExemplarScore::Contrast => "contrast",
        })
    }
}

/// How exemplars are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExemplarOptions {
    pub score: ExemplarScore,
    /// Descriptors that count for a patch, of `nearest` and `contrast`.
    pub neighbours: usize,
}

impl Default for ExemplarOptions {
    fn default() -> Self {
        ExemplarOptions { score: ExemplarScore::default(), neighbours: 3 }
    }
}
