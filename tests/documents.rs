// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the documents promise: links lead somewhere, scripts that they name are there, and the messages that
//! docs/troubleshooting.md explains are ones that the code says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below the checkout of one of these kinds, without what is built.
fn files(kinds: &[&str]) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![root().to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "out", "builddir"].contains(&name.as_str()) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|kind| kinds.iter().any(|wanted| kind == *wanted)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The text without blocks of code.
fn prose(text: &str) -> String {
    let parts = text.split("```").step_by(2);
    parts.collect::<Vec<_>>().join("\n")
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let starts = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
    starts.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned())).collect()
}

/// The names by which the headings of a document can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let plain = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = plain.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for document in files(&["md"]) {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            let there = target.exists()
                && (anchor.is_empty()
                    || anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor));
            if !there {
                broken.push(format!("{}: {link}", document.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(count > 20, "these are not the documents");
    assert!(broken.is_empty(), "links that lead nowhere:\n  {}", broken.join("\n  "));
}

#[test]
fn the_scripts_that_documents_name_are_there() {
    let mut missing = Vec::new();
    for document in files(&["md"]) {
        let text = std::fs::read_to_string(&document).unwrap();
        let words = text.split(|c: char| c.is_whitespace() || "`'\"()$,;:".contains(c));
        for word in words.map(|word| word.trim_end_matches('.')) {
            let ours = ["scripts/", "pipelines/", "tests/", "benches/", "examples/"];
            let file = word.contains(".sh") || word.ends_with(".rs") || word.ends_with(".py");
            if file && ours.iter().any(|folder| word.starts_with(folder)) && !word.contains('*') {
                let beside = document.parent().unwrap().join(word);
                if !root().join(word).exists() && !beside.exists() {
                    missing.push(format!("{}: {word}", document.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "scripts that are not there:\n  {}", missing.join("\n  "));
}

#[test]
fn the_messages_that_are_explained_are_said() {
    let sources = files(&["rs", "sh"]).into_iter().filter(|path| !path.ends_with("tests/documents.rs"));
    // A line break within a literal is none in the message.
    let code: String = sources
        .map(|path| std::fs::read_to_string(path).unwrap())
        .map(|text| text.lines().map(|line| line.trim().trim_end_matches('\\')).collect::<Vec<_>>().join(" "))
        .map(|text| text.replace("  ", " ").replace("{{}}", "{}") + "\n")
        .collect();
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    // A cell with more than the message in it is of what others say.
    let cells =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next()?.strip_suffix('`'));
    let (mut unknown, mut count) = (Vec::new(), 0);
    for message in cells {
        count += 1;
        for piece in message.split("...").map(str::trim).filter(|piece| piece.len() > 3) {
            let piece = piece.trim_start_matches([',', ':', ' ']);
            if !code.contains(piece) {
                unknown.push(format!("{message}: {piece:?}"));
            }
        }
    }
    assert!(count > 30, "these are not the messages");
    assert!(unknown.is_empty(), "said nowhere:\n  {}", unknown.join("\n  "));
}
