// SPDX-License-Identifier: MIT OR Apache-2.0
//! GObject side of `gclipmeta2onvif`; what it does with the stream is in `sidecar`. `time_source` and `clock` are
//! never held together.

use std::sync::LazyLock;

use anyhow::Result;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::TimeSource;
use super::clock::{self, Clock};
use crate::meta::onvif;
use crate::sidecar::{self, Frame, Sidecar, Writer};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "gclipmeta2onvif",
        gst::DebugColorFlags::empty(),
        Some("Segmentation masks to ONVIF metadata"),
    )
});

pub struct GclipMeta2Onvif {
    sidecar: Sidecar,
    time_source: Mutex<TimeSource>,
    clock: Mutex<Clock>,
}

impl Writer for GclipMeta2Onvif {
    const TASK: &'static str = "Masks to ONVIF metadata";

    fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }

    fn write(&self, frame: &Frame) -> Result<Option<gst::Buffer>> {
        let source = *self.time_source.lock();
        let element = self.obj();
        let utc = self.clock.lock().utc(source, element.upcast_ref(), frame.buffer, frame.times.running);
        gst::log!(CAT, imp = self, "{} regions at {utc}", frame.masks.regions.len());
        let mut output = gst::Buffer::from_mut_slice(onvif::document(&frame.masks, utc)?);
        if let Some(output) = output.get_mut() {
            clock::add_reference(output, utc);
        }
        Ok(Some(output))
    }

    fn reset(&self) {
        *self.clock.lock() = Clock::default();
    }
}

#[glib::object_subclass]
impl ObjectSubclass for GclipMeta2Onvif {
    const NAME: &'static str = "GstGclipMeta2Onvif";
    type Type = super::GclipMeta2Onvif;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let (time_source, clock) = (Mutex::default(), Mutex::default());
        Self { sidecar: Sidecar::new::<Self>(class), time_source, clock }
    }
}

impl ObjectImpl for GclipMeta2Onvif {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecEnum::builder_with_default("time-source", TimeSource::default())
                    .nick("Time source")
                    .blurb("Where UTC times come from, for frames that carry no reference time stamp")
                    .mutable_ready()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        match spec.name() {
            "time-source" if self.obj().current_state() >= gst::State::Paused => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("property \"time-source\" stays as it was: the times of a stream follow one clock; set it in NULL or READY")
                );
            }
            "time-source" => *self.time_source.lock() = value.get().unwrap_or_default(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        match spec.name() {
            "time-source" => self.time_source.lock().to_value(),
            _ => spec.default_value().to_owned(),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        self.sidecar.add_pads(self.obj().upcast_ref());
    }
}

impl GstObjectImpl for GclipMeta2Onvif {}

impl ElementImpl for GclipMeta2Onvif {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Segmentation masks to ONVIF metadata",
                "Filter/Converter",
                "Writes the masks on each frame as one ONVIF metadata document",
                "The gst-plugin-gclip developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            // Whole documents, one a buffer, each with its frame's times: what their parser's output is too.
            let caps = gst::Caps::builder("application/x-onvif-metadata");
            sidecar::pad_templates(&caps.field("parsed", true).field("encoding", "utf8").build())
        });
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
