// SPDX-License-Identifier: MIT OR Apache-2.0
//! The prompt grammar, one for properties, files and the command line.
//!
//! ```text
//! prompts = class { (";" | new line) class }
//! class   = name { "," name }                 the first name is the label, the others are synonyms
//! escapes : \, \; \# \\                       any other backslash is an ordinary character
//! comment : in a file only, "#" at the start of a line or after a blank, up to the end of the line
//! ```
//! Blank lines and a trailing `,` or `;` are ignored; blanks around and inside names shrink to one space.
//! The class files of SCLIP, ClearCLIP and NACLIP (one class a line, synonyms after commas) are such files. Those of
//! ProxyCLIP and CorrCLIP, with synonyms after `;`, are not: see [`Prompts::first_shared_line`]. Nor are lists in JSON or
//! YAML, which are refused (`lists`).
//!
//! A name repeated within a class counts once. A name in two classes is allowed (published class files do it):
//! it scores equal for both, and the first class wins its pixels.

use std::fmt;

use anyhow::{Result, bail};

use super::lists;
use super::{Class, Prompts};

/// Mask values are at most 16 bits wide, and 0 is taken.
pub const MAX_CLASSES: usize = 65_535;
/// Far more than any CLIP reads (77 tokens); a longer name is a wrong file or a forgotten separator.
const MAX_NAME_CHARS: usize = 1000;

impl Prompts {
    /// Parses what a user typed: classes for the mask, and names that compete as background (may be empty).
    ///
    /// # Errors
    /// No class, an empty class or name, a control character, an overlong name, more than 65,535 classes:
    /// one sentence with line and column.
    pub fn parse(classes: &str, background: &str) -> Result<Prompts> {
        lists::refuse(classes, false)?;
        Prompts::from_parts(parse_classes(classes, false)?, background)
    }

    /// As [`Prompts::parse`], with the classes in the text of a file, where `#` starts a comment.
    pub fn parse_file_text(classes: &str, background: &str) -> Result<Prompts> {
        let classes = classes.trim_start_matches('\u{feff}');
        lists::refuse(classes, true)?;
        Prompts::from_parts(parse_classes(classes, true)?, background)
    }

    /// Background names alone: the classes come from elsewhere.
    ///
    /// # Errors
    /// As [`Prompts::parse`].
    pub fn parse_background(background: &str) -> Result<Prompts> {
        Ok(Prompts { background: background_names(background)?, ..Prompts::default() })
    }

    /// The first line (from 1) of a file that holds more than one class, as a `;` in it says. Where a line stands for a
    /// class, such a file was meant otherwise: everything after this line is off by some classes.
    pub fn first_shared_line(file: &str) -> Option<usize> {
        let file = file.trim_start_matches('\u{feff}');
        (1..).zip(file.lines()).find_map(|(line_number, line)| {
            let mut classes = Vec::new();
            parse_line(line, line_number, true, &mut classes).ok()?;
            (classes.len() > 1).then_some(line_number)
        })
    }

    fn from_parts(classes: Vec<Class>, background: &str) -> Result<Prompts> {
        if classes.is_empty() {
            bail!("the prompts name no class: give at least one, such as \"person; car, truck; sky\"");
        }
        Ok(Prompts { classes, background: background_names(background)?, ..Prompts::default() })
    }
}

/// In the background list `;` and `,` mean the same: all names come out as 0.
fn background_names(text: &str) -> Result<Vec<String>> {
    let classes = match text.trim() {
        "" => Vec::new(),
        text => parse_classes(text, false).map_err(|error| error.context("in the background names"))?,
    };
    Ok(classes.into_iter().flat_map(|class| class.names).collect())
}

/// Back to the grammar, so that what was parsed can be shown, stored and parsed again.
impl fmt::Display for Prompts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, class) in self.classes.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "; " })?;
            for (j, name) in class.names.iter().enumerate() {
                f.write_str(if j == 0 { "" } else { ", " })?;
                for c in name.chars() {
                    if matches!(c, ',' | ';' | '#' | '\\') {
                        f.write_str("\\")?;
                    }
                    write!(f, "{c}")?;
                }
            }
        }
        Ok(())
    }
}

fn parse_classes(text: &str, comments: bool) -> Result<Vec<Class>> {
    let mut classes = Vec::new();
    for (line_index, line) in text.lines().enumerate() {
        parse_line(line, line_index + 1, comments, &mut classes)?;
        if classes.len() > MAX_CLASSES {
            bail!("the prompts name more than {MAX_CLASSES} classes, the most a 16-bit mask can hold");
        }
    }
    Ok(classes)
}

/// Appends the classes of one line, in one pass over its characters.
fn parse_line(line: &str, line_number: usize, comments: bool, classes: &mut Vec<Class>) -> Result<()> {
    let mut class = Pending::default();
    let mut characters = line.chars().enumerate().peekable();
    let mut previous = ' ';
    while let Some((index, c)) = characters.next() {
        let at = Position { line: line_number, column: index + 1 };
        match c {
            '\\' => match characters.next_if(|(_, next)| matches!(next, ',' | ';' | '#' | '\\')) {
                Some((_, escaped)) => class.name.push(escaped),
                None => class.name.push('\\'),
            },
            '#' if comments && previous.is_whitespace() => break,
            ',' => class.end_name(at)?,
            ';' => class.end_class(at, classes)?,
            c if c.is_control() && !c.is_whitespace() => {
                bail!("control character U+{:04X} in the prompts, {at}", u32::from(c))
            }
            c => class.name.push(c),
        }
        previous = c;
    }
    let end = Position { line: line_number, column: line.chars().count() + 1 };
    // A blank line, or nothing after the last `;`, is no class.
    if class.is_blank() {
        return Ok(());
    }
    class.end_class(end, classes)
}

/// The class being read.
#[derive(Default)]
struct Pending {
    names: Vec<String>,
    name: String,
}

impl Pending {
    fn is_blank(&self) -> bool {
        self.names.is_empty() && self.name.trim().is_empty()
    }

    fn end_name(&mut self, at: Position) -> Result<()> {
        let name = self.name.split_whitespace().collect::<Vec<_>>().join(" ");
        self.name.clear();
        let length = name.chars().count();
        if length == 0 {
            bail!("empty name in the prompts, {at}: write \\, for a comma that belongs to a name");
        }
        if length > MAX_NAME_CHARS {
            bail!(
                "a name of {length} characters in the prompts, {at}: the longest allowed is {MAX_NAME_CHARS}"
            );
        }
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        Ok(())
    }

    fn end_class(&mut self, at: Position, classes: &mut Vec<Class>) -> Result<()> {
        if self.is_blank() {
            bail!("empty class in the prompts, {at}: write \\; for a semicolon that belongs to a name");
        }
        // A trailing comma leaves a blank name behind, which is no name.
        if !self.name.trim().is_empty() {
            self.end_name(at)?;
        }
        self.name.clear();
        let names = std::mem::take(&mut self.names);
        classes.push(Class { label: names[0].clone(), names });
        Ok(())
    }
}

/// Where in the text a user finds the mistake.
#[derive(Clone, Copy)]
struct Position {
    line: usize,
    column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}
