// SPDX-License-Identifier: MIT OR Apache-2.0
//! A method's switches: `key=value,key=value`.

use anyhow::{Context, Result, bail};

/// Options as typed; a method takes those it knows, and what is left over is an error that lists them.
pub struct Options {
    method: &'static str,
    typed: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Options {
    pub fn parse(method: &'static str, text: &str) -> Result<Options> {
        let mut typed: Vec<(String, String)> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .with_context(|| format!("method option {part:?} is not of the form key=value"))?;
            let (key, value) = (key.trim(), value.trim());
            if typed.iter().any(|(known, _)| known == key) {
                bail!("method option {key} is given twice");
            }
            typed.push((key.into(), value.into()));
        }
        Ok(Options { method, typed, known: Vec::new() })
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
                self.method,
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
        let Some(typed) = self.take(key) else { return Ok(default) };
        match typed.parse() {
            Ok(value) if range.contains(&value) => Ok(value),
            _ => bail!(
                "{} option {key}={typed} must be a number in {}..{}",
                self.method,
                range.start(),
                range.end()
            ),
        }
    }

    /// Fails if anything typed was not taken.
    pub fn finish(self) -> Result<()> {
        let Some((key, _)) = self.typed.first() else { return Ok(()) };
        match self.known.as_slice() {
            [] => bail!("unknown method option {key:?}: {} has none", self.method),
            known => bail!("unknown method option {key:?}: {} has {}", self.method, known.join(", ")),
        }
    }
}

/// The word for a choice, to describe a method by.
pub fn word<T: Copy + PartialEq>(choices: &[(&'static str, T)], chosen: T) -> &'static str {
    choices.iter().find(|(_, meaning)| *meaning == chosen).map_or("", |(word, _)| word)
}
