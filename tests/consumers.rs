// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs in C and Python read the masks with stock GStreamer, each in a process of its own.
//! The masks come from `consumers/producer.rs`, a small plugin that needs no model.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/consumers");
/// Through a converter and an encoder, as an application would.
const PIPELINE: &str = "videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=64,height=48 \
     ! testmasks ! queue ! videoconvertscale ! video/x-raw,format=RGB,width=32,height=24 ! appsink name=out sync=false";
const EXPECTED: &str = "version 1 generation 5 age 40000000 mask 4x2
  cat value 1 score 0.750 area 0.500 box 0.00,0.00 0.50x1.00 pixels 4
  犬 value 300 score 0.250 area 0.125 box 0.75,0.50 0.25x0.50 pixels 1
";
/// The same masks in the analytics metadata: the segmentation and the boxes are scaled with the frame.
#[cfg(feature = "v1_26")]
const EXPECTED_ANALYTICS: &str = "segmentation of 0,0 32x24 mask 4x2
  background value 0 level -1.000 pixels 3
  cat value 1 level 0.750 pixels 4
  犬 value 300 level 0.250 pixels 1
  cat box 0,0 16x24 level 0.750
  犬 box 24,12 8x12 level 0.250
";

/// Folder that holds the producer plugin alone, built on first use: GStreamer scans below the folder it is given.
static PLUGINS: LazyLock<PathBuf> = LazyLock::new(|| {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--example", "gsttestmasks", "--message-format=json"])
        .args(if cfg!(feature = "v1_26") { &["--features=v1_26"][..] } else { &[] })
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let library = String::from_utf8_lossy(&build.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["filenames"][0].as_str().map(PathBuf::from))
        .find(|file| file.ends_with("libgsttestmasks.so"))
        .unwrap();
    let folder = scratch().join("plugins");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(library, folder.join("libgsttestmasks.so")).unwrap();
    folder
});

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// What a consumer prints about the pipeline.
fn printed_by(mut consumer: Command) -> String {
    let output = consumer
        .arg(PIPELINE)
        .env("GST_PLUGIN_PATH", &*PLUGINS)
        .env("GST_REGISTRY", scratch().join("consumers-registry.bin"))
        .env("G_DEBUG", "fatal-criticals")
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// What a C program prints about the pipeline; `None`, with a word, where it cannot be compiled.
fn printed_by_c(source: &str, packages: &[&str]) -> Option<String> {
    if !succeeds(Command::new("pkg-config").arg("--exists").args(packages))
        || !succeeds(Command::new("cc").arg("--version"))
    {
        eprintln!("skipped: no C compiler, or no headers of {packages:?}");
        return None;
    }
    let flags = Command::new("pkg-config").args(["--cflags", "--libs"]).args(packages).output().unwrap();
    let program = scratch().join(source).with_extension("");
    let compile = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1"])
        .arg(Path::new(HERE).join(source))
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(compile.status.success(), "{}", String::from_utf8_lossy(&compile.stderr));
    Some(printed_by(Command::new(program)))
}

/// What a Python program prints about the pipeline; `None`, with a word, where a namespace is missing.
fn printed_by_python(source: &str, namespace: &str) -> Option<String> {
    let has_gi = |python: &&str| {
        let question = format!("import gi; gi.require_version('{namespace}', '1.0')");
        succeeds(Command::new(python).args(["-c", &question]))
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(has_gi) else {
        eprintln!("skipped: no Python with python3-gi and {namespace}");
        return None;
    };
    let mut consumer = Command::new(python);
    consumer.arg(Path::new(HERE).join(source));
    Some(printed_by(consumer))
}

#[test]
fn a_c_program_reads_the_masks() {
    if let Some(printed) = printed_by_c("consumer.c", &["gstreamer-1.0", "gstreamer-video-1.0"]) {
        assert_eq!(printed, EXPECTED.repeat(2));
    }
}

#[test]
fn a_python_program_reads_the_masks() {
    if let Some(printed) = printed_by_python("consumer.py", "GstVideo") {
        assert_eq!(printed, EXPECTED.repeat(2));
    }
}

/// The headers are there: the feature could not have been built without them.
#[cfg(feature = "v1_26")]
#[test]
fn a_c_program_reads_the_analytics_metadata() {
    let packages = ["gstreamer-analytics-1.0", "gstreamer-video-1.0"];
    assert_eq!(printed_by_c("analytics.c", &packages).unwrap(), EXPECTED_ANALYTICS.repeat(2));
}

#[cfg(feature = "v1_26")]
#[test]
fn a_python_program_reads_the_analytics_metadata() {
    if let Some(printed) = printed_by_python("analytics.py", "GstAnalytics") {
        assert_eq!(printed, EXPECTED_ANALYTICS.repeat(2));
    }
}
