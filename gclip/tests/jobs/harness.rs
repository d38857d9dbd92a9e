// SPDX-License-Identifier: MIT OR Apache-2.0
//! An archive, a queue and programs that work on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gclip_testing::nats::Nats;
use gclip_testing::tiny;
use gst::prelude::*;
use serde_json::Value;

/// For anything that has to happen, on a machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub const FRAMES: usize = 100;

/// A folder with a checkpoint `model` of random weights and a small video, made once.
static CHECKPOINT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(&folder.path().join("model"), true);
    gst::init().unwrap();
    let place = folder.path().join("video.mp4");
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1 \
         ! x264enc speed-preset=ultrafast ! h264parse ! mp4mux ! filesink location={}",
        place.display()
    ));
    let pipeline = pipeline.unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &end).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
    pipeline.set_state(gst::State::Null).unwrap();
    folder
});

pub fn tiny_model() -> String {
    CHECKPOINT.path().join("model").display().to_string()
}

/// Files that are looked at in `files`, results in `out`.
pub struct Archive {
    pub folder: tempfile::TempDir,
}

impl Archive {
    pub fn new() -> Archive {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("files")).unwrap();
        Archive { folder }
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// A small picture, of another colour for another number.
    pub fn picture(&self, name: &str, number: u8) -> PathBuf {
        let path = self.place(name);
        let pixel = |x: u32, y: u32| image::Rgb([number.wrapping_mul(37), (x * 4) as u8, (y * 4) as u8]);
        image::RgbImage::from_fn(48, 40, pixel).save(&path).unwrap();
        path
    }

    /// A small video of [`FRAMES`] frames.
    pub fn video(&self, name: &str) -> PathBuf {
        let path = self.place(name);
        std::fs::copy(CHECKPOINT.path().join("video.mp4"), &path).unwrap();
        path
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.place(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn place(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join("files").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// `gclip jobs` with a command that takes files: all of them, looked at by the tiny model.
    pub fn hand_in(&self, command: &str, more: &[&str]) -> Command {
        self.hand_in_of(command, &[self.folder.path().join("files")], &self.out().display().to_string(), more)
    }

    pub fn hand_in_of(&self, command: &str, files: &[PathBuf], out: &str, more: &[&str]) -> Command {
        let mut gclip = gclip(&[command]);
        gclip.args(files).args(["--model", &tiny_model(), "--prompts", "cat; dog", "--out", out]);
        gclip.args(["--set", "device=cpu", "--set", "precision=f32", "--set", "prompt-template=none"]);
        gclip.args(more);
        gclip
    }

    /// Names of all results, without their hashes; there is nothing else there.
    pub fn results(&self) -> Vec<String> {
        let mut names: Vec<String> = files_below(&self.out())
            .into_iter()
            .filter(|name| name != ".gclip-jobs.jsonl")
            .map(|name| {
                let (start, end) = name.rsplit_once('-').unwrap_or_else(|| panic!("{name} has no hash"));
                format!("{start}{}", &end[12..])
            })
            .collect();
        names.sort();
        names
    }

    /// The lines of the result with this start of its name.
    pub fn lines(&self, start: &str) -> Vec<Value> {
        let name = files_below(&self.out())
            .into_iter()
            .find(|name| name.starts_with(start) && name.ends_with(".jsonl"))
            .unwrap_or_else(|| panic!("no result of {start}"));
        let text = std::fs::read_to_string(self.out().join(name)).unwrap();
        assert!(text.ends_with('\n'), "{start} is not whole");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Names of all files in a folder, relative to it.
pub fn files_below(folder: &Path) -> Vec<String> {
    let (mut names, mut open) = (vec![], vec![folder.to_path_buf()]);
    while let Some(inner) = open.pop() {
        for entry in std::fs::read_dir(&inner).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => names.push(path.strip_prefix(folder).unwrap().display().to_string()),
            }
        }
    }
    names.sort();
    names
}

pub fn gclip(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
    command.arg("jobs").args(arguments).env_remove("GCLIP_NATS").stdin(Stdio::null());
    command
}

/// Output of a command that has to succeed.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that has to fail: one line.
pub fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} does not fail");
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("gclip: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0].to_string()
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What `gclip jobs status --json` tells.
pub fn status(server: &str) -> Value {
    serde_json::from_str(&succeed(gclip(&["status", "--json"]).env("GCLIP_NATS", server))).unwrap()
}

pub fn count(server: &str, what: &str) -> u64 {
    status(server)[what].as_u64().unwrap()
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A `gclip jobs work` that is ended with the test.
pub struct Worker(pub Child);

impl Worker {
    pub fn start(server: &str, more: &[&str]) -> Worker {
        let mut command = gclip(&["work"]);
        command.args(more).env("GCLIP_NATS", server).stdout(Stdio::piped()).stderr(Stdio::piped());
        Worker(command.spawn().unwrap())
    }

    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for its end; what it said on stdout and stderr.
    pub fn end(mut self) -> (ExitStatus, String, String) {
        until("a worker ends", || self.0.try_wait().unwrap().is_some());
        let read = |from: &mut dyn std::io::Read| {
            let mut text = String::new();
            from.read_to_string(&mut text).unwrap();
            text
        };
        let out = read(self.0.stdout.as_mut().unwrap());
        let err = read(self.0.stderr.as_mut().unwrap());
        (self.0.wait().unwrap(), out, err)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Hands an archive in, with workers taken for gone after a second.
pub fn submit(archive: &Archive, nats: &Nats, more: &[&str]) -> String {
    let mut command = archive.hand_in("submit", &["--patience", "1"]);
    succeed(command.args(more).env("GCLIP_NATS", nats.url()))
}
