// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was found in one picture: a JSON object, a table, a line.

use anyhow::Result;
use gstgclip::meta::json::{FrameRegion, RegionMask};
use gstgclip::meta::{MaskRow, Tag, rle};
use gstgclip::model::{Ids, ModelInfo, Prompts, Segmentation, StageTimes};
use gstgclip::picture::RgbImage;
use serde::Serialize;

use crate::say::say;

#[derive(Serialize)]
pub struct Record {
    picture: String,
    width: usize,
    height: usize,
    /// The classes in the prompt grammar, and the background names.
    prompts: String,
    background: Vec<String>,
    /// Hash of the weights, and the method with its options.
    model: String,
    method: String,
    /// Where it was looked at by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Milliseconds>,
    /// Present classes, largest first, as `gclipmeta2json` writes them.
    regions: Vec<FrameRegion>,
    /// Every class, with how sure it is that the picture shows it at all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

#[derive(Serialize)]
struct Milliseconds {
    preprocess_ms: f64,
    forward_ms: f64,
    decode_ms: f64,
}

impl Record {
    /// `picture` is its path.
    pub fn new(
        picture: String,
        image: &RgbImage,
        answer: Segmentation,
        times: Option<StageTimes>,
        prompts: &Prompts,
        info: &ModelInfo,
        with_masks: bool,
    ) -> Record {
        let mut masks = if with_masks { masks(&answer) } else { Vec::new() }.into_iter();
        let regions = answer.regions.into_iter().map(|region| FrameRegion {
            value: region.value,
            label: region.label,
            score: region.score,
            area: region.area,
            x: region.x,
            y: region.y,
            w: region.w,
            h: region.h,
            mask: masks.next(),
        });
        let tags = answer.tags.into_iter().map(|tag| Tag { label: tag.label, score: tag.score });
        let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        Record {
            picture,
            width: image.width(),
            height: image.height(),
            prompts: prompts.to_string(),
            background: prompts.background.clone(),
            model: info.hash.clone(),
            method: info.method.clone(),
            time: times.map(|times| Milliseconds {
                preprocess_ms: milliseconds(times.preprocess),
                forward_ms: milliseconds(times.forward),
                decode_ms: milliseconds(times.decode),
            }),
            regions: regions.collect(),
            tags: tags.collect(),
        }
    }

    pub fn to_line(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    pub fn print_table(&self) {
        say!("{:<32} {:>8} {:>8}", "class", "share", "score");
        for region in &self.regions {
            say!("{:<32} {:>6.1} % {:>8.3}", region.label, 100.0 * region.area, region.score);
        }
        let named: f64 = self.regions.iter().map(|region| region.area).sum();
        say!("{:<32} {:>6.1} %", "(no class)", 100.0 * (1.0 - named).max(0.0));
        for Tag { label, score } in &self.tags {
            say!("tag {label:<28} {score:>17.3}");
        }
        say!("\n{}: {}x{}, {}", self.picture, self.width, self.height, self.time_text());
    }

    /// One line for one of many pictures.
    pub fn summary(&self) -> String {
        let largest = self.regions.iter().take(5);
        let found: Vec<String> =
            largest.map(|region| format!("{} {:.0} %", region.label, 100.0 * region.area)).collect();
        format!("{}: {} ({})", self.picture, found.join(", "), self.time_text())
    }

    fn time_text(&self) -> String {
        self.time.as_ref().map(Milliseconds::text).unwrap_or_default()
    }
}

impl Milliseconds {
    fn text(&self) -> String {
        format!(
            "{:.1} ms (preprocess {:.1}, forward {:.1}, decode {:.1})",
            self.preprocess_ms + self.forward_ms + self.decode_ms,
            self.preprocess_ms,
            self.forward_ms,
            self.decode_ms
        )
    }
}

/// The mask of each region in COCO's run-length encoding.
pub fn masks(answer: &Segmentation) -> Vec<RegionMask> {
    let runs = match &answer.ids {
        Ids::U8(ids) => rle::runs(ids.chunks_exact(answer.width).map(MaskRow::U8)),
        Ids::U16(ids) => {
            let bytes: Vec<[u8; 2]> = ids.iter().map(|id| id.to_le_bytes()).collect();
            rle::runs(bytes.chunks_exact(answer.width).map(MaskRow::U16))
        }
    };
    let size = [answer.height as u32, answer.width as u32];
    let mask = |value: u32| RegionMask::Rle {
        size,
        counts: rle::compress(&rle::counts(&runs, u16::try_from(value).unwrap_or(0))),
    };
    answer.regions.iter().map(|region| mask(region.value)).collect()
}
