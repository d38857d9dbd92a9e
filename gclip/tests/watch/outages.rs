// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cameras that go away and come back.

use std::time::{Duration, Instant};

use super::harness::{Watch, camera, config};
use gclip_testing::rtsp::{Server, free_port};

const ALL: &str = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n";

#[test]
fn a_camera_drops_stalls_and_changes_its_size() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let gate = camera("gate", &server.url("gate"), "");
    let mut watch = Watch::start(&(config("") + ALL + &gate));
    watch.until_camera("gate", "connected");
    let frame = watch.until_frames("gate", 3);
    assert_eq!((&frame["width"], &frame["height"]), (&160.into(), &90.into()));
    let region = &frame["regions"][0];
    assert!(["cat", "dog", "tree"].iter().any(|label| region["label"] == *label), "{frame}");
    assert!(region["area"].as_f64().is_some_and(|area| area > 0.0) && region["w"].is_number(), "{frame}");
    let time = frame["time"].as_str().unwrap();
    assert!(time.len() == "2026-11-24T06:10:00.123456Z".len() && time.ends_with('Z'), "{time}");

    server.say("drop gate");
    let lost = watch.until_camera("gate", "lost");
    assert!(lost["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{lost}");
    watch.until_camera("gate", "connected");
    watch.until_frames("gate", 3);

    server.say("stall gate");
    let lost = watch.until_camera("gate", "lost");
    assert!(lost["reason"].as_str().unwrap().contains("no picture for 3 s"), "{lost}");
    server.say("resume gate");
    watch.until_camera("gate", "connected");
    watch.until_frames("gate", 3);

    server.serve("gate", (320, 180), 15);
    server.say("drop gate");
    watch.until_camera("gate", "lost");
    let frame = watch.until_frames("gate", 1);
    assert_eq!((&frame["width"], &frame["height"]), (&320.into(), &180.into()));
    watch.stop();
}

#[test]
fn one_camera_in_trouble_does_not_disturb_the_others() {
    let Some(mut server) = Server::start() else { return };
    for name in ["good", "torn", "stuck"] {
        server.serve(name, (160, 90), 15);
    }
    server.say("damage torn 0.3");
    server.say("stall stuck");
    let late = free_port();
    let cameras = [
        camera("good", &server.url("good"), ""),
        camera("torn", &server.url("torn"), ""),
        camera("stuck", &server.url("stuck"), ""),
        camera("missing", &server.url("missing"), ""),
        camera("late", &format!("rtsp://127.0.0.1:{late}/late"), ""),
    ];
    let mut watch = Watch::start(&(config("") + ALL + &cameras.concat()));
    for lost in watch.until_cameras(&["stuck", "missing", "late"], "lost") {
        let words = match lost["camera"].as_str().unwrap() {
            "stuck" => "does not answer",
            "missing" => "is not there (404)",
            _ => "Connection refused",
        };
        // A stalled camera may also be given up by the clock.
        let reason = lost["reason"].as_str().unwrap();
        assert!(
            reason.contains(words) || lost["camera"] == "stuck" && reason.contains("no picture"),
            "{lost}"
        );
    }
    watch.until_frames("good", 1);
    let (start, mut longest, mut last) = (Instant::now(), Duration::ZERO, Instant::now());
    while start.elapsed() < Duration::from_secs(5) {
        watch.until_frames("good", 1);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    assert!(longest < Duration::from_secs(2), "the good camera was held up for {longest:?}");

    server.say("damage torn 0");
    server.say("resume stuck");
    let Some(mut other) = Server::start_on(late, None) else { return };
    other.serve("late", (160, 90), 15);
    for name in ["late", "torn", "stuck"] {
        watch.until_frames(name, 5);
    }
    let lost =
        watch.seen.iter().filter(|line| line.contains("\"lost\"") && line.contains("\"missing\"")).count();
    assert_eq!(lost, 1, "an outage is told once");
    watch.stop();
}

#[test]
fn a_camera_has_its_own_prompts_size_and_rate() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (320, 180), 20);
    let small = camera(
        "small",
        &server.url("gate"),
        "width = 96\nfps = 5\nprompts = 'sky; road'\nzones = 'all=0,0 1,0 1,1 0,1'\nmasks = 'polygon'",
    );
    let plain = camera("plain", &server.url("gate"), "");
    let mut watch = Watch::start(&(config("") + ALL + &small + &plain));
    let labels = |frame: &serde_json::Value| -> Vec<String> {
        let regions = frame["regions"].as_array().unwrap();
        regions.iter().map(|region| region["label"].as_str().unwrap().to_string()).collect()
    };
    let first = watch.until_frames("small", 1);
    assert_eq!((&first["width"], &first["height"]), (&96.into(), &54.into()));
    assert!(labels(&first).iter().all(|label| label == "sky" || label == "road"), "{first}");
    assert_eq!(first["regions"][0]["mask"]["type"], "polygon", "{first}");
    let last = watch.until_frames("small", 10);
    let seconds = (last["pts"].as_f64().unwrap() - first["pts"].as_f64().unwrap()) / 1e9;
    assert!(seconds > 1.6, "10 frames at 5/s took {seconds} s");
    let frame = watch.until_frames("plain", 1);
    assert_eq!(frame["width"], 320);
    assert!(labels(&frame).iter().all(|label| label != "sky"), "{frame}");

    // A picture of random weights is full of something, and so is a zone that is the whole picture.
    let entered: Vec<serde_json::Value> =
        watch.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let zones: Vec<_> = entered
        .iter()
        .filter(|line| line["type"] == "presence" && line["camera"] == "small" && line["state"] == "entered")
        .map(|line| line["zone"].clone())
        .collect();
    assert!(zones.contains(&"all".into()) && zones.contains(&serde_json::Value::Null), "{zones:?}");
    watch.stop();
}
