// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run did: frames per second, where the CPU time went, memory, and what was seen.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use gst::prelude::*;
use parking_lot::Mutex;

use gstgclip::meta::Masks;

use crate::say::say;
use crate::usage;

/// Counts while the pipeline plays.
pub struct Report {
    started: Instant,
    frames: Arc<AtomicU64>,
    classes: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// One class over the whole run.
#[derive(Clone, Copy, Default)]
struct Seen {
    frames: u64,
    area: f64,
    score: f64,
}

/// The finished run, read while its threads are still alive.
pub struct Finished {
    seconds: f64,
    frames: u64,
    classes: BTreeMap<String, Seen>,
    /// Stage name, CPU seconds.
    cpu: Vec<(&'static str, f64)>,
    peak_mib: f64,
    stats: gst::Structure,
}

impl Report {
    /// Looks at every buffer that leaves `segment`.
    pub fn watch(segment: &gst::Element) -> Result<Report> {
        let report =
            Report { started: Instant::now(), frames: Default::default(), classes: Default::default() };
        let (frames, classes) = (report.frames.clone(), report.classes.clone());
        let pad = segment.static_pad("src").context("gclipsegment has no source pad")?;
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            frames.fetch_add(1, Ordering::Relaxed);
            if let Some(masks) = info.buffer().and_then(|buffer| Masks::from_buffer(buffer)) {
                let mut classes = classes.lock();
                for region in masks.regions {
                    let seen = classes.entry(region.label).or_default();
                    seen.frames += 1;
                    seen.area += region.area;
                    seen.score += region.score;
                }
            }
            gst::PadProbeReturn::Ok
        });
        Ok(report)
    }

    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// To be called before the pipeline goes to NULL: threads take their CPU times with them.
    pub fn finish(self, segment: &gst::Element) -> Finished {
        Finished {
            seconds: self.started.elapsed().as_secs_f64(),
            frames: self.frames(),
            classes: self.classes.lock().clone(),
            cpu: cpu_by_stage(),
            peak_mib: usage::memory("VmHWM:").map_or(0.0, |bytes| bytes as f64 / f64::from(1 << 20)),
            stats: segment.property::<gst::Structure>("stats"),
        }
    }
}

impl Finished {
    pub fn frames(&self) -> u64 {
        self.frames
    }

    pub fn print(&self, files: &[&Path]) {
        let frames = self.frames.max(1) as f64;
        say!("\n{:<24} {:>12} {:>14} {:>8}", "class", "in frames", "mean share", "score");
        for (label, seen) in &self.classes {
            say!(
                "{label:<24} {:>10.0} % {:>12.1} % {:>8.2}",
                100.0 * seen.frames as f64 / frames,
                100.0 * seen.area / frames,
                seen.score / seen.frames.max(1) as f64
            );
        }
        let total: f64 = self.cpu.iter().map(|(_, seconds)| seconds).sum();
        say!("\n{:<24} {:>12} {:>14}", "CPU time", "ms a frame", "share");
        for (stage, seconds) in &self.cpu {
            say!(
                "{stage:<24} {:>12.1} {:>12.0} %",
                1000.0 * seconds / frames,
                100.0 * seconds / total.max(1e-9)
            );
        }
        self.print_stats();
        say!(
            "\n{} frames in {:.1} s: {:.1} frames/s, start-up included; peak memory {:.0} MiB",
            self.frames,
            self.seconds,
            frames / self.seconds,
            self.peak_mib
        );
        for file in files {
            say!("wrote {}", file.display());
        }
    }
}

impl Finished {
    /// The element's own account: times of the latest batches, then the counts.
    fn print_stats(&self) {
        let milliseconds = |name: &str| self.stats.get::<u64>(name).map(|time| time as f64 / 1e6);
        say!("\n{:<24} {:>12} {:>14}", "time of a batch", "median ms", "95th % ms");
        for (name, _) in self.stats.iter() {
            let Some(stage) = name.strip_suffix("-p50") else { continue };
            if let (Ok(median), Ok(high)) = (milliseconds(name), milliseconds(&format!("{stage}-p95"))) {
                say!("{:<24} {median:>12.1} {high:>14.1}", stage.replace('-', " "));
            }
        }
        say!("\n{:<24} {:>12}", "count", "value");
        for (name, value) in self.stats.iter() {
            let text = match value.get::<f64>() {
                Ok(mean) => format!("{mean:.2}"),
                Err(_) => value.serialize().map(String::from).unwrap_or_default(),
            };
            if !name.ends_with("-p50") && !name.ends_with("-p95") {
                say!("{:<24} {text:>12}", name.replace('-', " "));
            }
        }
    }
}

/// CPU seconds of this process by stage. GStreamer names a streaming thread after its queue, and threads that
/// libtorch or a codec starts inherit the name of the thread that started them.
fn cpu_by_stage() -> Vec<(&'static str, f64)> {
    const STAGES: [(&str, &str); 6] = [
        ("gclip-model", "model"),
        ("segment", "attach"),
        ("decode", "hand over, copy"),
        ("draw", "draw"),
        ("encode", "encode"),
        ("json", "JSON"),
    ];
    let mut seconds = [0.0; STAGES.len() + 1];
    for (name, time) in usage::threads() {
        let stage = STAGES.iter().position(|(prefix, _)| name.starts_with(prefix)).unwrap_or(STAGES.len());
        seconds[stage] += time;
    }
    let names = STAGES.iter().map(|(_, stage)| *stage).chain(["decode, start-up"]);
    names.zip(seconds).filter(|(_, seconds)| *seconds > 0.0).collect()
}
