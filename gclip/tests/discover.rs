// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip cameras discover` against ONVIF devices of its own (`discover/device.rs`), by multicast on the loopback interface.

#[path = "discover/device.rs"]
mod device;

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use device::{Device, Manner, free_group};

/// `gclip cameras discover`, asking there.
fn discover(group: &str, rest: &[&str]) -> Output {
    let arguments = ["cameras", "discover", "--interface", "127.0.0.1", "--to", group];
    let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
    command.args(arguments).args(rest).env_remove("GCLIP_CAMERA_PASSWORD").output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The cameras as JSON, by their names.
fn cameras(output: &Output) -> Vec<Value> {
    let (stdout, _) = said(output);
    let mut all: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.sort_by_key(|camera| camera["name"].to_string());
    all
}

/// Long enough that an answer on a busy machine comes in time.
const USUAL: [&str; 2] = ["--timeout", "5"];
const LOGIN: [&str; 4] = ["--user", "me", "--password", "s3cret & more"];

#[test]
fn both_streams_are_printed_for_the_config() {
    let group = free_group();
    let device = Device::start(&group, Manner { name: "Front door", login: true, ..Manner::default() });
    let output = discover(&group, &[&USUAL[..], &LOGIN].concat());
    let (stdout, stderr) = said(&output);
    assert!(output.status.success(), "{stdout}{stderr}");
    let expected = format!(
        "\n# Front door (X-1) at http://127.0.0.1:{}/onvif/device_service\n[[camera]]\nname = \"Front-door\"\n\
         url = \"rtsp://me@127.0.0.1:554/stream?channel=1&subtype=1\"  # sub: H264 640x360, 15 frames/s\n\
         # url = \"rtsp://me@127.0.0.1:554/stream?channel=1&subtype=0\"  # main: H264 2560x1440, 25 frames/s\n",
        device.port
    );
    assert!(stdout.contains(&expected), "{stdout}");
    assert!(!stdout.contains("s3cret"), "{stdout}");
    // `gclip watch` takes what is printed: what it misses is the model.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    std::fs::write(&path, format!("model = '{}'\n{stdout}prompts = 'car'\n", folder.path().display()))
        .unwrap();
    let checked =
        Command::new(env!("CARGO_BIN_EXE_gclip")).args(["watch", "--check"]).arg(&path).output().unwrap();
    let (_, complaint) = said(&checked);
    assert!(complaint.contains("is no CLIP checkpoint"), "{complaint}");
}

#[test]
fn a_camera_that_answers_often_is_one_and_all_are_found() {
    let group = free_group();
    let mut one = Device::start(&group, Manner { name: "one", answers: 3, ..Manner::default() });
    let two = Device::start(&group, Manner { name: "two", ..Manner::default() });
    // Its clock is an hour behind: it takes tokens of its own time only.
    let behind = Manner { name: "three", login: true, behind: 3600, ..Manner::default() };
    let three = Device::start(&group, behind);
    let output = discover(&group, &[&USUAL[..], &LOGIN, &["--json"]].concat());
    let found = cameras(&output);
    assert_eq!(found.len(), 3, "{:?}", said(&output));
    for (camera, device) in found.iter().zip([&one, &three, &two]) {
        assert_eq!(camera["endpoint"], device.endpoint.as_str());
        let streams = camera["streams"].as_array().unwrap();
        let roles: Vec<_> =
            streams.iter().map(|stream| (stream["role"].as_str(), stream["width"].as_u64())).collect();
        assert_eq!(roles, [(Some("main"), Some(2560)), (Some("sub"), Some(640))]);
        assert_eq!(streams[1]["url"], "rtsp://127.0.0.1:554/stream?channel=1&subtype=1");
        assert_eq!((&streams[1]["encoding"], &streams[1]["fps"]), (&"H264".into(), &15.0.into()));
    }
    assert!(one.probes() >= 2, "UDP may lose a question");
    // One that is asked alone answers too.
    let output = discover(&format!("127.0.0.1:{}", one.udp), &[&USUAL[..], &["--json"]].concat());
    assert_eq!(cameras(&output).len(), 1);
}

#[test]
fn a_wrong_password_is_tried_once() {
    let group = free_group();
    let mut device = Device::start(&group, Manner { login: true, ..Manner::default() });
    let wrong = ["--user", "me", "--password", "wr0ng pass"];
    let output = discover(&group, &[&USUAL[..], &wrong].concat());
    let (stdout, stderr) = said(&output);
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("it refuses user or password"), "{stderr}");
    assert!(!(stdout.clone() + &stderr).contains("wr0ng"), "{stdout}{stderr}");
    assert_eq!(device.refusals(), 1);
    let output = discover(&group, &USUAL);
    assert!(said(&output).1.contains("it wants a user and password: give --user"), "{:?}", said(&output));
}

/// What is wrong with one camera is told, and keeps nobody from the others.
#[test]
fn cameras_that_misbehave_are_told_and_disturb_nobody() {
    let group = free_group();
    let _good = Device::start(&group, Manner { name: "good", ..Manner::default() });
    let cases = [
        ("silent", "it does not answer in time"),
        ("endless", "its answer is longer than 1024 KiB"),
        ("slow", "in time"),
        ("broken", "its answer is no XML"),
        ("bomb", "its answer is no XML"),
        ("500", "it answers 500"),
        ("fault", "it says no: the moon is full"),
        ("digest", "it wants HTTP digest authentication"),
        ("elsewhere", "it sends us elsewhere (302)"),
        ("empty", "it has no profile with video"),
        ("http", "not one of RTSP"),
    ];
    let _bad =
        cases.map(|(fault, _)| Device::start(&group, Manner { name: fault, fault, ..Manner::default() }));
    let start = Instant::now();
    let output = discover(&group, &["--timeout", "3", "--json"]);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let found = cameras(&output);
    let (_, stderr) = said(&output);
    assert_eq!(found.len(), cases.len() + 1, "{found:?}{stderr}");
    assert!(
        output.status.success() && stderr.contains("11 of 12 cameras have not told their streams"),
        "{stderr}"
    );
    for camera in found {
        let error = camera["error"].as_str().unwrap_or("none");
        match cases.iter().find(|(name, _)| camera["name"] == *name) {
            Some((_, expected)) => assert!(error.contains(expected), "{camera}"),
            None => assert_eq!(camera["streams"].as_array().map(Vec::len), Some(2), "{camera}"),
        }
    }
}

#[test]
fn nonsense_in_answer_to_the_question_is_passed_over() {
    let group = free_group();
    let mut device = Device::start(&group, Manner { nonsense: true, ..Manner::default() });
    let output = discover(&group, &["--timeout", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).1.contains("no camera has answered within 1 s"), "{:?}", said(&output));
    assert!(device.probes() > 0);
}

#[test]
fn nobody_answers_and_mistakes_are_told_in_a_sentence() {
    let (_, stderr) = said(&discover(&free_group(), &["--timeout", "0.2"]));
    assert!(stderr.contains("no camera has answered within 0.2 s"), "{stderr}");
    for (arguments, words) in [
        (&["--interface", "no-such"][..], "there is no interface no-such with an IPv4 address, only "),
        (&["--timeout", "0"], "it must be from 0.1 to 600 seconds"),
        (&["--user", "me"], "--user needs a password: in the variable GCLIP_CAMERA_PASSWORD, or --password"),
    ] {
        let output = discover(&free_group(), arguments);
        let (_, stderr) = said(&output);
        assert!(!output.status.success() && stderr.contains(words), "{arguments:?}: {stderr}");
    }
}
