// SPDX-License-Identifier: MIT OR Apache-2.0
//! PEARL's last block and its refinement, against their published code on a random CLIP (see `parity.rs`).

mod model_common;

use std::sync::Arc;

use gclip_model::refine::{TlpOptions, propagate};
use gclip_model::{
    DecodeOptions, Ids, InferOptions, InputSize, MaskSize, Model, ModelSpec, Positions, Refine, Request,
    Vocabulary, Window,
};
use model_common::oracle::{Oracle, assert_method_in};
use model_common::{assert_close, spec};
use tch::Tensor;

const FILE: &str = "pearl.safetensors";

#[test]
fn pearl_equals_its_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    assert_method_in(&oracle, FILE, "pearl", "pearl", "");
    assert_method_in(&oracle, FILE, "pearl_nokk", "pearl", "kk=0");
    assert_method_in(&oracle, FILE, "pearl_svd", "pearl", "polar=svd");
}

fn request(oracle: &Oracle, image: &str, window: Option<Window>, refine: Refine) -> Request {
    let queries: Vec<(String, u32)> = oracle.json("queries.json");
    let vocabulary = Vocabulary {
        query_value: queries.iter().map(|(_, class)| class + 1).collect(),
        labels: (0..6).map(|class| class.to_string()).collect(),
        ..(*oracle.vocabulary()).clone()
    };
    let decode = DecodeOptions { mask_size: MaskSize::Frame, ..DecodeOptions::default() };
    let input_size = InputSize::Native;
    let options = InferOptions { input_size, window, refine, decode, ..InferOptions::default() };
    Request { picture: oracle.picture(image), vocabulary: Arc::new(vocabulary), options }
}

#[test]
fn propagation_equals_its_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    let windows = Window::from_sizes(224, 112).unwrap();
    let tlp = TlpOptions::default();
    let size = [9, oracle.vocabulary().dim as i64];
    let text = Tensor::from_slice(&oracle.vocabulary().features).reshape(size);
    for (positions, suffix) in [(Positions::Scale, ""), (Positions::Plain, "_plainpos")] {
        let spec = ModelSpec { positions, ..spec(oracle.path("hf"), "pearl", "") };
        let mut model = Model::load(&spec).unwrap();
        for (image, key, window) in [
            ("img0", "pearl/img0", None),
            ("img1", "pearl/img1", None),
            ("img1", "pearl/slide_img1", windows),
        ] {
            let key = format!("{key}/tlp_out{suffix}_sub4");
            let Some(expected) = oracle.find_tensor(FILE, &key) else { continue };
            let request = request(&oracle, image, window, Refine::None);
            let look = model.vision.look(std::slice::from_ref(&request)).unwrap().0.remove(0);
            let found = propagate(&*look.logits, &look.input, Some(&text), 40.0, &tlp).unwrap();
            let [.., height, width] = look.input.size()[..] else { panic!("no picture") };
            let full =
                gclip_model::decode::Logits::upsampled(&found, &(0..9).collect::<Vec<_>>(), [height, width]);
            assert_close(&key, &full.unwrap().slice(1, 0, None, 4).slice(2, 0, None, 4), &expected);
        }
    }
}

#[test]
fn refined_masks_equal_the_published_code() {
    let Some(oracle) = Oracle::find_second() else { return };
    let windows = Window::from_sizes(224, 112).unwrap();
    let tlp = Refine::Tlp(TlpOptions::default());
    let spec = ModelSpec { positions: Positions::Scale, ..spec(oracle.path("hf"), "pearl", "") };
    let mut model = Model::load(&spec).unwrap();
    for (image, key, window, refine) in [
        ("img0", "whole_img0/pred_tlp", None, tlp),
        ("img1", "whole_img1/pred_tlp", None, tlp),
        ("img1", "slide_img1/pred_tlp", windows, tlp),
        ("img1", "slide_img1/pred", windows, Refine::None),
    ] {
        let (answers, _) = model.vision.infer(&[request(&oracle, image, window, refine)]).unwrap();
        let Ids::U8(ids) = &answers[0].ids else { panic!("six classes need no 16 bits") };
        let expected: Vec<u8> =
            Vec::try_from(oracle.tensor(FILE, &format!("pearl/{key}")).flatten(0, -1)).unwrap();
        assert_eq!(ids.len(), expected.len());
        // The published code has no value of its own for "nothing": class 0 stands for it.
        let different = ids.iter().zip(&expected).filter(|(id, expected)| id.saturating_sub(1) != **expected);
        let different = different.count();
        println!("{key}: {different} of {} pixels differ", ids.len());
        assert!(different <= ids.len() / 1000, "{key}: {different} pixels differ");
    }
}
