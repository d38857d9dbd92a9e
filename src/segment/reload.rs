// SPDX-License-Identifier: MIT OR Apache-2.0
//! The action signal `reload-model`, and an element's part in a reload that another element asked for.

use std::sync::Arc;

use anyhow::{Context, Result};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, Segment};
use super::prompts::{Encoded, encode};
use crate::engine::{Client, Prepared, Weights};
use crate::model::ModelSpec;

/// An element, as its engine knows it.
pub struct User(pub glib::WeakRef<super::Segment>);

impl Client for User {
    fn prepare(&self, weights: &Arc<Weights>) -> Result<Option<Prepared>> {
        let Some(element) = self.0.upgrade() else { return Ok(None) };
        let Some(wish) = element.imp().stream.active_wish() else { return Ok(None) };
        let encoded = encode(weights, &wish)
            .with_context(|| format!("cannot encode the prompts of {} with it", element.name()))?;
        let vocabulary = encoded.vocabulary.clone();
        let adopt = Box::new(move || element.imp().stream.adopt(&wish, encoded));
        Ok(Some(Prepared { vocabulary, adopt }))
    }

    fn changed(&self, spec: &ModelSpec) {
        if let Some(element) = self.0.upgrade() {
            element.imp().model_changed(spec);
        }
    }
}

impl Segment {
    /// Puts the checkpoint `model` (or, without one, the one that the property names, read again) in the place of
    /// the one in use, while frames pass. Says whether it worked; a warning says why not.
    pub fn reload_model(&self, model: Option<String>) -> bool {
        let started = std::time::Instant::now();
        match self.try_reload(model) {
            Ok(model) => {
                gst::info!(CAT, imp = self, "reloaded {model} in {:?}", started.elapsed());
                true
            }
            Err(error) => {
                self.warn(&format!("the model stays as it was: {error:#}"));
                false
            }
        }
    }

    fn try_reload(&self, model: Option<String>) -> Result<String> {
        let engine = self.loaded.lock().as_ref().map(|loaded| loaded.engine.clone());
        let engine = engine.context("none is loaded yet; set the property \"model\"")?;
        let model = model.or_else(|| self.settings.lock().model.clone()).unwrap_or_default();
        engine.reload(model.trim())?;
        Ok(model)
    }

    /// The model in use is another one, by whichever element's wish.
    fn model_changed(&self, spec: &ModelSpec) {
        self.settings.lock().model = Some(spec.model.clone());
        if let Some(loaded) = self.loaded.lock().as_mut() {
            loaded.spec = spec.clone();
        }
        // Prompts that were encoded with the old weights while the new ones came.
        if let Some((generation, wish)) = self.stale_wish() {
            self.ask_again(generation, wish);
        }
        self.obj().notify("model");
    }

    /// Takes encoded prompts over, unless a reload has made them worthless: then they are asked for again.
    pub fn set_prompts(&self, generation: u64, wish: super::settings::Wish, encoded: Encoded) {
        if self.stream.set_prompts(generation, wish.clone(), encoded).is_err() {
            self.ask_again(generation, wish);
        }
    }

    fn ask_again(&self, generation: u64, wish: super::settings::Wish) {
        if let Some(loaded) = self.loaded.lock().as_ref() {
            loaded.prompts.ask_again(generation, wish);
        }
    }

    fn stale_wish(&self) -> Option<(u64, super::settings::Wish)> {
        let newest = self.loaded.lock().as_ref().map(|loaded| loaded.engine.weights())?;
        self.stream.wish_older_than(&newest)
    }
}
