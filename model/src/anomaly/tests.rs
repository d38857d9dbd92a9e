// SPDX-License-Identifier: MIT OR Apache-2.0
//! Against the numbers of `caoyunkang/WinClip` on a random CLIP (`oracle-2`), and on features that are easy to see through.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::method::tests::oracle::Oracle;
use crate::text::TextEncoder;
use crate::vision::{Positions, VisionTower};

const FILE: &str = "../../oracle-2/oracle/anomaly";

fn oracle() -> Option<Oracle> {
    let oracle = Oracle::find()?;
    if !oracle.has(FILE) {
        println!("skipped: there is no oracle-2 beside it");
        return None;
    }
    Some(oracle)
}

#[track_caller]
fn close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.size(), expected.size(), "{what}");
    let off = (found - expected).abs().max().double_value(&[]);
    println!("{what}: {off:.1e}");
    assert!(off <= tolerance, "{what} differs by {off:e}");
}

/// Sound and damaged, from the mean of raw embeddings or of each at unit length.
fn states(encoder: &mut TextEncoder, name: &str, raw: bool) -> Tensor {
    let states = States::default();
    let rows = [&states.normal, &states.abnormal].map(|templates| {
        let texts: Vec<String> = templates.fill(name).collect();
        let encoded = if raw { encoder.encode_raw(&texts) } else { encoder.encode(&texts) }.unwrap();
        let mean =
            Tensor::from_slice(&encoded).view([texts.len() as i64, -1]).mean_dim(0, false, Kind::Float);
        &mean / mean.norm()
    });
    Tensor::stack(&rows, 0)
}

#[test]
fn the_pair_of_states_equals_the_published_one() {
    let Some(oracle) = oracle() else { return };
    let mut encoder = oracle.encoder();
    for (category, name) in ["capsule", "dining table"].into_iter().enumerate() {
        let key = format!("winclip/cat{category}/text_normal_abnormal");
        close(&key, &states(&mut encoder, name, true), &oracle.tensor(FILE, &key), 2e-5);
    }
    let key = "winclip/cat0/text_normal_abnormal_each_normalised";
    close(key, &states(&mut encoder, "capsule", false), &oracle.tensor(FILE, key), 2e-5);
}

/// What the tower sees of a picture, or of a part of it: top, left, height, width.
fn windows(tower: &VisionTower, input: &Tensor, part: Option<[i64; 4]>) -> Seen {
    let input = match part {
        None => input.shallow_clone(),
        Some([top, left, height, width]) => input.narrow(2, top, height).narrow(3, left, width),
    };
    let features = WINDOWS.map(|size| Windows::features(tower, &input, size).unwrap());
    Seen { grid: (14, 14), features: features.into(), score: AnomalyScore::Windows }
}

#[test]
fn maps_of_windows_equal_the_published_ones() {
    let Some(oracle) = oracle() else { return };
    let tower = oracle.tower(Positions::Plain);
    let seen = windows(&tower, &oracle.input("img0"), None);
    let (first, expected) =
        (seen.features[0].narrow(0, 0, 20), oracle.tensor(FILE, "winclip/window_embeddings_first20"));
    let expected = &expected / expected.norm_scalaropt_dim(2, [1i64].as_slice(), true);
    close("windows", &first, &expected, 2e-5);

    let mut normal = Normal::new(AnomalyScore::Windows);
    let img1 = oracle.input("img1");
    for part in [[0, 0, 224, 224], [112, 224, 224, 224]] {
        normal.add(&windows(&tower, &img1, Some(part))).unwrap();
    }
    let maps = |states: &Tensor| {
        let pair = Pair { features: Vec::try_from(states.flatten(0, -1)).unwrap() };
        let words = seen.by_words(&pair, 100.0).unwrap();
        let pictures = seen.by_pictures(&normal).unwrap();
        [words.shallow_clone(), pictures.shallow_clone(), fused(&words, &pictures).unwrap()]
            .map(|map| map.view([14, 14]))
    };
    for category in ["cat0", "cat1"] {
        let key = |name: &str| format!("winclip/{category}/{name}");
        let [words, pictures, fused] = maps(&oracle.tensor(FILE, &key("text_normal_abnormal")));
        close(&key("textual_map"), &words, &oracle.tensor(FILE, &key("textual_map")), 2e-5);
        // The published loop compares the first 3x3 window with the wrong gallery: 9 patches, up to 1e-4.
        let expected = oracle.tensor(FILE, &key("visual_map_2shot"));
        let off = (&pictures - &expected).abs();
        assert!(off.max().double_value(&[]) < 2e-4, "{category}");
        let _ = off.narrow(0, 0, 3).narrow(1, 0, 3).fill_(0.0);
        assert!(off.max().double_value(&[]) < 2e-5, "{category}: {}", off.max());
        let expected = oracle.tensor(FILE, &key("fused_full_sub4"));
        let full = fused.view([1, 1, 14, 14]).upsample_bilinear2d([224, 224], false, None, None);
        let every: Vec<i64> = (0..56).map(|index| 4 * index).collect();
        let every = Tensor::from_slice(&every);
        let sub = full.view([224, 224]).index_select(0, &every).index_select(1, &every);
        let off = (sub - expected).abs().max().double_value(&[]);
        assert!(off < 2e-4, "{category} fused: {off}");
    }
    let rows: Vec<i64> =
        Vec::try_from(oracle.tensor(FILE, "winclip/pair/rows_of_query_features").to_kind(Kind::Int64))
            .unwrap();
    let queries = oracle.tensor("encoders", "text/query_features");
    let [words, ..] = maps(&queries.index_select(0, &Tensor::from_slice(&rows)));
    close("pair", &words, &oracle.tensor(FILE, "winclip/pair/textual_map"), 2e-5);
}

fn seen(angles: &[f32]) -> Seen {
    let rows: Vec<f32> = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
    let features = vec![Tensor::from_slice(&rows).view([-1, 2])];
    Seen { grid: (1, angles.len() as i64), features, score: AnomalyScore::Dense }
}

#[test]
fn what_is_nearer_to_damaged_or_farther_from_sound_scores_higher() {
    let pair = Pair { features: vec![1.0, 0.0, 0.0, 1.0] };
    let mut normal = Normal::new(AnomalyScore::Dense);
    normal.add(&seen(&[0.0, 0.1])).unwrap();
    let patches = seen(&[0.05, std::f32::consts::FRAC_PI_4, 1.5]);
    let by_words = patches.map(Some(&pair), 10.0, None).unwrap();
    assert!(
        (by_words.values[1] - 0.5).abs() < 1e-5 && by_words.values[0] < 0.01 && by_words.values[2] > 0.99
    );
    let by_pictures = patches.map(None, 10.0, Some(&normal)).unwrap();
    assert!(by_pictures.values.is_sorted(), "{:?}", by_pictures.values);
    let expected = 0.5 * (1.0 - (1.5f32 - 0.1).cos());
    assert!((by_pictures.values[2] - expected).abs() < 1e-5);
    let both = patches.map(Some(&pair), 10.0, Some(&normal)).unwrap();
    let [t, v] = [by_words.values[2], by_pictures.values[2]];
    assert!((both.values[2] - 1.0 / (1.0 / t + 1.0 / v)).abs() < 1e-5);
    assert!((both.score - f64::from(both.values[2])).abs() < 1e-6, "the highest hundredth of three is one");
}

#[test]
fn the_same_picture_again_is_no_anomaly_and_nothing_is_not_a_number() {
    let patches = seen(&[0.3; 9]);
    let mut normal = Normal::new(AnomalyScore::Dense);
    normal.add(&patches).unwrap();
    let pair = Pair { features: vec![1.0, 0.0, 1.0, 0.0] };
    let same = patches.map(None, 100.0, Some(&normal)).unwrap();
    assert!(same.values.iter().all(|&value| value < 1e-6) && same.score < 1e-6);
    let both = patches.map(Some(&pair), 100.0, Some(&normal)).unwrap();
    assert!(both.values.iter().all(|value| value.is_finite()));
    assert!(patches.map(None, 100.0, None).is_err());
    let other = Normal::new(AnomalyScore::Windows);
    assert!(patches.map(None, 100.0, Some(&other)).unwrap_err().to_string().contains("another way"));
    assert!(patches.map(None, 100.0, Some(&Normal::new(AnomalyScore::Dense))).is_err());
}

#[test]
fn uniform_frames_through_windows() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hugging_face");
    let mut checkpoint = crate::weights::Checkpoint::open(fixture).unwrap();
    let architecture = checkpoint.architecture;
    let weights = &mut checkpoint.weights;
    let mut loader =
        crate::transformer::Loader { weights, device: Device::Cpu, kind: Kind::Float, wide: false };
    let tower = VisionTower::load(&mut loader, &architecture, Positions::Plain).unwrap();
    let patch = tower.config.patch_size;
    for (rows, columns) in [(1, 1), (1, 4), (5, 2)] {
        let input = Tensor::zeros([1, 3, rows * patch, columns * patch], (Kind::Float, Device::Cpu));
        let features = WINDOWS.map(|size| Windows::features(&tower, &input, size).unwrap());
        let seen = Seen { grid: (rows, columns), features: features.into(), score: AnomalyScore::Windows };
        let mut states = vec![0.0; 2 * tower.embed_dim() as usize];
        (states[0], states[tower.embed_dim() as usize + 1]) = (1.0, 1.0);
        let map = seen.map(Some(&Pair { features: states }), 100.0, None).unwrap();
        assert_eq!(map.values.len() as i64, rows * columns);
        assert!(map.values.iter().all(|value| (0.0..=1.0).contains(value)), "{:?}", map.values);
    }
}
