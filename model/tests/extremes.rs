// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures with nothing in them, grids of one row, one prompt: every method, with everything that goes with it, gives
//! numbers and a mask.

mod model_common;

use std::sync::Arc;

use gclip_model::method::names;
use gclip_model::preprocess::{Colour, Picture, PixelFormat};
use gclip_model::refine::TlpOptions;
use gclip_model::{InferOptions, InputSize, Model, ModelSpec, Prior, Purify, Refine, Request, Vocabulary};
use model_common::small_helper::Small;
use model_common::{spec, vocabulary};
use tch::{Device, Kind, Tensor};

const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hugging_face");
/// Black, white, one colour.
const COLOURS: [[u8; 3]; 3] = [[0, 0, 0], [255, 255, 255], [200, 30, 40]];
/// Width and height in pixels; a patch has 8. One of all, one row, one column, wide, tall.
const SIZES: [(usize, usize); 5] = [(32, 32), (160, 8), (8, 96), (120, 40), (16, 120)];

fn picture([red, green, blue]: [u8; 3], (width, height): (usize, usize)) -> Picture {
    let pixels = [red, green, blue].repeat(width * height);
    let data = Tensor::from_slice(&pixels).into();
    Picture { format: PixelFormat::Rgb, width, height, colour: Colour::default(), data }
}

fn words(queries: i64) -> Arc<Vocabulary> {
    tch::manual_seed(queries);
    let features = Tensor::randn([queries, 24], (Kind::Float, Device::Cpu));
    vocabulary(&(&features / features.norm_scalaropt_dim(2, [1], true)))
}

#[test]
fn every_method_gives_numbers() {
    let (_folder, helper) = Small::dinov2().write();
    let mut choices: Vec<(&str, &str)> = names().map(|name| (name, "")).collect();
    choices.extend([
        ("proxyclip", "gla=on"),
        ("proxyclip", "grid=clip"),
        ("pearl", "polar=svd"),
        ("maskclip", "ks=1,pd=0.5"),
    ]);
    for (method, options) in choices {
        let helper = (method == "proxyclip").then(|| helper.display().to_string());
        let spec = ModelSpec { helper, ..spec(CHECKPOINT, method, options) };
        let mut model = Model::load(&spec).unwrap();
        for (colour, size) in COLOURS.into_iter().flat_map(|colour| SIZES.map(|size| (colour, size))) {
            for queries in [1, 3] {
                let what = format!("{method} {options} {size:?} {colour:?} {queries} queries");
                let mut request = Request {
                    picture: picture(colour, size),
                    vocabulary: words(queries),
                    options: InferOptions { input_size: InputSize::Native, ..InferOptions::default() },
                };
                let look = model.vision.look(std::slice::from_ref(&request)).expect(&what).0.remove(0);
                assert!(bool::try_from(look.logits.patches().isfinite().all()).unwrap(), "{what}");
                let found = model.vision.redundancy(&request, &look).expect(&what);
                assert!(
                    found.scores.iter().all(|score| (0.0..=0.5).contains(score)),
                    "{what}: {:?}",
                    found.scores
                );
                for (refine, prior) in [
                    (Refine::None, Prior::default()),
                    (Refine::Pamr, Prior::default()),
                    (Refine::Tlp(TlpOptions::default()), Prior { weight: 0.3, nudge: 0.1, cut: 0.5 }),
                    (Refine::Tlp(TlpOptions { scaled: true, ..TlpOptions::default() }), Prior::default()),
                ] {
                    (request.options.refine, request.options.prior) = (refine, prior);
                    let (mut answers, _) = model.vision.infer(std::slice::from_ref(&request)).expect(&what);
                    let answer = answers.remove(0);
                    let area: f64 = answer.regions.iter().map(|region| region.area).sum();
                    assert!((area - 1.0).abs() < 1e-6, "{what} {refine}: {:?}", answer.regions);
                    assert!(
                        answer.regions.iter().all(|region| (0.0..=1.0).contains(&region.score)),
                        "{what}"
                    );
                }
            }
        }
    }
}

/// Where no class stays, nothing is found; what stays is found where it is.
#[test]
fn purification_of_nothing_is_background() {
    let mut model = Model::load(&spec(CHECKPOINT, "clearclip", "")).unwrap();
    for (colour, size) in COLOURS.into_iter().flat_map(|colour| SIZES.map(|size| (colour, size))) {
        for queries in [1, 3] {
            let options = InferOptions {
                input_size: InputSize::Native,
                purify: Purify::Full,
                ..InferOptions::default()
            };
            let request = Request { picture: picture(colour, size), vocabulary: words(queries), options };
            let (answers, _) = model.vision.infer(&[request]).unwrap();
            let area: f64 = answers[0].regions.iter().map(|region| region.area).sum();
            assert!(
                area == 0.0 || (area - 1.0).abs() < 1e-6,
                "{size:?} {colour:?}: {:?}",
                answers[0].regions
            );
            assert!(queries > 1 || area == 0.0, "one class has no extent: {:?}", answers[0].regions);
        }
    }
}

/// What the whole picture says moves every patch alike where it is all that counts.
#[test]
fn a_prior_of_one_leaves_one_class() {
    let mut model = Model::load(&spec(CHECKPOINT, "clearclip", "")).unwrap();
    tch::manual_seed(7);
    let noise = Tensor::randint(256, [64 * 48 * 3], (Kind::Uint8, Device::Cpu));
    let picture = Picture {
        format: PixelFormat::Rgb,
        width: 64,
        height: 48,
        colour: Colour::default(),
        data: noise.into(),
    };
    let prior = Prior { weight: 1.0, ..Prior::default() };
    let options = InferOptions { input_size: InputSize::Native, prior, ..InferOptions::default() };
    let request = Request { picture, vocabulary: words(5), options };
    let (answers, _) = model.vision.infer(&[request]).unwrap();
    assert_eq!(answers[0].regions.len(), 1);
}
