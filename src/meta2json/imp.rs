// SPDX-License-Identifier: MIT OR Apache-2.0
//! GObject side of `gclipmeta2json`; what it does with the stream is in `sidecar`. `settings` and `last` are never
//! held together.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use crate::meta::json::{self, MaskForm};
use crate::sidecar::{self, Frame, Sidecar, Writer};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "gclipmeta2json",
        gst::DebugColorFlags::empty(),
        Some("Segmentation masks to JSON"),
    )
});

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    mask: MaskForm,
    only_changes: bool,
}

pub struct GclipMeta2Json {
    sidecar: Sidecar,
    settings: Mutex<Settings>,
    /// The last frame written, for `only-changes`.
    last: Mutex<Option<json::Frame>>,
}

impl Writer for GclipMeta2Json {
    const TASK: &'static str = "Masks to JSON";

    fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    fn write(&self, frame: &Frame) -> Result<Option<gst::Buffer>> {
        let settings = *self.settings.lock();
        let object = json::Frame::new(&frame.masks, frame.times, frame.size, settings.mask)?;
        let mut last = self.last.lock();
        if settings.only_changes && last.as_ref().is_some_and(|last| last.same_content(&object)) {
            gst::log!(CAT, imp = self, "nothing new on {:?}", frame.buffer);
            return Ok(None);
        }
        let line = object.to_line().context("cannot write JSON")?;
        *last = settings.only_changes.then_some(object);
        Ok(Some(gst::Buffer::from_mut_slice(line)))
    }

    fn reset(&self) {
        *self.last.lock() = None;
    }
}

#[glib::object_subclass]
impl ObjectSubclass for GclipMeta2Json {
    const NAME: &'static str = "GstGclipMeta2Json";
    type Type = super::GclipMeta2Json;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        Self { sidecar: Sidecar::new::<Self>(class), settings: Mutex::default(), last: Mutex::default() }
    }
}

impl ObjectImpl for GclipMeta2Json {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let default = Settings::default();
            vec![
                glib::ParamSpecEnum::builder_with_default("mask", default.mask)
                    .nick("Mask")
                    .blurb("How the shape of each region is written")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("only-changes")
                    .nick("Only changes")
                    .blurb("Leave out frames that say the same as the last one written, but for their times")
                    .default_value(default.only_changes)
                    .mutable_playing()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        match spec.name() {
            "mask" => settings.mask = value.get().unwrap_or_default(),
            "only-changes" => settings.only_changes = value.get().unwrap_or_default(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match spec.name() {
            "mask" => settings.mask.to_value(),
            "only-changes" => settings.only_changes.to_value(),
            _ => spec.default_value().to_owned(),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.sidecar.add_pads(self.obj().upcast_ref());
    }
}

impl GstObjectImpl for GclipMeta2Json {}

impl ElementImpl for GclipMeta2Json {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Segmentation masks to JSON",
                "Filter/Converter",
                "Writes the masks on each frame as one JSON object",
                "The gst-plugin-gclip developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> =
            LazyLock::new(|| sidecar::pad_templates(&gst::Caps::new_empty_simple("application/x-json")));
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            self.sidecar.reset();
            self.reset();
        }
        Ok(success)
    }
}
