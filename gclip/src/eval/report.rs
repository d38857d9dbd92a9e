// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an evaluation found: a table to read and JSON to keep.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::confusion::Confusion;
use crate::model_args::Ready;
use crate::output;
use crate::say::say;

/// Shares from 0 to 1; `null` where nothing was there to measure.
#[derive(Serialize)]
pub struct Report {
    pub mean_iou: Option<f64>,
    pub mean_accuracy: Option<f64>,
    pub pixel_accuracy: Option<f64>,
    pub pictures: usize,
    /// Pictures in the folder that have no label and were left out.
    pub unlabelled: usize,
    pub pixels: u64,
    /// Model time only: preprocessing, forward, decoding.
    pub frames_per_second: f64,
    /// From the first picture to the last, reading and counting included.
    pub seconds: f64,
    pub model: String,
    pub weights_hash: String,
    /// Prompt names that the text tower had to encode; the others came from the cache.
    pub encoded_names: u64,
    pub method: String,
    pub device: String,
    pub precision: String,
    pub classes: Vec<ClassReport>,
}

#[derive(Serialize)]
pub struct ClassReport {
    pub label: String,
    pub iou: Option<f64>,
    pub accuracy: Option<f64>,
    /// Pixels in the truth and in the prediction.
    pub truth_pixels: u64,
    pub predicted_pixels: u64,
}

/// Of every class, in the order of the prompts.
pub fn classes(confusion: &Confusion, labels: &[String]) -> Vec<ClassReport> {
    let class = |(class, label): (usize, &String)| ClassReport {
        label: label.clone(),
        iou: confusion.iou(class),
        accuracy: confusion.accuracy(class),
        truth_pixels: confusion.truth_pixels(class),
        predicted_pixels: confusion.predicted_pixels(class),
    };
    labels.iter().enumerate().map(class).collect()
}

/// How long it took.
pub struct Timing {
    pub model: Duration,
    pub whole: Duration,
}

impl Report {
    pub fn new(
        confusion: &Confusion,
        labels: &[String],
        (pictures, unlabelled): (usize, usize),
        timing: &Timing,
        model: &str,
        ready: &Ready,
    ) -> Report {
        let info = &ready.info;
        Report {
            mean_iou: confusion.mean_iou(),
            mean_accuracy: confusion.mean_accuracy(),
            pixel_accuracy: confusion.pixel_accuracy(),
            pictures,
            unlabelled,
            pixels: confusion.pixels(),
            frames_per_second: pictures as f64 / timing.model.as_secs_f64().max(1e-9),
            seconds: timing.whole.as_secs_f64(),
            model: model.to_string(),
            weights_hash: info.hash.clone(),
            encoded_names: ready.encoded,
            method: info.method.clone(),
            device: info.device.clone(),
            precision: info.precision.clone(),
            classes: classes(confusion, labels),
        }
    }

    pub fn print(&self) {
        say!("{:<32} {:>8} {:>10} {:>9} {:>9}", "class", "IoU", "accuracy", "truth", "found");
        let share = |pixels: u64| 100.0 * pixels as f64 / self.pixels.max(1) as f64;
        for class in &self.classes {
            say!(
                "{:<32} {:>8} {:>10} {:>7.2} % {:>7.2} %",
                class.label,
                percent(class.iou),
                percent(class.accuracy),
                share(class.truth_pixels),
                share(class.predicted_pixels)
            );
        }
        let seen = self.classes.iter().filter(|class| class.iou.is_some()).count();
        say!();
        say!("mIoU {} over {seen} of {} classes", percent(self.mean_iou), self.classes.len());
        say!(
            "mean accuracy {}, pixel accuracy {}",
            percent(self.mean_accuracy),
            percent(self.pixel_accuracy)
        );
        say!(
            "{} pictures, {:.2} a second in the model, {:.1} s in all ({} without labels left out)",
            self.pictures,
            self.frames_per_second,
            self.seconds,
            self.unlabelled
        );
        say!(
            "{} on {} in {}; {} prompt names encoded, the others were cached",
            self.method,
            self.device,
            self.precision,
            self.encoded_names
        );
    }
}

pub fn write_json(report: &impl Serialize, path: &Path) -> Result<()> {
    output::write(path, |file| {
        serde_json::to_writer_pretty(&mut *file, report)?;
        Ok(writeln!(file)?)
    })
}

pub fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_string(), |share| format!("{:.2}", 100.0 * share))
}
