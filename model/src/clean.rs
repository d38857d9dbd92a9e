// SPDX-License-Identifier: MIT OR Apache-2.0
//! What openai/CLIP does to a text before BPE: the repairs of Python's ftfy that do not guess at encodings,
//! html entities, white space, lower case. Only mojibake stays as it is.

use unicode_normalization::UnicodeNormalization;

/// A text as BPE wants it: trimmed, single spaces, lower case.
pub fn clean(text: &str) -> String {
    let text = repair(text);
    // openai/CLIP unescapes twice on top of ftfy, for texts that were escaped twice.
    let text = unescape(&unescape(&text));
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

fn unescape(text: &str) -> String {
    html_escape::decode_html_entities(text).into_owned()
}

/// ftfy's `fix_text`, without the guesses at wrongly decoded text.
fn repair(text: &str) -> String {
    // ftfy takes a text with a literal < for html, where entities are meant.
    let text = if text.contains('<') { text.to_owned() } else { unescape(text) };
    let mut repaired = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2bc}' | '\u{2018}'..='\u{201b}' => repaired.push('\''),
            '\u{201c}'..='\u{201f}' => repaired.push('"'),
            // Full-width and half-width forms, and the ideographic space.
            '\u{3000}' | '\u{ff01}'..='\u{ffef}' => repaired.extend([c].into_iter().nfkc()),
            // Latin ligatures and digraphs.
            '\u{132}'
            | '\u{133}'
            | '\u{149}'
            | '\u{1c4}'..='\u{1cc}'
            | '\u{1f1}'..='\u{1f3}'
            | '\u{fb00}'..='\u{fb06}' => repaired.extend([c].into_iter().nfkc()),
            // Line and paragraph separators.
            '\u{85}' | '\u{2028}' | '\u{2029}' => repaired.push('\n'),
            // Characters that only steer the display.
            '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' => {}
            '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}' => {}
            _ => repaired.push(c),
        }
    }
    repaired.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn quotes_widths_and_ligatures_become_plain() {
        assert_eq!(clean("“Curly” ‘single’"), "\"curly\" 'single'");
        assert_eq!(clean("ＦＵＬＬＷＩＤＴＨ ﬁ ligature"), "fullwidth fi ligature");
        assert_eq!(clean("a\u{3000}b"), "a b");
    }

    #[test]
    fn entities_are_unescaped_twice() {
        assert_eq!(clean("&lt;b&gt; &amp;amp; &quot;x&quot;"), "<b> & \"x\"");
        assert_eq!(clean("a < b &amp; c"), "a < b & c");
    }

    #[test]
    fn white_space_and_control_characters_collapse() {
        assert_eq!(clean("  tabs\tand\r\nnewlines \u{7} "), "tabs and newlines");
        assert_eq!(clean(" "), "");
    }

    #[test]
    fn decomposed_letters_are_composed() {
        assert_eq!(clean("cafe\u{301}"), "caf\u{e9}");
    }
}
