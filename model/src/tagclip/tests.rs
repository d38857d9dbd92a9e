// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;
use crate::method::tests::oracle::Oracle;
use crate::vision::Positions;

const LOGIT_SCALE: f64 = 4.59375;

#[test]
fn every_step_equals_the_published_code() {
    let Some(oracle) = Oracle::find() else { return };
    let (plain, bilinear) = (oracle.tower(Positions::Plain), oracle.tower(Positions::Bilinear));
    let queries = oracle.tensor("tagclip", "tagclip/text85");
    for (key, all_blocks, again_above) in [("tagclip", false, 0.5), ("tagclip_cocostuff", true, 0.1)] {
        for (picture, tower, suffix) in
            [("img0", &plain, ""), ("img1", &plain, "_plainpos"), ("img1", &bilinear, "")]
        {
            let of = |part: &str| oracle.find_tensor("tagclip", &format!("{key}/{picture}/{part}{suffix}"));
            let options = TagOptions { all_blocks, again_above, ..TagOptions::new(Some(LOGIT_SCALE.exp())) };
            let input = oracle.input(picture);
            let patches = patch_scores(tower, &input, &queries, &options).unwrap();
            let check = |part: &str, found: &Tensor| {
                let Some(expected) = of(part) else { return };
                let found = found.transpose(0, 1).reshape(expected.size());
                let difference = (found - expected).abs().max().double_value(&[]);
                println!("{key}/{picture}/{part}{suffix}: {difference:.1e}");
                assert!(difference < 2e-5, "{key}/{picture}/{part}{suffix}: {difference:e}");
            };
            check("P0", &patches.coarse);
            check("P1_propagated", &patches.propagated);
            check("P2_box_refined", &patches.boxed);
            let Some(expected) = of("scores_final") else { continue };
            let scores = tag_scores(tower, &input, &queries, 9, &options).unwrap();
            let difference = (Tensor::from_slice(&scores) - expected).abs().max().double_value(&[]);
            println!("{key}/{picture}/scores_final{suffix}: {difference:.1e}");
            assert!(difference < 2e-5, "{key}/{picture}/scores_final{suffix}: {difference:e}");
        }
    }
}
