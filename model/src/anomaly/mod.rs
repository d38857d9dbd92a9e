// SPDX-License-Identifier: MIT OR Apache-2.0
//! How damaged a thing looks, without training: each patch is compared with sentences that call it sound and sentences that
//! call it damaged, or with pictures of sound ones.
//!
//! After WinCLIP (Jeong et al., CVPR 2023, arXiv 2303.14814), whose authors published no code; the numbers are those of
//! `caoyunkang/WinClip` (MIT). The states around a name are in `states`, the windows of few patches in `windows`.

pub mod baseline;
mod map;
mod states;
#[cfg(test)]
mod tests;
mod windows;
mod within;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Error, Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::vocabulary::Templates;
pub use crate::vocabulary::{Pair, Suspect};

pub use map::AnomalyMap;
pub use states::States;
pub(crate) use windows::{WINDOWS, Windows, spread};
pub(crate) use within::patches_of;

/// What is looked at for an anomaly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnomalyScore {
    /// The features of the method's patches.
    #[default]
    Dense,
    /// WinCLIP's windows of 2x2 and 3x3 patches, each seen alone: about ten times the work of the picture itself.
    Windows,
}

impl FromStr for AnomalyScore {
    type Err = Error;

    fn from_str(text: &str) -> Result<AnomalyScore> {
        match text {
            "dense" => Ok(AnomalyScore::Dense),
            "windows" => Ok(AnomalyScore::Windows),
            other => bail!("\"{other}\" is no score of anomalies: dense or windows"),
        }
    }
}

impl fmt::Display for AnomalyScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AnomalyScore::Dense => "dense",
            AnomalyScore::Windows => "windows",
        })
    }
}

impl Pair {
    /// Of a name; `encode` gives the feature of a name in templates, of unit length.
    ///
    /// # Errors
    /// What `encode` says.
    pub fn new(states: &States, mut encode: impl FnMut(&Templates) -> Result<Vec<f32>>) -> Result<Pair> {
        let mut features = encode(&states.normal)?;
        features.extend(encode(&states.abnormal)?);
        Ok(Pair { features })
    }
}

/// How a request's anomalies are told.
#[derive(Clone, Debug, Default)]
pub struct Anomalies {
    /// Frames of a stream that say what is usual in it; 0 tells the scores as they are.
    pub baseline: u32,
    /// How fast what is usual follows the stream afterwards, where nothing unusual is: a share of the way a frame; 0 not at all.
    pub drift: f64,
    /// The stream's; `None` has no past.
    pub memory: Option<Arc<baseline::Memory>>,
}

impl PartialEq for Anomalies {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.memory, &other.memory) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (mine, theirs) => mine.is_none() && theirs.is_none(),
        };
        same && self.baseline == other.baseline && self.drift == other.drift
    }
}

/// Pictures of sound things as a model sees them.
#[derive(Clone, Debug, PartialEq)]
pub struct Normal {
    score: AnomalyScore,
    /// For patches, or for each size of windows, `[n, E]` row-major, rows of unit length.
    galleries: Vec<Vec<f32>>,
}

/// What of a picture is compared.
pub(crate) struct Seen {
    /// Rows and columns of patches.
    pub grid: (i64, i64),
    /// Patches `[h w, E]`, or windows of each size `[n, E]`, rows of unit length, f32.
    pub features: Vec<Tensor>,
    pub score: AnomalyScore,
}

impl Normal {
    /// None yet.
    pub fn new(score: AnomalyScore) -> Normal {
        let galleries = match score {
            AnomalyScore::Dense => 1,
            AnomalyScore::Windows => WINDOWS.len(),
        };
        Normal { score, galleries: vec![Vec::new(); galleries] }
    }

    pub fn score(&self) -> AnomalyScore {
        self.score
    }

    pub(crate) fn add(&mut self, seen: &Seen) -> Result<()> {
        for (gallery, features) in self.galleries.iter_mut().zip(&seen.features) {
            gallery.extend(Vec::<f32>::try_from(&features.f_flatten(0, -1)?.f_contiguous()?)?);
        }
        Ok(())
    }
}

impl Seen {
    /// By words, by pictures of sound things, or by both: half the harmonic mean of the two.
    pub fn map(&self, pair: Option<&Pair>, scale: f64, normal: Option<&Normal>) -> Result<AnomalyMap> {
        let by_words = pair.map(|pair| self.by_words(pair, scale)).transpose()?;
        let by_pictures = normal.map(|normal| self.by_pictures(normal)).transpose()?;
        let map = match (by_words, by_pictures) {
            (Some(words), Some(pictures)) => fused(&words, &pictures)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => bail!("nothing says what is an anomaly: neither words nor pictures"),
        };
        AnomalyMap::of(&map, self.grid)
    }

    /// `[h w]`
    fn by_words(&self, pair: &Pair, scale: f64) -> Result<Tensor> {
        let device = self.features.first().map_or(tch::Device::Cpu, Tensor::device);
        let states = Tensor::f_from_slice(&pair.features)?.f_reshape([2, -1])?.f_to_device(device)?;
        match self.score {
            AnomalyScore::Dense => probability(&self.features[0], &states, scale, 1),
            AnomalyScore::Windows => {
                // 1 less the harmonic mean of how sound the windows look that a patch is in.
                let sound = self.features.iter().zip(WINDOWS).map(|(features, size)| {
                    let sound = probability(features, &states, scale, 0)?;
                    spread(&sound.f_reciprocal()?, size, self.grid)
                });
                let mean = mean_of(sound.collect::<Result<Vec<_>>>()?)?;
                Ok(mean.f_reciprocal()?.f_rsub_scalar(1.0)?)
            }
        }
    }

    /// `[h w]`: half the distance to the nearest of the sound ones.
    fn by_pictures(&self, normal: &Normal) -> Result<Tensor> {
        ensure!(normal.score == self.score, "the pictures of sound things were looked at in another way");
        let distances =
            self.features.iter().zip(&normal.galleries).enumerate().map(|(index, (features, gallery))| {
                ensure!(!gallery.is_empty(), "there is no picture of a sound thing");
                let width = features.size2()?.1;
                let gallery =
                    Tensor::f_from_slice(gallery)?.f_reshape([-1, width])?.f_to_device(features.device())?;
                let distance = distance(features, &gallery)?;
                match self.score {
                    AnomalyScore::Dense => Ok(distance),
                    AnomalyScore::Windows => spread(&distance, WINDOWS[index], self.grid),
                }
            });
        mean_of(distances.collect::<Result<Vec<_>>>()?)
    }
}

/// Share of one of two states (0 or 1), `[n, E]` x `[2, E] -> [n]`.
pub(crate) fn probability(features: &Tensor, states: &Tensor, scale: f64, of: i64) -> Result<Tensor> {
    let cosines = features.f_matmul(&states.f_transpose(0, 1)?)?; // [n, 2]
    Ok(cosines.f_mul_scalar(scale)?.f_softmax(1, Kind::Float)?.f_select(1, of)?)
}

/// Half of 1 less the cosine with the nearest, `[n, E]` x `[m, E] -> [n]`, some rows at a time.
fn distance(features: &Tensor, gallery: &Tensor) -> Result<Tensor> {
    const AT_A_TIME: i64 = 65_536;
    let mut nearest: Option<Tensor> = None;
    for part in gallery.f_split(AT_A_TIME, 0)? {
        let cosine = features.f_matmul(&part.f_transpose(0, 1)?)?.f_amax([1i64].as_slice(), false)?;
        nearest = Some(match nearest {
            None => cosine,
            Some(before) => before.f_maximum(&cosine)?,
        });
    }
    match nearest {
        // Rounding must not make it less than nothing.
        Some(nearest) => Ok(nearest.f_rsub_scalar(1.0)?.f_mul_scalar(0.5)?.f_clamp(0.0, 1.0)?),
        None => bail!("there is no picture of a sound thing"),
    }
}

/// 1 / (1 / t + 1 / v); 0 where one of them is.
fn fused(words: &Tensor, pictures: &Tensor) -> Result<Tensor> {
    let sum = words.f_add(pictures)?;
    let fused = words.f_mul(pictures)?.f_div(&sum.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)?;
    Ok(fused)
}

fn mean_of(maps: Vec<Tensor>) -> Result<Tensor> {
    Ok(Tensor::f_stack(&maps, 0)?.f_mean_dim([0i64].as_slice(), false, Kind::Float)?)
}
