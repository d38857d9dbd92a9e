// SPDX-License-Identifier: MIT OR Apache-2.0
//! CLIP's byte-pair encoding: openai/CLIP's cleaning and splitting around the BPE of the `tokenizers` crate.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use flate2::read::GzDecoder;
use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior,
};

use super::clean::clean;
use super::weights::read_small;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// openai/CLIP's pattern of a word; texts are lower case by then.
const WORD: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";
/// Entries of the vocabulary that every published CLIP uses.
const CLIP_VOCAB_SIZE: i64 = 49408;
/// Merges of that vocabulary, from openai/CLIP (MIT licence, Copyright (c) 2021 OpenAI).
const CLIP_MERGES: &[u8] = include_bytes!("assets/clip_merges.txt.gz");

type Merges = Vec<(String, String)>;

pub struct Tokenizer {
    words: Split,
    bytes: ByteLevel,
    bpe: BPE,
    start: i64,
    end: i64,
    context_length: usize,
}

impl Tokenizer {
    /// The tokenizer of a checkpoint. CLIP's own vocabulary is built in; another one is read from the folder's
    /// `tokenizer.json`, or `vocab.json` and `merges.txt`.
    pub fn load(folder: &Path, vocab_size: i64, context_length: i64) -> Result<Tokenizer> {
        let (vocab, merges) = if vocab_size == CLIP_VOCAB_SIZE {
            built_in()?
        } else if folder.join("tokenizer.json").is_file() {
            from_tokenizer_json(&folder.join("tokenizer.json"))?
        } else if folder.join("vocab.json").is_file() && folder.join("merges.txt").is_file() {
            from_vocab_and_merges(folder)?
        } else {
            bail!(
                "the model has a vocabulary of {vocab_size} tokens instead of CLIP's {CLIP_VOCAB_SIZE}, and {} holds no \
                 tokenizer (tokenizer.json, or vocab.json and merges.txt)",
                folder.display()
            );
        };
        Tokenizer::build(vocab, merges, vocab_size, context_length)
            .with_context(|| format!("cannot use the tokenizer in {}", folder.display()))
    }

    fn build(vocab: Vocab, merges: Merges, vocab_size: i64, context_length: i64) -> Result<Tokenizer> {
        let id = |token: &str| {
            vocab.get(token).map(|&id| i64::from(id)).with_context(|| format!("it has no {token}"))
        };
        let (start, end) = (id(START)?, id(END)?);
        if let Some((token, id)) = vocab.iter().find(|&(_, &id)| i64::from(id) >= vocab_size) {
            bail!("its token {token:?} has id {id}, beyond the model's vocabulary of {vocab_size}");
        }
        let pattern = SplitPattern::Regex(WORD.into());
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .unk_token(END.into())
            .end_of_word_suffix("</w>".into())
            .build()
            .map_err(Error::msg)?;
        Ok(Tokenizer {
            words: Split::new(pattern, SplitDelimiterBehavior::Removed, true).map_err(Error::msg)?,
            bytes: ByteLevel::new(false, false, false),
            bpe,
            start,
            end,
            context_length: context_length as usize,
        })
    }

    /// Ids of a text with start and end marks, at most `context_length` long (a longer text loses its tail, never
    /// its end mark), not padded.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
        let mut pieces = PreTokenizedString::from(clean(text));
        self.words.pre_tokenize(&mut pieces).map_err(Error::msg)?;
        self.bytes.pre_tokenize(&mut pieces).map_err(Error::msg)?;
        let mut ids = vec![self.start];
        for (piece, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match piece {
                START => ids.push(self.start),
                END => ids.push(self.end),
                _ => {
                    let tokens = self.bpe.tokenize(piece).map_err(Error::msg)?;
                    ids.extend(tokens.iter().map(|token| i64::from(token.id)));
                }
            }
        }
        ids.truncate(self.context_length - 1);
        ids.push(self.end);
        Ok(ids)
    }
}

/// CLIP's vocabulary is its alphabet, the alphabet at the end of a word, every merge in order, and two marks.
fn built_in() -> Result<(Vocab, Merges)> {
    let mut text = String::new();
    GzDecoder::new(CLIP_MERGES)
        .read_to_string(&mut text)
        .context("the built-in CLIP vocabulary is damaged")?;
    let merges = parse_merges(&text)?;
    let alphabet = byte_alphabet();
    let mut tokens: Vec<String> = alphabet.iter().map(char::to_string).collect();
    tokens.extend(alphabet.iter().map(|c| format!("{c}</w>")));
    tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
    tokens.extend([START.into(), END.into()]);
    Ok(((0..).zip(tokens).map(|(id, token)| (token, id)).collect(), merges))
}

/// The 256 characters that stand for bytes: printable Latin-1 for itself, the rest from U+0100 on, in CLIP's order.
fn byte_alphabet() -> Vec<char> {
    let printable: Vec<char> = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}').collect();
    let rest = ('\u{100}'..).take(256 - printable.len());
    printable.iter().copied().chain(rest).collect()
}

fn parse_merges(text: &str) -> Result<Merges> {
    let pair = |line: &str| {
        let (left, right) =
            line.split_once(' ').with_context(|| format!("{line:?} is no merge of two tokens"))?;
        Ok((left.to_owned(), right.to_owned()))
    };
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).map(pair).collect()
}

fn from_vocab_and_merges(folder: &Path) -> Result<(Vocab, Merges)> {
    let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
    let tokens: HashMap<String, u32> = serde_json::from_str(&read_small(&vocab)?)
        .with_context(|| format!("{} is no vocabulary", vocab.display()))?;
    let merges =
        parse_merges(&read_small(&merges)?).with_context(|| format!("cannot use {}", merges.display()))?;
    Ok((tokens.into_iter().collect(), merges))
}

fn from_tokenizer_json(file: &Path) -> Result<(Vocab, Merges)> {
    #[derive(Deserialize)]
    struct Json {
        model: JsonModel,
    }
    #[derive(Deserialize)]
    struct JsonModel {
        vocab: HashMap<String, u32>,
        merges: Vec<Merge>,
    }
    // Older files join the two tokens of a merge by a space.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Merge {
        Pair(String, String),
        Joined(String),
    }
    let Json { model } = serde_json::from_str(&read_small(file)?)
        .with_context(|| format!("{} is no byte-pair tokenizer", file.display()))?;
    let mut merges = Merges::with_capacity(model.merges.len());
    for merge in model.merges {
        match merge {
            Merge::Pair(left, right) => merges.push((left, right)),
            Merge::Joined(line) => merges.extend(parse_merges(&line)?),
        }
    }
    Ok((model.vocab.into_iter().collect(), merges))
}
