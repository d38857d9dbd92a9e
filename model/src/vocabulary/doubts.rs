// SPDX-License-Identifier: MIT OR Apache-2.0
//! What prompts ask for that CLIP cannot do. Its text tower reads words and hardly what they do to each other: "no person"
//! lies next to "person" (Alhamoud et al., "Vision-Language Models Do Not Understand Negation", CVPR 2025, arXiv 2501.09425).

use std::collections::BTreeSet;

use super::{Prompts, Thresholds, Vocabulary};

/// Words that turn what follows into its opposite.
const NEGATIONS: [&str; 9] = ["no", "not", "without", "w/o", "non", "never", "neither", "nor", "except"];
/// Words that name nothing that can be seen.
const CONNECTING: [&str; 12] =
    ["a", "an", "the", "with", "and", "or", "of", "in", "on", "any", "wearing", "is"];
/// What may well be called by what it forbids: "no parking sign".
const SIGNS: [&str; 4] = ["sign", "signs", "symbol", "logo"];

impl Prompts {
    /// What will not work as it reads, one sentence each. Nothing of it is an error: the prompts are used as they are.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let names: Vec<Read> = self.queries().map(|(name, value)| Read::new(name, value)).collect();
        for (index, negated) in names.iter().enumerate() {
            let Some(word) = negated.negation else { continue };
            if names[..index].iter().any(|before| before.name == negated.name) {
                continue; // in two classes: told once
            }
            let opposite = names.iter().find(|other| {
                other.negation.is_none() && other.value != negated.value && other.content == negated.content
            });
            doubts.push(match opposite {
                Some(other) => format!(
                    "\"{}\" and \"{}\" are one thing to CLIP, which does not understand \"{word}\": they will share their \
                     pixels by chance; name what can be seen in each case, such as \"bare head\" and \"helmet\"",
                    negated.name, other.name
                ),
                None => format!(
                    "CLIP does not understand \"{word}\": \"{}\" will find {} as if that word were not there; name what can \
                     be seen instead",
                    negated.name,
                    negated.found()
                ),
            });
        }
        doubts
    }

    pub fn has_label(&self, label: &str) -> bool {
        self.classes.iter().any(|class| class.label == label)
    }
}

impl Vocabulary {
    /// Thresholds of labels that no class has, one sentence each.
    pub fn useless_thresholds(&self, thresholds: &Thresholds) -> Vec<String> {
        let labels = thresholds.labels().filter(|label| !self.labels.iter().any(|known| known == label));
        let sentence = |label| {
            format!("there is a threshold for \"{label}\", but no class of that label: it does nothing")
        };
        labels.map(sentence).collect()
    }
}

/// A name as CLIP more or less reads it.
struct Read<'a> {
    name: &'a str,
    /// Of the mask.
    value: u32,
    negation: Option<&'static str>,
    content: BTreeSet<String>,
}

impl Read<'_> {
    fn new(name: &str, value: u32) -> Read<'_> {
        let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
        let is_sign = words.last().is_some_and(|last| SIGNS.contains(&last.as_str()));
        let negation = words.iter().find_map(|word| NEGATIONS.into_iter().find(|negation| negation == word));
        let names_something =
            |word: &String| !NEGATIONS.contains(&word.as_str()) && !CONNECTING.contains(&word.as_str());
        let content: BTreeSet<String> = words.iter().filter(|word| names_something(word)).cloned().collect();
        // "no" alone is a name like any other.
        let negation = negation.filter(|_| !is_sign && !content.is_empty());
        Read { name, value, negation, content }
    }

    fn found(&self) -> String {
        let words: Vec<&str> = self.content.iter().map(String::as_str).collect();
        format!("\"{}\"", words.join("\" and \""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubts(prompts: &str, background: &str) -> Vec<String> {
        Prompts::parse(prompts, background).unwrap().doubts()
    }

    #[track_caller]
    fn tells(prompts: &str, background: &str, words: &[&str]) {
        let doubts = doubts(prompts, background);
        assert_eq!(doubts.len(), 1, "{doubts:?}");
        assert!(words.iter().all(|word| doubts[0].contains(word)), "{doubts:?}");
    }

    #[test]
    fn negations_are_told_once() {
        tells("no person", "", &["\"no\"", "\"no person\"", "\"person\""]);
        tells("car; Person WITHOUT a helmet; sky", "", &["without", "\"helmet\" and \"person\""]);
        tells("cat, not dog", "", &["\"not dog\""]);
        tells("no person; no person", "", &["\"no person\""]);
        tells("cat", "no cat at all", &["no cat at all"]);
    }

    #[test]
    fn contradictions_name_both() {
        tells("person with helmet; person without helmet", "", &["person with helmet", "one thing"]);
        tells("person", "no person", &["\"no person\" and \"person\"", "one thing"]);
        tells("helmet; road; no helmet", "", &["\"no helmet\" and \"helmet\""]);
    }

    #[test]
    fn what_only_looks_like_a_negation_is_left_alone() {
        for prompts in
            ["no parking sign", "notebook; nonstick pan", "no", "person with helmet; person", "snow"]
        {
            assert_eq!(doubts(prompts, "sky"), Vec::<String>::new(), "{prompts}");
        }
    }

    #[test]
    fn thresholds_of_nobody_are_told() {
        let vocabulary = Vocabulary { labels: vec!["person".into(), "car".into()], ..Vocabulary::default() };
        let doubts = vocabulary.useless_thresholds(&"person=0.4, man=0.3, truck=0.2".parse().unwrap());
        assert_eq!(doubts.len(), 2, "{doubts:?}");
        assert!(doubts[0].contains("\"man\"") && doubts[1].contains("\"truck\""), "{doubts:?}");
    }
}
