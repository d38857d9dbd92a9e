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
        let root = "super::".repeat(self.module().len());
        let mut found = Vec::new();
        for start in ["crate::", root.as_str()] {
            for (at, _) in self.code.match_indices(start) {
                if !ends_in_path(&self.code[..at]) {
                    found.extend(first_names(&self.code[at + start.len()..]));
                }
            }
        }
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

/// The first names of a path, or of each path in a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return words(path).next().map(str::to_owned).into_iter().collect();
    };
    let mut names = Vec::new();
    let (mut depth, mut at_start) = (0, true);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if at_start && !c.is_whitespace() => {
                names.extend(words(&group[at..]).next().map(str::to_owned));
                at_start = false;
            }
            _ => (),
        }
    }
    names
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether what follows is the middle of a path or word, such as the `super::` in `super::super::`.
fn ends_in_path(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}
