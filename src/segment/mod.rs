// SPDX-License-Identifier: MIT OR Apache-2.0
//! Element `gclipsegment`: batches frames through the model and attaches what it finds as
//! [`GclipSegmentationMeta`](crate::meta). The pixels pass untouched, on the buffers they came in.
//!
//! ```text
//! gst-launch-1.0 filesrc location=street.mp4 ! decodebin ! videoconvert ! videoflip video-direction=auto \
//!     ! gclipsegment model=./clip-vit-base-patch16 prompts="person; car, truck; sky" \
//!     ! gclipoverlay ! videoconvert ! autovideosink
//! ```
//!
//! # Messages
//!
//! With `messages=changes` and an `anomaly-threshold` an element message `gclip-anomaly` says that a thing looks damaged, or sound again.
//! With `messages=changes` an element message `gclip-presence` says that a prompt has entered the picture or a zone
//! of it, or has left. It has entered when it covers at least `enter-area` of the place in `enter-frames` masks in a
//! row, and left when it covers less than `leave-area` in `leave-frames`. Masks that a frame carries over from an
//! earlier one are not counted again, unless `skip-static` carried them because the picture is the same. A flush and
//! a new stream start afresh, without messages.
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `label` | string | the prompt's label |
//! | `zone` | string | the zone's name; NULL for the whole picture |
//! | `state` | string | `entered` or `left` |
//! | `area` | double | share of the picture or zone that it covers now, 0..1 |
//! | `score` | double | mean probability over its whole region, 0..1; 0 when it is gone |
//! | `running-time`, `stream-time`, `pts` | uint64 (ns) | of the frame that decided it; absent if unknown |
//! | `generation` | uint64 | generation of the prompts |
//!
//! With `messages=all`, `gclip-regions` says what is on a frame, at most `message-rate` times a second: `pts`,
//! `running-time`, `stream-time`, `generation`, `age`, `regions`, with `tag-scores` `tags`, and with `anomaly`
//! `anomalies`, with the fields of the metadata.
//!
//! # Another model while frames pass
//!
//! The action signal `reload-model (string or NULL) -> boolean` loads that checkpoint (NULL: the one that `model`
//! names, read again), encodes the prompts with it, tries it out, and only then uses it, from each stream's next
//! frame on. Elements with the same `model-instance-id` change together. No frame is lost or waits for it; both
//! models are in memory meanwhile. If anything fails, nothing has changed: FALSE, and a warning that says why. It
//! blocks until it is done: call it from a thread that may wait.
//!
//! # Map
//!
//! * `settings`, `properties`, `specs`: what the user may set, and how GObject sees it
//! * `prompts`: the thread that encodes prompts beside the stream
//! * `reload`: the signal `reload-model`
//! * `imp`: the GObject side: pads, states, properties
//! * `still`: whether two frames show the same
//! * `machine`: what happens to a frame, decided without GStreamer, threads or a clock
//! * `stream`: what a stream's threads share, and, in `stream/flow`, a frame's way: both pads' threads, events, the
//!   model's answers
//! * `masks`, `tell`, `queries`, `stats`: the masks on a buffer, messages, queries, the `stats` property
//! * `told`: who is in the picture, and what has been said of it

mod imp;
mod machine;
mod masks;
mod prompts;
mod properties;
mod queries;
mod reload;
mod settings;
mod specs;
mod stats;
mod still;
mod stream;
mod tell;
mod told;

use std::sync::LazyLock;

use gst::prelude::*;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "gclipsegment",
        gst::DebugColorFlags::empty(),
        Some("Open-vocabulary segmentation from text prompts"),
    )
});

glib::wrapper! {
    pub struct Segment(ObjectSubclass<imp::Segment>) @extends gst::Element, gst::Object;
}

/// Number format of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipPrecision")]
pub enum Precision {
    /// f16 on CUDA, bf16 on a CPU that multiplies faster in it, else f32.
    #[default]
    #[enum_value(name = "The fastest that the device computes well", nick = "auto")]
    Auto,
    #[enum_value(name = "32-bit floating point", nick = "f32")]
    F32,
    #[enum_value(name = "bfloat16", nick = "bf16")]
    Bf16,
    #[enum_value(name = "16-bit floating point", nick = "f16")]
    F16,
    /// Never chosen by `auto`.
    #[enum_value(name = "8-bit integers in the linear layers, on a CPU with AVX512-VNNI", nick = "int8")]
    Int8,
}

/// How position embeddings are resized to another patch grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipPositions")]
pub enum Positions {
    #[default]
    #[enum_value(name = "Bicubic by size, as Hugging Face does", nick = "plain")]
    Plain,
    #[enum_value(name = "Bicubic by scale factor, as SCLIP and its successors do", nick = "scale")]
    Scale,
    #[enum_value(name = "Bilinear, rounded to 16 bits, as TagCLIP does", nick = "bilinear")]
    Bilinear,
}

/// What happens to a frame whose mask is not there in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipLatePolicy")]
pub enum LatePolicy {
    #[default]
    #[enum_value(name = "Reuse when upstream is live, wait when it is not", nick = "auto")]
    Auto,
    #[enum_value(name = "Every frame waits for its own mask", nick = "wait")]
    Wait,
    #[enum_value(name = "An overdue frame passes on with the newest mask and its age", nick = "reuse")]
    Reuse,
    #[enum_value(name = "An overdue frame is dropped", nick = "drop")]
    Drop,
}

/// What happens when the model fails on a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipOnError")]
pub enum OnError {
    #[default]
    #[enum_value(name = "The element posts an error and the stream ends", nick = "error")]
    Error,
    #[enum_value(name = "The frame passes on without a mask, with a warning", nick = "passthrough")]
    Passthrough,
}

/// Size of the attached mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipMaskSize")]
pub enum MaskSize {
    #[enum_value(name = "One value per patch", nick = "grid")]
    Grid,
    #[default]
    #[enum_value(name = "The size at which the model looked at the frame", nick = "model")]
    Model,
    #[enum_value(name = "The size of the frame", nick = "frame")]
    Frame,
}

/// What the text features of the classes take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipEnrich")]
pub enum Enrich {
    #[default]
    #[enum_value(name = "Nothing", nick = "none")]
    None,
    #[enum_value(name = "Text semantic enrichment by the sentences in descriptions (ExCEL)", nick = "tse")]
    Tse,
}

/// What is done with classes that are not in the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipPurify")]
pub enum Purify {
    #[default]
    #[enum_value(name = "Nothing", nick = "none")]
    None,
    #[enum_value(
        name = "They are found and taken out, picture by picture (FreeCP); for still pictures",
        nick = "full"
    )]
    Full,
}

/// What sharpens the masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipRefine")]
pub enum Refine {
    #[default]
    #[enum_value(name = "Nothing", nick = "none")]
    None,
    #[enum_value(name = "Pixel-adaptive mask refinement", nick = "pamr")]
    Pamr,
    #[enum_value(name = "Text-aware Laplacian propagation, on a coarse grid", nick = "tlp")]
    Tlp,
}

/// What the names of one class are to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipSynonyms")]
pub enum Synonyms {
    #[default]
    #[enum_value(name = "A class scores its best name", nick = "max")]
    Max,
    #[enum_value(name = "A class is one query, the mean of its names", nick = "mean")]
    Mean,
}

/// How a patch of a frame is compared with the pictures of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipExemplarScore")]
pub enum ExemplarScore {
    #[default]
    #[enum_value(name = "With the mean of what they show", nick = "prototype")]
    Prototype,
    #[enum_value(name = "With the nearest parts of what they show", nick = "nearest")]
    Nearest,
    #[enum_value(name = "The same, against the nearest parts of what is around it", nick = "contrast")]
    Contrast,
}

/// What becomes of classes that are not in the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipAbsent")]
pub enum Absent {
    #[default]
    #[enum_value(name = "They take part as all others do; nothing is judged", nick = "compete")]
    Compete,
    #[enum_value(name = "Their pixels become background", nick = "mute")]
    Mute,
    #[enum_value(name = "They take no part, and others win their pixels", nick = "remove")]
    Remove,
}

/// By what it is judged whether a class is in the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipEvidence")]
pub enum Evidence {
    #[default]
    #[enum_value(name = "TagCLIP's scores, 0 to 1; a second forward where it is judged", nick = "tags")]
    Tags,
    #[enum_value(name = "FreeCP's redundancy, 0 to 1/2; another forward where it is judged", nick = "purify")]
    Purify,
    #[enum_value(name = "The cosine of the whole picture with the class; nearly free", nick = "global")]
    Global,
}

/// Which element messages are posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstGclipMessages")]
pub enum Messages {
    #[default]
    #[enum_value(name = "No messages", nick = "none")]
    None,
    #[enum_value(name = "gclip-presence: a prompt enters or leaves the picture or a zone", nick = "changes")]
    Changes,
    #[enum_value(
        name = "gclip-regions: the regions of a frame, message-rate times a second; and changes",
        nick = "all"
    )]
    All,
}

/// The flags of every GStreamer, and those that are given: `glib::flags` itself leaves out no values by `cfg`.
macro_rules! meta_flags {
    ($($more:tt)*) => {
        /// Which metadata is attached.
        #[glib::flags(name = "GstGclipMetaFlags")]
        pub enum MetaFlags {
            #[flags_value(name = "GclipSegmentationMeta: masks and regions", nick = "custom")]
            CUSTOM = 0b01,
            #[flags_value(name = "One GstVideoRegionOfInterestMeta per region", nick = "roi")]
            ROI = 0b10,
            $($more)*
        }
    };
}

#[cfg(not(feature = "v1_26"))]
meta_flags!();

#[cfg(feature = "v1_26")]
meta_flags! {
    #[flags_value(
        name = "GstAnalyticsSegmentationMtd, and the GstAnalyticsClsMtd that names its regions",
        nick = "analytics"
    )]
    ANALYTICS = 0b100,
    #[flags_value(name = "The same, and one GstAnalyticsODMtd per region", nick = "analytics-objects")]
    ANALYTICS_OBJECTS = 0b1000,
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    let types = [
        Precision::static_type(),
        Positions::static_type(),
        LatePolicy::static_type(),
        OnError::static_type(),
        MaskSize::static_type(),
        Enrich::static_type(),
        Purify::static_type(),
        Refine::static_type(),
        Synonyms::static_type(),
        Absent::static_type(),
        Evidence::static_type(),
        ExemplarScore::static_type(),
        Messages::static_type(),
        MetaFlags::static_type(),
    ];
    for of_property in types {
        of_property.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(Some(plugin), "gclipsegment", gst::Rank::NONE, Segment::static_type())
}
