// SPDX-License-Identifier: MIT OR Apache-2.0
//! One vocabulary of words and pictures. Cosines of pictures with text lie in a narrow band far below those of pictures with
//! pictures, so the greatest of both would always be a picture's. What pictures score is moved into the band of the words,
//! by what the exemplars themselves score, each without itself; words score what they did without pictures.
//!
//! * A class with both gets Tip-Adapter's sum on top of its words' cosines.
//! * A class of pictures alone: u' = n + (a - n) (u - b) / (own - b), where `own` and `b` are the mean scores of its own
//!   patches and of all others, `a` and `n` the mean over those patches of the best and of all cosines with words.
//! * Without any word: u' = 0.2 + 0.1 (u - b) / (own - b), and what is around the objects competes as background.

use anyhow::{Result, bail};
use tch::{Kind, Tensor};

use super::score::{contrasted, near_negatives, top_mean};
use super::select::centres;
use super::{Exemplar, ExemplarOptions, ExemplarScore, Exemplars};
use crate::vocabulary::{Pictured, Scoring, Thresholds, Vocabulary};

/// Where Tip-Adapter begins on ImageNet: weight of the pictures' part, for each picture, and its sharpness.
const ALPHA: f64 = 1.17;
const BETA: f64 = 1.0;
/// Own patches are taken to score at least this much above others.
const LEAST_DISTANCE: f64 = 0.05;
/// Without words: what the patches of others score, and how much more the class's own do.
const LEVEL: f64 = 0.2;
const STEP: f64 = 0.1;
/// Background queries of a class without words.
const SURROUNDINGS: usize = 4;

impl Exemplars {
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.classes.iter().map(|class| class.label.as_str())
    }

    /// The words' vocabulary with these classes: those of a label that is there join it, the others come behind it.
    ///
    /// # Errors
    /// They were made with features of another width.
    pub fn join(
        &self,
        words: &Vocabulary,
        thresholds: &Thresholds,
        options: ExemplarOptions,
    ) -> Result<Vocabulary> {
        if words.dim != self.dim {
            bail!("the exemplars are {} wide, the words {}", self.dim, words.dim);
        }
        let foreground = words.query_value.iter().take_while(|&&value| value > 0).count();
        let (of_classes, of_background) = words.features.split_at(foreground * words.dim);
        let mut joined = Vocabulary {
            labels: words.labels.clone(),
            query_value: words.query_value[..foreground].to_vec(),
            features: of_classes.to_vec(),
            dim: words.dim,
            thresholds: words.thresholds.clone(),
            pictured: words.pictured.clone(),
            suspects: words.suspects.clone(),
            within: words.within,
        };
        joined.thresholds.resize(words.labels.len(), None);
        let texts = matrix(&words.features, self.dim)?; // [Q, E]
        let mut surroundings = Vec::new();
        for class in &self.classes {
            if let Some(known) = words.labels.iter().position(|label| *label == class.label) {
                joined.pictured.push(self.added(class, words, known as u32 + 1));
                continue;
            }
            let patches = Patches::of(class, self)?;
            let (own, others) = patches.levels(options)?;
            let scale = match words.queries() {
                0 => Scale::without_words(own, others),
                _ => Scale::among(&texts, &patches, own, others)?,
            };
            let query = joined.query_value.len();
            joined.labels.push(class.label.clone());
            joined.thresholds.push(thresholds.of(&class.label));
            joined.query_value.push(joined.labels.len() as u32);
            joined.features.extend(Vec::<f32>::try_from(&mean_direction(&patches.positives)?)?);
            let queries = query..query + 1;
            joined.pictured.push(Pictured { queries, scoring: scale.scoring(class, options) });
            if words.queries() == 0 && !class.negatives.is_empty() {
                let centres = centres(&patches.negatives, SURROUNDINGS)?;
                surroundings.push((Vec::<f32>::try_from(&centres.f_flatten(0, -1)?.f_contiguous()?)?, scale));
            }
        }
        joined.features.extend_from_slice(of_background);
        joined.query_value.extend_from_slice(&words.query_value[foreground..]);
        for (features, Scale { gain, offset }) in surroundings {
            let first = joined.query_value.len();
            joined.features.extend_from_slice(&features);
            joined.query_value.resize(first + features.len() / self.dim, 0);
            let queries = first..joined.query_value.len();
            joined.pictured.push(Pictured { queries, scoring: Scoring::Linear { gain, offset } });
        }
        Ok(joined)
    }

    /// Tip-Adapter's sum for a class of words; divided by the number of descriptors, which is not that of pictures here.
    fn added(&self, class: &Exemplar, words: &Vocabulary, value: u32) -> Pictured {
        let first = words.query_value.iter().position(|&of| of == value).unwrap_or(0);
        let count = words.query_value.iter().filter(|&&of| of == value).count();
        let alpha = ALPHA * class.pictures() as f64 / class.places.len().max(1) as f64;
        let keys = class.positives.clone();
        Pictured { queries: first..first + count, scoring: Scoring::Added { keys, alpha, beta: BETA } }
    }
}

/// From scores of pictures to cosines of words.
#[derive(Clone, Copy)]
struct Scale {
    gain: f64,
    offset: f64,
}

impl Scale {
    fn among(texts: &Tensor, patches: &Patches, own: f64, others: f64) -> Result<Scale> {
        let all = Tensor::f_cat(&[&patches.positives, &patches.negatives, &patches.others], 0)?;
        let cosines = all.f_matmul(&texts.f_transpose(0, 1)?)?; // [p, Q]
        let usual = cosines.f_mean(Kind::Float)?.f_double_value(&[])?;
        let best = cosines.f_amax([1i64].as_slice(), false)?.f_mean(Kind::Float)?.f_double_value(&[])?;
        Ok(Scale::between(usual, best - usual, own, others))
    }

    fn without_words(own: f64, others: f64) -> Scale {
        Scale::between(LEVEL, STEP, own, others)
    }

    fn between(level: f64, step: f64, own: f64, others: f64) -> Scale {
        let gain = step / (own - others).max(LEAST_DISTANCE);
        Scale { gain, offset: level - gain * others }
    }

    fn scoring(self, class: &Exemplar, ExemplarOptions { score, neighbours }: ExemplarOptions) -> Scoring {
        let Scale { gain, offset } = self;
        let negatives = match score {
            ExemplarScore::Prototype => return Scoring::Linear { gain, offset },
            ExemplarScore::Nearest => Vec::new(),
            ExemplarScore::Contrast => class.negatives.clone(),
        };
        Scoring::Nearest { positives: class.positives.clone(), negatives, neighbours, gain, offset }
    }
}

/// The patches that tell how a class scores its own and others'.
struct Patches<'a> {
    class: &'a Exemplar,
    /// `[n, E]`, `[m, E]`, `[o, E]`; the latter two may have no row.
    positives: Tensor,
    negatives: Tensor,
    /// Positives of the other classes.
    others: Tensor,
}

impl<'a> Patches<'a> {
    fn of(class: &'a Exemplar, all: &Exemplars) -> Result<Patches<'a>> {
        let others = all.classes.iter().filter(|other| other.label != class.label);
        let others: Vec<f32> = others.flat_map(|other| &other.positives).copied().collect();
        Ok(Patches {
            class,
            positives: matrix(&class.positives, all.dim)?,
            negatives: matrix(&class.negatives, all.dim)?,
            others: matrix(&others, all.dim)?,
        })
    }

    /// Mean scores of the class's own patches, each without those that are it or next to it, and of all others.
    fn levels(&self, ExemplarOptions { score, neighbours }: ExemplarOptions) -> Result<(f64, f64)> {
        let kept = self.kept()?; // [n, n]
        let rest = Tensor::f_cat(&[&self.negatives, &self.others], 0)?;
        let mean = |scores: &Tensor| -> Result<f64> { Ok(scores.f_mean(Kind::Float)?.f_double_value(&[])?) };
        // Where everything is left out, as of a single patch, it is as like itself as can be.
        let has_others = kept.f_any_dim(1, false)?; // [n]
        let alone = has_others.f_ones_like()?.f_to_kind(Kind::Float)?;
        let (own, of_rest) = match score {
            ExemplarScore::Prototype => {
                let means = kept.f_to_kind(Kind::Float)?.f_matmul(&self.positives)?; // [n, E]
                let lengths = means.f_norm_scalaropt_dim(2, [1i64].as_slice(), true)?.f_clamp_min(1e-12)?;
                let own = means.f_div(&lengths)?.f_mul(&self.positives)?;
                let own = own.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
                (own, rest.f_mv(&mean_direction(&self.positives)?)?)
            }
            ExemplarScore::Nearest | ExemplarScore::Contrast => {
                let cosines = self.positives.f_matmul(&self.positives.f_transpose(0, 1)?)?;
                let own = top_of(&cosines, &kept, neighbours)?;
                let of_rest = top_mean(&rest.f_matmul(&self.positives.f_transpose(0, 1)?)?, neighbours)?;
                match score == ExemplarScore::Contrast && self.negatives.size()[0] > 0 {
                    false => (own, of_rest),
                    // The patches of the rest that are negatives themselves would meet themselves there.
                    true => (contrasted(&own, &near_negatives(&self.positives, &self.negatives)?)?, of_rest),
                }
            }
        };
        let own = mean(&own.f_where_self(&has_others, &alone)?)?;
        let of_rest = if rest.size()[0] > 0 { mean(&of_rest)? } else { 0.0 };
        Ok((own, of_rest))
    }

    /// Which positives count for which: those of other pictures; with one picture, those that do not touch it.
    fn kept(&self) -> Result<Tensor> {
        let places = &self.class.places;
        let several = self.class.pictures() > 1;
        let counts = places.iter().flat_map(|a| {
            places.iter().map(move |b| match several {
                true => a.picture != b.picture,
                false => a.row.abs_diff(b.row) > 1 || a.column.abs_diff(b.column) > 1,
            })
        });
        let counts: Vec<bool> = counts.collect();
        Ok(Tensor::f_from_slice(&counts)?.f_reshape([places.len() as i64, -1])?)
    }
}

/// Mean of the `count` largest values of each row among those that are kept.
fn top_of(values: &Tensor, kept: &Tensor, count: usize) -> Result<Tensor> {
    const LEFT_OUT: f64 = -2.0; // below every cosine
    let values = values.f_masked_fill(&kept.f_logical_not()?, LEFT_OUT)?;
    let (top, _) = values.f_topk((count.max(1) as i64).min(values.size()[1]), 1, true, false)?;
    let counted = top.f_gt(LEFT_OUT + 0.5)?.f_to_kind(Kind::Float)?;
    let sum = top.f_mul(&counted)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    let number = counted.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    Ok(sum.f_div(&number.f_clamp_min(1.0)?)?)
}

/// `[n, E] -> [E]`, of unit length.
fn mean_direction(rows: &Tensor) -> Result<Tensor> {
    let mean = rows.f_mean_dim([0i64].as_slice(), false, Kind::Float)?;
    let length = mean.f_norm()?.f_double_value(&[])?;
    if length.is_nan() || length < 1e-6 {
        bail!("the pictures of a class have nothing in common: their features cancel out");
    }
    Ok(mean.f_div_scalar(length)?)
}

fn matrix(values: &[f32], dim: usize) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_reshape([(values.len() / dim.max(1)) as i64, dim as i64])?)
}
