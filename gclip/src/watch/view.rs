// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a camera shows, for whoever looks at it. When nobody does, a frame costs a look at whether somebody does.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use gst::prelude::*;
use gstgclip::meta::{Histogram, MaskRow, Masks, Tag};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::drawn;

/// No more pictures than this, whatever the camera sends.
const INTERVAL: Duration = Duration::from_millis(100);
/// Scores are counted for so long after somebody has waited for a picture: who looks asks for the next one.
const COUNTED: Duration = Duration::from_secs(5);
/// The property of gclipsegment that has them counted.
const HISTOGRAMS: &str = "score-histograms";

/// A picture with its masks. It is encoded once, however many look at it.
pub struct View {
    number: u64,
    sample: gst::Sample,
    masks: Option<Masks>,
    /// Since the camera's picture was there; `None` where its time is not known.
    delay: Option<Duration>,
    picture: Once,
    drawn: Once,
    json: Once,
}

/// What is made for the first who asks, and is there for the others.
type Once = OnceLock<Result<Arc<[u8]>, String>>;

fn once(made: &Once, make: impl FnOnce() -> Result<Arc<[u8]>>) -> Result<Arc<[u8]>> {
    let made = made.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.clone().map_err(|why| anyhow!(why))
}

/// The masks as data: who looks draws them.
#[derive(Serialize)]
struct MaskData {
    generation: u64,
    /// Milliseconds between the picture and the one that the masks are made from.
    age: u64,
    /// The part of the picture that they cover: left, top, width and height, 0..1.
    rect: [f64; 4],
    /// Base64 of a grey PNG; 0 is no class, n the nth of the regions.
    ids: String,
    regions: Vec<Region>,
    /// How sure it is that the picture shows each class at all, where that is computed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
    /// Pixels of the mask that each class wins, by score from 0 to 1; there soon after somebody begins to look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    histograms: Vec<Histogram>,
}

#[derive(Serialize)]
struct Region {
    /// Of the class, counted from 1 as in the prompts.
    value: u32,
    label: String,
    score: f64,
    /// Share of the picture.
    area: f64,
}

pub struct Viewfinder {
    newest: watch::Sender<Option<Arc<View>>>,
    /// When a picture was last taken, and how many have been.
    taken: Mutex<(Option<Instant>, u64)>,
    /// When somebody was last seen to wait, while scores are counted.
    looked_at: Mutex<Option<Instant>>,
}

impl Default for Viewfinder {
    fn default() -> Viewfinder {
        Viewfinder { newest: watch::Sender::new(None), taken: Mutex::default(), looked_at: Mutex::default() }
    }
}

impl Viewfinder {
    /// A frame has come, on its streaming thread.
    pub fn offer(&self, pad: &gst::Pad, buffer: &gst::Buffer, masks: Option<&Masks>) {
        let is_looked_at = self.newest.receiver_count() > 0;
        self.count_scores(pad, is_looked_at);
        if !is_looked_at {
            if self.newest.borrow().is_some() {
                self.newest.send_replace(None);
            }
            return;
        }
        let caps = pad.current_caps();
        let mut taken = self.taken.lock();
        if caps.is_none() || taken.0.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        *taken = (Some(Instant::now()), taken.1 + 1);
        let sample = gst::Sample::builder().buffer(buffer).caps_if_some(caps.as_ref()).build();
        let (masks, delay) = (masks.cloned(), buffer.pts().and_then(|pts| delay(pad, pts)));
        let view = View {
            number: taken.1,
            sample,
            masks,
            delay,
            picture: Once::new(),
            drawn: Once::new(),
            json: Once::new(),
        };
        self.newest.send_replace(Some(Arc::new(view)));
    }

    /// Has the element of the pad count scores as long as somebody looks.
    fn count_scores(&self, pad: &gst::Pad, is_looked_at: bool) {
        let mut looked_at = self.looked_at.lock();
        if is_looked_at {
            *looked_at = Some(Instant::now());
        }
        let Some(latest) = *looked_at else { return };
        let wanted = latest.elapsed() < COUNTED;
        let element = pad.parent_element().filter(|element| element.has_property(HISTOGRAMS));
        if let Some(element) = element.filter(|element| element.property::<bool>(HISTOGRAMS) != wanted) {
            element.set_property(HISTOGRAMS, wanted);
        }
        if !wanted {
            *looked_at = None;
        }
    }

    /// The first picture that is newer than one of this number; waits for it.
    pub async fn after(&self, number: u64) -> Option<Arc<View>> {
        let mut pictures = self.newest.subscribe();
        let is_newer = |view: &Option<Arc<View>>| view.as_ref().is_some_and(|view| view.number > number);
        pictures.wait_for(is_newer).await.ok().and_then(|view| view.clone())
    }
}

/// How long ago a picture of this time came from the camera, by the pipeline's clock.
fn delay(pad: &gst::Pad, pts: gst::ClockTime) -> Option<Duration> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let came = segment.segment().downcast_ref::<gst::ClockTime>()?.to_running_time(pts)?;
    let now = pad.parent_element()?.current_running_time()?;
    Some(now.saturating_sub(came).into())
}

impl View {
    /// The picture as JPEG. Takes a while the first time.
    ///
    /// # Errors
    /// It cannot be encoded; why.
    pub fn picture(&self) -> Result<Arc<[u8]>> {
        once(&self.picture, || Ok(drawn::plain(&self.sample)?.into()))
    }

    /// The picture with its masks drawn on it, as JPEG; without where there are none yet. Takes a while the first time.
    ///
    /// # Errors
    /// It cannot be encoded; why.
    pub fn drawn(&self) -> Result<Arc<[u8]>> {
        match &self.masks {
            Some(masks) => once(&self.drawn, || Ok(drawn::with_masks(&self.sample, masks, None)?.into())),
            None => self.picture(),
        }
    }

    /// The picture with its masks, in JSON. Takes a while the first time.
    ///
    /// # Errors
    /// One of them cannot be encoded; why.
    pub fn json(&self) -> Result<Arc<[u8]>> {
        once(&self.json, || {
            let jpeg = BASE64_STANDARD.encode(&*self.picture()?);
            let delay = self.delay.and_then(|delay| u64::try_from(delay.as_millis()).ok());
            let whole =
                json!({ "number": self.number, "delay": delay, "jpeg": jpeg, "masks": self.masks()? });
            Ok(serde_json::to_vec(&whole)?.into())
        })
    }

    fn masks(&self) -> Result<Option<MaskData>> {
        let Some(masks) = &self.masks else { return Ok(None) };
        let shown = &masks.regions[..masks.regions.len().min(usize::from(u8::MAX))];
        let regions = shown.iter().map(|region| Region {
            value: region.value,
            label: region.label.clone(),
            score: region.score,
            area: region.area,
        });
        let rect = masks.rect;
        Ok(Some(MaskData {
            generation: masks.generation,
            age: masks.age.mseconds(),
            rect: [rect.x, rect.y, rect.w, rect.h],
            ids: BASE64_STANDARD.encode(ids(masks)?),
            regions: regions.collect(),
            tags: masks.tags.clone(),
            histograms: masks.histograms.clone(),
        }))
    }
}

/// The mask as a grey PNG, of the places of its values among the regions.
fn ids(masks: &Masks) -> Result<Vec<u8>> {
    let view = masks.view().context("the mask cannot be read")?;
    let largest = masks.regions.iter().map(|region| region.value).max().unwrap_or(0);
    let mut places = vec![0u8; largest as usize + 1];
    for (region, place) in masks.regions.iter().zip(1..=u8::MAX) {
        places[region.value as usize] = place;
    }
    let place = |value: usize| places.get(value).copied().unwrap_or(0);
    let mut bytes = Vec::with_capacity(view.width() * view.height());
    for row in view.rows() {
        match row {
            MaskRow::U8(values) => bytes.extend(values.iter().map(|value| place(usize::from(*value)))),
            MaskRow::U16(values) => {
                bytes.extend(values.iter().map(|value| place(usize::from(u16::from_le_bytes(*value)))));
            }
        }
    }
    let mut file = Vec::new();
    let (width, height) = (u32::try_from(view.width())?, u32::try_from(view.height())?);
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header()?.write_image_data(&bytes)?;
    Ok(file)
}
