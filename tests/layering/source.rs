// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rust sources as the layering test reads them: code without comments and literals, and what it names.

use std::fs;
use std::path::{Path, PathBuf};

pub struct Source {
    /// Relative to the crate.
    pub path: PathBuf,
    pub text: String,
    /// `text` without comments, without the contents of strings, and without a test module at its end.
    pub code: String,
}

impl Source {
    /// Whether the file is test code as a whole.
    pub fn is_test(&self) -> bool {
        self.path.iter().any(|part| part == "tests" || part == "tests.rs")
    }

    /// The names below `src` that lead to this file's module: `src/a/b.rs` and `src/a/b/mod.rs` are `a`, `b`.
    pub fn module(&self) -> Vec<String> {
        let below = self.path.strip_prefix("src").unwrap_or(&self.path).with_extension("");
        let names = below.iter().map(|part| part.to_string_lossy().into_owned());
        names.filter(|name| name != "mod").collect()
    }

    /// Top-level modules of the crate that the code names, by `crate::` or by `super::` as far as the root.
    pub fn uses(&self) -> Vec<String> {
        let depth = self.module().len();
        let below_root = |path: Named| match path.names.iter().take_while(|name| *name == "super").count() {
            0 if path.names[0] == "crate" => path.names.get(1).cloned(),
            up if up == depth => path.names.get(up).cloned(),
            _ => None,
        };
        let mut found: Vec<String> = paths(&self.code).into_iter().filter_map(below_root).collect();
        found.sort();
        found.dedup();
        found
    }

    pub fn names_word(&self, word: &str) -> bool {
        words(&self.code).any(|found| found == word)
    }
}

/// Every Rust file below a folder of the crate.
pub fn read_all(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(root).expect("below the crate").to_path_buf();
                let code = without_tests(&bare(&text)).to_owned();
                sources.push(Source { path, text, code });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Cuts off an inline test module, which the house puts at the end of a file.
fn without_tests(code: &str) -> &str {
    let marks = code.match_indices("#[cfg(test)]");
    let inline = marks.filter(|(at, mark)| {
        let declaration = &code[at + mark.len()..];
        declaration.trim_start().starts_with("mod") && declaration.find('{') < declaration.find(';')
    });
    inline.map(|(at, _)| &code[..at]).next().unwrap_or(code)
}

/// Code with comments and the contents of string and character literals left out.
pub fn bare(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        match skipped {
            0 => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
            length => {
                code.push(' ');
                // Lines keep their numbers.
                code.extend(rest[..length].chars().filter(|&c| c == '\n'));
                rest = &rest[length..];
            }
        }
    }
    code
}

/// Bytes of the comment or literal that `text` begins with; 0 if it begins with neither.
fn literal_or_comment(text: &str, before: Option<char>) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |at| at + 2);
    }
    let begins_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if begins_word && let Some(raw) = text.strip_prefix('r').or_else(|| text.strip_prefix("br")) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let begin = text.len() - raw.len() + hashes + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            return text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len());
        }
    }
    if text.starts_with('"') {
        return end_of_quoted(text, '"');
    }
    // 'a' and '\n' are characters, 'a without a second quote is a lifetime.
    let mut after_quote = text.strip_prefix('\'').unwrap_or_default().chars();
    match (after_quote.next(), after_quote.next()) {
        (Some('\\'), _) => end_of_quoted(text, '\''),
        (Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 0,
    }
}

fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => (),
        }
    }
    text.len()
}

/// A path that the code names, and what it calls it.
pub struct Named {
    pub names: Vec<String>,
    alias: Option<String>,
}

impl Named {
    /// The name by which a `use` of this path makes it known; `None` for `*`.
    pub fn bound(&self) -> Option<&str> {
        self.alias.as_deref().or(self.names.last().map(String::as_str)).filter(|name| *name != "*")
    }
}

/// Paths from the root, from the module above, or from this module on, in `use` and anywhere else.
pub fn paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            if !ends_in_path(&code[..at]) {
                read_tree(&code[at..], &[], &mut found);
            }
        }
    }
    found
}

/// Paths in `use` statements, whatever they begin with.
pub fn use_paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for (at, word) in code.match_indices("use ") {
        if !ends_in_path(&code[..at]) {
            read_tree(&code[at + word.len()..], &[], &mut found);
        }
    }
    found
}

/// Reads `a::b`, `a::b as c`, `a::*`, or `a::{b, c::d}` from the start of `text`; returns the bytes read.
fn read_tree(text: &str, before: &[String], found: &mut Vec<Named>) -> usize {
    let mut names = before.to_vec();
    let mut at = 0;
    loop {
        at += blanks(&text[at..]);
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            loop {
                at += blanks(&text[at..]);
                match text[at..].chars().next() {
                    None => return at,
                    Some('}') => return at + 1,
                    Some(',') => at += 1,
                    Some(_) => match read_tree(&text[at..], &names, found) {
                        0 => return at,
                        read => at += read,
                    },
                }
            }
        }
        let length = if rest.starts_with('*') { 1 } else { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) };
        if length == 0 {
            break;
        }
        names.push(rest[..length].to_owned());
        at += length;
        let gap = blanks(&text[at..]);
        match text[at + gap..].strip_prefix("::") {
            Some(_) => at += gap + 2,
            None => break,
        }
    }
    let gap = blanks(&text[at..]);
    let alias = text[at + gap..].strip_prefix("as ").map(|rest| rest.trim_start());
    let alias = alias.map(|rest| rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())].to_owned());
    if let Some(alias) = &alias {
        at += text[at..].find(alias.as_str()).unwrap_or(0) + alias.len();
    }
    // `a::{self}` names `a`.
    if names.len() > 1 && names.last().is_some_and(|name| name == "self") {
        names.pop();
    }
    if !names.is_empty() {
        found.push(Named { names, alias });
    }
    at
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether what follows is the middle of a path or word, such as the `super::` in `super::super::`.
fn ends_in_path(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}
