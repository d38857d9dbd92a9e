// SPDX-License-Identifier: MIT OR Apache-2.0
//! CLIP's tokenizer: openai/CLIP's cleaning, its pattern of words, byte-pair encoding (`bpe`), and where vocabularies
//! come from.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde::Deserialize;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::bpe::{Bpe, Merges, Vocab};
use super::clean::clean;
use super::weights::read_small;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// English endings that openai/CLIP splits off; texts are lower case by then.
const ENDINGS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
/// Entries of the vocabulary that every published CLIP uses.
const CLIP_VOCAB_SIZE: i64 = 49408;
/// Merges of that vocabulary, from openai/CLIP (MIT licence, Copyright (c) 2021 OpenAI).
const CLIP_MERGES: &[u8] = include_bytes!("assets/clip_merges.txt.gz");

pub struct Tokenizer {
    /// The character that stands for each byte.
    alphabet: Vec<char>,
    bpe: Bpe,
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
        let unknown = vocab.get(END).copied().unwrap_or_default();
        let bpe = Bpe::new(vocab, merges, unknown)?;
        Ok(Tokenizer {
            alphabet: alphabet_by_byte(),
            bpe,
            start,
            end,
            context_length: context_length as usize,
        })
    }

    /// Ids of a text with start and end marks, at most `context_length` long (a longer text loses its tail, never
    /// its end mark), not padded.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let text = clean(text);
        let mut ids = vec![self.start];
        let mut rest = text.trim_start();
        while !rest.is_empty() && ids.len() < self.context_length {
            let (word, after) = rest.split_at(word_length(rest));
            match word {
                START => ids.push(self.start),
                END => ids.push(self.end),
                _ => {
                    let word: String = word.bytes().map(|byte| self.alphabet[usize::from(byte)]).collect();
                    self.bpe.encode(&word, &mut ids);
                }
            }
            rest = after.trim_start();
        }
        ids.truncate(self.context_length - 1);
        ids.push(self.end);
        ids
    }
}

/// Bytes of the first word of `text`, which begins with no white space, by openai/CLIP's pattern
/// `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+`.
fn word_length(text: &str) -> usize {
    if let Some(fixed) = [START, END].iter().chain(&ENDINGS).find(|&&fixed| text.starts_with(fixed)) {
        return fixed.len();
    }
    let length = |of: fn(char) -> bool| text.find(|c| !of(c)).unwrap_or(text.len());
    match text.chars().next() {
        Some(first) if is_letter(first) => length(is_letter),
        Some(first) if first.is_numeric() => first.len_utf8(),
        _ => length(|c| !c.is_whitespace() && !is_letter(c) && !c.is_numeric()),
    }
}

/// Unicode's general category L. Narrower than `char::is_alphabetic`, which takes marks and numerals too.
fn is_letter(c: char) -> bool {
    c.general_category_group() == GeneralCategoryGroup::Letter
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
    let printable = printable();
    let rest = ('\u{100}'..).take(256 - printable.len());
    printable.iter().copied().chain(rest).collect()
}

fn printable() -> Vec<char> {
    ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}').collect()
}

/// The same characters in the order of the bytes that they stand for.
fn alphabet_by_byte() -> Vec<char> {
    let printable = printable();
    let mut rest = '\u{100}'..;
    let stands_for = |byte: u8| {
        let c = char::from(byte);
        if printable.contains(&c) { c } else { rest.next().unwrap_or(c) }
    };
    (0..=255).map(stands_for).collect()
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
    Ok((tokens, merges))
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
    Ok((model.vocab, merges))
}
