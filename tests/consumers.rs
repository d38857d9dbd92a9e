// SPDX-License-Identifier: MIT OR Apache-2.0
//! The examples, each in a process of its own: programs in Rust, C and Python read the masks with stock GStreamer, and
//! one carries the plugin inside. The masks of the first three come from `consumers/producer.rs`, a small plugin that
//! needs no model.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
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

/// What `examples/` and the producer build to, by name; built on first use.
static BUILT: LazyLock<HashMap<String, PathBuf>> = LazyLock::new(|| {
    let build = Command::new(env!("CARGO"))
        .args(["build", "--examples", "--message-format=json"])
        .args(if cfg!(feature = "v1_26") { &["--features=v1_26"][..] } else { &[] })
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let text = String::from_utf8(build.stdout).unwrap();
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let examples = messages.filter(|message| message["target"]["kind"][0] == "example");
    let built = examples.filter_map(|message| {
        let file = message["executable"].as_str().or(message["filenames"][0].as_str())?;
        Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(file)))
    });
    built.collect()
});

/// Folder that holds the producer plugin alone: GStreamer scans below the folder it is given.
static PLUGINS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = scratch().join("plugins");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(&BUILT["gsttestmasks"], folder.join("libgsttestmasks.so")).unwrap();
    folder
});

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// What a program prints that finds the producer.
fn printed_by(program: &mut Command) -> String {
    let output = program
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
    let program = scratch().join(Path::new(source).with_extension("").file_name().unwrap());
    let compile = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1"])
        .arg(Path::new(ROOT).join(source))
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(compile.status.success(), "{}", String::from_utf8_lossy(&compile.stderr));
    Some(printed_by(Command::new(program).arg(PIPELINE)))
}

#[test]
fn a_c_program_reads_the_masks() {
    if let Some(printed) = printed_by_c("examples/masks.c", &["gstreamer-1.0", "gstreamer-video-1.0"]) {
        assert_eq!(printed, EXPECTED.repeat(2));
    }
}

/// A Python with all that the examples and one namespace need.
fn python(namespace: &str) -> Option<Command> {
    let complete = |python: &&str| {
        let question = format!(
            "import gi, numpy; gi.require_version('{namespace}', '1.0'); from gi.repository import Gst; Gst.MapInfo.__iter__"
        );
        succeeds(Command::new(python).args(["-c", &question]))
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(complete).map(Command::new);
    if found.is_none() {
        eprintln!("skipped: no Python with python3-gst-1.0, python3-numpy and the namespace {namespace}");
    }
    found
}

#[test]
fn a_python_program_reads_the_masks() {
    let Some(mut python) = python("GstVideo") else { return };
    python.arg(Path::new(EXAMPLES).join("masks.py")).arg(PIPELINE);
    assert_eq!(printed_by(&mut python), EXPECTED.repeat(2));
}

/// The headers are there: the feature could not have been built without them.
#[cfg(feature = "v1_26")]
#[test]
fn a_c_program_reads_the_analytics_metadata() {
    let packages = ["gstreamer-analytics-1.0", "gstreamer-video-1.0"];
    let printed = printed_by_c("tests/consumers/analytics.c", &packages).unwrap();
    assert_eq!(printed, EXPECTED_ANALYTICS.repeat(2));
}

#[cfg(feature = "v1_26")]
#[test]
fn a_python_program_reads_the_analytics_metadata() {
    let Some(mut python) = python("GstAnalytics") else { return };
    python.arg(Path::new(ROOT).join("tests/consumers/analytics.py")).arg(PIPELINE);
    assert_eq!(printed_by(&mut python), EXPECTED_ANALYTICS.repeat(2));
}

/// Two views of one mask at the same time are the same memory, so neither is a copy.
#[test]
fn the_python_view_copies_nothing() {
    let Some(mut python) = python("GstVideo") else { return };
    let question = "\
import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True
from masks import Gst, mask_view, np
Gst.init(None)
pipeline = Gst.parse_launch(sys.argv[2])
pipeline.set_state(Gst.State.PLAYING)
buffer = pipeline.get_by_name('out').emit('pull-sample').get_buffer()
mask = buffer.get_custom_meta('GclipSegmentationMeta').get_structure().get_value('mask')
with mask_view(mask) as a, mask_view(mask) as b:
    print(np.shares_memory(a, b), a.tolist())
pipeline.set_state(Gst.State.NULL)
";
    python.args(["-c", question, EXAMPLES, PIPELINE]);
    assert_eq!(printed_by(&mut python), "True [[1, 1, 0, 0], [1, 1, 0, 300]]\n");
}

#[test]
fn a_rust_program_paints_the_masks() {
    let picture = scratch().join("painted.png");
    let printed = printed_by(Command::new(&BUILT["mask_image"]).arg(&picture).arg(PIPELINE));
    assert_eq!(printed.lines().count(), 2, "{printed}");
    let painted = image::open(&picture).unwrap().into_rgb8();
    assert_eq!(painted.dimensions(), (4, 2));
    let cat = *painted.get_pixel(0, 1);
    assert!(printed.starts_with(&format!("{:?} cat (0.500 of the frame)", cat.0)), "{printed}");
    let (sky, dog) = (*painted.get_pixel(3, 0), *painted.get_pixel(3, 1));
    assert_eq!(sky.0, [0; 3]);
    assert!(dog != sky && dog != cat, "{dog:?}");
}

#[test]
fn an_application_carries_the_plugin_inside() {
    let demo = Path::new(ROOT).join("models/demo");
    let mut program = Command::new(&BUILT["static_link"]);
    program.arg(demo.join("demo.mp4")).arg(&demo).arg("road; building; sky, clouds");
    let printed = printed_by(&mut program);
    for label in ["road: ", "building: ", "sky: ", "in the middle: "] {
        assert!(printed.contains(label), "{printed}");
    }
}
