// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures of classes as a user names them.
//!
//! ```text
//! exemplars = class { (";" | new line) class }
//! class     = label "=" picture { "," picture }
//! picture   = path [ "#" x "," y "," w "," h ] [ "@" path of a mask ]
//! ```
//! The box is in shares of the picture, from its upper left corner. `\` before one of `;,=#@\` keeps it in a name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};

/// Pictures of all classes together: some tens of a class say what there is to say.
pub const MAX_PICTURES: usize = 1000;

/// A part of a picture: left, top, width and height, in shares of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Area {
    /// # Errors
    /// Nothing of the picture, or something outside it.
    pub fn new([x, y, w, h]: [f64; 4]) -> Result<Area> {
        const ROUNDING: f64 = 1e-6;
        let is_inside = [x, y, w, h].iter().all(|value| (0.0..=1.0).contains(value))
            && x + w <= 1.0 + ROUNDING
            && y + h <= 1.0 + ROUNDING;
        ensure!(
            is_inside,
            "the box {x},{y},{w},{h} is not inside the picture: x,y,w,h are shares of it, 0 to 1"
        );
        ensure!(w > 0.0 && h > 0.0, "the box {x},{y},{w},{h} holds nothing");
        Ok(Area { x, y, w, h })
    }
}

/// One picture of a class; without box and mask all of it shows the object.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub picture: PathBuf,
    pub area: Option<Area>,
    /// A picture of any size; above 127 is the object.
    pub mask: Option<PathBuf>,
}

/// Pictures by label, each label once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples(pub Vec<(String, Vec<Example>)>);

impl Examples {
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(label, _)| label.as_str())
    }

    pub fn pictures(&self) -> usize {
        self.0.iter().map(|(_, examples)| examples.len()).sum()
    }
}

impl FromStr for Examples {
    type Err = Error;

    fn from_str(text: &str) -> Result<Examples> {
        // In one sentence: who asks for the text of an error may not ask for what is behind it.
        parse(text).map_err(|error| anyhow!("{error:#}"))
    }
}

fn parse(text: &str) -> Result<Examples> {
    let mut examples = Examples::default();
    for class in split(text, &[';', '\n']).into_iter().filter(|class| !class.trim().is_empty()) {
        let (label, pictures) = cut(&class, '=').with_context(|| {
            format!("\"{}\" is no class by pictures: write label=picture.png", class.trim())
        })?;
        let label = unescaped(label).split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(!label.is_empty(), "a class by pictures has no label: write label=picture.png");
        ensure!(examples.labels().all(|other| other != label), "the class \"{label}\" is written twice");
        let pictures = pictures_of(pictures).with_context(|| format!("in the class \"{label}\""))?;
        examples.0.push((label, pictures));
    }
    ensure!(!examples.0.is_empty(), "no class is named: write label=picture.png,...;label=...");
    let pictures = examples.pictures();
    ensure!(
        pictures <= MAX_PICTURES,
        "{pictures} pictures are more than {MAX_PICTURES}: some tens of each class say what there is to say"
    );
    Ok(examples)
}

/// Commas stand between pictures, and between the numbers of a box.
fn pictures_of(text: &str) -> Result<Vec<Example>> {
    let mut parts = split(text, &[',']).into_iter();
    let mut pictures = Vec::new();
    while let Some(mut part) = parts.next() {
        if part.trim().is_empty() {
            continue;
        }
        if cut(&part, '#').is_some() {
            for _ in 0..3 {
                let more = parts.next().context("a box is four numbers: picture.png#x,y,w,h")?;
                part = format!("{part},{more}");
            }
        }
        pictures.push(picture(part.trim())?);
    }
    ensure!(!pictures.is_empty(), "it has no picture");
    Ok(pictures)
}

fn picture(text: &str) -> Result<Example> {
    let (text, mask) = match cut(text, '@') {
        Some((text, mask)) => (text, Some(mask)),
        None => (text, None),
    };
    let (path, area) = match cut(text, '#') {
        Some((path, area)) => (path, Some(area)),
        None => (text, None),
    };
    let path = unescaped(path.trim());
    ensure!(!path.is_empty(), "\"{text}\" names no picture");
    let area = area.map(|numbers| -> Result<Area> {
        let read: Result<Vec<f64>, _> = numbers.split(',').map(|number| number.trim().parse()).collect();
        let Ok([x, y, w, h]) = read.as_deref() else {
            bail!("\"{numbers}\" is no box: write four numbers, picture.png#x,y,w,h")
        };
        Area::new([*x, *y, *w, *h])
    });
    let area = area.transpose().with_context(|| format!("of {path}"))?;
    let mask = mask.map(|mask| PathBuf::from(unescaped(mask.trim())));
    ensure!(
        mask.as_ref().is_none_or(|mask| !mask.as_os_str().is_empty()),
        "after the @ of {path} stands no mask"
    );
    Ok(Example { picture: path.into(), area, mask })
}

/// At separators that no backslash keeps; backslashes stay.
fn split(text: &str, separators: &[char]) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut kept = false;
    for character in text.chars() {
        if separators.contains(&character) && !kept {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
        kept = character == '\\' && !kept;
    }
    parts
}

/// At the first `at` that no backslash keeps.
fn cut(text: &str, at: char) -> Option<(&str, &str)> {
    let mut kept = false;
    for (index, character) in text.char_indices() {
        if character == at && !kept {
            return Some((&text[..index], &text[index + at.len_utf8()..]));
        }
        kept = character == '\\' && !kept;
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars().peekable();
    let mut plain = String::new();
    while let Some(character) = characters.next() {
        let kept = (character == '\\')
            .then(|| characters.next_if(|next| matches!(next, ';' | ',' | '=' | '#' | '@' | '\\')))
            .flatten();
        plain.push(kept.unwrap_or(character));
    }
    plain
}

/// In the form in which it is read.
impl fmt::Display for Examples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |text: &str| -> String {
            text.chars()
                .flat_map(|c| {
                    matches!(c, ';' | ',' | '=' | '#' | '@' | '\\').then_some('\\').into_iter().chain([c])
                })
                .collect()
        };
        for (index, (label, examples)) in self.0.iter().enumerate() {
            write!(f, "{}{}=", if index == 0 { "" } else { "; " }, escaped(label))?;
            for (index, Example { picture, area, mask }) in examples.iter().enumerate() {
                write!(f, "{}{}", if index == 0 { "" } else { "," }, escaped(&picture.to_string_lossy()))?;
                if let Some(Area { x, y, w, h }) = area {
                    write!(f, "#{x},{y},{w},{h}")?;
                }
                if let Some(mask) = mask {
                    write!(f, "@{}", escaped(&mask.to_string_lossy()))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_pictures_boxes_and_masks() {
        let text = r"our cup = a.png, b.jpg#0.1,0.2,0.3,0.4, c.png#0,0,1,1@c mask.png ,d.png@m.png;
            odd\=label=e\,f\#.png";
        let examples: Examples = text.parse().unwrap();
        let area = |x, y, w, h| Some(Area { x, y, w, h });
        let example = |picture: &str, area, mask: Option<&str>| Example {
            picture: picture.into(),
            area,
            mask: mask.map(PathBuf::from),
        };
        assert_eq!(
            examples.0,
            [
                (
                    "our cup".to_string(),
                    vec![
                        example("a.png", None, None),
                        example("b.jpg", area(0.1, 0.2, 0.3, 0.4), None),
                        example("c.png", area(0.0, 0.0, 1.0, 1.0), Some("c mask.png")),
                        example("d.png", None, Some("m.png")),
                    ]
                ),
                ("odd=label".to_string(), vec![example("e,f#.png", None, None)]),
            ]
        );
        assert_eq!(examples.to_string().parse::<Examples>().unwrap(), examples);
        assert_eq!(examples.pictures(), 5);
    }

    #[test]
    fn mistakes_say_what_and_where() {
        let many = format!("cup={}", vec!["a.png"; 10_000].join(","));
        for (text, word) in [
            ("", "no class"),
            ("cup", "label=picture.png"),
            ("=a.png", "no label"),
            ("cup=", "\"cup\""),
            ("cup=a.png; cup=b.png", "twice"),
            ("cup=a.png#0.1,0.2", "four numbers"),
            ("cup=a.png#0.1,0.2,x,0.4", "four numbers"),
            ("cup=a.png#0.5,0.5,0.6,0.1", "not inside"),
            ("cup=a.png#-0.1,0,1,1", "not inside"),
            ("cup=a.png#0,0,nan,1", "not inside"),
            ("cup=a.png#0.5,0.5,0,0.1", "holds nothing"),
            ("cup=#0,0,1,1", "no picture"),
            ("cup=a.png@", "no mask"),
            (many.as_str(), "10000 pictures"),
        ] {
            let error = format!("{:#}", text.parse::<Examples>().unwrap_err());
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }
}
