// SPDX-License-Identifier: MIT OR Apache-2.0
//! FreeCP's final masks, through all of the model, against its published code on a random CLIP (see `parity.rs`); its steps are
//! compared in `model/src/purify/tests.rs`.

mod model_common;

use std::sync::Arc;

use gclip_model::{
    DecodeOptions, Ids, InferOptions, InputSize, MaskSize, Model, ModelSpec, Positions, Purify, Request,
    Vocabulary,
};
use model_common::oracle::Oracle;
use model_common::spec;

/// With two names of the background, and no classes so alike that sentences about them would have to decide.
#[test]
fn masks_equal_the_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    let spec = ModelSpec { positions: Positions::Scale, ..spec(oracle.path("hf"), "clearclip", "") };
    let mut model = Model::load(&spec).unwrap();
    let vocabulary = Arc::new(Vocabulary {
        labels: (1..=7).map(|class| class.to_string()).collect(),
        query_value: (0..9u32).map(|query| query.saturating_sub(1)).collect(),
        ..(*oracle.vocabulary()).clone()
    });
    for image in ["img0", "img1"] {
        let options = InferOptions {
            input_size: InputSize::Native,
            purify: Purify::Full,
            decode: DecodeOptions { mask_size: MaskSize::Frame, ..DecodeOptions::default() },
            ..InferOptions::default()
        };
        let request = Request { picture: oracle.picture(image), vocabulary: vocabulary.clone(), options };
        let (answers, _) = model.vision.infer(&[request]).unwrap();
        let Ids::U8(ids) = &answers[0].ids else { panic!("seven classes need no 16 bits") };
        let key = format!("freecp_clearclip_bg2/{image}/pred");
        let expected: Vec<u8> =
            Vec::try_from(oracle.tensor("freecp.safetensors", &key).flatten(0, -1)).unwrap();
        let different = ids.iter().zip(&expected).filter(|(id, expected)| id != expected).count();
        println!("{key}: {different} of {} pixels differ", ids.len());
        assert!(different <= ids.len() / 1000, "{key}: {different} pixels differ");
    }
}
