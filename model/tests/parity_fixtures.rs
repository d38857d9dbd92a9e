// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three small random checkpoints, one a format, against the plain reference that made them (`data/make_fixtures.py`).

mod model_common;

use std::path::PathBuf;

use gclip_model::tokenizer::Tokenizer;
use gclip_model::{Model, ModelSpec, Positions, PrecisionChoice};
use model_common::{assert_close, find_tensor, picture, spec, tensor, vocabulary};
use tch::{Kind, Tensor};

/// Folder of the fixture, what to load, its joint width.
const FIXTURES: [(&str, &str, i64); 3] =
    [("hugging_face", "", 24), ("open_clip", "", 16), ("openai", "model.pt", 16)];

fn texts() -> Vec<String> {
    let long = "a word too many ".repeat(9);
    ["sky", "the tree", "A Road!", "it's 42", "<|endoftext|> x", "", &long].map(String::from).into()
}

fn folder(fixture: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(fixture)
}

fn checkpoint(fixture: &str, file: &str) -> String {
    folder(fixture).join(file).to_str().unwrap().to_owned()
}

/// Per-patch logits of picture `n` against the first four texts.
fn logits(model: &mut Model, fixture: &str, n: i64) -> Tensor {
    let file = folder(fixture).join("expected.safetensors");
    let features = tensor(&file, "text").narrow(0, 0, 4);
    let norm = features.norm_scalaropt_dim(2, [-1], true);
    let vocabulary = vocabulary(&(features / norm));
    let picture = picture(&tensor(&file, &format!("picture/{n}")));
    let input = model.vision.preprocess(&[&picture], (picture.height, picture.width)).unwrap();
    model.vision.logits(&input, &[&vocabulary]).unwrap().remove(0)
}

#[test]
fn tokens_equal_the_reference() {
    for (fixture, _, _) in FIXTURES {
        let tokenizer = Tokenizer::load(&folder(fixture), 540, 16).unwrap();
        let expected = tensor(&folder(fixture).join("expected.safetensors"), "tokens");
        for (index, text) in texts().iter().enumerate() {
            let mut ids = tokenizer.encode(text);
            ids.resize(16, -1);
            let expected: Vec<i64> = Vec::try_from(expected.get(index as i64).to_kind(Kind::Int64)).unwrap();
            assert_eq!(ids, expected, "{fixture}: {text:?}");
        }
    }
}

#[test]
fn encoders_equal_the_reference_in_every_format() {
    for (fixture, file, dim) in FIXTURES {
        let expected = folder(fixture).join("expected.safetensors");
        let mut model = Model::load(&spec(checkpoint(fixture, file), "clip", "")).unwrap();
        let info = &model.info;
        assert_eq!((info.embed_dim as i64, info.patch_size, info.image_size), (dim, 8, 32));
        let raw = model.text.as_mut().unwrap().encode_raw(&texts()).unwrap();
        assert_close(
            &format!("{fixture} text"),
            &Tensor::from_slice(&raw).reshape([-1, dim]),
            &tensor(&expected, "text"),
        );
        for n in 0..2 {
            let picture = picture(&tensor(&expected, &format!("picture/{n}")));
            let input = model.vision.preprocess(&[&picture], (picture.height, picture.width)).unwrap();
            let features = model.vision.encode_image(&input).unwrap().get(0);
            assert_close(
                &format!("{fixture} image {n}"),
                &features,
                &tensor(&expected, &format!("image/{n}")),
            );
        }
    }
}

#[test]
fn methods_equal_the_reference_in_every_format() {
    for (fixture, file, _) in FIXTURES {
        let expected = folder(fixture).join("expected.safetensors");
        for method in ["clip", "clearclip", "sclip", "naclip", "maskclip"] {
            for (positions, suffix) in [(Positions::Plain, "plain"), (Positions::Scale, "scale")] {
                let spec = ModelSpec { positions, ..spec(checkpoint(fixture, file), method, "") };
                let mut model = Model::load(&spec).unwrap();
                for n in 0..2 {
                    let key = format!("{method}/{n}/{suffix}");
                    if let Some(expected) = find_tensor(&expected, &key) {
                        assert_close(&format!("{fixture} {key}"), &logits(&mut model, fixture, n), &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn gclip_equals_the_reference() {
    let expected = folder("hugging_face").join("expected.safetensors");
    for (name, options) in
        [("gclip", ""), ("gclip_each", "heads=each"), ("gclip_half", "fuse=5+6,suppress=none,weights=half")]
    {
        let mut model = Model::load(&spec(checkpoint("hugging_face", ""), "gclip", options)).unwrap();
        for n in 0..2 {
            let key = format!("{name}/{n}/plain");
            assert_close(&key, &logits(&mut model, "hugging_face", n), &tensor(&expected, &key));
        }
    }
}

#[test]
fn gclip_finds_blocks_in_towers_of_any_depth() {
    for (fixture, file, _) in FIXTURES {
        let load =
            || Model::load(&spec(checkpoint(fixture, file), "gclip", "fuse=auto,suppress=auto")).unwrap();
        let (mut model, again) = (load(), load());
        println!("{fixture}: {}", model.info.method);
        assert_eq!(model.info.method, again.info.method, "the choice must not change from load to load");
        assert!(!model.info.method.contains("auto"), "{}", model.info.method);
        assert!(logits(&mut model, fixture, 1).abs().max().double_value(&[]) <= 1.0);
    }
}

#[test]
fn batches_equal_single_pictures() {
    let file = folder("hugging_face").join("expected.safetensors");
    for (method, options) in
        [("gclip", ""), ("gclip", "heads=each"), ("naclip", "attention=nonly"), ("maskclip", "ks=1")]
    {
        let mut model = Model::load(&spec(checkpoint("hugging_face", ""), method, options)).unwrap();
        let first = tensor(&file, "picture/0");
        let pictures = [picture(&first), picture(&first.flip([1]))];
        let vocabulary = vocabulary(&tensor(&file, "text").narrow(0, 0, 4));
        let mut run = |pictures: &[&_]| {
            let input = model.vision.preprocess(pictures, (32, 32)).unwrap();
            model.vision.logits(&input, &vec![&vocabulary; pictures.len()]).unwrap()
        };
        let both = run(&[&pictures[0], &pictures[1]]);
        for (picture, together) in pictures.iter().zip(&both) {
            assert_close(&format!("{method} {options}"), together, &run(&[picture])[0]);
        }
    }
}

#[test]
fn short_number_formats_stay_close() {
    for precision in [PrecisionChoice::Bf16, PrecisionChoice::F16] {
        let exact = logits(
            &mut Model::load(&spec(checkpoint("hugging_face", ""), "gclip", "")).unwrap(),
            "hugging_face",
            1,
        );
        let spec = ModelSpec { precision, ..spec(checkpoint("hugging_face", ""), "gclip", "") };
        let mut model = Model::load(&spec).unwrap();
        assert_eq!(model.info.precision, precision.to_string());
        let short = logits(&mut model, "hugging_face", 1);
        let difference = (short - exact).abs().max().double_value(&[]);
        println!("{precision}: {difference:.1e}");
        assert!(difference > 0.0 && difference < 0.02, "{precision} differs by {difference}");
    }
}
