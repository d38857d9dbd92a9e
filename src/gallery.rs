// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pictures that a user names as examples of classes: read, looked at by a model, and made into exemplars.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::model::exemplars::{Example, Examples, Exemplars, Gathering, Looked, Shape};
use crate::model::{ExemplarOptions, InputSize, ModelInfo, Picture};
use crate::picture::{self, Opened, RgbImage, Turn};

/// Pictures that a model has looked at and that may be asked for again: some sets of them, and not all there ever were.
const KEPT: usize = 64;

/// Where classes by pictures come from, and how they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub source: Source,
    pub options: ExemplarOptions,
    /// In which the pictures are looked at.
    pub size: InputSize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Pictures(Examples),
    /// Made by `gclip exemplar`.
    File(PathBuf),
}

/// Labels of the classes, whatever model they are for.
///
/// # Errors
/// The file cannot be read.
pub fn labels_of(source: &Source) -> Result<Vec<String>> {
    match source {
        Source::Pictures(examples) => Ok(examples.labels().map(str::to_owned).collect()),
        Source::File(path) => Exemplars::labels_in(path),
    }
}

/// Looks at a picture in the size that a stream is looked at in.
pub type Look<'a> = dyn FnMut(&Picture, InputSize) -> Result<Looked> + 'a;

/// What a model has seen in pictures lately, by what is in their files.
#[derive(Default)]
pub struct Gallery(VecDeque<(Key, Arc<Looked>)>);

type Key = ([u8; 32], String);

impl Gallery {
    /// The classes that are wanted.
    ///
    /// # Errors
    /// The file belongs to another model or method, or cannot be read; or what [`gather`](Self::gather) says.
    pub fn exemplars(&mut self, wanted: &Wanted, info: &ModelInfo, look: &mut Look) -> Result<Exemplars> {
        match &wanted.source {
            Source::File(path) => Exemplars::load(path, info),
            Source::Pictures(examples) => self.gather(examples, wanted.size, info, look),
        }
    }

    /// # Errors
    /// A picture cannot be read, or shows nothing of its class; or the model fails. The error names the file.
    pub fn gather(
        &mut self,
        examples: &Examples,
        size: InputSize,
        info: &ModelInfo,
        look: &mut Look,
    ) -> Result<Exemplars> {
        let mut gathering = Gathering::new(info.embed_dim, examples.pictures());
        for (label, examples) in &examples.0 {
            for example in examples {
                let looked = self.look(&example.picture, size, look)?;
                add(&mut gathering, label, &looked, example)
                    .with_context(|| format!("cannot use {} for \"{label}\"", example.picture.display()))?;
            }
        }
        gathering.finish(info)
    }

    fn look(&mut self, path: &Path, size: InputSize, look: &mut Look) -> Result<Arc<Looked>> {
        let bytes =
            picture::bytes(path).with_context(|| format!("cannot read the picture {}", path.display()))?;
        let key = (Sha256::digest(&bytes).into(), size.to_string());
        if let Some(at) = self.0.iter().position(|(known, _)| *known == key) {
            let known = self.0.remove(at).context("it has gone")?;
            let looked = known.1.clone();
            self.0.push_back(known);
            return Ok(looked);
        }
        let Opened { image, .. } = picture::decode(&bytes, Turn::AsShown)
            .with_context(|| format!("cannot read the picture {}", path.display()))?;
        let looked = look(&picture::for_model(&image)?, size);
        let looked = Arc::new(looked.with_context(|| format!("cannot look at {}", path.display()))?);
        self.0.push_back((key, looked.clone()));
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
        Ok(looked)
    }
}

fn add(gathering: &mut Gathering, label: &str, looked: &Looked, example: &Example) -> Result<()> {
    let mask = example.mask.as_deref().map(|path| picture::read(path, Turn::AsShown)).transpose()?;
    let values = mask.as_ref().map(|mask| (mask.image.width(), mask.image.height(), brightest(&mask.image)));
    let mask = values.as_ref().map(|(width, height, values)| (*width, *height, values.as_slice()));
    gathering.add(label, looked, &Shape { area: example.area, mask })
}

/// A mask may be grey, or painted in any bright colour.
fn brightest(image: &RgbImage) -> Vec<u8> {
    image.pixels().iter().map(|[r, g, b]| *r.max(g).max(b)).collect()
}
