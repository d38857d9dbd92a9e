// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lists in other languages than the prompt grammar: JSON and YAML. Read as prompts, such a list would be one odd class,
//! or classes named `- person`, without a word. So it is refused, with what to write instead.

use anyhow::{Result, bail};

/// # Errors
/// The text is a list or a map in JSON or YAML. In a file (`comments`), `#` starts a comment.
pub fn refuse(text: &str, comments: bool) -> Result<()> {
    let lines: Vec<(usize, &str)> = (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !(line.is_empty() || comments && line.starts_with('#')))
        .collect();
    let (Some(&(first_number, first)), Some(&(_, last))) = (lines.first(), lines.last()) else {
        return Ok(());
    };
    let told = |line: usize, what: &str| {
        bail!(
            "the prompts are {what} (line {line}), not prompts: write `person, man; car`, or one class a line"
        )
    };
    let brackets = [('[', ']'), ('{', '}')];
    if brackets.iter().any(|&(open, close)| first.starts_with(open) && last.ends_with(close)) {
        return told(first_number, "a list in JSON or YAML");
    }
    if let Some((number, _)) = lines.iter().find(|(_, line)| is_yaml_item(line)) {
        return told(*number, "a list in YAML");
    }
    // `names:` above its entries, `names: [a, b]`, `names = ["a", "b"]`.
    let heads_a_list = lines.len() > 1 && first.ends_with(':') && !first.contains([';', ',']);
    let holds_a_list = [": [", ": {", "= ["].iter().any(|mark| first.contains(mark));
    if heads_a_list || holds_a_list {
        return told(first_number, "a list in YAML or the like");
    }
    // `0: person` on every line, as data sets number their classes.
    if lines.len() > 1 && lines.iter().all(|(_, line)| is_numbered(line)) {
        return told(first_number, "a map in YAML");
    }
    Ok(())
}

/// `- person`, or the line that begins a document.
fn is_yaml_item(line: &str) -> bool {
    line == "---" || line.starts_with("- ")
}

fn is_numbered(line: &str) -> bool {
    line.split_once(": ").is_some_and(|(number, _)| {
        !number.is_empty() && number.chars().all(|character| character.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_other_languages_are_told_with_their_line() {
        let lists = [
            ("[\"person\", \"car\"]", "line 1"),
            ("# classes\n[\n  \"person\",\n  \"car\"\n]\n", "line 2"),
            ("{\"classes\": [\"person\"]}", "line 1"),
            ("[person, car]", "line 1"),
            ("- person\n- car\n", "line 1"),
            ("person\n  - car\n", "line 2"),
            ("---\nperson\n", "line 1"),
            ("names:\n  0: person\n  1: car\n", "line 1"),
            ("names: [person, car]", "line 1"),
            ("classes = [\"person\", \"car\"]", "line 1"),
            ("0: person\n1: car\n", "line 1"),
        ];
        for (text, place) in lists {
            let error = refuse(text, true).expect_err(text).to_string();
            assert!(error.contains(place) && error.contains("one class a line"), "{error}");
        }
    }

    #[test]
    fn what_only_looks_a_little_like_a_list_is_prompts() {
        let prompts = [
            "t-shirt; x-ray",
            "a [sic] sign; car",
            "[sic] sign; car",
            "person: standing; car",
            "1: one",
            "# - a comment\nperson\n",
            "",
        ];
        for text in prompts {
            refuse(text, true).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
