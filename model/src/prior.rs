// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the whole picture says about each of its patches: the prior of CASS (CVPR 2025; MICV-yonsei/CASS).
//!
//! * `logits = (1 - w) f . t + w g`, where `g` are the cosines of the picture's class token, as CLIP's own last block gives
//!   it, with the same queries. The fusion of SCAN (CVPR 2024), a geometric mean of two softmaxes, is the same.
//! * Nudging: of queries alike (clusters of their texts by Ward's criterion), the one that the whole picture is most like
//!   moves a little towards the two patches that are most like it.
//!
//! It favours what fills the picture, at the cost of small things, and is off by default. Through windows, the class token is
//! that of each window.
//!
//! Shapes: N pictures, Q queries, E joint width, patches h x w.

use anyhow::{Context, Result};
use tch::{Kind, Tensor};

use super::options::Options;
use super::transformer::unit_rows;

/// Patches that a query is nudged towards.
const NEAREST: i64 = 2;

/// How much of what the whole picture says goes into each patch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// Share of the class token's cosines, 0 (off) to 1. Published: 0.1 to 0.4.
    pub weight: f64,
    /// Share of the patches in a query that is nudged; 0 nudges none. Published: 0.01 to 0.05.
    pub nudge: f64,
    /// Height at which the tree of texts is cut into clusters, by cosine distance. Published: 0.02 to 0.14.
    pub cut: f64,
}

impl Default for Prior {
    fn default() -> Self {
        Prior { weight: 0.0, nudge: 0.0, cut: 0.1 }
    }
}

impl Prior {
    /// A prior of this weight with its switches, `nudge=0.04,cut=0.1`.
    ///
    /// # Errors
    /// It has no such switch, or a number is out of its range.
    pub fn parse(weight: f64, options: &str) -> Result<Prior> {
        let default = Prior::default();
        let mut options = Options::parse("context", "the context prior", options)?;
        let nudge = options.number("nudge", default.nudge, 0.0..=1.0)?;
        let cut = options.number("cut", default.cut, 0.0..=1e3)?;
        options.finish()?;
        Ok(Prior { weight, nudge, cut })
    }

    pub fn is_on(&self) -> bool {
        self.weight > 0.0 || self.nudge > 0.0
    }
}

/// `(1 - w)` of the cosines `[Q, h, w]` and `w` of those of the whole picture, `[Q]`.
pub fn mix(cosines: &Tensor, whole: &Tensor, weight: f64) -> Result<Tensor> {
    let whole = whole.f_mul_scalar(weight)?.f_reshape([-1, 1, 1])?;
    Ok(cosines.f_mul_scalar(1.0 - weight)?.f_add(&whole)?)
}

/// Queries `[Q, E]` of which the one most like the whole picture, of each group, has moved towards its nearest patches.
/// `features` are unit rows `[h w, E]`, `whole` the cosines of the whole picture `[Q]`.
pub fn nudged(
    queries: &Tensor,
    features: &Tensor,
    whole: &Tensor,
    groups: &[Vec<usize>],
    share: f64,
) -> Result<Tensor> {
    let whole: Vec<f32> = Vec::try_from(&whole.f_contiguous()?)?;
    let of = |query: &usize| whole.get(*query).copied().unwrap_or(f32::NEG_INFINITY);
    let best = |group: &Vec<usize>| {
        // Of equal ones the first.
        group.iter().copied().reduce(|best, query| if of(&query) > of(&best) { query } else { best })
    };
    let rows: Vec<i64> = groups.iter().filter_map(best).map(|query| query as i64).collect();
    let rows = Tensor::f_from_slice(&rows)?.f_to_device(queries.device())?;
    let chosen = queries.f_index_select(0, &rows)?; // [groups, E]
    let cosines = chosen.f_matmul(&features.f_transpose(0, 1)?)?; // [groups, h w]
    let (_, patches) = cosines.size2()?;
    let (_, nearest) = cosines.f_topk(NEAREST.min(patches), 1, true, true)?;
    let (groups, count) = nearest.size2()?;
    let near = features.f_index_select(0, &nearest.f_flatten(0, 1)?)?.f_reshape([groups, count, -1])?;
    let near = unit_rows(&near.f_mean_dim([1i64].as_slice(), false, Kind::Float)?)?; // [groups, E]
    let moved = unit_rows(&chosen.f_mul_scalar(1.0 - share)?.f_add(&near.f_mul_scalar(share)?)?)?;
    Ok(queries.f_index_copy(0, &rows, &moved)?)
}

/// Groups of texts alike: those that are joined below `cut` in the tree that Ward's criterion builds over cosine distances,
/// as SciPy's `linkage` does from condensed distances. `features` are unit rows, `[Q, E]` row-major.
pub fn groups(features: &[f32], dim: usize, cut: f64) -> Result<Vec<Vec<usize>>> {
    let rows: Vec<&[f32]> = features.chunks_exact(dim.max(1)).collect();
    let distance =
        |a: &[f32], b: &[f32]| 1.0 - a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let mut groups: Vec<Vec<usize>> = (0..rows.len()).map(|row| vec![row]).collect();
    let mut distances: Vec<Vec<f64>> =
        rows.iter().map(|a| rows.iter().map(|b| distance(a, b).max(0.0)).collect()).collect();
    // Of each group the nearest among those after it: finding the nearest pair is then one pass over the groups.
    let nearest_after = |distances: &[Vec<f64>], groups: &[Vec<usize>], row: usize| -> Option<(usize, f64)> {
        let after = (row + 1..groups.len()).filter(|&other| !groups[other].is_empty());
        after.map(|other| (other, distances[row][other])).min_by(|a, b| a.1.total_cmp(&b.1))
    };
    let mut nearest: Vec<Option<(usize, f64)>> =
        (0..rows.len()).map(|row| nearest_after(&distances, &groups, row)).collect();
    loop {
        let pairs =
            nearest.iter().enumerate().filter_map(|(row, near)| near.map(|(other, d)| (row, other, d)));
        let Some((one, other, height)) = pairs.min_by(|a, b| a.2.total_cmp(&b.2)) else { break };
        if height > cut {
            break;
        }
        let (of_one, of_other) = (groups[one].len() as f64, groups[other].len() as f64);
        for third in (0..groups.len()).filter(|&third| third != one && third != other) {
            let count = groups[third].len() as f64;
            let sum = (count + of_one) * distances[one][third].powi(2)
                + (count + of_other) * distances[other][third].powi(2)
                - count * height.powi(2);
            let joined = (sum / (count + of_one + of_other)).max(0.0).sqrt();
            distances[one][third] = joined;
            distances[third][one] = joined;
        }
        let members = std::mem::take(&mut groups[other]);
        groups[one].extend(members);
        nearest[other] = None;
        for row in (0..groups.len()).filter(|&row| !groups[row].is_empty()) {
            let touched = nearest[row].is_none_or(|(near, _)| near == one || near == other);
            if row <= other && (row == one || touched || row < one) {
                nearest[row] = nearest_after(&distances, &groups, row);
            }
        }
    }
    let mut groups: Vec<Vec<usize>> = groups.into_iter().filter(|group| !group.is_empty()).collect();
    groups.iter_mut().for_each(|group| group.sort_unstable());
    groups.first().context("no texts to put into groups")?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::tests::oracle::Oracle;
    use crate::vision::{Positions, Wanted};

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
    }

    #[test]
    fn equal_to_the_published_code() {
        let (Some(first), Some(second)) = (Oracle::find(), Oracle::find_second()) else { return };
        let queries = first.tensor("encoders", "text/query_features");
        let of = |key: &str| second.tensor("prior", &format!("cass_prior/{key}"));
        let close = |what: &str, found: &Tensor, expected: &Tensor, tolerance: f64| {
            let off = (found - expected).abs().max().double_value(&[]);
            println!("{what}: {off:.1e}");
            assert!(off < tolerance, "{what}: {off:e}");
        };
        let features = unit_rows(&second.tensor("exemplar", "query/features")).unwrap();
        let tower = first.tower(Positions::Plain);
        let trunk = tower.trunk(&first.input("img1"), &Wanted::default()).unwrap();
        let class = tower.class_features(&trunk).unwrap();
        // The two oracles' own class tokens are 4e-5 apart.
        let expected =
            unit_rows(&second.tensor("exemplar", "query/global_feature").reshape([1, -1])).unwrap();
        close("class token", &class, &expected, 1e-4);
        let expected = unit_rows(&first.tensor("encoders", "encode_image/img1_plainpos")).unwrap();
        close("encoder", &class, &expected, 2e-5);
        let whole = of("global_similarity");
        close("whole picture", &class.matmul(&queries.transpose(0, 1)).select(0, 0), &whole, 1e-4);
        for (key, cut, nudge, weight) in [
            ("h0.1_m0.04_g0.25", 0.1, 0.04, 0.25),
            ("h0.6_m0.3_g0.4", 0.6, 0.3, 0.4),
            ("h2.0_m0.05_g0.1", 2.0, 0.05, 0.1),
        ] {
            let groups = groups(&values(&queries), 64, cut).unwrap();
            let numbers = values(&of(&format!("{key}/clusters")).to_kind(Kind::Float));
            for (group, one) in groups.iter().zip(&groups) {
                assert!(group.iter().all(|&member| numbers[member] == numbers[one[0]]), "{key}: {groups:?}");
            }
            let mut distinct = numbers.clone();
            distinct.sort_by(f32::total_cmp);
            distinct.dedup();
            assert_eq!(groups.len(), distinct.len(), "{key}: {groups:?}");
            let text = nudged(&queries, &features, &whole, &groups, nudge).unwrap();
            close(&format!("{key} texts"), &text, &of(&format!("{key}/adjusted_text")), 2e-5);
            let cosines = text.matmul(&features.transpose(0, 1)).reshape([9, 21, 28]);
            close(key, &mix(&cosines, &whole, weight).unwrap(), &of(&format!("{key}/logits")), 2e-5);
        }
    }

    #[test]
    fn few_texts_make_groups_too() {
        assert_eq!(groups(&[1.0, 0.0], 2, 0.1).unwrap(), [vec![0]]);
        assert_eq!(groups(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0], 2, 0.5).unwrap(), [vec![0, 2], vec![1]]);
        assert_eq!(groups(&[1.0, 0.0, 1.0, 0.0], 2, -1.0).unwrap().len(), 2);
        assert!(groups(&[], 2, 0.1).is_err());
    }

    #[test]
    fn switches_are_read() {
        assert_eq!(Prior::parse(0.2, "").unwrap(), Prior { weight: 0.2, ..Prior::default() });
        assert_eq!(
            Prior::parse(0.2, "nudge=0.04,cut=0.06").unwrap(),
            Prior { weight: 0.2, nudge: 0.04, cut: 0.06 }
        );
        assert_eq!(
            Prior::parse(0.2, "nugde=1").unwrap_err().to_string(),
            "unknown context option \"nugde\": the context prior has nudge, cut"
        );
        assert!(!Prior::default().is_on());
    }

    #[test]
    fn one_patch_is_enough_to_be_nudged_towards() {
        let cpu = (Kind::Float, tch::Device::Cpu);
        let (queries, patch) = (Tensor::eye(2, cpu), Tensor::from_slice(&[1f32, 0.0]).reshape([1, 2]));
        let moved =
            nudged(&queries, &patch, &Tensor::from_slice(&[0.1f32, 0.2]), &[vec![0, 1]], 0.5).unwrap();
        let half = 0.5f64.sqrt();
        assert!((moved.double_value(&[1, 0]) - half).abs() < 1e-6 && moved.double_value(&[0, 0]) == 1.0);
    }
}
