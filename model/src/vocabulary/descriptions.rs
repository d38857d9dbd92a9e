// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sentences about the classes, from a file that the user writes: JSON, `{"name": ["sentence", ...], ...}`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::enrich::{Rows, attributes, enrich};
use super::{Prompts, Vocabulary};
use crate::weights::read_small;

/// What a file of descriptions says, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Descriptions(BTreeMap<String, Vec<String>>);

impl Descriptions {
    /// # Errors
    /// The file cannot be read, or is not of that form.
    pub fn read(file: &Path) -> Result<Descriptions> {
        let unusable = || format!("cannot use the descriptions in {}", file.display());
        Descriptions::parse(&read_small(file)?).with_context(unusable)
    }

    fn parse(json: &str) -> Result<Descriptions> {
        let by_name: BTreeMap<String, Vec<String>> =
            serde_json::from_str(json).context("they are not of the form {\"name\": [\"sentence\", ...]}")?;
        let empty = |sentences: &Vec<String>| sentences.iter().all(|sentence| sentence.trim().is_empty());
        if let Some((name, _)) = by_name.iter().find(|(_, sentences)| empty(sentences)) {
            bail!("{name:?} has no sentence");
        }
        if by_name.is_empty() {
            bail!("they describe nothing");
        }
        Ok(Descriptions(by_name))
    }

    /// Lets the classes of a vocabulary, but not its background, take up the attributes of all sentences (ExCEL's text
    /// semantic enrichment). `encode` gives unit features of the sentences as they are, `[sentences, dim]` row-major.
    ///
    /// # Errors
    /// There is a description of what the prompts do not name, or `encode` fails.
    pub fn enrich(
        &self,
        vocabulary: &mut Vocabulary,
        prompts: &Prompts,
        encode: impl FnOnce(&[String]) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let is_named = |name: &String| {
            let mut names = prompts.classes.iter().flat_map(|class| &class.names).chain(&prompts.background);
            names.any(|known| known == name)
        };
        if let Some(unknown) = self.0.keys().find(|name| !is_named(name)) {
            bail!("there are descriptions of {unknown:?}, which no prompt names");
        }
        let sentences: Vec<String> = self.0.values().flatten().cloned().collect();
        let dim = vocabulary.dim;
        let values = encode(&sentences)?;
        if values.len() != sentences.len() * dim {
            bail!(
                "the text encoder gave {} numbers for {} sentences of width {dim}",
                values.len(),
                sentences.len()
            );
        }
        let attributes = attributes(&Rows { values, dim })?;
        let rows = vocabulary.features.chunks_exact_mut(dim.max(1)).zip(&vocabulary.query_value);
        for (row, _) in rows.filter(|(_, value)| **value > 0) {
            row.copy_from_slice(&enrich(row, &attributes)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary {
            labels: vec!["cat".into()],
            query_value: vec![1, 0],
            features: vec![1.0, 0.0, 0.0, 1.0],
            dim: 2,
            ..Vocabulary::default()
        }
    }

    #[test]
    fn classes_take_up_attributes_and_background_does_not() {
        let descriptions = Descriptions::parse(r#"{"cat": ["it has whiskers"]}"#).unwrap();
        let (mut vocabulary, prompts) = (vocabulary(), Prompts::parse("cat", "sky").unwrap());
        descriptions
            .enrich(&mut vocabulary, &prompts, |sentences| {
                assert_eq!(sentences, ["it has whiskers"]);
                Ok(vec![0.0, 1.0])
            })
            .unwrap();
        let half = 0.5f32.sqrt();
        assert!((vocabulary.features[0] - half).abs() < 1e-6 && (vocabulary.features[1] - half).abs() < 1e-6);
        assert_eq!(vocabulary.features[2..], [0.0, 1.0]);
    }

    #[test]
    fn mistakes_are_one_sentence() {
        let error = |json| Descriptions::parse(json).unwrap_err().to_string();
        assert_eq!(error("[]"), "they are not of the form {\"name\": [\"sentence\", ...]}");
        assert_eq!(error(r#"{"cat": []}"#), "\"cat\" has no sentence");
        assert_eq!(error("{}"), "they describe nothing");
        let other = Descriptions::parse(r#"{"dog": ["it barks"]}"#).unwrap();
        let prompts = Prompts::parse("cat", "").unwrap();
        let error = other.enrich(&mut vocabulary(), &prompts, |_| unreachable!()).unwrap_err();
        assert_eq!(error.to_string(), "there are descriptions of \"dog\", which no prompt names");
    }
}
