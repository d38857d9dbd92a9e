// SPDX-License-Identifier: MIT OR Apache-2.0
//! How sure the model is of each class at each place of a picture.

use anyhow::{Context, Result, ensure};
use gstgclip::model::decode::{MaskSizes, class_probabilities};
use gstgclip::model::{InferOptions, Request};
use gstgclip::picture::{self, RgbImage};

use crate::model_args::Ready;

pub struct Probabilities {
    /// `[1 + classes, places]` row-major; the first row is the background's.
    values: Vec<f32>,
    /// Height and width of the grid of places.
    pub size: (usize, usize),
}

impl Probabilities {
    /// At the places of one of the sizes that the look has.
    ///
    /// # Errors
    /// The model fails, or gives values that are not numbers.
    pub fn of(
        ready: &mut Ready,
        image: &RgbImage,
        options: &InferOptions,
        size: impl FnOnce(&MaskSizes) -> (usize, usize),
    ) -> Result<Probabilities> {
        let request = Request {
            picture: picture::for_model(image)?,
            vocabulary: ready.vocabulary.clone(),
            options: options.clone(),
        };
        let (looks, _) = ready.vision.look(std::slice::from_ref(&request))?;
        let look = looks.first().context("the model gave nothing")?;
        let (size, scale) = (size(&look.sizes), options.decode.logit_scale);
        let of_classes = class_probabilities(&*look.logits, &ready.vocabulary, scale, size)?;
        let values = Vec::<f32>::try_from(&of_classes.f_flatten(0, -1)?.f_contiguous()?)?;
        ensure!(values.iter().all(|value| value.is_finite()), "the model gives values that are not numbers");
        Ok(Probabilities { values, size })
    }

    pub fn places(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// A row for each class, in the order of the prompts.
    pub fn of_classes(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.places().max(1)).skip(1)
    }

    /// The mask value that wins a place, and how sure it is.
    pub fn winner(&self, place: usize) -> (usize, f32) {
        let rows = self.values.chunks(self.places().max(1)).map(|row| row[place]).enumerate();
        rows.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    }
}
