// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip video` from end to end on the demo clip: what it writes, what it prints, what it says when it cannot.

use std::path::Path;
use std::process::{Command, Output};

fn gclip(folder: &Path, source: &str, arguments: &[&str]) -> Output {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let source = if source == "demo" { demo.join("demo.mp4").display().to_string() } else { source.into() };
    Command::new(env!("CARGO_BIN_EXE_gclip"))
        .arg("video")
        .arg(source)
        .args(["--prompts", "car; road; sky", "--set", "input-size=112", "--set", "prompt-template=none"])
        .args(["--set", "device=cpu", "--model"])
        .arg(demo)
        .arg("--out")
        .arg(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_leaves_a_video_a_picture_and_one_object_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let output = gclip(folder.path(), "demo", &["--seconds", "0.4"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // 25 frames a second.
    assert!(printed.contains("10 frames in"), "{printed}");
    for row in ["road", "model", "forward", "texts encoded"] {
        assert!(printed.lines().any(|line| line.starts_with(row)), "no row {row}: {printed}");
    }
    let json = std::fs::read_to_string(folder.path().join("video.jsonl")).unwrap();
    let frames: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames.len(), 10);
    assert!(frames.iter().all(|frame| frame["regions"].as_array().is_some_and(|all| !all.is_empty())));
    let picture = image::open(folder.path().join("video.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (854, 480));
    let video = std::fs::read(folder.path().join("video.mp4")).unwrap();
    assert_eq!(&video[4..8], b"ftyp");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing half-written is left");
}

#[test]
fn what_is_wrong_is_one_sentence_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let noise = folder.path().join("noise.mp4");
    std::fs::write(&noise, [7u8; 4096]).unwrap();
    let out = folder.path().join("out");
    let cases: [(&str, &[&str], &str); 5] = [
        ("no-such-file.mp4", &[], "no-such-file.mp4"),
        (noise.to_str().unwrap(), &[], "noise.mp4"),
        ("demo", &["--seconds=-1"], "--seconds -1"),
        ("demo", &["--set", "threshold=high"], "threshold"),
        ("rtsp://user:secret@127.0.0.1:9/stream", &[], "127.0.0.1:9"),
    ];
    for (source, arguments, named) in cases {
        let output = gclip(&out, source, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{source} {arguments:?}: {said}");
        assert!(said.contains(named), "{source} {arguments:?}: {said}");
        assert!(!said.contains("secret") && !said.contains("panicked"), "{said}");
        let left = std::fs::read_dir(&out).map(|entries| entries.count()).unwrap_or_default();
        assert_eq!(left, 0, "{source} {arguments:?} left something");
    }
}
