// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the configs of all of transformers' models have in common.

use anyhow::{Result, bail};

use super::Activation;

/// What transformers has written into the configs of its models since version 4.0 and what has no influence on features:
/// training, text generation, classification heads, file formats.
pub const HARMLESS: [&str; 71] = [
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "logit_scale_init_value",
    "max_length",
    "min_length",
    "model_type",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "projection_dim",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "text_config_dict",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "vision_config_dict",
    "xla_device",
];

/// What a config calls the MLP's non-linearity.
pub fn activation(name: &str) -> Result<Activation> {
    match name {
        "quick_gelu" => Ok(Activation::QuickGelu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        other => {
            bail!("hidden_act {other:?} is not supported (quick_gelu, gelu, gelu_new, gelu_pytorch_tanh)")
        }
    }
}

/// # Errors
/// `part` of a config states pictures of other than 3 channels.
pub fn refuse_channels(part: &str, stated: Option<i64>) -> Result<()> {
    match stated {
        Some(channels) if channels != 3 => {
            bail!("{part} says num_channels = {channels}; only pictures of 3 channels are supported")
        }
        _ => Ok(()),
    }
}
