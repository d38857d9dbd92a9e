// SPDX-License-Identifier: MIT OR Apache-2.0
//! Least probabilities of single classes: `person=0.4, car=0.3`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

/// By label, each once. Classes that are not named have the threshold of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds(Vec<(String, f64)>);

impl Thresholds {
    /// # Errors
    /// A label twice, or a number that is no probability.
    pub fn new(of_labels: impl IntoIterator<Item = (String, f64)>) -> Result<Thresholds> {
        let mut thresholds = Thresholds::default();
        for (label, least) in of_labels {
            ensure!(!label.is_empty(), "a threshold has no label: write label=0.4");
            ensure!(
                (0.0..=1.0).contains(&least),
                "the threshold of \"{label}\" is {least}: it must be from 0 to 1"
            );
            ensure!(thresholds.of(&label).is_none(), "\"{label}\" has two thresholds");
            thresholds.0.push((label, least));
        }
        Ok(thresholds)
    }

    pub fn of(&self, label: &str) -> Option<f64> {
        self.0.iter().find(|(of, _)| of == label).map(|(_, least)| *least)
    }

    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(label, _)| label.as_str())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of the labels for which `keep` says so.
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Thresholds {
        Thresholds(self.0.iter().filter(|(label, _)| keep(label)).cloned().collect())
    }
}

/// `label=number`, separated by `,`, `;` or new lines. `\` before a `,`, `;` or `\` keeps it in the label, as in prompts.
impl FromStr for Thresholds {
    type Err = Error;

    fn from_str(text: &str) -> Result<Thresholds> {
        let entries = entries(text);
        let entries = entries.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty());
        let pairs = entries.map(|entry| {
            let Some((label, number)) = entry.rsplit_once('=') else {
                bail!("\"{entry}\" is no threshold: write label=0.4")
            };
            let least = number.trim().parse::<f64>();
            let least =
                least.with_context(|| format!("\"{}\" in \"{entry}\" is no number", number.trim()))?;
            Ok((label.split_whitespace().collect::<Vec<_>>().join(" "), least))
        });
        Thresholds::new(pairs.collect::<Result<Vec<_>>>()?)
    }
}

fn entries(text: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, entries.last_mut()) {
            (',' | ';' | '\n', _) => entries.push(String::new()),
            ('\\', Some(entry)) => {
                entry.push(characters.next_if(|next| matches!(next, ',' | ';' | '#' | '\\')).unwrap_or('\\'));
            }
            (other, Some(entry)) => entry.push(other),
            (_, None) => {}
        }
    }
    entries
}

/// In the form in which it is read.
impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (label, least)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            for character in label.chars() {
                if matches!(character, ',' | ';' | '\\') {
                    f.write_str("\\")?;
                }
                write!(f, "{character}")?;
            }
            write!(f, "={least}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Thresholds> {
        text.parse()
    }

    #[test]
    fn labels_and_numbers() {
        let thresholds = parse(r" person = 0.4, traffic   light=1;salt\, pepper=.25,, a=b=0 ").unwrap();
        for (label, least) in [("person", 0.4), ("traffic light", 1.0), ("salt, pepper", 0.25), ("a=b", 0.0)]
        {
            assert_eq!(thresholds.of(label), Some(least), "{label}");
        }
        assert_eq!(thresholds.of("car"), None);
        assert_eq!(parse(&thresholds.to_string()).unwrap(), thresholds);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, word) in [
            ("person", "label=0.4"),
            ("person 0.4", "label=0.4"),
            ("=0.4", "no label"),
            ("person=much", "much"),
            ("person=1.5", "0 to 1"),
            ("person=-0.1", "0 to 1"),
            ("person=nan", "0 to 1"),
            ("person=0.1, person=0.2", "two thresholds"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
