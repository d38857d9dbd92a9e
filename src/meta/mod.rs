// SPDX-License-Identifier: MIT OR Apache-2.0
//! `GclipSegmentationMeta`: the masks on a buffer, a `GstCustomMeta` that C and Python read with stock GStreamer.
//!
//! Its structure is a public contract. Version 1 has these fields, every length relative to the frame (0..1):
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `version` | `guint` | 1 |
//! | `generation` | `guint64` | generation of the prompts that the mask was made with |
//! | `age` | `guint64` | nanoseconds between the frame the mask was made from and this one; 0 = this one |
//! | `mask` | `GstBuffer` | GRAY8 or GRAY16_LE with its own `GstVideoMeta`; 0 = background, n = nth class |
//! | `x` `y` `w` `h` | `gdouble` | the rectangle of the frame that the mask covers |
//! | `regions` | `GstValueArray` | one `GstStructure` named `region` for each class that is present |
//! | `tags` | `GstValueArray` | only when asked for: one `GstStructure` named `tag` for each class |
//! | `histograms` | `GstValueArray` | only when asked for: one `GstStructure` named `histogram` for each class that wins a pixel |
//! | `anomalies` | `GstValueArray` | only when asked for: one `GstStructure` named `anomaly` for each thing |
//!
//! Fields of a `region`: `value` (`guint`, as in the mask), `label` (`gchararray`), `score` (`gdouble`, 0..1),
//! `area` (`gdouble`, share of the frame) and its box `x` `y` `w` `h` (`gdouble`). Of a `tag`: `label` and `score`, how sure it
//! is that the picture shows the class at all. Of a `histogram`: `label` and `pixels` (`GstValueArray` of `guint`), how many pixels of
//! the mask the class wins with a score in each of as many equal parts of 0 to 1, those below its threshold too. Of an
//! `anomaly`: `label`, `score` (`gdouble`, 0..1, how damaged the thing looks in the picture) and `map` (`GstBuffer`, GRAY8 with its own `GstVideoMeta`, a value a patch, 0 to 255, over the rectangle of the mask).
//!
//! Versions: a field is never removed or given another meaning, a new one raises `version`. So a reader of version 1
//! may read any later version and ignore what it does not know, and that is what [`Masks::from_buffer`] does.
//!
//! With the cargo feature `v1_26` the masks are also written as GStreamer's own analytics metadata (`attach_analytics`), and
//! those of other elements are read from it ([`Masks::found_on`]).
//!
//! Our meta has no `GstMeta` tags: elements that resize, convert or encode keep it, and the normalised coordinates stay right.
//! Elements that crop, rotate or mirror copy it too, *unchanged*: put them before the segmenter, not behind it.
//!
#![doc = include_str!("survival.md")]

#[cfg(feature = "v1_26")]
mod analytics;
pub mod json;
mod labels;
pub mod onvif;
pub mod png;
pub mod polygon;
pub mod rle;
mod roi;
#[cfg(test)]
mod tests;
mod view;
mod wire;

use std::sync::Once;

use serde::{Deserialize, Serialize};

#[cfg(feature = "v1_26")]
pub use analytics::attach as attach_analytics;
pub use labels::LabelFilter;
pub use roi::attach_regions_of_interest;
pub use view::{MaskRow, MaskView};
pub use wire::{anomaly as anomaly_structure, region as region_structure, tag as tag_structure};

/// Name under which the meta is registered, and of its structure.
pub const NAME: &str = "GclipSegmentationMeta";
/// Value of the `version` field.
pub const VERSION: u32 = 1;

/// One class that is present: the structure `region` inside the field `regions`.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub value: u32,
    pub label: String,
    /// 0..1
    pub score: f64,
    /// Share of the frame.
    pub area: f64,
    /// Box, normalised to the frame.
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

/// How sure it is that the picture shows a class at all: the structure `tag` inside the field `tags`, and an object of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tag {
    pub label: String,
    /// 0..1
    pub score: f64,
}

/// How the scores of the pixels that a class wins are distributed: the structure `histogram` inside the field `histograms`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Histogram {
    pub label: String,
    /// By score, in as many equal parts of 0..1; those below the threshold too.
    pub pixels: Vec<u32>,
}

/// How damaged a thing looks: the structure `anomaly` inside the field `anomalies`.
#[derive(Clone, Debug)]
pub struct Anomaly {
    pub label: String,
    /// 0..1
    pub score: f64,
    /// GRAY8 with its own `GstVideoMeta`, a value a patch.
    pub map: gst::Buffer,
}

impl Anomaly {
    /// Maps the map for reading: 0 to 255 for each patch.
    pub fn view(&self) -> Option<MaskView<'_>> {
        MaskView::new(&self.map)
    }
}

/// The rectangle of the frame that the mask covers, normalised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    /// The whole frame.
    pub const FULL: Rect = Rect { x: 0.0, y: 0.0, w: 1.0, h: 1.0 };
}

/// The content of one meta.
#[derive(Clone, Debug)]
pub struct Masks {
    /// Generation of the prompts that the mask was made with.
    pub generation: u64,
    /// Age of the mask: zero if it was made from this very frame.
    pub age: gst::ClockTime,
    /// GRAY8 or GRAY16_LE with its own `GstVideoMeta`; shared by reference, never written.
    /// 0 = background or below the threshold, n = nth class.
    pub mask: gst::Buffer,
    pub rect: Rect,
    pub regions: Vec<Region>,
    /// Every class; empty where tag scores were not asked for.
    pub tags: Vec<Tag>,
    /// Every class that wins a pixel; empty where they were not asked for.
    pub histograms: Vec<Histogram>,
    /// Every thing that is looked at for damage.
    pub anomalies: Vec<Anomaly>,
}

/// Registers the meta with GStreamer; may be called any number of times, after `gst::init`.
pub fn register() {
    static ONCE: Once = Once::new();
    // The question first: another copy of this library in the process may have registered the name.
    ONCE.call_once(|| {
        if !gst::meta::CustomMeta::is_registered(NAME) {
            gst::meta::CustomMeta::register_simple(NAME);
        }
    });
}

impl Masks {
    /// Masks of the whole frame that carries them, without what has to be asked for.
    pub fn new(generation: u64, mask: gst::Buffer, regions: Vec<Region>) -> Masks {
        Masks {
            generation,
            age: gst::ClockTime::ZERO,
            mask,
            rect: Rect::FULL,
            regions,
            tags: Vec::new(),
            histograms: Vec::new(),
            anomalies: Vec::new(),
        }
    }

    /// The same masks where they were made from a part of the frame only: the regions' boxes and areas, until now relative to
    /// that part, become relative to the frame.
    pub fn of_part(mut self, part: Rect) -> Masks {
        if part == Rect::FULL {
            return self;
        }
        let within = |rect: Rect| Rect {
            x: part.x + rect.x * part.w,
            y: part.y + rect.y * part.h,
            w: rect.w * part.w,
            h: rect.h * part.h,
        };
        self.rect = within(self.rect);
        for region in &mut self.regions {
            let Rect { x, y, w, h } = within(Rect { x: region.x, y: region.y, w: region.w, h: region.h });
            (region.x, region.y, region.w, region.h) = (x, y, w, h);
            region.area *= part.w * part.h;
        }
        self
    }

    /// Attaches the masks to a buffer, in the place of older ones.
    pub fn attach(&self, buffer: &mut gst::BufferRef) {
        register();
        Masks::detach(buffer);
        match gst::meta::CustomMeta::add(buffer, NAME) {
            Ok(mut meta) => wire::write(self, meta.mut_structure()),
            Err(error) => gst::error!(gst::CAT_DEFAULT, "cannot attach {NAME}: {error}"),
        }
    }

    /// Takes the masks off a buffer, if it carries any.
    pub fn detach(buffer: &mut gst::BufferRef) {
        register();
        while let Ok(meta) = gst::meta::CustomMeta::from_mut_buffer(buffer, NAME) {
            if meta.remove().is_err() {
                break;
            }
        }
    }

    /// Reads the masks of a buffer; `None` if it carries none, or some that are not well-formed:
    /// a missing field, another type, a mask that is smaller than its `GstVideoMeta` says.
    pub fn from_buffer(buffer: &gst::BufferRef) -> Option<Masks> {
        register();
        let meta = gst::meta::CustomMeta::from_buffer(buffer, NAME).ok()?;
        wire::read(meta.structure())
    }

    /// The masks on a frame of `size` pixels (width, height), whoever attached them: those of
    /// [`from_buffer`](Self::from_buffer), else the segmentations in GStreamer's analytics metadata.
    ///
    /// The latter only with the cargo feature `v1_26`, and if the size is known: their coordinates are in pixels.
    pub fn found_on(buffer: &gst::BufferRef, size: Option<(u32, u32)>) -> Option<Masks> {
        let standard = || {
            #[cfg(feature = "v1_26")]
            let masks = size.and_then(|size| analytics::read(buffer, size));
            #[cfg(not(feature = "v1_26"))]
            let masks = size.and(None);
            masks
        };
        Masks::from_buffer(buffer).or_else(standard)
    }

    /// Maps the mask for reading; `None` if it has no usable `GstVideoMeta` or cannot be mapped.
    pub fn view(&self) -> Option<MaskView<'_>> {
        MaskView::new(&self.mask)
    }

    /// Calls `read` with the mapped mask; `None` as for [`view`](Self::view).
    pub fn with_ids<R>(&self, read: impl FnOnce(&MaskView) -> R) -> Option<R> {
        self.view().map(|view| read(&view))
    }

    /// The region with a value.
    pub fn region(&self, value: u32) -> Option<&Region> {
        self.regions.iter().find(|region| region.value == value)
    }

    /// The region at a point of the frame, both coordinates 0..1; `None` outside the mask and on the background.
    pub fn region_at(&self, x: f64, y: f64) -> Option<&Region> {
        let (u, v) = ((x - self.rect.x) / self.rect.w, (y - self.rect.y) / self.rect.h);
        if !(0.0..1.0).contains(&u) || !(0.0..1.0).contains(&v) {
            return None;
        }
        let value = self.with_ids(|ids| {
            let (column, row) = ((u * ids.width() as f64) as usize, (v * ids.height() as f64) as usize);
            ids.get(column, row)
        })??;
        self.region(u32::from(value))
    }
}
