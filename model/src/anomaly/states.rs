// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a thing is called when it is sound and when it is damaged. The lists are those of `caoyunkang/WinClip` (MIT), after
//! WinCLIP's appendix.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::vocabulary::Templates;

const SOUND: [&str; 7] = [
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
];
const DAMAGED: [&str; 4] = ["damaged {}", "{} with flaw", "{} with defect", "{} with damage"];
const AROUND: [&str; 22] = [
    "a cropped photo of the {}",
    "a cropped photo of a {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a bright photo of a {}",
    "a bright photo of the {}",
    "a dark photo of the {}",
    "a dark photo of a {}",
    "a jpeg corrupted photo of a {}",
    "a jpeg corrupted photo of the {}",
    "a blurry photo of the {}",
    "a blurry photo of a {}",
    "a photo of a {}",
    "a photo of the {}",
    "a photo of a small {}",
    "a photo of the small {}",
    "a photo of a large {}",
    "a photo of the large {}",
    "a photo of the {} for visual inspection",
    "a photo of a {} for visual inspection",
    "a photo of the {} for anomaly detection",
    "a photo of a {} for anomaly detection",
];
const SLOT: &str = "{}";
/// Headings of the two parts of a file.
const HEADINGS: [&str; 2] = ["[normal]", "[abnormal]"];

/// Sentences with `{}` where the name goes.
#[derive(Clone, Debug, PartialEq)]
pub struct States {
    pub normal: Templates,
    pub abnormal: Templates,
}

impl Default for States {
    fn default() -> Self {
        let around = |states: &[&str]| {
            let sentences =
                states.iter().flat_map(|state| AROUND.iter().map(|around| around.replace(SLOT, state)));
            Templates::Custom(sentences.collect())
        };
        States { normal: around(&SOUND), abnormal: around(&DAMAGED) }
    }
}

impl States {
    /// Reads a file with the headings `[normal]` and `[abnormal]`, and sentences with `{}` below each, one a line.
    ///
    /// # Errors
    /// It cannot be read, has another heading, or nothing below one of them; or a line without `{}`.
    pub fn read(path: &Path) -> Result<States> {
        let name = path.display();
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read the states in {name}"))?;
        States::parse(&text).with_context(|| format!("cannot use the states in {name}"))
    }

    fn parse(text: &str) -> Result<States> {
        let mut parts: [Vec<String>; 2] = Default::default();
        let mut part = None;
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(heading) = HEADINGS.iter().position(|heading| *heading == line) {
                part = Some(heading);
                continue;
            }
            ensure!(
                !line.starts_with('['),
                "line {number}: there is no part \"{line}\", only [normal] and [abnormal]"
            );
            ensure!(line.contains(SLOT), "line {number} has no {{}} where the name goes: \"{line}\"");
            match part {
                Some(part) => parts[part].push(line.to_string()),
                None => bail!("line {number} stands before [normal] and [abnormal]"),
            }
        }
        for (part, heading) in parts.iter().zip(HEADINGS) {
            ensure!(!part.is_empty(), "there is no sentence below {heading}");
        }
        let [normal, abnormal] = parts;
        Ok(States { normal: Templates::Custom(normal), abnormal: Templates::Custom(abnormal) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_stands_in_every_sentence() {
        let states = States::default();
        assert_eq!((states.normal.len(), states.abnormal.len()), (154, 88));
        let sentences: Vec<String> = states.abnormal.fill("cup").collect();
        assert_eq!(sentences[0], "a cropped photo of the damaged cup");
        assert_eq!(sentences[87], "a photo of a cup with damage for anomaly detection");
    }

    #[test]
    fn states_of_a_file() {
        let states =
            States::parse("# mine\n[normal]\na new {}\n\n[abnormal]\na rusty {}\na bent {}\n").unwrap();
        assert_eq!(states.normal.fill("gate").collect::<Vec<_>>(), ["a new gate"]);
        assert_eq!(states.abnormal.len(), 2);
        for (text, word) in [
            ("", "below [normal]"),
            ("a {}\n[normal]", "before"),
            ("[normal]\na {}\n[broken]\n", "[broken]"),
            ("[normal]\na {}\n[abnormal]\n", "below [abnormal]"),
            ("[normal]\na cup\n", "no {}"),
        ] {
            let error = States::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
