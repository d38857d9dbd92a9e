// SPDX-License-Identifier: MIT OR Apache-2.0
//! Missing, damaged and hostile checkpoints on the command line: one sentence that names the file, nothing written.

use gclip_testing::tiny;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gclip_testing::tiny::Tensors;

/// A fresh checkpoint that `damage` may change; then the program must refuse it with these words.
#[track_caller]
fn refused(damage: impl FnOnce(&Path), words: &[&str]) {
    refused_as(
        |model| {
            damage(model);
            model.to_path_buf()
        },
        words,
    );
}

/// As `refused`, with another path than the folder.
#[track_caller]
fn refused_as(damage: impl FnOnce(&Path) -> PathBuf, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    tiny::write(&model, true);
    tiny::write_picture(&folder.path().join("p.png"), 20, 20);
    let model = damage(&model);
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .current_dir(folder.path())
        .args(["segment", "p.png", "--device", "cpu", "--prompts", "a;b", "--mask", "m.png", "--model"])
        .arg(&model)
        .env("OMP_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "one sentence: {text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert!(!folder.path().join("m.png").exists());
    let parts = fs::read_dir(folder.path()).unwrap().flatten();
    assert!(!parts.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".part")));
}

fn weights(model: &Path) -> PathBuf {
    model.join("model.safetensors")
}

/// Weights with one tensor changed.
fn change(model: &Path, name: &str, edit: impl FnOnce(&mut Vec<usize>, &mut Vec<f32>)) {
    let mut tensors: Tensors = tiny::tensors(true);
    let tensor = tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap();
    edit(&mut tensor.1, &mut tensor.2);
    tiny::write_weights(&weights(model), &tensors);
}

/// A safetensors file with this header and no data.
fn write_header(model: &Path, header: &[u8], claimed_length: u64) {
    let bytes = [&claimed_length.to_le_bytes(), header].concat();
    fs::write(weights(model), bytes).unwrap();
}

#[test]
fn missing_and_empty_files() {
    refused(|model| fs::remove_file(weights(model)).unwrap(), &["model", "safetensors"]);
    refused(|model| fs::remove_file(model.join("config.json")).unwrap(), &["model", "config.json"]);
    refused(|model| fs::write(weights(model), b"").unwrap(), &["model.safetensors"]);
    refused(|model| fs::write(model.join("config.json"), b"").unwrap(), &["config.json"]);
}

#[test]
fn truncated_weights() {
    refused(
        |model| {
            let bytes = fs::read(weights(model)).unwrap();
            fs::write(weights(model), &bytes[..bytes.len() / 2]).unwrap();
        },
        &["model.safetensors"],
    );
}

#[test]
fn hostile_safetensors() {
    refused(|model| write_header(model, b"{}", u64::MAX), &["model.safetensors"]);
    refused(|model| write_header(model, b"{}", 1 << 40), &["model.safetensors"]);
    let lying = br#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,99999999999]}}"#;
    refused(|model| write_header(model, lying, lying.len() as u64), &["model.safetensors"]);
    let backwards = br#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#;
    refused(|model| write_header(model, backwards, backwards.len() as u64), &["model.safetensors"]);
    let enormous =
        br#"{"x":{"dtype":"F32","shape":[4294967295,4294967295,4294967295],"data_offsets":[0,16]}}"#;
    refused(|model| write_header(model, enormous, enormous.len() as u64), &["model.safetensors"]);
    refused(|model| write_header(model, &[0xff; 64], 64), &["model.safetensors"]);
}

#[test]
fn hostile_json() {
    let deep = "[".repeat(1_000_000);
    refused(|model| fs::write(model.join("config.json"), deep).unwrap(), &["config.json"]);
    let file = |model: &Path| fs::File::create(model.join("config.json")).unwrap().set_len(1 << 34).unwrap();
    refused(file, &["config.json"]);
    refused(|model| fs::write(model.join("config.json"), b"\xff\xfe").unwrap(), &["config.json"]);
    for (field, value) in [("hidden_size", -1i64), ("num_hidden_layers", 1 << 60), ("patch_size", 0)] {
        let mut config = tiny::config(true);
        config["vision_config"][field] = value.into();
        refused(|model| fs::write(model.join("config.json"), config.to_string()).unwrap(), &["model"]);
    }
}

#[test]
fn another_architecture() {
    let mut config = tiny::config(true);
    config["model_type"] = "bert".into();
    refused(
        |model| fs::write(model.join("config.json"), config.to_string()).unwrap(),
        &["config.json", "bert"],
    );
    let bert = vec![("bert.embeddings.weight".to_string(), vec![2], vec![0.0, 1.0])];
    refused(|model| tiny::write_weights(&weights(model), &bert), &["model.safetensors"]);
}

/// The words are about what the user's file holds, not about how the names would be elsewhere.
#[test]
fn files_that_hold_something_else_are_told_by_what_they_hold() {
    let renamed = |name: &dyn Fn(&str) -> Option<String>| -> Tensors {
        let all = tiny::tensors(true).into_iter();
        all.filter_map(|(old, shape, values)| Some((name(&old)?, shape, values))).collect()
    };
    let prefixed = renamed(&|name| Some(format!("model.{name}")));
    refused(|model| tiny::write_weights(&weights(model), &prefixed), &["its tensors begin with `model.`"]);
    let bare = renamed(&|name| (!name.contains("projection")).then(|| name.to_string()));
    let words = ["without its projection", "CLIPVisionModelWithProjection"];
    refused(|model| tiny::write_weights(&weights(model), &bare), &words);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 600000000\n";
    refused(|model| fs::write(weights(model), pointer).unwrap(), &["model.safetensors", "git lfs pull"]);
}

#[test]
fn wrong_shapes_and_numbers() {
    let name = "visual_projection.weight";
    refused(|model| change(model, name, |shape, _| *shape = vec![64, 32]), &["model.safetensors"]);
    let name = "vision_model.encoder.layers.1.mlp.fc1.weight";
    refused(|model| change(model, name, |_, values| values[7] = f32::NAN), &["model.safetensors", "NaN"]);
    refused(|model| change(model, name, |_, values| values[7] = f32::INFINITY), &["model.safetensors"]);
}

#[test]
fn a_pt_that_is_no_torchscript() {
    let fake = |bytes: &'static [u8]| {
        move |model: &Path| {
            let file = model.join("fake.pt");
            fs::write(&file, bytes).unwrap();
            file
        }
    };
    refused_as(fake(b""), &["fake.pt"]);
    refused_as(fake(b"PK\x03\x04 but no archive"), &["fake.pt"]);
    refused_as(fake(b"\x80\x02}q\x00."), &["fake.pt"]);
}

#[test]
fn no_text_tower_and_no_embeddings() {
    refused(|model| tiny::write(model, false), &["text tower", "--embeddings"]);
}

#[test]
fn shards_that_are_missing_or_lead_away() {
    let index = |text: &'static str| {
        move |model: &Path| {
            fs::remove_file(weights(model)).unwrap();
            fs::write(model.join("model.safetensors.index.json"), text).unwrap();
        }
    };
    refused(index(r#"{"weight_map":{"a":"model-1.safetensors"}}"#), &["model-1.safetensors"]);
    refused(index(r#"{"weight_map":{"a":"../../../etc/passwd"}}"#), &["model.safetensors.index.json"]);
    refused(index("{}"), &["model.safetensors.index.json"]);
}
