// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file to look at, and what it is called: the same file with the same settings is the same job, whoever hands it in
//! and how often.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What to do with one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// An absolute path or a URI.
    pub source: String,
    /// Size and time of the file when it was handed in: another content is another job.
    pub version: String,
    /// The folder or store of the results, and their base name in it.
    pub out: String,
    pub name: String,
    #[serde(flatten)]
    pub settings: Settings,
}

/// What all files of one archive share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub model: String,
    pub prompts: String,
    pub background: String,
    /// Properties of gclipsegment.
    pub set: Vec<String>,
    /// Properties of gclipoverlay; `None`: nothing is drawn.
    pub draw: Option<Vec<String>>,
}

/// Of the file, and of all that is to be done with it; both in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(String);

/// Digits of each half of an id.
const HALF: usize = 16;
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

impl Job {
    pub fn id(&self) -> Id {
        // A job is made of texts: it can always be written.
        let whole = serde_json::to_string(self).unwrap_or_default();
        Id(format!("{}-{}", of_source(&self.source), digest(&whole, HALF)))
    }

    /// Whether it is a picture, by the ending of its name. What is fetched is a video, if of one frame.
    pub fn is_picture(&self) -> bool {
        if self.source.contains("://") {
            return false;
        }
        let ending = self.source.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
        ending.is_some_and(|ending| PICTURES.contains(&ending.as_str()))
    }
}

impl Id {
    /// `None`: the text is no id.
    pub fn parse(text: &str) -> Option<Id> {
        let (source, rest) = text.split_once('-')?;
        let is_half = |half: &str| half.len() == HALF && half.bytes().all(|byte| byte.is_ascii_hexdigit());
        (is_half(source) && is_half(rest)).then(|| Id(text.into()))
    }

    /// The half that all jobs of one file share.
    pub fn source(&self) -> &str {
        &self.0[..HALF]
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first half of the ids of a file's jobs.
pub fn of_source(source: &str) -> String {
    digest(source, HALF)
}

/// So many hexadecimal digits of the hash.
pub fn digest(text: &str, digits: usize) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let mut hex = String::with_capacity(2 * hash.len());
    for byte in hash {
        // Writing into a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    #[test]
    fn one_file_has_one_half_and_each_way_to_look_at_it_another() {
        let (one, mut two) = (job("/a.mp4"), job("/a.mp4"));
        assert_eq!(one.id(), two.id());
        two.settings.prompts = "dog".into();
        assert_ne!(one.id(), two.id());
        assert_eq!(one.id().source(), two.id().source());
        assert_ne!(one.id().source(), job("/b.mp4").id().source());
        assert_eq!(Id::parse(&one.id().to_string()), Some(one.id()));
        for wrong in ["", "a-b", "0123456789abcdef-0123456789abcdeg", "0123456789abcdef0123456789abcdef"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
        assert_eq!(serde_json::from_str::<Job>(&serde_json::to_string(&one).unwrap()).unwrap(), one);
    }

    #[test]
    fn pictures_are_told_by_their_ending() {
        assert!(job("/a/B.JPG").is_picture() && job("/a.b/c.png").is_picture());
        assert!(!job("https://host/a.png").is_picture());
        assert!(!job("/a.png/c.mp4").is_picture() && !job("/jpg").is_picture());
    }
}
