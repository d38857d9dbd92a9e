// SPDX-License-Identifier: MIT OR Apache-2.0
//! The methods with several passes or discrete steps, against their published code on a random CLIP (see `parity.rs`).

mod model_common;

use gclip_model::{InputSize, Model, ModelSpec, Positions};
use model_common::oracle::{Oracle, assert_method, assert_method_in};
use model_common::spec;
use tch::Kind;

#[test]
fn scclip_equals_its_published_code() {
    let Some(oracle) = Oracle::find() else { return };
    assert_method(&oracle, "scclip", "scclip", "");
}

#[test]
fn cliptrase_equals_its_published_code() {
    let Some(oracle) = Oracle::find() else { return };
    assert_method_in(&oracle, "cliptrase.safetensors", "cliptrase", "cliptrase", "denoise=none");
    let vocabulary = oracle.vocabulary();
    for (options, key) in [
        ("", "pred_plain_eps0.7_min3"),
        ("eps=1.1,min=7", "pred_plain_eps1.1_min7"),
        ("class=weigh", "pred_clsweighted_eps0.7_min3"),
        ("class=weigh,eps=1.1,min=7", "pred_clsweighted_eps1.1_min7"),
    ] {
        let spec = ModelSpec { positions: Positions::Scale, ..spec(oracle.path("hf"), "cliptrase", options) };
        let mut model = Model::load(&spec).unwrap();
        for image in ["img0", "img1"] {
            let expected = oracle.tensor("cliptrase.safetensors", &format!("cliptrase/{image}/{key}"));
            let picture = oracle.picture(image);
            let size = model.vision.network_size(&picture, InputSize::Native);
            let input = model.vision.preprocess(&[&picture], size).unwrap();
            let logits = model.vision.logits(&input, &[&vocabulary]).unwrap().remove(0);
            let different = logits.argmax(0, false).ne_tensor(&expected).sum(Kind::Int64).int64_value(&[]);
            println!("{image} {key}: {different} of {} pixels differ", expected.numel());
            // Rounding decides where two queries, or two clusters, are equal to the last digit.
            assert!(
                different <= expected.numel() as i64 / 10_000,
                "{image} {key}: {different} pixels differ"
            );
        }
    }
}

#[test]
fn resclip_equals_its_published_code() {
    let Some(oracle) = Oracle::find() else { return };
    assert_method(&oracle, "resclip", "resclip", "sure=0.4");
    assert_method(&oracle, "resclip_nodel", "resclip", "sure=0.4,apart=off");
    assert_method(&oracle, "resclip_rcs_only", "resclip", "sfr=off");
    assert_method(&oracle, "resclip_sfr_only", "resclip", "sure=0.4,rcs=off");
    assert_method(&oracle, "resclip_clearclip", "resclip", "sure=0.4,base=clearclip");
    assert_method(&oracle, "resclip_sclip", "resclip", "sure=0.4,base=sclip");
}
