// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a person sees on stderr: a log line when something happens and, on a terminal, a status line per camera
//! below. No secret passes.

use std::time::Instant;

use ::console::Term;
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::RwLock;

use super::state::{Phase, Status};
use crate::progress;
use crate::redact::{self, Secrets};
use crate::say::complain;

pub struct Console {
    bars: MultiProgress,
    secrets: RwLock<Secrets>,
}

impl Default for Console {
    fn default() -> Console {
        Console { bars: MultiProgress::with_draw_target(progress::target()), secrets: RwLock::default() }
    }
}

impl Console {
    /// These are not to be shown from now on.
    pub fn learn(&self, secrets: &Secrets) {
        self.secrets.write().add_all(secrets);
    }

    pub fn is_terminal(&self) -> bool {
        !self.bars.is_hidden()
    }

    /// A text that somebody else has written, such as a library's error, without secrets.
    pub fn hide(&self, text: &str) -> String {
        self.secrets.read().hide(text)
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
fn now(form: &str) -> String {
    let now = glib::DateTime::now_utc().and_then(|now| now.format(form));
    now.map(String::from).unwrap_or_default()
}

/// One line per camera, at the bottom of the terminal.
pub struct StatusLines {
    style: ProgressStyle,
    lines: Vec<ProgressBar>,
}

impl StatusLines {
    pub fn new() -> Result<StatusLines> {
        Ok(StatusLines { style: ProgressStyle::with_template("{wide_msg}")?, lines: vec![] })
    }

    pub fn refresh(&mut self, console: &Console, cameras: &[Status]) {
        // The terminal's last line stays free for the cursor.
        let room = usize::from(Term::stderr().size().0).saturating_sub(1);
        let texts = fitting(cameras, room);
        while self.lines.len() > texts.len()
            && let Some(line) = self.lines.pop()
        {
            console.bars.remove(&line);
        }
        while self.lines.len() < texts.len() {
            self.lines.push(console.bars.add(ProgressBar::no_length().with_style(self.style.clone())));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
            line.tick();
        }
    }

    pub fn clear(self, console: &Console) {
        // A terminal that is gone needs no clearing.
        let _ = console.bars.clear();
        console.bars.set_draw_target(ProgressDrawTarget::hidden());
    }
}

/// The lines of as many cameras as there is room for, those in trouble first when there is not enough, and how many
/// are left out.
fn fitting(cameras: &[Status], room: usize) -> Vec<String> {
    let longest = cameras.iter().map(|camera| camera.name.chars().count()).max().unwrap_or(0);
    if cameras.len() <= room {
        return cameras.iter().map(|camera| status(camera, longest)).collect();
    }
    let (up, down): (Vec<_>, Vec<_>) = cameras.iter().partition(|camera| camera.is_up());
    let shown = room.saturating_sub(1);
    let mut lines: Vec<String> =
        down.iter().chain(&up).take(shown).map(|camera| status(camera, longest)).collect();
    let left_out = cameras.len() - lines.len();
    let of_them = left_out - down.len().saturating_sub(lines.len()).min(left_out);
    if room > 0 {
        lines.push(format!("and {left_out} more cameras, {of_them} of them playing"));
    }
    lines
}

fn status(camera: &Status, width: usize) -> String {
    let rest = match &camera.phase {
        Phase::Connecting => "connecting".to_string(),
        Phase::Playing => {
            let (wide, high) = camera.size;
            let age = camera.mask_age.map(|age| format!(", {:.1} s old", age.as_secs_f64()));
            format!(
                "{wide}x{high} {:5.1}/s, masks {:4.1}/s{}  {}",
                camera.source_rate,
                camera.mask_rate,
                age.unwrap_or_default(),
                camera.seen
            )
        }
        Phase::Waiting { until, why } => {
            let left = until.saturating_duration_since(Instant::now()).as_secs_f64();
            format!("down, next try in {left:.0} s: {why}")
        }
        Phase::Stopped => "stopped".to_string(),
    };
    format!("{:width$}  {rest}", camera.name)
}

#[cfg(test)]
mod tests {
    use super::super::state::CameraState;
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_and_trouble_comes_first() {
        let states: Vec<_> = ["a", "b", "c", "d"].map(CameraState::new).into();
        for index in [0, 1, 3] {
            states[index].enter(Phase::Playing);
        }
        states[2].enter(Phase::Waiting { until: Instant::now(), why: "gone".into() });
        let cameras: Vec<Status> = states.iter().map(CameraState::status).collect();
        assert_eq!(fitting(&cameras, 4).len(), 4);
        let lines = fitting(&cameras, 3);
        assert!(
            lines[0].starts_with("c ") && lines[0].contains("gone") && lines[1].starts_with("a "),
            "{lines:?}"
        );
        assert_eq!(lines[2], "and 2 more cameras, 2 of them playing");
        assert_eq!(fitting(&cameras, 1), ["and 4 more cameras, 3 of them playing"]);
        assert!(fitting(&cameras, 0).is_empty());
    }
}
