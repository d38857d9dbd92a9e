// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::method::tests::oracle::Oracle;
use crate::method::{MethodSpec, build, cosines};
use crate::vision::Positions;

const LOGIT_SCALE: f64 = 4.59375;
const TOLERANCE: f64 = 1e-4;

/// The base's patch features: ClearCLIP's, or SCLIP's as FreeCP's repository builds it, without the block's residual
/// connection but with its MLP.
fn features(tower: &VisionTower, trunk: &Trunk, base: &str) -> Tensor {
    let build = |name: &str| build(&MethodSpec { name: name.into(), options: String::new() }, 12).unwrap();
    if base != "freecp_sclip" {
        return build("clearclip").features(tower, trunk).unwrap();
    }
    let qkv = &trunk.qkv;
    let map = |x: &Tensor| crate::transformer::attention_map(x, x).unwrap();
    let gathered = (map(&qkv.q) + map(&qkv.k)).matmul(&qkv.v);
    let tokens = tower.last_block().unwrap().residual(&trunk.x.zeros_like(), &gathered).unwrap();
    tower.patch_features(&tokens).unwrap()
}

#[test]
fn every_step_equals_the_published_code() {
    let (Some(first), Some(second)) = (Oracle::find(), Oracle::find_second()) else { return };
    let queries = first.tensor("encoders", "text/query_features");
    let descriptions = second.tensor("freecp", "freecp/descriptor_features");
    let scale = LOGIT_SCALE.exp();
    let (plain, by_scale) = (first.tower(Positions::Plain), first.tower(Positions::Scale));
    for (base, background, options) in [
        ("freecp_clearclip", 0, PurifyOptions::default()),
        ("freecp_clearclip_bg2", 2, PurifyOptions::default()),
        ("freecp_sclip", 0, PurifyOptions { redundancy: 0.05, ambiguity: 0.8 }),
    ] {
        // The first queries are the background's there.
        let query_value: Vec<u32> = (0..9u32).map(|query| (query + 1).saturating_sub(background)).collect();
        let classes = 9 - i64::from(background);
        let descriptions = descriptions.narrow(0, background.into(), classes);
        for (image, tower, suffix) in
            [("img0", &by_scale, ""), ("img1", &by_scale, ""), ("img1", &plain, "_plainpos")]
        {
            let of = |part: &str| second.find_tensor("freecp", &format!("{base}/{image}/{part}{suffix}"));
            let close = |part: &str, found: &Tensor| {
                let Some(expected) = of(part) else { return };
                let expected = match expected.size()[0] > found.size()[0] {
                    true => expected.narrow(0, background.into(), classes),
                    false => expected,
                };
                let found = found.reshape(expected.size());
                let off = (found - expected).abs().max().double_value(&[]);
                println!("{base}/{image}/{part}{suffix}: {off:.1e}");
                assert!(off < TOLERANCE, "{base}/{image}/{part}{suffix}: {off:e}");
            };
            let same = |part: &str, found: &[usize]| {
                let expected = of(part).unwrap_or_else(|| panic!("no {part}"));
                let expected: Vec<i64> = Vec::try_from(expected.to_kind(Kind::Int64)).unwrap();
                let found: Vec<i64> = found.iter().map(|&class| class as i64).collect();
                assert_eq!(found, expected, "{base}/{image}/{part}{suffix}");
            };
            let input = first.input(image);
            let trunk = tower.trunk(&input, &wanted(12)).unwrap();
            let features = features(tower, &trunk, base).select(0, 0);
            let cosines = cosines(&features, &queries, trunk.grid).unwrap();
            let affinity = Affinity::of(&trunk, 0).unwrap();
            let found = Redundancy::of(&cosines, &affinity, &query_value, scale).unwrap();
            close("prob", &found.probability);
            close("refined", &found.spread);
            close("redundancy_score", &Tensor::from_slice(&found.scores));
            let kept = found.kept(&options);
            same("after_redundancy", &kept);
            let overlap = overlaps(&found, &kept).unwrap();
            close("soft_iou", &Tensor::from_slice(&overlap.concat()));
            let mut stay = Vec::new();
            let mut crops = Vec::new();
            for group in ambiguous(&overlap, &kept, &options) {
                match group.len() {
                    1 => stay.extend(group),
                    _ => {
                        let (best, logits) =
                            decide_by_crops(tower, &input, &found, &group, &descriptions, scale).unwrap();
                        stay.extend(best);
                        crops.extend(logits);
                    }
                }
            }
            stay.sort_unstable();
            same("kept", &stay);
            let again = staying(tower, &input, &found, &descriptions, scale, &options).unwrap();
            assert_eq!(again, stay);
            // What the paper shows in the end: the spread maps of the classes that stay.
            let absent: Vec<i64> = (0..classes).filter(|class| !stay.contains(&(*class as usize))).collect();
            close("activation", &found.spread.index_fill(0, &Tensor::from_slice(&absent), 0.0));
            let count = crops.len();
            // Boxes come in another order there.
            let mut expected: Vec<Vec<f32>> = (0..count)
                .filter_map(|crop| of(&format!("crop{crop}_cls_logits")))
                .map(|logits| values(&logits).unwrap())
                .collect();
            assert_eq!(expected.len(), count, "{base}/{image}{suffix}: crops");
            assert!(of(&format!("crop{count}_cls_logits")).is_none(), "{base}/{image}{suffix}: more crops");
            let by_first = |a: &Vec<f32>, b: &Vec<f32>| a[0].total_cmp(&b[0]);
            crops.sort_by(by_first);
            expected.sort_by(by_first);
            for (found, expected) in crops.concat().iter().zip(expected.concat()) {
                assert!((found - expected).abs() < 1e-3, "{base}/{image}{suffix}: crop {found} {expected}");
            }
        }
    }
}

#[test]
fn flat_cosines_give_scores_of_zero_and_nothing_is_kept() {
    let cpu = (Kind::Float, tch::Device::Cpu);
    let map = Tensor::ones([13, 13], cpu) / 13.0;
    let affinity = Affinity::from_maps(&[map]).unwrap();
    for (queries, grid) in [(1i64, [3, 4]), (2, [1, 12]), (3, [12, 1])] {
        let values: Vec<u32> = (1..=queries as u32).collect();
        let cosines = Tensor::full([queries, grid[0], grid[1]], 0.25, cpu);
        let found = Redundancy::of(&cosines, &affinity, &values, 100.0).unwrap();
        assert_eq!(found.scores, vec![0.0; queries as usize]);
        assert!(found.kept(&PurifyOptions::default()).is_empty());
        assert!(overlaps(&found, &[0]).unwrap()[0][0].is_finite());
    }
    let error = Redundancy::of(&Tensor::zeros([2, 3, 4], cpu), &affinity, &[1], 100.0).err().unwrap();
    assert_eq!(error.to_string(), "cosines of 2 queries and 3x4 patches for 1 and 12");
}

#[test]
fn a_class_that_lies_where_things_belong_together_scores_above_one_that_does_not() {
    // Two halves of a grid of 4 x 4, each attending to itself.
    let cpu = (Kind::Float, tch::Device::Cpu);
    let half = Tensor::arange(16, cpu).lt(8).to_kind(Kind::Float);
    let other = half.ones_like() - &half;
    let side = half.outer(&half) + other.outer(&other) + 1e-3;
    let map = side.constant_pad_nd([1i64, 0, 1, 0]);
    let affinity = Affinity::from_maps(&[map]).unwrap();
    let there = (&half * 0.3).reshape([4, 4]);
    let rest = (&other * 0.2).reshape([4, 4]);
    let strewn = Tensor::arange(16, cpu).remainder(5).eq(0).to_kind(Kind::Float).reshape([4, 4]) * 0.1;
    let found =
        Redundancy::of(&Tensor::stack(&[there, strewn, rest], 0), &affinity, &[1, 2, 0], 100.0).unwrap();
    assert_eq!(found.scores.len(), 2, "background only competes");
    assert!(found.scores[0] > 0.45 && found.scores[1] < 0.05, "{:?}", found.scores);
    assert_eq!(found.kept(&PurifyOptions::default()), [0]);
}

#[test]
fn groups_are_those_that_hang_together() {
    let overlaps = vec![
        vec![1.0, 0.1, 0.8, 0.0],
        vec![0.1, 1.0, 0.2, 0.1],
        vec![0.8, 0.2, 1.0, 0.75],
        vec![0.0, 0.1, 0.75, 1.0],
    ];
    let groups = ambiguous(&overlaps, &[3, 5, 6, 9], &PurifyOptions::default());
    assert_eq!(groups, [vec![3, 6, 9], vec![5]]);
}
