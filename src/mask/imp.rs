// SPDX-License-Identifier: MIT OR Apache-2.0
//! GObject side of `gclipmask`. Lock order: `settings` before `state`; neither is held across a push or a query.

use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

use super::Mode;
use super::cutout;
use super::settings::Settings;
use super::stream::{State, Wanted};
use crate::meta::{LabelFilter, Masks};
use crate::pads;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("gclipmask", gst::DebugColorFlags::empty(), Some("Segmentation masks to video"))
});

pub struct GclipMask {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

impl GclipMask {
    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = self.settings.lock().clone();
        let size = self.state.lock().frame_size();
        let Some(masks) = Masks::found_on(&buffer, size) else {
            gst::log!(CAT, imp = self, "no masks on {buffer:?}");
            self.push_gap(&buffer);
            return Ok(gst::FlowSuccess::Ok);
        };
        let wanted = self.state.lock().wanted(&settings, Some(&masks));
        let Some(wanted) = wanted else {
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("Frames came before their caps"));
            return Err(gst::FlowError::NotNegotiated);
        };
        let reconfigure = self.srcpad.check_reconfigure();
        if (reconfigure || !self.state.lock().satisfies(&wanted))
            && let Err(error) = self.negotiate(&wanted)
        {
            if self.srcpad.pad_flags().contains(gst::PadFlags::FLUSHING) {
                return Err(gst::FlowError::Flushing);
            }
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("{error:#}"));
            return Err(gst::FlowError::NotNegotiated);
        }
        let job = self.state.lock().job();
        match job.and_then(|job| job.run(&settings, &masks, &buffer)) {
            Ok(output) => self.srcpad.push(output),
            Err(error) => {
                gst::element_imp_error!(self, gst::StreamError::Failed, ("Masks to video: {error:#}"));
                Err(gst::FlowError::Error)
            }
        }
    }

    /// Before the output's caps are known there is nothing downstream that a gap could move on.
    fn push_gap(&self, frame: &gst::BufferRef) {
        let ready = self.state.lock().has_output();
        if let Some(pts) = frame.pts().filter(|_| ready) {
            self.srcpad.push_event(gst::event::Gap::builder(pts).duration(frame.duration()).build());
        }
    }

    /// Agrees with downstream on the output, sends the caps and what had to wait for them.
    fn negotiate(&self, wanted: &Wanted) -> Result<()> {
        let offered = self.state.lock().offered_caps(wanted).context("no caps to offer")?;
        let common = self.srcpad.peer_query_caps(Some(&offered));
        let mut caps = offered.intersect_with_mode(&common, gst::CapsIntersectMode::First);
        if caps.is_empty() {
            bail!("Downstream takes none of what the mask can be shown as: {offered}");
        }
        caps.fixate();
        // Asked to negotiate again, with the same outcome: nothing to tell.
        if self.state.lock().output_caps() == Some(&caps) {
            return Ok(());
        }
        gst::debug!(CAT, imp = self, "output is {caps}");
        self.state.lock().set_output(&caps)?;
        if !self.srcpad.push_event(gst::event::Caps::new(&caps)) {
            bail!("Downstream refused {caps}");
        }
        self.release_pending();
        Ok(())
    }

    fn release_pending(&self) {
        let pending = std::mem::take(&mut self.state.lock().pending);
        for event in pending {
            self.srcpad.push_event(event);
        }
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::Caps(caps) => return self.set_caps(&caps.caps_owned()),
            gst::EventView::Eos(_) => self.release_pending(),
            gst::EventView::FlushStop(_) => self.state.lock().flush(),
            gst::EventView::StreamStart(_) => {
                // No caps will come for the stream before. What does not need them goes in its place.
                self.state.lock().flush();
                self.release_pending();
            }
            _ if event.is_serialized() => {
                let mut state = self.state.lock();
                if !state.has_output() {
                    state.pending.push(event);
                    return true;
                }
            }
            _ => {}
        }
        gst::Pad::event_default(&self.sinkpad, Some(&*self.obj()), event)
    }

    /// With the frame's size the output is known at once, else with the first masks.
    fn set_caps(&self, caps: &gst::Caps) -> bool {
        let settings = self.settings.lock().clone();
        let wanted = {
            let mut state = self.state.lock();
            state.set_caps(caps).map(|()| state.wanted(&settings, None))
        };
        match wanted.and_then(|wanted| wanted.map_or(Ok(()), |wanted| self.negotiate(&wanted))) {
            Ok(()) => true,
            Err(error) => {
                gst::warning!(CAT, imp = self, "caps {caps}: {error:#}");
                false
            }
        }
    }

    /// Only a cut-out looks at pixels, so only then the format of the frames matters.
    fn sink_query(&self, query: &mut gst::QueryRef) -> bool {
        let mode = self.settings.lock().mode;
        if let (gst::QueryViewMut::Caps(query), Mode::Cutout) = (query.view_mut(), mode) {
            let caps = gst_video::VideoCapsBuilder::new().format_list(cutout::FORMATS).build();
            let caps = query.filter_owned().map_or_else(
                || caps.clone(),
                |filter| filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
            );
            query.set_result(&caps);
            return true;
        }
        gst::Pad::query_default(&self.sinkpad, Some(&*self.obj()), query)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for GclipMask {
    const NAME: &'static str = "GstGclipMask";
    type Type = super::GclipMask;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let (sinkpad, srcpad) = pads::builders(class);
        let sinkpad = sinkpad
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
            .query_function(|_, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(query))
            })
            .build();
        Self { sinkpad, srcpad: srcpad.build(), settings: Mutex::default(), state: Mutex::default() }
    }
}

impl ObjectImpl for GclipMask {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let default = Settings::default();
            vec![
                glib::ParamSpecEnum::builder_with_default("mode", default.mode)
                    .nick("Mode")
                    .blurb("What the output shows")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("size", default.size)
                    .nick("Size")
                    .blurb("Size of the output; a cut-out always has the frame's")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("edges", default.edges)
                    .nick("Edges")
                    .blurb("Edges of the matte or the cut-out")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("only")
                    .nick("Only")
                    .blurb("Labels in the matte or the cut-out, separated by commas (empty = all)")
                    .default_value(Some(default.only.text()))
                    .mutable_playing()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let name = spec.name();
        if matches!(name, "mode" | "size") && self.obj().current_state() >= gst::State::Paused {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("property \"{name}\" stays as it was: what leaves is agreed on for a whole stream; set it in NULL or READY")
            );
            return;
        }
        let mut settings = self.settings.lock();
        match name {
            "mode" => settings.mode = value.get().unwrap_or_default(),
            "size" => settings.size = value.get().unwrap_or_default(),
            "edges" => settings.edges = value.get().unwrap_or_default(),
            "only" => settings.only = LabelFilter::parse(value.get().unwrap_or_default()),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match spec.name() {
            "mode" => settings.mode.to_value(),
            "size" => settings.size.to_value(),
            "edges" => settings.edges.to_value(),
            "only" => settings.only.text().to_value(),
            _ => spec.default_value().to_owned(),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        pads::add(self.obj().upcast_ref(), &self.sinkpad, &self.srcpad);
    }
}

impl GstObjectImpl for GclipMask {}

impl ElementImpl for GclipMask {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Segmentation masks to video",
                "Filter/Converter/Video",
                "Shows the masks on each frame as ids, as a matte, or as the frame cut out",
                "The gst-plugin-gclip developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let frames = gst::Caps::builder("video/x-raw").any_features().build();
            let formats = [
                gst_video::VideoFormat::Gray8,
                gst_video::VideoFormat::Gray16Le,
                gst_video::VideoFormat::Rgba,
            ];
            let masks = gst_video::VideoCapsBuilder::new().format_list(formats).build();
            pads::templates(&frames, &masks)
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
