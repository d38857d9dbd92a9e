// SPDX-License-Identifier: MIT OR Apache-2.0
//! What bytes from outside reach, and what must hold whatever they are: shared by the fuzz targets beside this file
//! and by the seeded test `tests/fuzz_lite.rs`, which runs with the ordinary suite.

use std::fs;
use std::path::{Path, PathBuf};

use gclip_model::config::{Pooling, TextConfig};
use gclip_model::embeddings::Embeddings;
use gclip_model::pieces::Pieces;
use gclip_model::tokenizer::Tokenizer;
use gclip_model::vocabulary::{MAX_CLASSES, Prompts, Templates, Vocabulary};
use gclip_model::weights::Checkpoint;
use tempfile::TempDir;

/// Classes, background names and templates, with a NUL between them. Says whether the classes are accepted.
pub fn prompts(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\0');
    let mut part = || parts.next().unwrap_or_default();
    let (classes, background, templates) = (part(), part(), part());
    // Without a place for the name it may be the path of a file, which is no business of this target.
    let templates = format!("{templates}{{}}");
    let templates = sentence(Templates::parse(&templates));
    let _ = sentence(Prompts::parse_file_text(classes, background));
    let Some(prompts) = sentence(Prompts::parse(classes, background)) else { return false };

    assert!((1..=MAX_CLASSES).contains(&prompts.classes.len()));
    for class in &prompts.classes {
        assert_eq!(class.names.first(), Some(&class.label), "the label is the first name");
    }
    let names = prompts.classes.iter().flat_map(|class| &class.names).chain(&prompts.background);
    for name in names {
        assert!(!name.is_empty() && name.trim() == name, "{name:?} is blank or has blanks around it");
    }
    let again = Prompts::parse(&prompts.to_string(), "").map(|prompts| prompts.classes);
    assert_eq!(again.ok().as_ref(), Some(&prompts.classes), "what is shown is read back");
    if let Some(templates) = templates {
        let label = &prompts.classes[0].label;
        let filled: Vec<String> = templates.fill(label).collect();
        assert_eq!(filled.len(), templates.len());
        assert!(filled.iter().all(|text| text.contains(label.as_str())));
    }
    true
}

/// The files that a checkpoint may bring, each in the place of the sound one.
pub const FILES: &[&str] = &[
    "hugging_face/model.safetensors",
    "hugging_face/config.json",
    "hugging_face/tokenizer.json",
    "open_clip/open_clip_model.safetensors",
    "open_clip/open_clip_config.json",
    "open_clip/vocab.json",
    "openai/model.pt",
    "siglip2/model.safetensors",
    "siglip2/config.json",
    "tipsv2/model.safetensors",
    "tipsv2/config.json",
    #[cfg(feature = "tokenizers")]
    "siglip2/tokenizer.json",
    #[cfg(feature = "tokenizers")]
    "tipsv2/tokenizer.json",
    EMBEDDINGS,
];
const EMBEDDINGS: &str = "embeddings.safetensors";
/// Width and model of the embeddings.
const WIDTH: usize = 4;
const MODEL: &str = "0123456789abcdef";

/// Copies of the small checkpoints in `tests/data`, one file of which is replaced at a time.
pub struct Readers {
    folder: TempDir,
    sound: Vec<Vec<u8>>,
}

impl Readers {
    pub fn new() -> std::io::Result<Readers> {
        let data = test_data();
        let folder = tempfile::tempdir()?;
        for name in ["hugging_face", "open_clip", "openai", "siglip2", "tipsv2"] {
            fs::create_dir(folder.path().join(name))?;
            for file in fs::read_dir(data.join(name))? {
                let file = file?;
                fs::copy(file.path(), folder.path().join(name).join(file.file_name()))?;
            }
        }
        embeddings(&folder.path().join(EMBEDDINGS)).map_err(std::io::Error::other)?;
        let sound = FILES.iter().map(|file| fs::read(folder.path().join(file))).collect::<Result<_, _>>()?;
        Ok(Readers { folder, sound })
    }

    /// The contents of a file as it should be.
    #[allow(dead_code)] // a fuzzer brings its own corpus
    pub fn sound(&self, file: usize) -> &[u8] {
        &self.sound[file]
    }

    /// Puts `bytes` in the place of a file and reads what it belongs to. Says whether that is accepted.
    pub fn read(&self, file: usize, bytes: &[u8]) -> bool {
        let path = self.folder.path().join(FILES[file]);
        fs::write(&path, bytes).expect("the temporary folder can be written to");
        let accepted = read(&path);
        fs::write(&path, &self.sound[file]).expect("the temporary folder can be written to");
        accepted
    }
}

/// Writes embeddings of three names.
fn embeddings(path: &Path) -> anyhow::Result<()> {
    let prompts = Prompts::parse("sky, heaven; tree", "")?;
    let unit = |names: &[String]| Ok(names.iter().flat_map(|_| [1.0, 0.0, 0.0, 0.0]).collect());
    let vocabulary = Vocabulary::from_names(&prompts, WIDTH, unit)?;
    Embeddings::new(MODEL, "none", &prompts, &vocabulary)?.save(path)
}

fn read(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().unwrap_or(path);
    let checkpoint = |path: &Path| sentence(Checkpoint::open(&path.to_string_lossy()));
    match name {
        EMBEDDINGS => sentence(Embeddings::load(path, MODEL, WIDTH)).is_some(),
        "tokenizer.json" if folder.ends_with("siglip2") => pieces(folder, Pooling::LastPlace),
        "tokenizer.json" if folder.ends_with("tipsv2") => pieces(folder, Pooling::Mean),
        "tokenizer.json" | "vocab.json" => match sentence(Tokenizer::load(folder, 540, 16)) {
            None => false,
            Some(tokenizer) => {
                let ids = tokenizer.encode("a photo of the sky, it's 42!");
                assert!(ids.len() <= 16 && ids.iter().all(|id| (0..540).contains(id)));
                true
            }
        },
        "model.pt" => checkpoint(path).is_some(),
        _ => {
            let Some(checkpoint) = checkpoint(folder) else { return false };
            let vision = checkpoint.architecture.vision;
            assert!(vision.patch_size > 0 && vision.grid.0 > 0 && vision.grid.1 > 0);
            true
        }
    }
}

/// Reads the tokenizer of a SigLIP 2 or TIPSv2.
fn pieces(folder: &Path, pooling: Pooling) -> bool {
    let config = TextConfig { context_length: 16, vocab_size: 322, pooling, ..TextConfig::default() };
    let Some(pieces) = sentence(Pieces::load(folder, &config)) else { return false };
    if let Some(ids) = sentence(pieces.encode("a photo of the sky, it's 42! Gr\u{fc}n")) {
        assert!(ids.len() <= 16 && ids.iter().all(|id| (0..322).contains(id)), "{ids:?}");
    }
    true
}

/// What fails says so in one short sentence.
fn sentence<T>(result: anyhow::Result<T>) -> Option<T> {
    let error = match result {
        Ok(value) => return Some(value),
        Err(error) => format!("{error:#}"),
    };
    assert!(!error.trim().is_empty(), "an error without words");
    None
}

fn test_data() -> PathBuf {
    // From the package of the fuzz targets as from the model's, whose tests this file is a part of, too.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/data")
}
