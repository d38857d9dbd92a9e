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

/// Texts and whole pictures as the model encodes them, with what the reference made of them.
fn encoded(model: &mut Model, fixture: &str, dim: i64) -> Vec<(String, Tensor, Tensor)> {
    let expected = folder(fixture).join("expected.safetensors");
    let raw = model.text.as_mut().unwrap().encode_raw(&texts()).unwrap();
    let mut all =
        vec![("text".to_string(), Tensor::from_slice(&raw).reshape([-1, dim]), tensor(&expected, "text"))];
    for n in 0..2 {
        let picture = picture(&tensor(&expected, &format!("picture/{n}")));
        let input = model.vision.preprocess(&[&picture], (picture.height, picture.width)).unwrap();
        let features = model.vision.encode_image(&input).unwrap().get(0);
        all.push((format!("image {n}"), features, tensor(&expected, &format!("image/{n}"))));
    }
    all
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
        let mut model = Model::load(&spec(checkpoint(fixture, file), "clip", "")).unwrap();
        let info = &model.info;
        assert_eq!((info.embed_dim as i64, info.patch_size, info.image_size), (dim, 8, 32));
        for (what, found, expected) in encoded(&mut model, fixture, dim) {
            assert_close(&format!("{fixture} {what}"), &found, &expected);
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

/// The fixture in Hugging Face's format, under open_clip's names.
fn in_open_clip(folder: &std::path::Path, quick_gelu: bool) {
    let from = self::folder("hugging_face");
    std::fs::copy(from.join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let of = |name: &str| {
        let view = tensors.tensor(name).unwrap();
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        Tensor::from_data_size(view.data(), &shape, Kind::Half).to_kind(Kind::Float)
    };
    let mut renamed: Vec<(String, Tensor)> = vec![("logit_scale".into(), of("logit_scale"))];
    for (theirs, ours) in [
        ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
        ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
        ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ] {
        renamed.push((ours.into(), of(theirs)));
    }
    renamed.push(("visual.proj".into(), of("visual_projection.weight").tr().contiguous()));
    renamed.push(("text_projection".into(), of("text_projection.weight").tr().contiguous()));
    for part in ["weight", "bias"] {
        for (theirs, ours) in [
            ("vision_model.pre_layrnorm", "visual.ln_pre"),
            ("vision_model.post_layernorm", "visual.ln_post"),
            ("text_model.final_layer_norm", "ln_final"),
        ] {
            renamed.push((format!("{ours}.{part}"), of(&format!("{theirs}.{part}"))));
        }
        for (tower, ours, blocks) in
            [("vision_model", "visual.transformer", 12), ("text_model", "transformer", 2)]
        {
            for block in 0..blocks {
                let (theirs, ours) =
                    (format!("{tower}.encoder.layers.{block}"), format!("{ours}.resblocks.{block}"));
                let joined =
                    ["q", "k", "v"].map(|letter| of(&format!("{theirs}.self_attn.{letter}_proj.{part}")));
                renamed.push((format!("{ours}.attn.in_proj_{part}"), Tensor::cat(&joined, 0)));
                for (theirs_part, ours_part) in [
                    ("self_attn.out_proj", "attn.out_proj"),
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ] {
                    renamed.push((
                        format!("{ours}.{ours_part}.{part}"),
                        of(&format!("{theirs}.{theirs_part}.{part}")),
                    ));
                }
            }
        }
    }
    Tensor::write_safetensors(&renamed, folder.join("open_clip_model.safetensors")).unwrap();
    let mut config = serde_json::json!({
        "model_cfg": {
            "embed_dim": 24,
            "vision_cfg": {
                "image_size": 32, "layers": 12, "width": 32, "head_width": 16, "patch_size": 8, "mlp_ratio": 2.0
            },
            "text_cfg": {
                "context_length": 16, "vocab_size": 540, "width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0
            },
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]
        }
    });
    if quick_gelu {
        config["model_cfg"]["quick_gelu"] = true.into();
    }
    std::fs::write(folder.join("open_clip_config.json"), config.to_string()).unwrap();
}

/// Largest difference of texts and pictures from what the reference computed with QuickGELU.
fn off_from_quick_gelu(checkpoint: &std::path::Path) -> f64 {
    let mut model = Model::load(&spec(checkpoint.to_str().unwrap(), "clip", "")).unwrap();
    let encoded = encoded(&mut model, "hugging_face", 24).into_iter();
    let off = encoded.map(|(_, found, expected)| (found - expected).abs().max().double_value(&[]));
    off.fold(0.0, f64::max)
}

/// As DFN's checkpoints come: open_clip's format, whose activation is GELU unless `quick_gelu` is true.
#[test]
fn dfn_is_computed_with_quick_gelu_as_it_says() {
    let dfn = tempfile::tempdir().unwrap();
    in_open_clip(dfn.path(), true);
    let off = off_from_quick_gelu(dfn.path());
    assert!(off < 1e-4, "{off}");
    let laion = tempfile::tempdir().unwrap();
    in_open_clip(laion.path(), false);
    let off = off_from_quick_gelu(laion.path());
    assert!(off > 1e-3, "the other activation makes no difference: {off}");
}

/// As MetaCLIP's come: Hugging Face's format, which keeps silent about what is its default, the activation too.
#[test]
fn metaclip_is_computed_with_quick_gelu_by_default() {
    let metaclip = tempfile::tempdir().unwrap();
    let from = folder("hugging_face");
    for file in ["tokenizer.json", "model.safetensors"] {
        std::fs::copy(from.join(file), metaclip.path().join(file)).unwrap();
    }
    let config = serde_json::json!({
        "architectures": ["CLIPModel"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 24,
        "text_config": {
            "bos_token_id": 538, "dropout": 0.0, "eos_token_id": 539, "hidden_size": 32, "intermediate_size": 64,
            "max_position_embeddings": 16, "model_type": "clip_text_model", "num_attention_heads": 2,
            "num_hidden_layers": 2, "vocab_size": 540
        },
        "torch_dtype": "float32",
        "vision_config": {
            "dropout": 0.0, "hidden_size": 32, "image_size": 32, "intermediate_size": 64,
            "model_type": "clip_vision_model", "num_attention_heads": 2, "patch_size": 8
        }
    });
    std::fs::write(metaclip.path().join("config.json"), config.to_string()).unwrap();
    let off = off_from_quick_gelu(metaclip.path());
    assert!(off < 1e-4, "{off}");
}
