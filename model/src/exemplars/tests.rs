// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures among words, on features that are easy to see through; parity with the published scores is in
//! `tests/parity_exemplars.rs`.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::ModelInfo;
use crate::vocabulary::{Scoring, Thresholds, Vocabulary};

/// A direction in the plane.
fn at(angle: f64) -> [f32; 2] {
    [angle.cos() as f32, angle.sin() as f32]
}

fn info() -> ModelInfo {
    ModelInfo { vision_hash: "abc".into(), method: "clip()".into(), ..ModelInfo::default() }
}

fn class(label: &str, positives: &[f64], negatives: &[f64], pictures: u32) -> Exemplar {
    let place = |index: usize| Place { picture: index as u32 % pictures, row: 2 * index as u32, column: 0 };
    Exemplar {
        label: label.into(),
        positives: positives.iter().flat_map(|angle| at(*angle)).collect(),
        places: (0..positives.len()).map(place).collect(),
        negatives: negatives.iter().flat_map(|angle| at(*angle)).collect(),
    }
}

fn exemplars(classes: Vec<Exemplar>) -> Exemplars {
    Exemplars { model: info().vision_hash, method: info().method, dim: 2, classes }
}

/// Words at these angles, the last a background name.
fn words(angles: &[f64]) -> Vocabulary {
    let classes = angles.len().saturating_sub(1);
    Vocabulary {
        labels: (0..classes).map(|class| format!("word {class}")).collect(),
        query_value: (1..=classes as u32).chain((!angles.is_empty()).then_some(0)).collect(),
        features: angles.iter().flat_map(|angle| at(*angle)).collect(),
        dim: 2,
        ..Vocabulary::default()
    }
}

/// Scores of patches at these angles: `[Q, 1, patches]` by query.
fn scores(vocabulary: &Vocabulary, angles: &[f64]) -> Vec<Vec<f32>> {
    let features: Vec<f32> = angles.iter().flat_map(|angle| at(*angle)).collect();
    let features = Tensor::from_slice(&features).reshape([-1, 2]);
    let queries = Tensor::from_slice(&vocabulary.features).reshape([-1, 2]);
    let cosines = crate::method::cosines(&features, &queries, (1, angles.len() as i64)).unwrap();
    let scored = Ready::of(vocabulary, Device::Cpu).unwrap().rescore(cosines, &features).unwrap();
    // The same in a batch.
    let batch = features.unsqueeze(0).repeat([2, 1, 1]);
    let cosines = crate::method::cosines_of_all(&batch, &queries, (1, angles.len() as i64)).unwrap();
    let both = Ready::of(vocabulary, Device::Cpu).unwrap().rescore(cosines, &batch).unwrap();
    assert!((both.get(1) - &scored).abs().max().double_value(&[]) < 1e-6);
    (0..vocabulary.queries() as i64).map(|q| Vec::try_from(scored.get(q).flatten(0, -1)).unwrap()).collect()
}

fn join(words: &Vocabulary, exemplars: &Exemplars, score: ExemplarScore) -> Vocabulary {
    let options = ExemplarOptions { score, ..ExemplarOptions::default() };
    exemplars.join(words, &Thresholds::default(), options).unwrap()
}

const SCORES: [ExemplarScore; 3] =
    [ExemplarScore::Prototype, ExemplarScore::Nearest, ExemplarScore::Contrast];

#[test]
fn pictures_win_where_they_look_alike_and_words_elsewhere() {
    // Words score low everywhere, as text does: their directions are far from all patches.
    let words = words(&[1.3, -1.3, 2.0]);
    let own = [0.9, 0.95, 1.0, 1.05];
    let around = [-0.9, -0.95, -1.0];
    let exemplars = exemplars(vec![class("cup", &own, &around, 2)]);
    for score in SCORES {
        let joined = join(&words, &exemplars, score);
        assert_eq!(joined.labels, ["word 0", "word 1", "cup"]);
        assert_eq!(joined.query_value, [1, 2, 3, 0], "background stays behind");
        let scores = scores(&joined, &[0.97, -0.97]);
        assert!((scores[0][0] - (1.3f32 - 0.97).cos()).abs() < 1e-5, "words score what they did");
        let cup = &scores[2];
        assert!(cup[0] > cup[1] + 0.1, "{score}: {cup:?}");
        assert!(scores[1][1] > cup[1], "{score}: the other patch is the word's");
        assert!(cup[0] <= 1.0 && cup[1] >= -1.0, "{score}: in the band of cosines: {cup:?}");
    }
}

#[test]
fn a_word_with_pictures_gains_where_they_look_alike() {
    let words = words(&[1.3, -1.3, 2.0]);
    let exemplars = exemplars(vec![class("word 0", &[0.5, 0.5, 0.5], &[], 3)]);
    let joined = join(&words, &exemplars, ExemplarScore::Nearest);
    assert_eq!((&joined.labels, &joined.query_value), (&words.labels, &words.query_value));
    let (before, after) = (scores(&words, &[0.5, -2.0]), scores(&joined, &[0.5, -2.0]));
    // exp(0) = 1 for each of three descriptors, 1.17 times three pictures over three descriptors, over 100
    assert!((after[0][0] - before[0][0] - 0.0351).abs() < 1e-5, "{before:?} {after:?}");
    assert!(after[0][1] - before[0][1] < 0.01);
    assert_eq!((&after[1], &after[2]), (&before[1], &before[2]));
}

#[test]
fn without_words_the_surroundings_compete() {
    let exemplars = exemplars(vec![class("cup", &[0.9, 1.0, 0.95], &[-0.9, -1.0, 2.5, 2.6, 2.5], 1)]);
    for score in SCORES {
        let joined = join(&words(&[]), &exemplars, score);
        assert_eq!(joined.labels, ["cup"]);
        assert!(joined.query_value[0] == 1 && joined.query_value[1..].iter().all(|&value| value == 0));
        assert!((2..=5).contains(&joined.queries()));
        let scores = scores(&joined, &[0.95, -0.95, 2.5]);
        let best = |patch: usize| {
            (0..scores.len()).max_by(|a, b| scores[*a][patch].total_cmp(&scores[*b][patch])).unwrap()
        };
        assert_eq!(best(0), 0, "{score}: {scores:?}");
        assert!(best(1) != 0 && best(2) != 0, "{score}: {scores:?}");
    }
}

#[test]
fn a_single_patch_and_equal_patches_are_scored_with_numbers() {
    for (positives, negatives) in [(&[0.3][..], &[][..]), (&[0.3; 9], &[0.3; 9]), (&[0.3], &[0.3])] {
        for score in SCORES {
            for words in [words(&[]), words(&[1.3, 2.0])] {
                let exemplars = exemplars(vec![class("cup", positives, negatives, 1)]);
                let joined = join(&words, &exemplars, score);
                let scores = scores(&joined, &[0.3, 1.0]);
                assert!(scores.iter().flatten().all(|value| value.is_finite()), "{score}: {scores:?}");
            }
        }
    }
}

#[test]
fn pictures_that_cancel_out_are_told() {
    let exemplars = exemplars(vec![class("cup", &[0.0, std::f64::consts::PI], &[], 2)]);
    let error = exemplars.join(&words(&[1.0, 2.0]), &Thresholds::default(), ExemplarOptions::default());
    assert!(error.unwrap_err().to_string().contains("nothing in common"));
}

#[test]
fn thresholds_are_those_of_the_labels() {
    let thresholds: Thresholds = "cup=0.4".parse().unwrap();
    let exemplars = exemplars(vec![class("cup", &[0.1, 0.2], &[1.0], 1)]);
    let joined = exemplars.join(&words(&[1.0, 2.0]), &thresholds, ExemplarOptions::default()).unwrap();
    assert_eq!(joined.thresholds, [None, Some(0.4)]);
}

#[test]
fn the_file_gives_back_what_was_saved_to_this_model_and_method_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cup.safetensors");
    let saved = exemplars(vec![class("cup", &[0.1, 0.2, 0.3], &[1.0], 2), class("pen", &[2.0], &[], 1)]);
    saved.save(&path).unwrap();
    assert_eq!(Exemplars::load(&path, &info()).unwrap(), saved);
    let refusal = |info: &ModelInfo| format!("{:#}", Exemplars::load(&path, info).unwrap_err());
    let other = refusal(&ModelInfo { vision_hash: "def".into(), ..info() });
    assert!(other.contains("other weights") && other.contains("gclip exemplar"), "{other}");
    let other = refusal(&ModelInfo { method: "gclip(fuse=6+7)".into(), ..info() });
    assert!(other.contains("clip()") && other.contains("gclip(fuse=6+7)"), "{other}");
    std::fs::write(&path, b"not that").unwrap();
    assert!(refusal(&info()).contains("not a usable file of exemplars"));
    let whole = {
        saved.save(&path).unwrap();
        std::fs::read(&path).unwrap()
    };
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    assert!(refusal(&info()).contains("not a usable file of exemplars"));
}

#[test]
fn negatives_count_for_contrast_alone() {
    let exemplars = exemplars(vec![class("cup", &[0.9, 1.0], &[0.7], 1)]);
    let words = words(&[1.3, 2.0]);
    let of = |score| match &join(&words, &exemplars, score).pictured[0].scoring {
        Scoring::Nearest { negatives, neighbours, .. } => (negatives.len(), *neighbours),
        _ => (usize::MAX, 0),
    };
    assert_eq!(of(ExemplarScore::Nearest), (0, 3));
    assert_eq!(of(ExemplarScore::Contrast), (2, 3));
    assert_eq!(of(ExemplarScore::Prototype), (usize::MAX, 0));
}

/// With more kinds of features than two, random ones: nothing is lost on the way through a vocabulary.
#[test]
fn nearest_is_the_mean_of_the_largest_cosines() {
    tch::manual_seed(5);
    let random = |rows: i64| {
        let rows = Tensor::randn([rows, 8], (Kind::Float, Device::Cpu));
        &rows / rows.norm_scalaropt_dim(2, [1i64].as_slice(), true)
    };
    let (features, keys) = (random(6), random(10));
    let found: Vec<f32> = Vec::try_from(top_cosines(&features, &keys, 3).unwrap()).unwrap();
    for (patch, found) in (0..6).zip(found) {
        let mut cosines: Vec<f32> = Vec::try_from(keys.mv(&features.get(patch))).unwrap();
        cosines.sort_by(|a, b| b.total_cmp(a));
        assert!((found - cosines[..3].iter().sum::<f32>() / 3.0).abs() < 1e-6);
    }
    assert!(top_cosines(&features, &keys, 99).is_ok(), "more neighbours than descriptors");
}
