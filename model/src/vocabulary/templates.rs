// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sentences a name is put into before it is encoded.

use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::imagenet::IMAGENET;

/// Where the name goes in a template.
const SLOT: &str = "{}";
const MAX_TEMPLATES: usize = 1000;

/// The sentences a name is put into before it is encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Templates {
    /// The 80 ImageNet templates of the CLIP paper.
    #[default]
    Imagenet,
    /// The name alone.
    None,
    /// Sentences with `{}` where the name goes.
    Custom(Vec<String>),
}

impl Templates {
    /// Reads what a user typed: `imagenet`, `none`, a sentence with `{}` (or several, one a line), or the
    /// path of a file of such sentences (one a line, `#` starts a comment line).
    pub fn parse(text: &str) -> Result<Templates> {
        match text.trim() {
            "imagenet" => Ok(Templates::Imagenet),
            "none" => Ok(Templates::None),
            "" => bail!("the prompt template is empty: use imagenet, none, a sentence with {{}} or a file"),
            sentences if sentences.contains(SLOT) => Templates::from_lines(sentences),
            path if Path::new(path).is_file() => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read the prompt templates in {path}"))?;
                Templates::from_lines(text.trim_start_matches('\u{feff}'))
                    .with_context(|| format!("cannot use the prompt templates in {path}"))
            }
            other => bail!(
                "the prompt template \"{other}\" is not imagenet or none, has no {{}} for the name, and is no file"
            ),
        }
    }

    fn from_lines(text: &str) -> Result<Templates> {
        let mut sentences = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.contains(SLOT) {
                bail!("line {} has no {{}} where the name goes: \"{line}\"", index + 1);
            }
            if line.contains('\0') {
                bail!("line {} holds a NUL character", index + 1);
            }
            sentences.push(line.to_string());
        }
        match sentences.len() {
            0 => bail!("there is no template: give at least one sentence with {{}} where the name goes"),
            n if n > MAX_TEMPLATES => bail!("{n} templates are too many: at most {MAX_TEMPLATES}"),
            _ => Ok(Templates::Custom(sentences)),
        }
    }

    /// How many sentences stand around each name.
    pub fn len(&self) -> usize {
        match self {
            Templates::Imagenet => IMAGENET.len(),
            Templates::None => 1,
            Templates::Custom(sentences) => sentences.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sentences with `name` in them.
    pub fn fill<'a>(&'a self, name: &'a str) -> Box<dyn Iterator<Item = String> + 'a> {
        match self {
            Templates::Imagenet => {
                Box::new(IMAGENET.iter().map(move |sentence| sentence.replace(SLOT, name)))
            }
            Templates::None => Box::new(std::iter::once(name.to_string())),
            Templates::Custom(sentences) => Box::new(sentences.iter().map(move |s| s.replace(SLOT, name))),
        }
    }

    /// A short name of this set of sentences: equal only for equal sets. Cached features are bound to it.
    pub fn id(&self) -> String {
        match self {
            Templates::Imagenet => "imagenet".to_string(),
            Templates::None => "none".to_string(),
            Templates::Custom(sentences) => {
                let mut hash = Sha256::new();
                for sentence in sentences {
                    hash.update(sentence.as_bytes());
                    hash.update(b"\n");
                }
                hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
            }
        }
    }
}
