// SPDX-License-Identifier: MIT OR Apache-2.0
//! Byte-pair encoding of one word: the pair of neighbours that was learnt earliest is joined, until none is left.
//!
//! The heap and the linked list keep a word of n bytes at O(n log n): prompts come from users, and may be one long word.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use anyhow::{Context, Result};

/// Text of a token -> its id.
pub type Vocab = HashMap<String, u32>;
/// Pairs of tokens in the order in which they were learnt.
pub type Merges = Vec<(String, String)>;

/// Marks the last character of a word within tokens.
const END_OF_WORD: &str = "</w>";

pub struct Bpe {
    vocab: Vocab,
    /// Two ids -> how early they were joined, and the id of the whole.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Stands for characters that the vocabulary lacks.
    unknown: u32,
}

/// A token of the word that is being joined, in a doubly linked list over indices.
struct Symbol {
    id: u32,
    before: Option<usize>,
    after: Option<usize>,
    /// False once it has become part of the symbol before it.
    stands: bool,
}

impl Bpe {
    /// # Errors
    /// A merge of tokens, or into a token, that the vocabulary does not have.
    pub fn new(vocab: Vocab, merges: Merges, unknown: u32) -> Result<Bpe> {
        let id = |token: &str| {
            vocab.get(token).copied().with_context(|| format!("its merges need {token:?}, which it has not"))
        };
        let mut table = HashMap::with_capacity(merges.len());
        for (rank, (left, right)) in (0..).zip(&merges) {
            let whole = format!("{left}{right}");
            table.insert((id(left)?, id(right)?), (rank, id(&whole)?));
        }
        Ok(Bpe { vocab, merges: table, unknown })
    }

    /// Appends the ids of a word that is written in the vocabulary's alphabet.
    pub fn encode(&self, word: &str, ids: &mut Vec<i64>) {
        let mut symbols = self.characters(word);
        // The earliest merge first; of equals, the leftmost.
        let mut found = BinaryHeap::new();
        for left in 1..symbols.len() {
            self.look(&symbols, left - 1, &mut found);
        }
        while let Some(Reverse((_, left, pair, whole))) = found.pop() {
            // A neighbour may have been joined to something else since.
            let Some(right) = symbols[left].after else { continue };
            if !symbols[left].stands || (symbols[left].id, symbols[right].id) != pair {
                continue;
            }
            symbols[right].stands = false;
            symbols[left].id = whole;
            symbols[left].after = symbols[right].after;
            if let Some(next) = symbols[left].after {
                symbols[next].before = Some(left);
                self.look(&symbols, left, &mut found);
            }
            if let Some(previous) = symbols[left].before {
                self.look(&symbols, previous, &mut found);
            }
        }
        ids.extend(symbols.iter().filter(|symbol| symbol.stands).map(|symbol| i64::from(symbol.id)));
    }

    fn characters(&self, word: &str) -> Vec<Symbol> {
        let count = word.chars().count();
        let symbol = |(index, c): (usize, char)| {
            let last = index + 1 == count;
            let text = if last { format!("{c}{END_OF_WORD}") } else { c.to_string() };
            Symbol {
                id: self.vocab.get(&text).copied().unwrap_or(self.unknown),
                before: index.checked_sub(1),
                after: (!last).then_some(index + 1),
                stands: true,
            }
        };
        word.chars().enumerate().map(symbol).collect()
    }

    /// Puts the merge of `left` and what follows it on the heap, if there is one.
    fn look(&self, symbols: &[Symbol], left: usize, found: &mut BinaryHeap<Reverse<Found>>) {
        let Some(right) = symbols[left].after else { return };
        let pair = (symbols[left].id, symbols[right].id);
        if let Some(&(rank, whole)) = self.merges.get(&pair) {
            found.push(Reverse((rank, left, pair, whole)));
        }
    }
}

/// Rank, index of the left symbol, the two ids, the id of the whole.
type Found = (u32, usize, (u32, u32), u32);

#[cfg(test)]
mod tests {
    use super::{Bpe, Merges, Vocab};

    fn bpe(merges: &[(&str, &str)]) -> (Bpe, Vocab) {
        let merges: Merges = merges.iter().map(|&(left, right)| (left.into(), right.into())).collect();
        let mut tokens: Vec<String> =
            ["?", "a", "b", "c", "a</w>", "b</w>", "c</w>"].map(String::from).into();
        tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
        let vocab: Vocab = (0..).zip(tokens).map(|(id, token)| (token, id)).collect();
        (Bpe::new(vocab.clone(), merges, 0).unwrap(), vocab)
    }

    #[track_caller]
    fn check(merges: &[(&str, &str)], word: &str, tokens: &[&str]) {
        let (bpe, vocab) = bpe(merges);
        let mut ids = Vec::new();
        bpe.encode(word, &mut ids);
        let expected: Vec<i64> = tokens.iter().map(|&token| i64::from(vocab[token])).collect();
        assert_eq!(ids, expected, "{word}");
    }

    #[test]
    fn the_earliest_merge_wins_not_the_leftmost() {
        check(&[("b", "c</w>"), ("a", "b")], "abc", &["a", "bc</w>"]);
        check(&[("a", "b"), ("b", "c</w>")], "abc", &["ab", "c</w>"]);
    }

    #[test]
    fn of_equal_merges_the_leftmost_wins() {
        check(&[("a", "a")], "aaaa", &["aa", "a", "a</w>"]);
        check(&[("a", "a"), ("aa", "a</w>")], "aaa", &["aaa</w>"]);
    }

    #[test]
    fn what_was_joined_is_joined_on() {
        check(&[("a", "b"), ("ab", "ab"), ("abab", "c</w>")], "ababc", &["ababc</w>"]);
    }

    #[test]
    fn unknown_characters_stand_one_by_one() {
        check(&[("a", "b")], "abzz", &["ab", "?", "?"]);
        check(&[], "", &[]);
    }

    #[test]
    fn a_merge_without_its_tokens_is_refused() {
        let error = Bpe::new(Vocab::new(), vec![("a".into(), "b".into())], 0).err().unwrap();
        assert!(error.to_string().contains("\"a\""), "{error}");
    }

    #[test]
    fn one_word_of_a_million_characters_takes_no_minutes() {
        let (bpe, _) = bpe(&[("a", "b"), ("ab", "ab"), ("abab", "abab")]);
        let mut ids = Vec::new();
        let start = std::time::Instant::now();
        bpe.encode(&"ab".repeat(500_000), &mut ids);
        assert_eq!(ids.len(), 124_999 + 4, "eights, and at the end abab, ab, a, b</w>");
        assert!(start.elapsed() < std::time::Duration::from_secs(60));
    }
}
