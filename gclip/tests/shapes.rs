// SPDX-License-Identifier: MIT OR Apache-2.0
//! Videos that are stored otherwise than they are shown, and videos of shapes that H.264 does not have everywhere: through
//! `gclip video` and `gclip eval --video`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gst::prelude::*;

/// Plays a pipeline to its end.
fn play(description: &str) {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos, "{description}");
}

/// A second of the demo video as an MP4, through some elements.
fn clip(folder: &Path, name: &str, through: &str) -> PathBuf {
    let path = folder.join(name);
    play(&format!(
        "filesrc location={}/demo.mp4 ! qtdemux ! h264parse ! avdec_h264 ! identity eos-after=4 ! videoconvert {through} \
         ! video/x-raw,format=I420 ! x264enc bitrate=8000 ! h264parse ! mp4mux ! filesink location={}",
        gclip_testing::DEMO,
        path.display()
    ));
    path
}

/// Writes a display matrix (ISO/IEC 14496-12, the track header's; a b c d of 16.16) into an MP4.
fn set_matrix(path: &Path, [a, b, c, d]: [i32; 4]) {
    let mut bytes = std::fs::read(path).unwrap();
    let header = bytes.windows(4).position(|four| four == b"tkhd").unwrap() + 4;
    // Behind version and flags, times, track and duration (version 0), layer, group and volume.
    let matrix = header + 40;
    let one = 1 << 16;
    let values = [a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30];
    let stored: Vec<u8> = values.iter().flat_map(|value: &i32| value.to_be_bytes()).collect();
    bytes[matrix..matrix + 36].copy_from_slice(&stored);
    std::fs::write(path, bytes).unwrap();
}

fn video(folder: &Path, source: &Path, name: &str) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .arg("video")
        .arg(source)
        .args(["--set", "input-size=112", "--set", "prompt-template=none", "--set", "device=cpu"])
        .args(["--prompts", "car; road; sky; tree; building", "--model", gclip_testing::DEMO, "--out"])
        .arg(folder)
        .args(["--name", name])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Size and shares of the first frame.
fn shown(folder: &Path, name: &str) -> ((u64, u64), BTreeMap<String, f64>) {
    let json = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).unwrap();
    let frame: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let share = |region: &serde_json::Value| {
        (region["label"].as_str().unwrap().to_owned(), region["area"].as_f64().unwrap())
    };
    let size = (frame["width"].as_u64().unwrap(), frame["height"].as_u64().unwrap());
    (size, frame["regions"].as_array().unwrap().iter().map(share).collect())
}

/// Size and H.264 profile of an MP4.
fn kind(path: &Path) -> (i32, i32, String) {
    gst::init().unwrap();
    let description =
        format!("filesrc location={} ! qtdemux ! h264parse ! fakesink name=out", path.display());
    let pipeline = gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    pipeline.state(gst::ClockTime::from_seconds(20)).0.unwrap();
    let caps = pipeline.by_name("out").unwrap().static_pad("sink").unwrap().current_caps().unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
    let caps = caps.structure(0).unwrap();
    (caps.get("width").unwrap(), caps.get("height").unwrap(), caps.get("profile").unwrap())
}

#[test]
fn a_video_is_segmented_and_written_as_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let upright = clip(folder, "upright.mp4", "");
    video(folder, &upright, "upright-out");
    let (size, expected) = shown(folder, "upright-out");
    assert_eq!(size, (854, 480));
    // How it is stored, and the matrix that makes it upright again.
    for (name, stored, matrix) in [
        ("quarter", "! videoflip video-direction=90l", [0, 1, -1, 0]),
        ("half", "! videoflip video-direction=180", [-1, 0, 0, -1]),
        ("three-quarters", "! videoflip video-direction=90r", [0, -1, 1, 0]),
    ] {
        let path = clip(folder, &format!("{name}.mp4"), stored);
        set_matrix(&path, matrix);
        video(folder, &path, "out");
        let (size, found) = shown(folder, "out");
        assert_eq!(size, (854, 480), "{name}");
        let all: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        let share = |shares: &BTreeMap<String, f64>, label: &str| shares.get(label).copied().unwrap_or(0.0);
        let moved: f64 =
            all.iter().map(|label| (share(&expected, label) - share(&found, label)).abs()).sum::<f64>() / 2.0;
        assert!(moved < 0.06, "{name}: {moved} of the picture in another class");
        let (width, height, _) = kind(&folder.join("out.mp4"));
        assert_eq!((width, height), (854, 480), "{name}");
        let picture = image::open(folder.join("out.png")).unwrap();
        assert_eq!((picture.width(), picture.height()), (854, 480), "{name}");
    }
}

/// Each frame of the clip lies on its side for `eval --video` too, unless it is turned: its labels are those of what is shown.
#[test]
fn eval_looks_at_a_video_as_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = clip(folder, "quarter.mp4", "! videoflip video-direction=90l");
    set_matrix(&path, [0, 1, -1, 0]);
    let labels = folder.join("labels");
    std::fs::create_dir(&labels).unwrap();
    for number in 0..3 {
        image::GrayImage::new(854, 480).save(labels.join(format!("{number}.png"))).unwrap();
    }
    std::fs::write(folder.join("classes.txt"), "road\nsky\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .args(["eval", "--video"])
        .arg(&path)
        .arg("--labels")
        .arg(&labels)
        .arg("--prompts-file")
        .arg(folder.join("classes.txt"))
        .args(["--model", gclip_testing::DEMO, "--template", "none", "--size", "112", "--device", "cpu"])
        .args(["--limit", "3"])
        .output()
        .unwrap();
    // Labels of another size than the frames are an error.
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_video_becomes_one_that_every_player_takes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (format, (width, height)) in [
        ("Y42B", (160, 96)),
        ("Y444", (160, 96)),
        ("GRAY8", (161, 97)),
        ("BGRA", (99, 64)),
        ("I420", (64, 33)),
    ] {
        let path = folder.join("in.mkv");
        play(&format!(
            "videotestsrc num-buffers=3 ! video/x-raw,format={format},width={width},height={height},framerate=10/1 \
             ! avenc_ffv1 ! matroskamux ! filesink location={}",
            path.display()
        ));
        video(folder, &path, "out");
        let (shown_width, shown_height, profile) = kind(&folder.join("out.mp4"));
        assert_eq!((shown_width, shown_height), (width & !1, height & !1), "{format}");
        assert!(
            ["high", "main", "constrained-baseline", "baseline"].contains(&profile.as_str()),
            "{profile}"
        );
        assert_eq!(
            shown(folder, "out").0,
            (width as u64, height as u64),
            "{format}: masks are of the whole frame"
        );
    }
}
