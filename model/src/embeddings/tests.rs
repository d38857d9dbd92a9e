// SPDX-License-Identifier: MIT OR Apache-2.0
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::vocabulary::{Prompts, Vocabulary};

const DIM: usize = 3;

/// A stand-in encoder that counts: the feature of a text depends on all its bytes.
struct Encoder {
    texts: Vec<String>,
}

impl Encoder {
    fn new() -> Encoder {
        Encoder { texts: Vec::new() }
    }

    fn encode(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        self.texts.extend_from_slice(texts);
        Ok(texts
            .iter()
            .flat_map(|text| {
                let sum = text.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
                let angle = f64::from(sum) * 1e-3;
                [angle.cos() as f32, angle.sin() as f32, 0.0]
            })
            .collect())
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| name.to_string()).collect()
}

fn ask(cache: &EmbeddingCache, model: &str, list: &[&str]) -> (Vec<f32>, Vec<String>) {
    let mut encoder = Encoder::new();
    let features = cache
        .features(model, &Templates::None, DIM, &names(list), &mut |texts| encoder.encode(texts))
        .unwrap();
    (features, encoder.texts)
}

fn only_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().unwrap() == "safetensors").collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[test]
fn a_name_is_encoded_once() {
    let cache = EmbeddingCache::new(None);
    let (first, encoded) = ask(&cache, "m", &["cat", "dog"]);
    assert_eq!(encoded, ["cat", "dog"]);
    let (second, encoded) = ask(&cache, "m", &["dog", "cow", "cat"]);
    assert_eq!(encoded, ["cow"]);
    assert_eq!(second[..DIM], first[DIM..]);
    assert_eq!(second[2 * DIM..], first[..DIM]);
    assert_eq!(cache.counters(), CacheCounters { memory_hits: 2, disk_hits: 0, misses: 3 });
    assert_eq!(cache.take_warning(), None);
}

#[test]
fn other_weights_and_templates_are_other_features() {
    let cache = EmbeddingCache::new(None);
    ask(&cache, "m", &["cat"]);
    assert_eq!(ask(&cache, "n", &["cat"]).1, ["cat"]);
    let templates = Templates::parse("the {}").unwrap();
    let mut encoder = Encoder::new();
    cache.features("m", &templates, DIM, &names(&["cat"]), &mut |texts| encoder.encode(texts)).unwrap();
    assert_eq!(encoder.texts, ["the cat"]);
}

#[test]
fn the_next_process_finds_them_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = ask(&EmbeddingCache::new(Some(folder.path())), "m", &["cat", "a\nb"]);
    let cache = EmbeddingCache::new(Some(folder.path()));
    let (second, encoded) = ask(&cache, "m", &["cat", "a\nb"]);
    assert_eq!((second, encoded.len()), (first, 0));
    assert_eq!(cache.counters(), CacheCounters { memory_hits: 0, disk_hits: 2, misses: 0 });
}

#[test]
fn two_writers_keep_each_others_names() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let folder = folder.path();
            scope.spawn(move || {
                let cache = EmbeddingCache::new(Some(folder));
                for round in 0..5 {
                    ask(&cache, "m", &[&format!("name {writer} {round}")]);
                }
                assert_eq!(cache.take_warning(), None);
            });
        }
    });
    let cache = EmbeddingCache::new(Some(folder.path()));
    let all: Vec<String> = (0..4).flat_map(|w| (0..5).map(move |r| format!("name {w} {r}"))).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert!(ask(&cache, "m", &all).1.is_empty());
}

#[test]
fn one_name_missed_by_two_threads_is_encoded_once() {
    let cache = EmbeddingCache::new(None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| ask(&cache, "m", &["cat", "dog"]));
        }
    });
    assert_eq!(cache.counters().misses, 2);
}

#[test]
fn a_damaged_file_is_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let (features, _) = ask(&EmbeddingCache::new(Some(folder.path())), "m", &["cat"]);
    let file = only_file(folder.path());
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 0x40;
    for damaged in [&whole[..whole.len() / 2], b"", b"not a tensor file at all", &flipped, &[0xff; 64]] {
        fs::write(&file, damaged).unwrap();
        let cache = EmbeddingCache::new(Some(folder.path()));
        let (again, encoded) = ask(&cache, "m", &["cat"]);
        assert_eq!((again, encoded.len()), (features.clone(), 1));
        assert!(ask(&EmbeddingCache::new(Some(folder.path())), "m", &["cat"]).1.is_empty(), "not rebuilt");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_one_warning() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "no folder").unwrap();
    let cache = EmbeddingCache::new(Some(&blocked.join("gclip")));
    ask(&cache, "m", &["cat"]);
    ask(&cache, "m", &["dog"]);
    let warning = cache.take_warning().unwrap();
    assert!(warning.contains("file/gclip") && warning.lines().count() == 1, "{warning}");
    assert_eq!(cache.take_warning(), None, "told once");
    assert!(ask(&cache, "m", &["cat", "dog"]).1.is_empty(), "memory still works");
}

#[test]
fn a_failed_encode_leaves_nothing_behind() {
    let cache = EmbeddingCache::new(None);
    let failed = cache.features("m", &Templates::None, DIM, &names(&["cat"]), &mut |_| bail!("no memory"));
    assert!(failed.is_err());
    assert_eq!(ask(&cache, "m", &["cat"]).1, ["cat"]);
}

fn embeddings() -> (Prompts, Embeddings) {
    let prompts = Prompts::parse("cat, kitten; dog", "sky").unwrap();
    let mut encoder = Encoder::new();
    let vocabulary =
        Vocabulary::build(&prompts, &Templates::None, DIM, &mut |texts| encoder.encode(texts)).unwrap();
    (prompts.clone(), Embeddings::new("abc", "none", &prompts, &vocabulary).unwrap())
}

#[test]
fn an_embeddings_file_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    let (prompts, saved) = embeddings();
    saved.save(&path).unwrap();
    let loaded = Embeddings::load(&path, "abc", DIM).unwrap();
    assert_eq!(loaded, saved);
    assert_eq!(loaded.select(&prompts).unwrap(), saved.vocabulary);
    let some = loaded.select(&Prompts::parse("sky; kitten", "").unwrap()).unwrap();
    assert_eq!(some.labels, ["sky", "kitten"]);
    assert_eq!(some.features[DIM..], saved.vocabulary.features[DIM..2 * DIM]);
    let error = loaded.select(&Prompts::parse("zebra", "").unwrap()).unwrap_err();
    assert!(error.to_string().contains("zebra"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn embeddings_of_other_weights_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    embeddings().1.save(&path).unwrap();
    let error = Embeddings::load(&path, "xyz", DIM).unwrap_err().to_string();
    assert!(error.contains("other weights") && error.contains("words.safetensors"), "{error}");
    assert!(Embeddings::load(&path, "abc", DIM + 1).is_err());
}

#[test]
fn broken_embeddings_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words.safetensors");
    embeddings().1.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..20], b"", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"] {
        fs::write(&path, bytes).unwrap();
        let error = format!("{:#}", Embeddings::load(&path, "abc", DIM).unwrap_err());
        assert!(error.contains("words.safetensors"), "{error}");
    }
    assert!(Embeddings::load(&folder.path().join("none"), "abc", DIM).is_err());
}

#[test]
fn a_folder_without_rights_leaves_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let saved = embeddings().1.save(&folder.path().join("words.safetensors"));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // root may write anywhere; then there is nothing to refuse
    if saved.is_err() {
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    assert!(embeddings().1.save(&folder.path().join("none/words.safetensors")).is_err());
}
