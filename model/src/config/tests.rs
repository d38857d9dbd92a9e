// SPDX-License-Identifier: MIT OR Apache-2.0
use serde_json::{Value, json};

use super::*;

fn refused(hints: anyhow::Result<Hints>) -> String {
    format!("{:#}", hints.expect_err("it was accepted"))
}

#[test]
fn silence_in_a_hugging_face_config_means_its_classes_defaults() {
    let hints = hugging_face("{}").unwrap();
    assert_eq!((hints.vision.heads, hints.text.heads), (Some(12), Some(8)));
    assert_eq!((hints.vision.activation, hints.text.eps), (Activation::QuickGelu, Some(1e-5)));
    assert_eq!(hints.pooling, Pooling::HighestId);
    let stated =
        json!({"vision_config": {"num_attention_heads": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-6}});
    let hints = hugging_face(&stated.to_string()).unwrap();
    assert_eq!((hints.vision.heads, hints.text.heads), (Some(16), Some(8)));
    assert_eq!((hints.vision.activation, hints.vision.eps), (Activation::Gelu, Some(1e-6)));
    let alone = json!({"model_type": "clip_vision_model", "hidden_size": 384, "projection_dim": 32});
    let hints = hugging_face(&alone.to_string()).unwrap();
    assert_eq!((hints.vision.heads, hints.vision.width, hints.embed_dim), (Some(12), Some(384), Some(32)));
}

#[test]
fn the_end_of_a_text() {
    let pooling = |text: Value| hugging_face(&json!({"text_config": text}).to_string()).unwrap().pooling;
    assert_eq!(pooling(json!({"eos_token_id": 2})), Pooling::HighestId);
    assert_eq!(pooling(json!({"eos_token_id": 539, "vocab_size": 540})), Pooling::FirstId(539));
    assert_eq!(pooling(json!({"eos_token_id": [49407]})), Pooling::FirstId(49_407));
    assert_eq!(pooling(json!({"vocab_size": 60_000})), Pooling::FirstId(49_407));
    assert_eq!(pooling(json!({"eos_token_id": null, "vocab_size": 540})), Pooling::HighestId);
    let odd = json!({"text_config": {"eos_token_id": "end"}});
    assert!(refused(hugging_face(&odd.to_string())).contains("eos_token_id = \"end\""));
}

#[test]
fn the_first_configs_state_their_towers_twice() {
    let twice = json!({
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "text_config": {"hidden_size": 768, "num_attention_heads": 8, "hidden_act": "gelu"},
        "vision_config_dict": null,
        "vision_config": {"num_attention_heads": 16}
    });
    let hints = hugging_face(&twice.to_string()).unwrap();
    assert_eq!((hints.text.heads, hints.text.activation), (Some(12), Activation::QuickGelu));
    assert_eq!(hints.vision.heads, Some(16));
}

#[test]
fn unknown_keys_of_a_hugging_face_config_are_named() {
    for (config, words) in [
        (json!({"vision_config": {"qk_norm": true}}), "vision_config says qk_norm = true"),
        (json!({"text_config": {"attention_type": "local"}}), "text_config says attention_type = \"local\""),
        (json!({"quantization_config": {"bits": 4}}), "it says quantization_config = {\"bits\":4}"),
        (json!({"vision_config": {"num_channels": 1}}), "num_channels = 1"),
        (json!({"vision_config": {"patch_size": [16, 14]}}), "16 x 14"),
    ] {
        let text = refused(hugging_face(&config.to_string()));
        assert!(text.contains(words), "{text}");
    }
    // What old and new versions write beside it, and what is not there.
    let harmless = json!({
        "_name_or_path": "a", "transformers_version": "4.0.0", "torch_dtype": "float32", "qk_norm": null,
        "vision_config": {"top_k": 50, "id2label": {"0": "LABEL_0"}, "dropout": 0.0, "_commit_hash": "b"}
    });
    hugging_face(&harmless.to_string()).unwrap();
}

/// An open_clip config with these parts.
fn configured(vision: &Value, text: &Value, beside: &Value) -> String {
    let mut model = json!({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text});
    for (key, value) in beside.as_object().into_iter().flatten() {
        model[key] = value.clone();
    }
    json!({ "model_cfg": model }).to_string()
}

#[test]
fn silence_in_an_open_clip_config_means_its_classes_defaults() {
    let hints = open_clip(&configured(&json!({}), &json!({"pool_type": "eos"}), &json!({}))).unwrap();
    assert_eq!((hints.vision.head_width, hints.text.heads), (Some(64), Some(8)));
    assert_eq!((hints.vision.activation, hints.text.eps), (Activation::Gelu, Some(1e-5)));
    assert_eq!((hints.pooling, hints.vision.mlp_width), (Pooling::FirstId(2), None));
    let stated = json!({"width": 100, "mlp_ratio": 2.5, "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-6}});
    let hints = open_clip(&configured(&stated, &json!({}), &json!({}))).unwrap();
    assert_eq!((hints.vision.mlp_width, hints.vision.activation), (Some(250), Activation::GeluTanh));
    assert_eq!((hints.vision.eps, hints.text.eps), (Some(1e-6), Some(1e-5)));
}

#[test]
fn unknown_keys_of_an_open_clip_config_are_named() {
    let nothing = json!({});
    let vision = |value: Value, words: &'static str| (configured(&value, &nothing, &nothing), words);
    let text = |value: Value, words: &'static str| (configured(&nothing, &value, &nothing), words);
    let beside = |value: Value, words: &'static str| (configured(&nothing, &nothing, &value), words);
    for (config, words) in [
        vision(json!({"ls_init_value": 1e-4}), "vision_cfg says ls_init_value"),
        vision(json!({"qk_norm": true}), "vision_cfg says qk_norm = true"),
        vision(json!({"block_type": "custom"}), "block_type"),
        vision(json!({"heads": 4}), "vision_cfg says heads = 4"),
        vision(json!({"act_kwargs": {"approximate": "sigmoid"}}), "act_kwargs"),
        vision(json!({"norm_kwargs": {"bias": false}}), "norm_kwargs"),
        vision(json!({"layers": [3, 4, 6, 3]}), "ResNet"),
        text(json!({"no_causal_mask": true}), "text_cfg says no_causal_mask = true"),
        text(json!({"embed_cls": true}), "embed_cls"),
        text(json!({"proj_bias": true}), "proj_bias"),
        text(json!({"proj_type": "mlp"}), "proj_type"),
        text(json!({"ls_init_value": 0.1}), "text_cfg says ls_init_value"),
        text(json!({"hf_tokenizer_name": "bert-base-uncased"}), "bert-base-uncased"),
        text(json!({"tokenizer_kwargs": {"clean": "canonicalize"}}), "tokenizer_kwargs"),
        beside(json!({"multimodal_cfg": {"width": 768}}), "model_cfg says multimodal_cfg"),
        (
            configured(&nothing, &nothing, &json!({"quick_gelu": true}))
                .replace("\"vision_cfg\":{}", "\"vision_cfg\":{\"act_kwargs\":{\"approximate\":\"tanh\"}}"),
            "act_kwargs",
        ),
    ] {
        let text = refused(open_clip(&config));
        assert!(text.contains(words), "{words} is not in: {text}");
    }
    let off = json!({"qk_norm": false, "scale_fc": false, "patch_dropout": 0.5, "ls_init_value": null, "attentional_pool": false});
    open_clip(&configured(
        &off,
        &json!({"no_causal_mask": false, "pad_id": 1}),
        &json!({"custom_text": true}),
    ))
    .unwrap();
}

#[test]
fn how_pictures_are_wanted() {
    let processor = json!({
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "size": {"shortest_edge": 96},
        "do_normalize": true, "image_processor_type": "CLIPImageProcessor", "resample": 3
    });
    let mut hints = Hints::default();
    hints
        .read_processor(
            &json!({"image_processor": processor, "processor_class": "CLIPProcessor"}).to_string(),
        )
        .unwrap();
    assert_eq!((hints.normalisation.mean, hints.short_side), ([0.5; 3], Some(96)));
    let mut same = Hints::default();
    same.read_preprocessor(&processor.to_string()).unwrap();
    assert_eq!(hints, same);
    // (255 v - 100) / 50 is (v - 100 / 255) / (50 / 255).
    let raw =
        json!({"image_mean": [100.0, 100.0, 100.0], "image_std": [50.0, 50.0, 50.0], "do_rescale": false});
    hints.read_preprocessor(&raw.to_string()).unwrap();
    assert!((hints.normalisation.mean[0] - 100.0 / 255.0).abs() < 1e-12);
    assert!((hints.normalisation.std[2] - 50.0 / 255.0).abs() < 1e-12);
    hints.read_preprocessor(r#"{"do_normalize": false}"#).unwrap();
    assert_eq!((hints.normalisation.mean, hints.normalisation.std), ([0.0; 3], [1.0; 3]));
    for (json, words) in [
        (r#"{"image_std": [0.0, 1.0, 1.0]}"#, "no usable number"),
        (r#"{"rescale_factor": -1.0}"#, "rescale_factor"),
        (r#"{"do_something": true}"#, "the image processor says do_something = true"),
        (r#"{"mode": "L"}"#, "mode"),
    ] {
        let text = format!("{:#}", Hints::default().read_preprocessor(json).unwrap_err());
        assert!(text.contains(words), "{text}");
    }
    assert!(Hints::default().read_processor("{}").is_err());
}
