// SPDX-License-Identifier: MIT OR Apache-2.0
//! One `gclip watch` in a process of its own, and what it writes.

use gclip_testing::tiny;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// For anything that has to happen, on a machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a checkpoint `model` of random weights, made once.
static CHECKPOINT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(&folder.path().join("model"), true);
    folder
});

/// A config with this model, quick to retry, on which the test puts its cameras and outputs.
pub fn config(rest: &str) -> String {
    format!(
        "model = '{}'\n{rest}\n[segment]\ndevice = 'cpu'\nprecision = 'f32'\nprompt-template = 'none'\n\
         [defaults]\nprompts = 'cat; dog; tree'\nlatency = 50\ntimeout = 3\nretry-min = 0.1\nretry-max = 0.4\n",
        CHECKPOINT.path().join("model").display()
    )
}

pub fn camera(name: &str, url: &str, rest: &str) -> String {
    format!("[[camera]]\nname = '{name}'\nurl = '{url}'\n{rest}\n")
}

pub struct Watch {
    pub folder: tempfile::TempDir,
    process: Child,
    lines: Receiver<String>,
    /// Every line of stdout so far, as it came.
    pub seen: Vec<String>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Watch {
    pub fn start(config: &str) -> Watch {
        Watch::start_with(config, &[])
    }

    pub fn start_with(config: &str, environment: &[(&str, &str)]) -> Watch {
        Watch::start_as(config, |command| command.envs(environment.iter().copied()).spawn())
    }

    /// In a network namespace.
    pub fn start_in(network: &str, config: &str) -> Watch {
        Watch::start_as(config, |command| {
            let mut inside = Command::new("ip");
            inside.args(["netns", "exec", network]).arg(command.get_program()).args(command.get_args());
            inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            inside.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        })
    }

    fn start_as(config: &str, spawn: impl FnOnce(&mut Command) -> std::io::Result<Child>) -> Watch {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cameras.toml"), config).unwrap();
        let mut command = command(&folder.path().join("cameras.toml"));
        let mut process = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped())).unwrap();
        let (sender, lines) = mpsc::channel();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let of_stdout = std::thread::spawn(move || {
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|length| length > 0) {
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let (text, mut from) = (stderr.clone(), process.stderr.take().unwrap());
        let of_stderr = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Watch { folder, process, lines, seen: vec![], stderr, readers: vec![of_stdout, of_stderr] }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a line of stdout of which this is true.
    #[track_caller]
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                let last: Vec<_> = self.seen.iter().rev().take(3).collect();
                panic!("waited in vain: {what}; last lines {last:?}\n{}", self.stderr());
            };
            let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            self.seen.push(line);
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Waits for a line about whether a camera is there.
    #[track_caller]
    pub fn until_camera(&mut self, name: &str, state: &str) -> Value {
        let wanted =
            |line: &Value| line["type"] == "camera" && line["camera"] == name && line["state"] == state;
        self.until(&format!("{name} is {state}"), wanted)
    }

    /// Waits until each of these cameras has become so, in whichever order.
    #[track_caller]
    pub fn until_cameras(&mut self, names: &[&str], state: &str) -> Vec<Value> {
        let mut missing = names.to_vec();
        let mut lines = vec![];
        while !missing.is_empty() {
            let line = self.until(&format!("{missing:?} are {state}"), |line| {
                line["type"] == "camera"
                    && line["state"] == state
                    && missing.iter().any(|name| line["camera"] == *name)
            });
            missing.retain(|name| line["camera"] != *name);
            lines.push(line);
        }
        lines
    }

    /// Waits for this many frames of a camera, and returns the last.
    #[track_caller]
    pub fn until_frames(&mut self, name: &str, count: usize) -> Value {
        let wanted = |line: &Value| line["type"] == "frame" && line["camera"] == name;
        let mut frame = Value::Null;
        for _ in 0..count {
            frame = self.until(&format!("a frame of {name}"), wanted);
        }
        frame
    }

    /// All lines of stdout that have come so far.
    pub fn lines_so_far(&mut self) -> &[String] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Waits until the log says something.
    #[track_caller]
    pub fn until_log(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.stderr().contains(words) {
            assert!(Instant::now() < deadline, "no `{words}` in: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the program and of what it writes.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        self.seen.extend(self.lines.try_iter());
        status
    }

    /// The first SIGTERM ends it properly, with whole lines only.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal("TERM");
        let status = self.end();
        assert_eq!(status.code(), Some(0), "{status}: {}", self.stderr());
        for line in &self.seen {
            assert!(
                line.ends_with('\n') && serde_json::from_str::<Value>(line).is_ok(),
                "half a line: {line}"
            );
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `gclip watch FILE`, beside other tests: with few threads and a text cache of its own.
pub fn command(config: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
    command.arg("watch").arg(config);
    command.env("OMP_NUM_THREADS", "1").env("XDG_CACHE_HOME", CHECKPOINT.path().join("cache"));
    command
}
