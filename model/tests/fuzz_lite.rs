// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sound inputs, damaged at random but always the same way, through the functions that `fuzz/` drives: whatever the
//! bytes are, there is an answer or an error, never a panic, and what is accepted keeps its promises.

#[path = "../../fuzz/entries.rs"]
mod entries;

use entries::{FILES, Readers};

/// A linear congruential generator: the same inputs on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// One to four changes within the first `reach` bytes: bits, bytes, pieces of other inputs, cuts, repeats.
    fn damage(&mut self, bytes: &mut Vec<u8>, reach: usize, pieces: &[&[u8]]) {
        for _ in 0..1 + self.below(4) {
            let at = self.below(bytes.len().min(reach));
            let length = self.below(40).min(bytes.len() - at);
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 => drop(bytes.drain(at..at + length)),
                3 => {
                    let piece = bytes[at..at + length].to_vec();
                    bytes.splice(at..at, piece);
                }
                4 => bytes.truncate(self.below(bytes.len())),
                5 => {
                    // In the place of as many bytes: lengths and checksums around it stay true more often.
                    let piece = pieces[self.below(pieces.len())];
                    let end = (at + piece.len()).min(bytes.len());
                    bytes.splice(at..end, piece.iter().copied());
                }
                _ => {
                    let piece = pieces[self.below(pieces.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
        }
    }
}

#[test]
fn damaged_prompts_are_read_or_refused() {
    let sound: [&[u8]; 5] = [
        b"person, man; car, truck; sky\0wall, floor\0a photo of a {}.",
        b"traffic light\nroad # of any kind\n\nRock \\& Roll\\, live; \\#1\0\0none",
        "caf\u{e9}; \u{3053}\u{3093}\u{306b}\u{3061}\u{306f}, \u{1f3b8}\0\u{2028}\0{}\n{} in the dark"
            .as_bytes(),
        b"\xef\xbb\xbf# comment\n a ,  b;\n;;",
        b"\\;\\\\,\\",
    ];
    let pieces: [&[u8]; 14] = [
        b";",
        b",",
        b"\\",
        b"#",
        b"\n",
        b"\r",
        b"\0",
        b"{}",
        b" ",
        b"\xff",
        b"\x85",
        b"imagenet",
        b"\xe2\x80\xa8",
        b"\\,",
    ];
    let mut random = Random(1);
    let mut accepted = 0;
    for round in 0..6000 {
        let mut bytes = sound[round % sound.len()].to_vec();
        random.damage(&mut bytes, usize::MAX, &pieces);
        accepted += usize::from(entries::prompts(&bytes));
    }
    println!("{accepted} of 6000 accepted");
    // Both ways are walked: the changes are neither harmless nor hopeless.
    assert!((1000..5900).contains(&accepted), "{accepted} of 6000 accepted");
}

#[test]
fn damaged_checkpoint_files_are_read_or_refused() {
    let readers = Readers::new().unwrap();
    let pieces: [&[u8]; 20] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b":",
        b",",
        b"0",
        b"-1",
        b"1e999",
        b"null",
        b"18446744073709551615",
        b"9223372036854775807",
        b"F16",
        b"F64",
        b"I64",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\0\0\0\0\0",
        b"\"a\":",
        b"text_config",
    ];
    let mut random = Random(2);
    for (file, name) in FILES.iter().enumerate() {
        let sound = readers.sound(file).to_vec();
        // A whole archive goes through libtorch each time, and its checksums refuse most of it.
        let (rounds, reach) = match *name {
            "openai/model.pt" => (30, usize::MAX),
            name if name.ends_with(".json") => (200, usize::MAX),
            "embeddings.safetensors" => (200, usize::MAX),
            _ => (200, 16_000),
        };
        assert!(readers.read(file, &sound), "the sound {name} is refused");
        let mut accepted = 0;
        for _ in 0..rounds {
            let mut bytes = sound.clone();
            random.damage(&mut bytes, reach, &pieces);
            accepted += usize::from(readers.read(file, &bytes));
        }
        println!("{name}: {accepted} of {rounds} accepted");
        assert!(accepted < rounds, "{name}: no change was noticed");
    }
}
