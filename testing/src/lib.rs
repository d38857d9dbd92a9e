// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests and benches of this repository share. Not published.
//!
//! * `fake`: a model whose every answer is known, and a harness around one `gclipsegment` that uses it
//! * `workshop`: the same on real checkpoints of random weights, which `tiny` writes
//! * `frames`, `scene`: frames with masks; `gclipoverlay` in a harness
//! * `playing`: pipelines that run to their end; a model that only takes time
//! * `dice`: chance that comes out the same for the same seed
//! * `rtsp`: an RTSP server; `browser`: a browser; `python`: other readers of our output
//! * `nats`: NATS servers; `s3`: an object store
//! * `usage`: what this process uses

pub mod browser;
pub mod dice;
pub mod fake;
pub mod frames;
pub mod nats;
pub mod playing;
pub mod python;
pub mod rtsp;
pub mod s3;
pub mod scene;
pub mod tiny;
pub mod workshop;

#[path = "../../gclip/src/usage.rs"]
pub mod usage;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's folder.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The folder of the demo model and its video.
pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo");

/// The plugin that was built with the running test, in the folder of the test programs.
pub fn plugin() -> PathBuf {
    // `cargo test` leaves the library beside its tests; what lies a folder higher is perhaps an older one.
    let library = std::env::current_exe().unwrap().with_file_name("libgstgclip.so");
    assert!(library.is_file(), "no {}", library.display());
    library
}

/// A folder of what is too large for the repository, which lies beside it or where `GCLIP_SHARED` says.
pub fn shared(folder: &str) -> PathBuf {
    let beside = Path::new(ROOT).join("../shared");
    std::env::var_os("GCLIP_SHARED").map_or(beside, PathBuf::from).join(folder)
}

/// A folder for what tests make, beside what cargo builds.
pub fn scratch() -> PathBuf {
    let folder = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("tmp");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A certificate for 127.0.0.1 that nobody but itself vouches for; returns its name and that of its key.
pub fn certificate(folder: &Path, name: &str) -> (String, String) {
    let file = |ending: &str| folder.join(format!("{name}.{ending}")).display().to_string();
    let (certificate, key) = (file("pem"), file("key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    (certificate, key)
}
