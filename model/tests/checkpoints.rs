// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checkpoints as they come: sharded, without a text tower, under other configs; and broken or hostile ones, each of
//! which must end in one sentence that names the file and the cause.

mod model_common;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use gclip_model::Model;
use model_common::spec;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A copy of the Hugging Face fixture to break.
fn copy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(fixture("hugging_face").join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn load(path: &Path) -> anyhow::Result<Model> {
    Model::load(&spec(path.to_str().unwrap(), "gclip", ""))
}

/// The one sentence that loading `path` must fail with; it names `file`.
fn error(path: &Path, file: &str) -> String {
    let Err(error) = load(path) else { panic!("{} was loaded", path.display()) };
    let text = format!("{error:#}");
    assert!(!text.contains('\n') && text.len() < 500, "not one sentence: {text}");
    assert!(text.contains(file), "{text:?} does not name {file}");
    println!("{text}");
    text
}

/// A copy whose tensors went through `edit`: name to type, shape and bytes.
fn edited(edit: impl FnOnce(&mut HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) -> TempDir {
    let folder = copy();
    let file = folder.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let views = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<_, _> = views
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    edit(&mut tensors);
    write(&file, &tensors);
    folder
}

fn write(file: &Path, tensors: &HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>) {
    let views = tensors.iter().map(|(name, (kind, shape, data))| {
        (name.as_str(), TensorView::new(*kind, shape.clone(), data).unwrap())
    });
    fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn config(edit: impl FnOnce(&mut serde_json::Value)) -> TempDir {
    let folder = copy();
    let file = folder.path().join("config.json");
    let mut json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut json);
    fs::write(file, serde_json::to_vec(&json).unwrap()).unwrap();
    folder
}

#[test]
fn sharded_checkpoints_load() {
    let folder = edited(|_| {});
    let whole = fs::read(folder.path().join("model.safetensors")).unwrap();
    let views = SafeTensors::deserialize(&whole).unwrap();
    let mut map = HashMap::new();
    for (shard, vision) in
        [("model-00001-of-00002.safetensors", true), ("model-00002-of-00002.safetensors", false)]
    {
        let part = views.tensors().into_iter().filter(|(name, _)| name.starts_with("vis") == vision);
        let part: Vec<(String, TensorView)> = part.collect();
        map.extend(part.iter().map(|(name, _)| (name.clone(), shard)));
        fs::write(folder.path().join(shard), safetensors::serialize(part, None).unwrap()).unwrap();
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    assert!(load(folder.path()).unwrap().text.is_some());

    fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(
        error(folder.path(), "index.json").contains("model-00002-of-00002.safetensors, which is missing")
    );
    fs::write(&index, r#"{"weight_map": {"x": "../../etc/passwd"}}"#).unwrap();
    assert!(error(folder.path(), "index.json").contains("outside its folder"));
}

#[test]
fn a_checkpoint_without_a_text_tower_loads() {
    let folder = edited(|tensors| tensors.retain(|name, _| name.starts_with("vis")));
    let model = load(folder.path()).unwrap();
    assert!(model.text.is_none());
    assert_eq!(model.info.embed_dim, 24);
    // Embeddings made with the whole checkpoint serve this one: they are bound to the vision tower.
    let whole = load(copy().path()).unwrap();
    assert_eq!(model.info.vision_hash, whole.info.vision_hash);
    assert_ne!(model.info.hash, whole.info.hash);
}

#[test]
fn the_hash_follows_weights_and_text_config() {
    let hash = |folder: &TempDir| load(folder.path()).unwrap().info.hash;
    let original = hash(&copy());
    assert_eq!(original.len(), 64);
    assert_eq!(original, hash(&copy()));
    assert_ne!(original, hash(&config(|json| json["text_config"]["hidden_act"] = "gelu".into())));
    let other = edited(|tensors| tensors.get_mut("logit_scale").unwrap().2[0] ^= 1);
    assert_ne!(original, hash(&other));
}

#[test]
fn what_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(error(folder.path(), folder.path().to_str().unwrap()).contains("no CLIP checkpoint"));
    assert!(error(&folder.path().join("absent"), "absent").contains("no such file or folder"));
    assert!(error(Path::new(""), "no model given").contains("Hugging Face id"));
    let folder = copy();
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert!(error(folder.path(), "model.safetensors").contains("neither"));
    let folder = copy();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    assert!(error(folder.path(), folder.path().to_str().unwrap()).contains("vocabulary of 540 tokens"));
}

#[test]
fn broken_safetensors_files_are_refused() {
    let folder = copy();
    let file = folder.path().join("model.safetensors");
    let good = fs::read(&file).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        error(folder.path(), "model.safetensors")
    };
    assert!(with(b"").contains("empty"));
    assert!(with(b"abc").contains("too short"));
    assert!(with(&good[..good.len() / 2]).contains("the file holds"));
    assert!(with(&[&good[..], &[0; 64]].concat()).contains("the file holds"));
    let mut lying = good.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(with(&lying).contains("header claims 18446744073709551615 bytes"));
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &[0; 16]].concat();
    for json in [
        r#"{"visual_projection.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,99999999999]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,16]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        "not json at all",
    ] {
        assert!(with(&header(json)).contains("no valid safetensors header"), "{json}");
    }
    let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(with(&header(&bomb)).contains("no valid safetensors header"));
    assert!(
        with(&header(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#))
            .contains("no CLIP vision tower")
    );
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let folder = edited(|tensors| {
        let last = "vision_model.encoder.layers.11.mlp.fc2.bias";
        tensors.get_mut(last).unwrap().2[..2].copy_from_slice(&[0xff, 0x7f]); // f16 NaN
    });
    assert!(
        error(folder.path(), "model.safetensors")
            .contains("resblocks.11.mlp.c_proj.bias holds numbers that are not")
    );
    let folder = edited(|tensors| drop(tensors.remove("vision_model.encoder.layers.3.layer_norm1.weight")));
    assert!(error(folder.path(), "model.safetensors").contains("resblocks.3.ln_1.weight is missing"));
    let folder = edited(|tensors| {
        let (_, shape, data) = tensors.get_mut("vision_model.post_layernorm.weight").unwrap();
        *shape = vec![16];
        data.truncate(32);
    });
    assert!(
        error(folder.path(), "model.safetensors").contains("ln_post.weight has shape [16], expected [32]")
    );
    let folder = edited(|tensors| {
        let (_, shape, data) =
            tensors.get_mut("vision_model.encoder.layers.0.self_attn.k_proj.weight").unwrap();
        *shape = vec![16, 32];
        data.truncate(1024);
    });
    assert!(error(folder.path(), "model.safetensors").contains("differ in shape"));
}

#[test]
fn configs_that_contradict_the_weights_are_refused() {
    let vision =
        |key: &'static str, value: serde_json::Value| config(move |json| json["vision_config"][key] = value);
    let says = |folder: TempDir, words: &str| {
        let text = error(folder.path(), folder.path().to_str().unwrap());
        assert!(text.contains(words), "{text}");
    };
    says(vision("num_hidden_layers", 11.into()), "says number of layers 11, the weights have 12");
    says(vision("hidden_size", 768.into()), "says width 768, the weights have 32");
    says(vision("image_size", 224.into()), "covers 16 patches");
    says(vision("num_attention_heads", 5.into()), "does not divide into 5 attention heads");
    says(vision("hidden_act", "relu".into()), "hidden_act \"relu\" is not supported");
    says(vision("patch_size", "eight".into()), "config.json");
    says(config(|json| json["model_type"] = "bert".into()), "model_type is \"bert\"");
    says(config(|json| json["projection_dim"] = 512.into()), "embed dim 512, the weights have 24");
}

#[test]
fn silence_about_heads_means_the_format_s_own_number() {
    let silent =
        config(|json| drop(json["vision_config"].as_object_mut().unwrap().remove("num_attention_heads")));
    // 12 by default, whatever the width; another number than 64 wide heads would have.
    assert!(error(silent.path(), "model.safetensors").contains("does not divide into 12 attention heads"));
    let silent =
        config(|json| drop(json["text_config"].as_object_mut().unwrap().remove("num_attention_heads")));
    assert_eq!(load(silent.path()).unwrap().info.architecture.text.unwrap().transformer.heads, 8);
}

#[test]
fn what_a_checkpoint_says_beyond_a_clip_is_named() {
    let folder = config(|json| json["vision_config"]["use_rope"] = true.into());
    assert!(error(folder.path(), "config.json").contains("vision_config says use_rope = true"));
    let with = |name: &'static str, kind: Dtype, bytes: usize| {
        edited(move |tensors| drop(tensors.insert(name.into(), (kind, vec![4], vec![0; bytes]))))
    };
    let unused = |name: &'static str| format!("takes its tensor {name}");
    let folder = with("vision_model.encoder.layers.0.layer_scale.gamma", Dtype::F16, 8);
    assert!(
        error(folder.path(), "model.safetensors")
            .contains(&unused("visual.transformer.resblocks.0.layer_scale.gamma"))
    );
    let folder = with("text_projection.bias", Dtype::F32, 16);
    assert!(error(folder.path(), "model.safetensors").contains(&unused("text_projection.bias")));
    let folder = with("codebook", Dtype::U8, 4);
    assert!(error(folder.path(), "model.safetensors").contains(&unused("codebook")));
    for harmless in ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"] {
        load(with(harmless, Dtype::I64, 32).path()).unwrap();
    }
}

#[test]
fn transformers_5_keeps_the_preprocessor_inside_the_processor() {
    let processor = serde_json::json!({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "size": {"shortest_edge": 48}});
    let (four, five, both) = (copy(), copy(), copy());
    fs::write(four.path().join("preprocessor_config.json"), processor.to_string()).unwrap();
    let inside =
        serde_json::json!({ "image_processor": processor, "processor_class": "CLIPProcessor" }).to_string();
    fs::write(five.path().join("processor_config.json"), &inside).unwrap();
    fs::write(both.path().join("preprocessor_config.json"), "{\"size\": 64}").unwrap();
    fs::write(both.path().join("processor_config.json"), &inside).unwrap();
    let size = |folder: &TempDir| load(folder.path()).unwrap().info.image_size;
    assert_eq!((size(&four), size(&five), size(&both), size(&copy())), (48, 48, 64, 32));
    fs::write(five.path().join("processor_config.json"), "{}").unwrap();
    assert!(error(five.path(), "processor_config.json").contains("no image_processor"));
}

#[test]
fn json_bombs_are_refused() {
    let folder = copy();
    let file = folder.path().join("config.json");
    fs::write(&file, "[".repeat(1_000_000)).unwrap();
    error(folder.path(), "config.json");
    fs::write(&file, " ".repeat(17 << 20)).unwrap();
    assert!(error(folder.path(), "config.json").contains("too large"));
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    error(folder.path(), "config.json");
}

#[test]
fn only_torchscript_archives_are_torchscript() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.pt");
    let good = fs::read(fixture("openai").join("model.pt")).unwrap();
    for bytes in [&b""[..], b"PK\x03\x04 not a zip", &good[..good.len() / 2], &[0x80, 2, b'}', b'.']] {
        fs::write(&file, bytes).unwrap();
        assert!(error(&file, "model.pt").contains("no TorchScript archive"));
    }
    fs::write(folder.path().join("model.bin"), good).unwrap();
    assert!(error(&folder.path().join("model.bin"), "model.bin").contains("no CLIP checkpoint"));
}
