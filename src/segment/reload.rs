// SPDX-License-Identifier: MIT OR Apache-2.0
//! The action signal `reload-model`, and what an element does when its model is another one.

use anyhow::{Context, Result};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::Segment;

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
        let engine = self.loaded.lock().as_ref().map(|loaded| loaded.client.engine().clone());
        let engine = engine.context("none is loaded yet; set the property \"model\"")?;
        let model = model.or_else(|| self.settings.lock().model.clone()).unwrap_or_default();
        engine.reload(model.trim())?;
        Ok(model)
    }

    /// The model of the client of this number is another one, by whichever element's wish.
    pub fn model_changed(&self, client: u64) {
        {
            let mut settings = self.settings.lock();
            let mut loaded = self.loaded.lock();
            // It may have been given up meanwhile: then the property is the application's again.
            let Some(loaded) = loaded.as_mut().filter(|loaded| loaded.number == client) else { return };
            loaded.spec = loaded.client.engine().spec();
            settings.model = Some(loaded.spec.model.clone());
        }
        self.obj().notify("model");
    }
}
