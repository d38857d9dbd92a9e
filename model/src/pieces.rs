// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tokenizer of SigLIP 2 and TIPSv2, from the checkpoint's `tokenizer.json`, by Hugging Face's own library (the feature
//! `tokenizers`, which brings some forty crates).

use std::path::Path;

use anyhow::Result;

use super::config::TextConfig;

#[cfg(feature = "tokenizers")]
pub use with_library::Pieces;
#[cfg(not(feature = "tokenizers"))]
pub use without::Pieces;

impl Pieces {
    /// The tokenizer in a checkpoint's folder.
    ///
    /// # Errors
    /// It is not there, not as transformers writes it, or made for another vocabulary; file and cause are named.
    pub fn load(folder: &Path, config: &TextConfig) -> Result<Pieces> {
        Pieces::read(folder, config)
    }
}

#[cfg(not(feature = "tokenizers"))]
mod without {
    use anyhow::{Result, bail};

    use super::{Path, TextConfig};

    /// Nothing can be one.
    pub enum Pieces {}

    impl Pieces {
        pub(super) fn read(folder: &Path, _: &TextConfig) -> Result<Pieces> {
            bail!(
                "the tokenizer in {} needs Hugging Face's library, which this build is without: build with the feature tokenizers, or \
                 give an embeddings file that another build made",
                folder.display()
            )
        }

        pub fn encode(&self, _: &str) -> Result<Vec<i64>> {
            match *self {}
        }
    }
}

#[cfg(feature = "tokenizers")]
mod with_library {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use anyhow::{Context, Result, anyhow, bail};
    use serde::Deserialize;
    use serde_json::Value;
    use tokenizers::{Tokenizer, TruncationParams};

    use super::{Path, TextConfig};
    use crate::config::Pooling;
    use crate::weights::{read_long, read_small};

    /// What fills a text up to the context's length where the tokenizer's config names nothing.
    const PAD: &str = "<pad>";

    pub struct Pieces {
        tokenizer: Tokenizer,
        /// What a text is filled up with, to how many tokens; `None`: it stays as short as it is.
        filling: Option<(i64, usize)>,
        fills_on_the_left: bool,
    }

    /// What of `tokenizer_config.json` changes tokens.
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Stated {
        tokenizer_class: Option<String>,
        pad_token: Option<Value>,
        padding_side: Option<String>,
    }

    /// The library panics at some files that are damaged or odd: that ends here.
    fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
        // Nothing that it may leave half done is looked at again.
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => result.map_err(|error| anyhow!("{error}")),
            Err(_) => bail!(
                "Hugging Face's library gave up on it: the file is damaged, or not as transformers writes it"
            ),
        }
    }

    impl Pieces {
        pub(super) fn read(folder: &Path, config: &TextConfig) -> Result<Pieces> {
            let file = folder.join("tokenizer.json");
            if !file.is_file() {
                bail!(
                    "{} holds no tokenizer.json (a tokenizer.model or spiece.model is made into one by transformers' \
                     AutoTokenizer.from_pretrained(...).save_pretrained(...))",
                    folder.display()
                );
            }
            let stated: Stated = match folder.join("tokenizer_config.json") {
                stated if stated.is_file() => serde_json::from_str(&read_small(&stated)?)
                    .with_context(|| format!("cannot use {}", stated.display()))?,
                _ => Stated::default(),
            };
            Pieces::build(&read_long(&file)?, &stated, config)
                .with_context(|| format!("cannot use the tokenizer {}", file.display()))
        }

        fn build(json: &str, stated: &Stated, config: &TextConfig) -> Result<Pieces> {
            if stated.tokenizer_class.as_deref().is_some_and(|class| class.starts_with("SiglipTokenizer")) {
                bail!(
                    "it is that of SigLIP 1, which rewrites texts before it: only that of SigLIP 2 is supported"
                );
            }
            let library = |error: tokenizers::Error| anyhow!("{error}");
            let mut tokenizer = guarded(|| Tokenizer::from_bytes(json))?;
            let size = tokenizer.get_vocab(true).into_values().max().map_or(0, |last| i64::from(last) + 1);
            if size > config.vocab_size {
                bail!(
                    "its tokens go up to {}, beyond the model's vocabulary of {}",
                    size - 1,
                    config.vocab_size
                );
            }
            let length = config.context_length as usize;
            let truncation = TruncationParams { max_length: length, ..TruncationParams::default() };
            tokenizer.with_padding(None).with_truncation(Some(truncation)).map_err(library)?;
            let filling = match config.pooling {
                Pooling::LastPlace => {
                    let pad = match &stated.pad_token {
                        Some(Value::String(token)) => token,
                        Some(token) => token["content"].as_str().unwrap_or(PAD),
                        None => PAD,
                    };
                    let id = tokenizer.token_to_id(pad);
                    let id = id.with_context(|| format!("it has no token {pad} to fill texts up with"))?;
                    Some((i64::from(id), length))
                }
                _ => None,
            };
            let fills_on_the_left = stated.padding_side.as_deref() == Some("left");
            Ok(Pieces { tokenizer, filling, fills_on_the_left })
        }

        /// Ids of a text with the marks that the tokenizer puts around it, at most as many as the context has (a longer text loses
        /// its tail). Both networks were trained on lower case, whether or not the file says so.
        ///
        /// # Errors
        /// Nothing of the text is left.
        pub fn encode(&self, text: &str) -> Result<Vec<i64>> {
            let lower: String = text.chars().flat_map(char::to_lowercase).collect();
            let found = guarded(|| self.tokenizer.encode(lower, true))?;
            let mut ids: Vec<i64> = found.get_ids().iter().map(|&id| i64::from(id)).collect();
            if let Some((pad, length)) = self.filling {
                let missing = std::iter::repeat_n(pad, length.saturating_sub(ids.len()));
                match self.fills_on_the_left {
                    true => ids = missing.chain(ids).collect(),
                    false => ids.extend(missing),
                }
            }
            if ids.is_empty() {
                bail!("nothing of the text {text:?} is left as a token");
            }
            Ok(ids)
        }
    }
}
