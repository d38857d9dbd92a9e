// SPDX-License-Identifier: MIT OR Apache-2.0
//! GObject side of `gclipmeta2json`. Lock order: `settings` before `state`; neither is held across a push.

use std::sync::LazyLock;

use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::state::State;
use crate::meta::json::MaskForm;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "gclipmeta2json",
        gst::DebugColorFlags::empty(),
        Some("Segmentation masks to JSON"),
    )
});

#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub mask: MaskForm,
    pub only_changes: bool,
}

pub struct GclipMeta2Json {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

impl GclipMeta2Json {
    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = *self.settings.lock();
        let line = self.state.lock().line(&buffer, settings);
        match line {
            Ok(Some(line)) => self.srcpad.push(json_buffer(line, &buffer)),
            Ok(None) => {
                gst::log!(CAT, imp = self, "nothing to write for {buffer:?}");
                if let Some(pts) = buffer.pts() {
                    let gap = gst::event::Gap::builder(pts).duration(buffer.duration()).build();
                    self.srcpad.push_event(gap);
                }
                Ok(gst::FlowSuccess::Ok)
            }
            Err(error) => {
                gst::element_imp_error!(self, gst::StreamError::Decode, ("Masks to JSON: {error:#}"));
                Err(gst::FlowError::Error)
            }
        }
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => {
                self.state.lock().set_caps(caps.caps());
                return self.negotiate();
            }
            gst::EventView::Segment(segment) => {
                self.state.lock().set_segment(segment.segment());
                // Upstream may send no caps at all; ours go before the segment.
                if !self.negotiate() {
                    return false;
                }
            }
            gst::EventView::FlushStop(_) => self.state.lock().flush(),
            gst::EventView::StreamStart(_) => *self.state.lock() = State::default(),
            _ => {}
        }
        gst::Pad::event_default(&self.sinkpad, Some(&*self.obj()), event)
    }

    /// Sends our caps downstream, once for each stream.
    fn negotiate(&self) -> bool {
        if self.state.lock().negotiated {
            return true;
        }
        let accepted = self.srcpad.push_event(gst::event::Caps::new(&self.srcpad.pad_template_caps()));
        self.state.lock().negotiated = accepted;
        accepted
    }
}

fn json_buffer(line: Vec<u8>, frame: &gst::BufferRef) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(line);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(frame.pts());
        buffer.set_duration(frame.duration());
        let kept = gst::BufferFlags::DISCONT | gst::BufferFlags::LIVE;
        buffer.set_flags(frame.flags() & kept);
    }
    buffer
}

#[glib::object_subclass]
impl ObjectSubclass for GclipMeta2Json {
    const NAME: &'static str = "GstGclipMeta2Json";
    type Type = super::GclipMeta2Json;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let pad = |name, direction| match class.pad_template(name) {
            Some(template) => gst::Pad::builder_from_template(&template),
            None => gst::Pad::builder(direction).name(name),
        };
        let sinkpad = pad("sink", gst::PadDirection::Sink)
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(buffer),
                )
            })
            .event_function(|_, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(event))
            })
            .build();
        let srcpad = pad("src", gst::PadDirection::Src).flags(gst::PadFlags::FIXED_CAPS).build();
        Self { sinkpad, srcpad, settings: Mutex::default(), state: Mutex::default() }
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
        let element = self.obj();
        for pad in [&self.sinkpad, &self.srcpad] {
            if let Err(error) = element.add_pad(pad) {
                gst::error!(CAT, imp = self, "cannot add pad {}: {error}", pad.name());
            }
        }
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
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let json = gst::Caps::new_empty_simple("application/x-json");
            let template = |name, direction, caps| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps)
            };
            [
                template("sink", gst::PadDirection::Sink, &gst::Caps::new_any()),
                template("src", gst::PadDirection::Src, &json),
            ]
            .into_iter()
            .flatten()
            .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToReady {
            *self.state.lock() = State::default();
        }
        Ok(success)
    }
}
