// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text semantic enrichment of ExCEL (CVPR 2025, arXiv 2503.20826; zwyang6/ExCEL): classes take up attributes that sentences
//! about all of them have in common.
//!
//! The sentences' features are put into clusters, whose centres are the attributes. Each class weighs the nine tenths of
//! them that it is most like by a softmax of its cosines, without a scale, and adds their mean. As the softmax is nearly flat,
//! most of it is the same for all classes.

use anyhow::{Result, bail};

/// Share of the attributes, the least like it, that a class leaves out.
const LEFT_OUT: f64 = 1.0 - 0.9;
/// Attributes a sentence: 112 for 400 sentences, as published for VOC.
const ATTRIBUTES: f64 = 0.28;
/// Passes of the clustering at most; it ends when nothing moves.
const PASSES: usize = 300;

/// Row-major features of one width.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub values: Vec<f32>,
    pub dim: usize,
}

impl Rows {
    fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim.max(1))
    }
}

/// The attributes of sentences: centres of clusters of their unit features, not of unit length.
///
/// # Errors
/// There is no sentence.
pub fn attributes(sentences: &Rows) -> Result<Rows> {
    let rows: Vec<&[f32]> = sentences.iter().collect();
    let count = ((rows.len() as f64 * ATTRIBUTES).round() as usize).clamp(1, rows.len().max(1));
    let Some(&first) = rows.first() else { bail!("there is no sentence to take attributes from") };
    // Beginning with the farthest from those that were chosen: the same for the same sentences.
    let mut centres: Vec<Vec<f64>> = vec![first.iter().map(|&x| x.into()).collect()];
    let mut nearest: Vec<f64> = vec![f64::INFINITY; rows.len()];
    while centres.len() < count {
        let newest = &centres[centres.len() - 1];
        for (near, row) in nearest.iter_mut().zip(&rows) {
            *near = near.min(distance(row, newest));
        }
        let farthest = nearest.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let Some((farthest, _)) = farthest.filter(|(_, distance)| **distance > 0.0) else { break };
        centres.push(rows[farthest].iter().map(|&x| x.into()).collect());
    }
    let mut of: Vec<usize> = vec![usize::MAX; rows.len()];
    for _ in 0..PASSES {
        let mut moved = false;
        for (own, row) in of.iter_mut().zip(&rows) {
            let distances = centres.iter().map(|centre| distance(row, centre)).enumerate();
            let best = distances.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(best, _)| best);
            moved |= std::mem::replace(own, best) != best;
        }
        if !moved {
            break;
        }
        for (index, centre) in centres.iter_mut().enumerate() {
            let members: Vec<&&[f32]> =
                rows.iter().zip(&of).filter(|(_, own)| **own == index).map(|(row, _)| row).collect();
            // One that lost all of its members stays where it is.
            for (place, value) in centre.iter_mut().enumerate().filter(|_| !members.is_empty()) {
                *value = members.iter().map(|row| f64::from(row[place])).sum::<f64>() / members.len() as f64;
            }
        }
    }
    let values = centres.iter().flatten().map(|&value| value as f32).collect();
    Ok(Rows { values, dim: sentences.dim })
}

fn distance(row: &[f32], centre: &[f64]) -> f64 {
    row.iter().zip(centre).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum()
}

/// A class's unit feature with its share of the attributes, of unit length again.
///
/// # Errors
/// The result has no direction.
pub fn enrich(feature: &[f32], attributes: &Rows) -> Result<Vec<f32>> {
    enrich_without(feature, attributes, LEFT_OUT)
}

fn enrich_without(feature: &[f32], attributes: &Rows, left_out: f64) -> Result<Vec<f32>> {
    if feature.len() != attributes.dim {
        bail!("attributes {} wide for a text feature of {}", attributes.dim, feature.len());
    }
    let like = |row: &[f32]| row.iter().zip(feature).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut ranked: Vec<(f64, &[f32])> = attributes.iter().map(|row| (like(row), row)).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let kept = &ranked[(left_out * ranked.len() as f64) as usize..];
    let most = kept.last().map_or(0.0, |(like, _)| *like);
    let sum: f64 = kept.iter().map(|(like, _)| (like - most).exp()).sum();
    let mut enriched: Vec<f64> = feature.iter().map(|&x| x.into()).collect();
    for (like, row) in kept {
        let weight = (like - most).exp() / sum;
        for (value, &attribute) in enriched.iter_mut().zip(*row) {
            *value += weight * f64::from(attribute);
        }
    }
    let norm = enriched.iter().map(|x| x * x).sum::<f64>().sqrt();
    if !(norm.is_finite() && norm > 0.0) {
        bail!("a class enriched by its sentences has no direction left");
    }
    Ok(enriched.into_iter().map(|x| (x / norm) as f32).collect())
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;
    use crate::method::tests::oracle::Oracle;

    fn rows(tensor: &Tensor) -> Rows {
        let values = Vec::try_from(tensor.to_kind(Kind::Float).contiguous().flatten(0, -1)).unwrap();
        Rows { values, dim: tensor.size()[1] as usize }
    }

    #[test]
    fn equal_to_the_published_code() {
        let Some(oracle) = Oracle::find_second() else { return };
        let of = |key: &str| oracle.tensor("excel", &format!("excel/{key}"));
        let (text, bank) = (rows(&of("text_origami")), rows(&of("attribute_bank").transpose(0, 1)));
        for (key, left_out) in
            [("text_enriched", LEFT_OUT), ("text_enriched_keep0.5", 0.5), ("text_enriched_keepNone", 0.0)]
        {
            let expected = rows(&of(key));
            // The last two are the background's, which stay.
            for (class, (found, expected)) in text.iter().zip(expected.iter()).enumerate().take(7) {
                let found = enrich_without(found, &bank, left_out).unwrap();
                let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 2e-5, "{key} class {class}: {off:e}");
            }
        }
    }

    #[test]
    fn attributes_are_the_middles_of_what_lies_together() {
        let near =
            |x: f32, y: f32| (0..4).flat_map(move |at| [x + 0.01 * at as f32, y]).collect::<Vec<f32>>();
        let sentences = Rows { values: [near(1.0, 0.0), near(-1.0, 0.0)].concat(), dim: 2 };
        // 8 sentences, 2 attributes.
        let mut found: Vec<f32> = attributes(&sentences).unwrap().iter().map(|row| row[0]).collect();
        found.sort_by(f32::total_cmp);
        assert!((found[0] + 0.985).abs() < 1e-5 && (found[1] - 1.015).abs() < 1e-5, "{found:?}");
        let same = Rows { values: vec![1.0; 40], dim: 2 };
        assert_eq!(attributes(&same).unwrap().values, [1.0, 1.0], "equal sentences are one attribute");
        assert!(attributes(&Rows { values: Vec::new(), dim: 2 }).is_err());
    }

    #[test]
    fn few_attributes_lose_none() {
        let bank = Rows { values: vec![0.0, 1.0, 1.0, 0.0], dim: 2 };
        let found = enrich(&[1.0, 0.0], &bank).unwrap();
        let weight = 1.0 / (1.0 + (1f32).exp());
        let expected = (weight / (2.0 - weight)).atan();
        assert!((found[1].atan2(found[0]) - expected).abs() < 1e-5, "{found:?}");
        let opposite = Rows { values: vec![-1.0, 0.0], dim: 2 };
        assert!(enrich(&[1.0, 0.0], &opposite).is_err());
    }
}
