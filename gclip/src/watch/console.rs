// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person sees on stderr: a log line when something happens and, on a terminal, a status line per camera
//! below. No secret passes.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::state::{CameraState, Phase};
use crate::progress;
use crate::redact::{self, Secrets};
use crate::say::complain;

pub struct Console {
    bars: MultiProgress,
    secrets: Secrets,
}

impl Console {
    pub fn new(secrets: Secrets) -> Console {
        Console { bars: MultiProgress::with_draw_target(progress::target()), secrets }
    }

    pub fn is_terminal(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// A text that somebody else has written, such as a library's error, without secrets.
    pub fn hide(&self, text: &str) -> String {
        self.secrets.hide(text)
    }

    /// `2026-11-24T06:10:00Z gate: connected`
    pub fn log(&self, who: &str, text: &str) {
        // Known secrets are taken out of foreign words only: a password may be a word of this program's too.
        let line = format!("{} {who}: {}", now("%Y-%m-%dT%H:%M:%SZ"), redact::urls(text));
        self.around(|| complain!("{line}"));
    }

    /// Takes the status lines away while something is written to the terminal.
    pub fn around<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bars.suspend(write)
    }
}

/// The wall clock in UTC, in a form of `strftime`.
pub fn now(form: &str) -> String {
    let now = glib::DateTime::now_utc().and_then(|now| now.format(form));
    now.map(String::from).unwrap_or_default()
}

/// One line per camera, at the bottom of the terminal.
pub struct StatusLines {
    lines: Vec<(ProgressBar, Rate)>,
}

/// Frames a second since the last look.
#[derive(Clone, Copy)]
struct Rate {
    at: Instant,
    frames: u64,
    per_second: f64,
}

impl StatusLines {
    pub fn new(console: &Console, cameras: &[std::sync::Arc<CameraState>]) -> Result<StatusLines> {
        let style = ProgressStyle::with_template("{wide_msg}")?;
        let start = Rate { at: Instant::now(), frames: 0, per_second: 0.0 };
        let line = |_| (console.bars.add(ProgressBar::no_length().with_style(style.clone())), start);
        Ok(StatusLines { lines: cameras.iter().map(line).collect() })
    }

    pub fn refresh(&mut self, cameras: &[std::sync::Arc<CameraState>]) {
        let longest = cameras.iter().map(|camera| camera.name.chars().count()).max().unwrap_or(0);
        for ((line, rate), camera) in self.lines.iter_mut().zip(cameras) {
            rate.update(camera.frames());
            line.set_message(status(camera, longest, rate.per_second));
            line.tick();
        }
    }

    pub fn clear(self, console: &Console) {
        // A terminal that is gone needs no clearing.
        let _ = console.bars.clear();
        console.bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

impl Rate {
    fn update(&mut self, frames: u64) {
        let passed = self.at.elapsed();
        if passed >= Duration::from_secs(2) {
            self.per_second = frames.saturating_sub(self.frames) as f64 / passed.as_secs_f64();
            (self.at, self.frames) = (Instant::now(), frames);
        }
    }
}

fn status(camera: &CameraState, width: usize, per_second: f64) -> String {
    let now = camera.now();
    let rest = match &now.phase {
        Phase::Connecting => "connecting".to_string(),
        Phase::Playing => {
            let (wide, high) = now.size;
            format!("{wide}x{high} {per_second:5.1}/s  {}", now.seen)
        }
        Phase::Waiting { until, why } => {
            let left = until.saturating_duration_since(Instant::now()).as_secs_f64();
            format!("down, next try in {left:.0} s: {why}")
        }
        Phase::Stopped => "stopped".to_string(),
    };
    format!("{:width$}  {rest}", camera.name)
}
