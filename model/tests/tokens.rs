// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokenizer against the crate `tokenizers` 0.22, whose ids for these texts are in `data/tokens.jsonl`: words of many
//! scripts, endings, marks, digits, emoji, white space, strung together at random, with CLIP's vocabulary and a tiny one
//! that lacks characters.

use std::path::Path;

use gclip_model::tokenizer::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Sample {
    vocabulary: String,
    text: String,
    ids: Vec<i64>,
}

#[test]
fn ids_equal_those_of_the_reference() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let tiny = Tokenizer::load(&data.join("open_clip"), 540, 4096).unwrap();
    let clip = Tokenizer::load(&data, 49_408, 4096).unwrap();
    let mut count = 0;
    for line in std::fs::read_to_string(data.join("tokens.jsonl")).unwrap().lines() {
        let sample: Sample = serde_json::from_str(line).unwrap();
        let tokenizer = if sample.vocabulary == "clip" { &clip } else { &tiny };
        assert_eq!(tokenizer.encode(&sample.text), sample.ids, "{:?}", sample.text);
        count += 1;
    }
    assert_eq!(count, 160);
}

#[test]
fn a_long_text_keeps_its_end_mark() {
    let clip = Tokenizer::load(Path::new("nowhere"), 49_408, 77).unwrap();
    let ids = clip.encode(&"street ".repeat(1_000_000));
    assert_eq!((ids.len(), ids[0], ids[76]), (77, 49_406, 49_407));
}
