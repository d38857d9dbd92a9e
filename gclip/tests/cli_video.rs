// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip video` from end to end on the demo clip: what it writes, what it prints, what it says when it cannot.

use gclip_testing::rtsp;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn gclip(folder: &Path, source: &str, arguments: &[&str]) -> Output {
    command(folder, source, arguments).output().unwrap()
}

fn command(folder: &Path, source: &str, arguments: &[&str]) -> Command {
    let demo = Path::new(gclip_testing::DEMO);
    let source = if source == "demo" { demo.join("demo.mp4").display().to_string() } else { source.into() };
    let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
    command
        .arg("video")
        .arg(source)
        .args(["--prompts", "car; road; sky", "--set", "input-size=112", "--set", "prompt-template=none"])
        .args(["--set", "device=cpu", "--model"])
        .arg(demo)
        .arg("--out")
        .arg(folder)
        .args(arguments);
    command
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

/// A damaged table of the offsets between decoding and showing: frames come with equal and falling time stamps.
#[test]
fn frames_whose_time_stamps_do_not_rise_are_put_behind_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(gclip_testing::DEMO).join("demo.mp4");
    let mut file = std::fs::read(demo).unwrap();
    let table = file.windows(4).rposition(|word| word == b"ctts").expect("the demo video has B frames");
    // name, version and flags, number of entries, then (samples, offset) each; 32 bits all of them
    let offset_of_third = table + 12 + 2 * 8 + 4;
    file[offset_of_third..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
    let damaged = folder.path().join("damaged.mp4");
    std::fs::write(&damaged, file).unwrap();
    let out = folder.path().join("out");
    let output = gclip(&out, damaged.to_str().unwrap(), &["--seconds", "0.4"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("frames are missing or do not rise"), "{said}");
    let json = std::fs::read_to_string(out.join("video.jsonl")).unwrap();
    let times: Vec<u64> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["pts"].as_u64().unwrap())
        .collect();
    assert!(times.len() >= 8 && times.is_sorted_by(|before, after| before < after), "{times:?}");
    assert!(std::fs::metadata(out.join("video.mp4")).unwrap().len() > 1000);
}

#[test]
fn torn_packets_do_not_crash_it() {
    let Some(mut server) = rtsp::Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    server.say("damage gate 0.3");
    let folders = [(); 3].map(|_| tempfile::tempdir().unwrap());
    let runs = folders.each_ref().map(|folder| {
        let mut run = command(folder.path(), &server.url("gate"), &["--seconds", "4"]);
        run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for run in runs {
        let output = run.wait_with_output().unwrap();
        // A depayloader may give up on what is left.
        let said = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", output.status);
    }
}

#[test]
fn a_camera_that_says_nothing_is_left_at_the_first_signal() {
    let camera = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/gate", camera.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(folder.path(), &url, &[]);
    let run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let _connection = camera.accept().unwrap();
    let start = Instant::now();
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped before the first frame"), "{said}");
    // GStreamer would wait for an answer for 20 seconds.
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
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
