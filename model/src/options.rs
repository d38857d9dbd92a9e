// SPDX-License-Identifier: MIT OR Apache-2.0
//! Switches as a user types them: `key=value,key=value`.

use anyhow::{Context, Result, bail};

/// Options as typed; their owner takes those it knows, and what is left over is an error that lists them.
pub struct Options {
    /// What kind of thing they are of, such as `method`, and which one.
    kind: &'static str,
    owner: &'static str,
    typed: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Options {
    /// Splits `text`; `kind` and `owner` are for the error texts, as in `method`, `gclip`.
    pub fn parse(kind: &'static str, owner: &'static str, text: &str) -> Result<Options> {
        let mut typed: Vec<(String, String)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .with_context(|| format!("{kind} option {part:?} is not of the form key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            if typed.iter().any(|(known, _)| known == key) {
                bail!("{kind} option {key} is given twice");
            }
            typed.push((key.into(), value.into()));
        }
        Ok(Options { kind, owner, typed, known: Vec::new() })
    }

    /// Takes the value of `key`, if it was typed.
    pub fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let at = self.typed.iter().position(|(typed, _)| typed == key)?;
        Some(self.typed.remove(at).1)
    }

    /// Takes one of `choices` (word and meaning); the first is the default.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Result<T> {
        let words = || choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let typed = self.take(key);
        let found = match &typed {
            None => choices.first(),
            Some(typed) => choices.iter().find(|(word, _)| word == typed),
        };
        match found {
            Some(&(_, meaning)) => Ok(meaning),
            None => bail!(
                "{} option {key}={} is unknown: use one of {}",
                self.owner,
                typed.unwrap_or_default(),
                words()
            ),
        }
    }

    /// Takes a number that must lie in `range`.
    pub fn number(
        &mut self,
        key: &'static str,
        default: f64,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<f64> {
        Ok(self.optional_number(key, range)?.unwrap_or(default))
    }

    /// As [`number`](Self::number), where `auto` and silence are none.
    pub fn optional_number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<f64>,
    ) -> Result<Option<f64>> {
        let Some(typed) = self.take(key).filter(|typed| typed != "auto") else { return Ok(None) };
        match typed.parse() {
            Ok(value) if range.contains(&value) => Ok(Some(value)),
            _ => bail!(
                "{} option {key}={typed} must be a number in {}..{}",
                self.owner,
                range.start(),
                range.end()
            ),
        }
    }

    /// Takes a whole number that must lie in `range`.
    pub fn whole(
        &mut self,
        key: &'static str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<u32> {
        let Some(typed) = self.take(key) else { return Ok(default) };
        match typed.parse() {
            Ok(value) if range.contains(&value) => Ok(value),
            _ => bail!(
                "{} option {key}={typed} must be a whole number in {}..{}",
                self.owner,
                range.start(),
                range.end()
            ),
        }
    }

    /// Fails if anything typed was not taken.
    pub fn finish(self) -> Result<()> {
        let Some((key, _)) = self.typed.first() else { return Ok(()) };
        match self.known.as_slice() {
            [] => bail!("unknown {} option {key:?}: {} has none", self.kind, self.owner),
            known => {
                bail!("unknown {} option {key:?}: {} has {}", self.kind, self.owner, known.join(", "))
            }
        }
    }
}

/// The word for a choice, to describe a method by.
pub fn word<T: Copy + PartialEq>(choices: &[(&'static str, T)], chosen: T) -> &'static str {
    choices.iter().find(|(_, meaning)| *meaning == chosen).map_or("", |(word, _)| word)
}
