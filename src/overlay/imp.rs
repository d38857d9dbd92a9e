// SPDX-License-Identifier: MIT OR Apache-2.0
//! GObject side of `gclipoverlay`: properties, caps, and the way of a buffer.

use super::colour::Palette;
use super::composition::Compositor;
use super::draw::Drawer;
use super::layout::{FORMATS, FrameLayout};
use super::settings::{Colors, Only, Settings};
use super::{Mode, Position};
use crate::frame::{self, Mapped};
use crate::meta::Masks;
use crate::pads;
use gst::glib;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use once_cell::sync::Lazy;
use parking_lot::Mutex;

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new("gclipoverlay", gst::DebugColorFlags::empty(), Some("Draws segmentation masks"))
});

/// Lock order: `settings` is cloned out and released before `state` is taken.
#[derive(Default)]
pub struct GclipOverlay {
    settings: Mutex<Settings>,
    /// From caps to stop.
    state: Mutex<Option<State>>,
}

struct State {
    info: gst_video::VideoInfo,
    /// Outlives a change of caps: labels keep their colours.
    palette: Palette,
    drawer: Drawer,
    compositor: Compositor,
    /// Whether downstream takes overlay compositions; `None` until it has been asked.
    takes_compositions: Option<bool>,
}

#[glib::object_subclass]
impl ObjectSubclass for GclipOverlay {
    const NAME: &'static str = "GstGclipOverlay";
    type Type = super::GclipOverlay;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for GclipOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let default = Settings::default();
            vec![
                glib::ParamSpecEnum::builder_with_default("mode", default.mode)
                    .nick("Mode")
                    .blurb("What is done to the regions")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("opacity")
                    .nick("Opacity")
                    .blurb("How much of the effect covers the picture (-1 = what suits the mode: 0.5 for tint, else 1)")
                    .minimum(-1.0)
                    .maximum(1.0)
                    .default_value(default.opacity)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("invert")
                    .nick("Invert")
                    .blurb("Treat everything but the selected regions")
                    .default_value(default.invert)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("only")
                    .nick("Only")
                    .blurb("Labels to draw, separated by commas (empty = all)")
                    .default_value(Some(default.only.text()))
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("colors")
                    .nick("Colors")
                    .blurb("Colours by label, as in car=#ff8800,sky=#3af; * stands for every other label (empty = palette)")
                    .default_value(Some(default.colors.text()))
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("strength")
                    .nick("Strength")
                    .blurb("How coarse blur and pixelate are, from 0 (hardly) to 1 (blocks of an eighth of the frame)")
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(default.strength)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("labels")
                    .nick("Labels")
                    .blurb("Draw the label on each region")
                    .default_value(default.labels)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("legend")
                    .nick("Legend")
                    .blurb("Draw a legend: colour, label and share of the frame")
                    .default_value(default.legend)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("legend-position", default.legend_position)
                    .nick("Legend position")
                    .blurb("Corner of the frame in which the legend stands")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("composition")
                    .nick("Composition")
                    .blurb("Where downstream takes it, attach a GstVideoOverlayComposition and leave the pixels (modes tint, contour, fill)")
                    .default_value(default.composition)
                    .mutable_playing()
                    .build(),
            ]
        });
        PROPERTIES.as_ref()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let set = self.set(pspec.name(), value);
        if let Err(error) = set {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{error:#}; the value is ignored")
            );
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match pspec.name() {
            "mode" => settings.mode.to_value(),
            "opacity" => settings.opacity.to_value(),
            "invert" => settings.invert.to_value(),
            "only" => settings.only.text().to_value(),
            "colors" => settings.colors.text().to_value(),
            "strength" => settings.strength.to_value(),
            "labels" => settings.labels.to_value(),
            "composition" => settings.composition.to_value(),
            "legend" => settings.legend.to_value(),
            "legend-position" => settings.legend_position.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GclipOverlay {
    /// Sets one property; a value that cannot be used leaves the old one in force.
    fn set(&self, name: &str, value: &glib::Value) -> anyhow::Result<()> {
        let text = |value: &glib::Value| anyhow::Ok(value.get::<Option<String>>()?.unwrap_or_default());
        let mut settings = self.settings.lock();
        match name {
            "mode" => settings.mode = value.get::<Mode>()?,
            "opacity" => settings.opacity = value.get()?,
            "invert" => settings.invert = value.get()?,
            "only" => settings.only = Only::parse(&text(value)?),
            "colors" => settings.colors = Colors::parse(&text(value)?)?,
            "strength" => settings.strength = value.get()?,
            "labels" => settings.labels = value.get()?,
            "composition" => settings.composition = value.get()?,
            "legend" => settings.legend = value.get()?,
            "legend-position" => settings.legend_position = value.get::<Position>()?,
            _ => {}
        }
        Ok(())
    }
}

impl GstObjectImpl for GclipOverlay {}

impl ElementImpl for GclipOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "GCLIP segmentation overlay",
                "Visualization/Video",
                "Draws the masks that gclipsegment attaches: tint, contour, blur, legend",
                "The gst-plugin-gclip developers",
            )
        });
        Some(&*METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            let caps = gst_video::VideoCapsBuilder::new().format_list(FORMATS).build();
            pads::templates(&caps, &caps)
        });
        TEMPLATES.as_ref()
    }
}

impl BaseTransformImpl for GclipOverlay {
    const MODE: gst_base::subclass::BaseTransformMode = gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = None;
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "cannot parse caps {incaps}"))?;
        let mut state = self.state.lock();
        let palette = state.take().map(|state| state.palette).unwrap_or_default();
        *state = Some(State {
            palette,
            drawer: Drawer::new(FrameLayout::of(&info)),
            compositor: Compositor::new(info.width(), info.height()),
            takes_compositions: None,
            info,
        });
        Ok(())
    }

    fn src_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Reconfigure
            && let Some(state) = self.state.lock().as_mut()
        {
            state.takes_compositions = None;
        }
        self.parent_src_event(event)
    }

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        self.parent_propose_allocation(decide_query, query)?;
        frame::refuse_crop_metadata(query);
        // Frames are read by their own strides and offsets.
        if query.find_allocation_meta::<gst_video::VideoMeta>().is_none() {
            query.add_allocation_meta::<gst_video::VideoMeta>(None);
        }
        Ok(())
    }

    /// A frame without masks goes on as it is, even if it is not writable; the others are made writable and drawn on.
    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let Some(mut buffer) = self.take_queued_buffer() else { return Ok(GenerateOutputSuccess::NoOutput) };
        let size = self.state.lock().as_ref().map(|state| (state.info.width(), state.info.height()));
        let Some(masks) = Masks::found_on(&buffer, size) else {
            return Ok(GenerateOutputSuccess::Buffer(buffer));
        };
        let settings = self.settings.lock().clone();
        // A composition lies over what is stored, of which crop metadata leave a part.
        let compose = settings.composition
            && settings.mode.is_paint()
            && buffer.meta::<gst_video::VideoCropMeta>().is_none()
            && self.takes_compositions();
        let drawn = match self.state.lock().as_mut() {
            Some(state) if compose => {
                state.compositor.attach(&masks, &settings, &mut state.palette, buffer.make_mut())
            }
            Some(state) => state.draw(&settings, &masks, buffer.make_mut()),
            None => return Err(gst::FlowError::NotNegotiated),
        };
        drawn.map(|()| GenerateOutputSuccess::Buffer(buffer)).map_err(|error| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("cannot draw on a frame: {error:#}"));
            gst::FlowError::Error
        })
    }
}

impl GclipOverlay {
    /// Asks downstream, once after each change of caps or of what is linked; no lock is held meanwhile.
    fn takes_compositions(&self) -> bool {
        let caps = match self.state.lock().as_ref() {
            Some(State { takes_compositions: Some(known), .. }) => return *known,
            Some(state) => state.info.to_caps().ok(),
            None => return false,
        };
        let mut query = gst::query::Allocation::new(caps.as_ref(), false);
        let takes = self.obj().src_pad().peer_query(&mut query)
            && query.find_allocation_meta::<gst_video::VideoOverlayCompositionMeta>().is_some();
        gst::debug!(CAT, imp = self, "downstream takes overlay compositions: {takes}");
        if let Some(state) = self.state.lock().as_mut() {
            state.takes_compositions = Some(takes);
        }
        takes
    }
}

impl State {
    fn draw(
        &mut self,
        settings: &Settings,
        masks: &Masks,
        buffer: &mut gst::BufferRef,
    ) -> anyhow::Result<()> {
        let mut frame = Mapped::write(buffer, &self.info)?;
        self.drawer.draw(masks, settings, &mut self.palette, &mut frame.planes_mut())
    }
}
