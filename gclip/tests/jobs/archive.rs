// SPDX-License-Identifier: MIT OR Apache-2.0
//! Archives that are handed in and looked at.

use std::process::Command;

use gclip_testing::nats::Nats;
use serde_json::Value;

use super::harness::{Archive, Worker, count, fail, gclip, status, submit, succeed, tiny_model, until};

#[test]
fn every_file_has_its_result_once_whichever_worker_does_it() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    for number in 0..8 {
        archive.picture(&format!("{}/same.png", number), number);
    }
    let picture = archive.picture("one.jpg", 9);
    let demo = std::fs::read(format!("{}/demo.mp4", gclip_testing::DEMO)).unwrap();
    archive.write("clip.mp4", &demo);
    archive.write("bad.mp4", b"this is no video");
    archive.write("torn.png", &[0x89, b'P', b'N', b'G', 1, 2, 3]);
    for (whole, cut_off) in [("0/same.png", "cut_off.png"), ("one.jpg", "cut_off.jpg")] {
        let bytes = std::fs::read(archive.folder.path().join("files").join(whole)).unwrap();
        archive.write(cut_off, &bytes[..bytes.len() / 2]);
    }
    archive.write("cut_off.mp4", &demo[..demo.len() / 2]);
    archive.write("empty.mp4", b"");
    archive.write("notes.txt", b"not looked at");
    assert!(submit(&archive, &nats, &["--set", "input-size=32"]).starts_with("16 files handed in"));
    let again = submit(&archive, &nats, &["--set", "input-size=32"]);
    assert!(again.starts_with("0 files handed in\n16 were there already"), "{again}");

    let workers = [1, 2]
        .map(|at_once: u8| Worker::start(&nats.url(), &["--until-empty", "--at-once", &at_once.to_string()]));
    let ends = workers.map(Worker::end);
    assert!(ends.iter().all(|(status, ..)| status.success()), "{ends:?}");
    let told: Vec<&str> = ends.iter().flat_map(|(_, out, _)| out.lines()).collect();
    assert_eq!(told.len(), 11, "each is told once: {told:?}");

    let now = status(&nats.url());
    assert_eq!([&now["waiting"], &now["running"], &now["done"], &now["set_aside"]], [0, 0, 11, 5]);
    let mut aside: Vec<(String, String)> = now["set_aside_files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (file["source"].as_str().unwrap().into(), file["why"].as_str().unwrap().into()))
        .collect();
    aside.sort();
    let names: Vec<&str> = aside.iter().map(|(source, _)| source.rsplit_once('/').unwrap().1).collect();
    assert_eq!(names, ["bad.mp4", "cut_off.jpg", "cut_off.png", "empty.mp4", "torn.png"]);
    assert_eq!(aside[0].1, "it holds no video that can be decoded");
    assert!(aside.iter().all(|(_, why)| !why.is_empty() && !why.contains('\n')), "{aside:?}");

    let mut expected: Vec<String> = (0..8).map(|number| format!("{number}/same.png.jsonl")).collect();
    expected.extend(["clip.mp4.jsonl".into(), "cut_off.mp4.jsonl".into(), "one.jpg.jsonl".into()]);
    assert_eq!(archive.results(), expected);
    assert!((1..250).contains(&archive.lines("cut_off.mp4").len()), "what is there of it");
    let frames = archive.lines("clip.mp4");
    assert_eq!(frames.len(), 250, "of the demo video");
    assert!(frames.iter().all(|frame| frame["regions"][0]["mask"]["counts"].is_string()));

    // The same as by the command for pictures.
    let mut segment = Command::new(env!("CARGO_BIN_EXE_gclip"));
    segment.arg("segment").arg(&picture).args(["--model", &tiny_model(), "--prompts", "cat; dog"]);
    segment.args(["--device", "cpu", "--precision", "f32", "--template", "none", "--size", "32"]);
    let alone: Value = serde_json::from_str(&succeed(segment.args(["--json", "-", "--rle"]))).unwrap();
    let lines = archive.lines("one.jpg");
    assert_eq!(lines.len(), 1);
    for key in ["picture", "width", "height", "prompts", "model", "method", "regions"] {
        assert_eq!(lines[0][key], alone[key], "{key}");
    }

    // Once more, from the beginning.
    let mut again =
        archive.hand_in_of("submit", &[picture], &archive.out().display().to_string(), &["--again"]);
    again.args(["--set", "input-size=32"]);
    assert_eq!(succeed(again.env("GCLIP_NATS", nats.url())), "1 file handed in\n");
    let (ended, out, _) = Worker::start(&nats.url(), &["--until-empty"]).end();
    assert!(ended.success() && out.lines().count() == 1, "{out}");
    let now = status(&nats.url());
    assert_eq!([&now["waiting"], &now["done"], &now["set_aside"]], [0, 11, 5]);
}

#[test]
fn what_is_wanted_first_is_done_first() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    for (index, priority) in ["low", "normal", "high"].into_iter().enumerate() {
        let files: Vec<_> =
            (0..3).map(|number| archive.picture(&format!("{priority}{number}.png"), index as u8)).collect();
        let out = archive.out().display().to_string();
        let mut command = archive.hand_in_of("submit", &files, &out, &["--priority", priority]);
        succeed(command.env("GCLIP_NATS", nats.url()));
    }
    let (_, out, _) = Worker::start(&nats.url(), &["--until-empty"]).end();
    let order: Vec<&str> = out
        .lines()
        .map(|line| line.rsplit_once('/').unwrap().1.split(char::is_numeric).next().unwrap())
        .collect();
    assert_eq!(order, [["high"; 3], ["normal"; 3], ["low"; 3]].concat(), "{out}");
}

#[test]
fn what_is_cancelled_is_not_done_or_stopped() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    let video = archive.video("long.mp4");
    let waiting = archive.picture("waiting.png", 1);
    archive.picture("wanted.png", 2);
    let cancel = |what: &str| succeed(gclip(&["cancel", what]).env("GCLIP_NATS", nats.url()));
    let files = [video.clone(), waiting.clone()];
    let slow = ["--set", "input-size=896", "--patience", "1"];
    let out = archive.out().display().to_string();
    succeed(archive.hand_in_of("submit", &files, &out, &slow).env("GCLIP_NATS", nats.url()));
    let worker = Worker::start(&nats.url(), &[]);
    until("the video is begun", || !super::workers::parts(&archive).is_empty());
    assert_eq!(cancel(&waiting.display().to_string()), "1 file cancelled\n");
    assert_eq!(cancel(&video.display().to_string()), "1 file cancelled\n");
    until("the video is stopped", || super::workers::parts(&archive).is_empty());
    succeed(archive.hand_in("submit", &slow).env("GCLIP_NATS", nats.url()));
    until("the other one is done", || count(&nats.url(), "done") == 1);
    worker.signal("TERM");
    assert!(worker.end().0.success());
    assert_eq!(archive.results(), ["wanted.png.jsonl"]);
    assert_eq!(count(&nats.url(), "cancelled"), 2);
    archive.picture("more.png", 3);
    submit(&archive, &nats, &["--again"]);
    assert_eq!(cancel("--all"), "4 files cancelled\n");
    let now = status(&nats.url());
    assert_eq!([&now["waiting"], &now["running"], &now["cancelled"]], [0, 0, 6], "{now}");
}

#[test]
fn the_bar_of_all_ends_with_the_last_file() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    (0..5).for_each(|number| drop(archive.picture(&format!("{number}.png"), number)));
    assert!(
        fail(gclip(&["status"]).env("GCLIP_NATS", nats.url()))
            .contains("has no queue jobs: gclip jobs submit makes one")
    );
    submit(&archive, &nats, &[]);
    let watched = gclip(&["status", "--watch", "--json"])
        .env("GCLIP_NATS", nats.url())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (ended, ..) = Worker::start(&nats.url(), &["--until-empty"]).end();
    assert!(ended.success());
    let output = watched.wait_with_output().unwrap();
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() >= 2 && lines[0]["waiting"].as_u64().unwrap() > 0, "{lines:?}");
    assert_eq!(lines.last().unwrap()["done"], 5);
}
