// SPDX-License-Identifier: MIT OR Apache-2.0
//! SigLIP 2 and TIPSv2: small random checkpoints as transformers saves them, against what transformers computes
//! (`data/make_kin_fixtures.py`).
#![cfg(feature = "tokenizers")]

mod model_common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gclip_model::pieces::Pieces;
use gclip_model::reuse::Memory;
use gclip_model::weights::Checkpoint;
use gclip_model::{
    Absent, Evidence, Family, Gate, InferOptions, InputSize, Model, ModelSpec, Picture, Positions,
    PrecisionChoice, Prior, Purify, Request, Reuse, Vocabulary,
};
use model_common::{TOLERANCE, assert_close, picture, spec, tensor, vocabulary};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

const KIN: [(&str, Family); 2] = [("siglip2", Family::Siglip), ("tipsv2", Family::Tips)];

fn folder(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(fixture)
}

fn expected(fixture: &str, key: &str) -> Tensor {
    tensor(&folder(fixture).join("expected.safetensors"), key)
}

fn texts() -> Vec<String> {
    let long = "a word too many ".repeat(9);
    ["sky", "the tree", "A Road!", "it's 42", "Grün ☂", &long].map(String::from).into()
}

fn load(fixture: &str, method: &str) -> Model {
    Model::load(&spec(folder(fixture).to_str().unwrap(), method, "")).unwrap()
}

fn picture_of(fixture: &str, n: i64) -> Picture {
    picture(&expected(fixture, &format!("picture/{n}")))
}

fn input_of(model: &Model, picture: &Picture) -> Tensor {
    model.vision.preprocess(&[picture], (picture.height, picture.width)).unwrap()
}

/// The texts as they are, as queries.
fn queries(fixture: &str) -> Arc<Vocabulary> {
    let text = expected(fixture, "text");
    let norm = text.norm_scalaropt_dim(2, [-1], true);
    vocabulary(&(text / norm))
}

#[test]
fn texts_are_cut_and_encoded_as_by_transformers() {
    for (fixture, family) in KIN {
        let mut model = load(fixture, "clip");
        let architecture = model.info.architecture;
        assert_eq!((architecture.family, model.info.embed_dim, model.info.patch_size), (family, 32, 8));
        let pieces = Pieces::load(&folder(fixture), &architecture.text.unwrap()).unwrap();
        let tokens = expected(fixture, "tokens");
        for (index, text) in texts().iter().enumerate() {
            let mut ids = pieces.encode(text).unwrap();
            ids.resize(16, -1);
            let row: Vec<i64> = Vec::try_from(tokens.get(index as i64).to_kind(Kind::Int64)).unwrap();
            assert_eq!(ids, row, "{fixture}: {text:?}");
        }
        let raw = model.text.as_mut().unwrap().encode_raw(&texts()).unwrap();
        let raw = Tensor::from_slice(&raw).reshape([-1, 32]);
        assert_close(&format!("{fixture} text"), &raw, &expected(fixture, "text"));
    }
}

#[test]
fn pictures_and_patches_are_as_by_transformers() {
    for (fixture, _) in KIN {
        for method in ["clip", "maskclip"] {
            let mut model = load(fixture, method);
            for n in 0..2 {
                let input = input_of(&model, &picture_of(fixture, n));
                let image = model.vision.encode_image(&input).unwrap().get(0);
                assert_close(
                    &format!("{fixture} image {n}"),
                    &image,
                    &expected(fixture, &format!("image/{n}")),
                );
                // Against the axes as queries, cosines are the features themselves.
                let axes = Tensor::eye(32, (Kind::Float, tch::Device::Cpu));
                let found = model.vision.logits(&input, &[&vocabulary(&axes)]).unwrap().remove(0); // [E, h, w]
                let found = found.flatten(1, 2).transpose(0, 1);
                let key = format!("{method}/{n}");
                assert_close(&format!("{fixture} {key}"), &found, &expected(fixture, &key));
            }
        }
    }
}

/// The whole picture, asked beside its patches, is what the tower's own pooling gives.
#[test]
fn the_whole_picture_can_nudge_its_patches() {
    for (fixture, _) in KIN {
        let mut model = load(fixture, "clip");
        let ask = |prior: Prior| Request {
            picture: picture_of(fixture, 0),
            vocabulary: queries(fixture),
            options: InferOptions { input_size: InputSize::Native, prior, ..InferOptions::default() },
        };
        let mut look = |prior| {
            let (mut looks, _) = model.vision.look(&[ask(prior)]).unwrap();
            looks.remove(0).logits.patches().shallow_clone()
        };
        let (plain, all) = (look(Prior::default()), look(Prior { weight: 1.0, ..Prior::default() }));
        let image = expected(fixture, "image/0");
        let text = expected(fixture, "text");
        let unit = |x: Tensor| &x / x.norm_scalaropt_dim(2, [-1], true);
        let whole = unit(text).matmul(&unit(image)).reshape([-1, 1, 1]);
        assert_close(fixture, &all, &whole.expand_as(&plain));
    }
}

#[test]
fn a_still_picture_is_computed_once_and_a_changed_patch_alone() {
    // The second's last block goes by rows, the first's sees all of them.
    let both = KIN.iter().flat_map(|(fixture, _)| [(*fixture, "clip"), (*fixture, "maskclip")]);
    for (fixture, method) in both {
        let mut model = load(fixture, method);
        let memory = Arc::new(Memory::default());
        let queries = queries(fixture);
        let mut look = |rgb: &Tensor, remembers: bool| {
            let memory = remembers.then(|| memory.clone());
            let reuse =
                Reuse { threshold: 1e-6, refresh: Duration::from_secs(600), memory, ..Reuse::default() };
            let options = InferOptions { input_size: InputSize::Native, reuse, ..InferOptions::default() };
            let request = Request { picture: picture(rgb), vocabulary: queries.clone(), options };
            let (mut looks, _) = model.vision.look(&[request]).unwrap();
            looks.remove(0).logits.patches().shallow_clone()
        };
        let rgb = expected(fixture, "picture/1");
        assert_close(fixture, &look(&rgb, true), &look(&rgb, false));
        let whole = memory.counts();
        let again = look(&rgb, true);
        assert_close(fixture, &again, &look(&rgb, false));
        assert_eq!(memory.counts().worked, whole.worked, "{fixture}: a still picture");
        let _ = rgb.narrow(0, 9, 3).narrow(1, 17, 4).fill_(250);
        // Tokens that only see another among them change are left as they were: that is what is saved, and lost.
        let off = (look(&rgb, true) - look(&rgb, false)).abs().max().double_value(&[]);
        println!("{fixture} changed: {off:.1e}");
        assert!(off < 5e-3, "{fixture}: {off}");
        let worked = memory.counts().worked - whole.worked;
        assert!(worked > 0 && worked < whole.worked, "{fixture}: {worked} of {}", whole.worked);
    }
}

/// transformers saves TIPSv2 under the names that google's files have; its own are read as well.
#[test]
fn a_tips_under_the_names_of_transformers_is_the_same() {
    let native = tempfile::tempdir().unwrap();
    copy("tipsv2", native.path());
    let bytes = fs::read(folder("tipsv2").join("model.safetensors")).unwrap();
    let mut tensors = HashMap::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let (name, mut shape, data) = (native_name(&name), view.shape().to_vec(), view.data());
        if !name.contains(".JOINED.") {
            tensors.insert(name, (shape, data.to_vec()));
            continue;
        }
        shape[0] /= 3;
        for (letter, data) in ["q", "k", "v"].iter().zip(data.chunks(data.len() / 3)) {
            let name = name.replace(".JOINED.", &format!(".{letter}_proj."));
            tensors.insert(name, (shape.clone(), data.to_vec()));
        }
    }
    assert!(
        tensors.contains_key("vision_model.encoder.layer.2.attention.q_proj.bias"),
        "{:?}",
        tensors.keys()
    );
    assert!(tensors.keys().all(|name| !name.contains("_encoder.")), "{:?}", tensors.keys());
    write(native.path(), &tensors);
    let mut model = Model::load(&spec(native.path().to_str().unwrap(), "clip", "")).unwrap();
    let input = input_of(&model, &picture_of("tipsv2", 1));
    let image = model.vision.encode_image(&input).unwrap().get(0);
    assert_close("image", &image, &expected("tipsv2", "image/1"));
    let raw = model.text.as_mut().unwrap().encode_raw(&texts()).unwrap();
    assert_close("text", &Tensor::from_slice(&raw).reshape([-1, 32]), &expected("tipsv2", "text"));
}

fn native_name(published: &str) -> String {
    let mut name = published.to_string();
    let both = [
        ("vision_encoder.patch_embed.proj.", "vision_model.embeddings.patch_embeddings.projection."),
        ("vision_encoder.pos_embed", "vision_model.embeddings.position_embeddings"),
        ("vision_encoder.blocks.", "vision_model.encoder.layer."),
        ("vision_encoder.norm.", "vision_model.layernorm."),
        ("vision_encoder.", "vision_model.embeddings."),
        (".ls1.gamma", ".layer_scale1.lambda1"),
        (".ls2.gamma", ".layer_scale2.lambda1"),
        (".attn.proj.", ".attention.o_proj."),
        (".attn.qkv.", ".attention.JOINED."),
        ("text_encoder.transformer.resblocks.", "text_model.encoder.layers."),
        ("text_encoder.ln_final.", "text_model.final_layer_norm."),
        ("text_encoder.", "text_model.embeddings."),
        (".ln_1.", ".layer_norm1."),
        (".ln_2.", ".layer_norm2."),
        (".attn.in_proj_", ".self_attn.JOINED."),
        (".attn.", ".self_attn."),
        (".mlp.c_fc.", ".mlp.fc1."),
        (".mlp.c_proj.", ".mlp.fc2."),
    ];
    for (published, native) in both {
        name = name.replace(published, native);
    }
    name
}

fn write(folder: &Path, tensors: &HashMap<String, (Vec<usize>, Vec<u8>)>) {
    let views = tensors.iter().map(|(name, (shape, bytes))| {
        (name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}

fn copy(fixture: &str, to: &Path) {
    for file in fs::read_dir(folder(fixture)).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// The error of a checkpoint whose config is changed.
fn refused(fixture: &str, change: impl FnOnce(&mut Value)) -> String {
    let changed = tempfile::tempdir().unwrap();
    copy(fixture, changed.path());
    let file = changed.path().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    change(&mut config);
    fs::write(&file, config.to_string()).unwrap();
    let error = Model::load(&spec(changed.path().to_str().unwrap(), "clip", ""));
    format!("{:#}", error.err().expect("it was accepted"))
}

#[test]
fn what_is_not_computed_here_is_refused_by_name() {
    for (fixture, change, words) in [
        ("siglip2", ("model_type", json!("siglip2")), "model_type is \"siglip2\""),
        ("siglip2", ("vision_config", json!({"vision_use_head": false})), "vision_use_head = false"),
        ("siglip2", ("vision_config", json!({"hidden_size": 48})), "the config says width 48"),
        ("tipsv2", ("vision_config", json!({"use_swiglu_ffn": true})), "use_swiglu_ffn = true"),
        ("tipsv2", ("vision_config", json!({"rotary": 1})), "rotary = 1"),
        ("tipsv2", ("vision_config", json!({"num_register_tokens": 3})), "visual.register_tokens"),
        ("tipsv2", ("text_config", json!({"scale_sqrt_depth": false})), "scale_sqrt_depth = false"),
        ("tipsv2", ("text_config", json!({"max_position_embeddings": 1i64 << 40})), "is beyond 65536"),
        ("tipsv2", ("temperature_init_value", json!(0.0)), "temperature_init_value = 0"),
    ] {
        let (key, value) = change;
        let text = refused(fixture, |config| match (config[key].as_object_mut(), value) {
            (Some(part), Value::Object(keys)) => part.extend(keys),
            (_, value) => config[key] = value,
        });
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_tokenizer_that_is_not_there_or_of_another_model_is_told() {
    let changed = tempfile::tempdir().unwrap();
    copy("siglip2", changed.path());
    let load = || {
        let error = Model::load(&spec(changed.path().to_str().unwrap(), "clip", ""));
        format!("{:#}", error.err().expect("it was accepted"))
    };
    let config = changed.path().join("tokenizer_config.json");
    fs::write(&config, json!({"tokenizer_class": "SiglipTokenizer"}).to_string()).unwrap();
    assert!(load().contains("that of SigLIP 1"), "{}", load());
    fs::write(&config, json!({"pad_token": "<nothing>"}).to_string()).unwrap();
    assert!(load().contains("no token <nothing>"), "{}", load());
    let tokenizer = changed.path().join("tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    assert!(load().contains("cannot use the tokenizer"), "{}", load());
    fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hugging_face/tokenizer.json"),
        &tokenizer,
    )
    .unwrap();
    assert!(load().contains("tokenizer.json"), "{}", load());
    fs::remove_file(&tokenizer).unwrap();
    assert!(load().contains("holds no tokenizer.json"), "{}", load());
}

#[test]
fn what_reads_clips_class_token_says_so() {
    for (fixture, family) in KIN {
        let load = |method: &str, positions| {
            let spec = ModelSpec { positions, ..spec(folder(fixture).to_str().unwrap(), method, "") };
            Model::load(&spec).err().map(|error| format!("{error:#}")).unwrap_or_default()
        };
        for method in ["gclip", "sclip", "naclip", "proxyclip", "cliptrase"] {
            let text = load(method, Positions::Plain);
            let words = format!(
                "method {method} is made for CLIP's vision tower, and this checkpoint is a {}",
                family.name()
            );
            assert!(text.contains(&words), "{text}");
        }
        assert!(load("clip", Positions::Scale).contains("positions scale"));
        let mut model = self::load(fixture, "clip");
        let by_tags = Gate { absent: Absent::Mute, evidence: Evidence::Tags, ..Gate::default() };
        for (options, words) in [
            (InferOptions { tags: true, ..InferOptions::default() }, "tags (TagCLIP) read the class token"),
            (
                InferOptions { gate: by_tags, ..InferOptions::default() },
                "tags (TagCLIP) read the class token",
            ),
            (InferOptions { purify: Purify::Full, ..InferOptions::default() }, "purification (FreeCP)"),
        ] {
            let request = Request {
                picture: picture_of(fixture, 0),
                vocabulary: queries(fixture),
                options: InferOptions { input_size: InputSize::Native, ..options },
            };
            let error = model.vision.infer(&[request]).expect_err("it was done");
            assert!(format!("{error:#}").contains(words), "{error:#}");
        }
    }
}

#[test]
fn short_formats_see_nearly_the_same() {
    for (fixture, _) in KIN {
        for precision in [PrecisionChoice::Bf16, PrecisionChoice::Int8] {
            let spec = ModelSpec { precision, ..spec(folder(fixture).to_str().unwrap(), "clip", "") };
            let mut model = match Model::load(&spec) {
                Err(error) if format!("{error:#}").contains("AVX512-VNNI") => continue,
                model => model.unwrap(),
            };
            let input = input_of(&model, &picture_of(fixture, 1));
            let axes = Tensor::eye(32, (Kind::Float, tch::Device::Cpu));
            let found = model.vision.logits(&input, &[&vocabulary(&axes)]).unwrap().remove(0); // [E, h, w]
            let found = found.flatten(1, 2).transpose(0, 1);
            let cosines =
                (found * expected(fixture, "clip/1")).sum_dim_intlist([1i64].as_slice(), false, Kind::Float);
            let least = cosines.min().double_value(&[]);
            println!("{fixture} {precision}: least cosine with f32 {least:.5}");
            assert!(least > 0.98, "{fixture} {precision}: {least}");
        }
    }
}

#[test]
fn the_scale_of_cosines_is_that_of_the_checkpoint() {
    let scale =
        |fixture: &str| Checkpoint::open(folder(fixture).to_str().unwrap()).unwrap().logit_scale.unwrap();
    assert!((scale("tipsv2") - 16.0).abs() < TOLERANCE);
    assert!(scale("siglip2") > 0.0);
}
