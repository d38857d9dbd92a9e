// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers that go down, freeze and are stopped, and servers that do.

use gclip_testing::nats::Nats;

use super::harness::{Archive, FRAMES, Worker, count, files_below, gclip, status, submit, until};

/// What is being written of videos.
pub fn parts(archive: &Archive) -> Vec<String> {
    let mut names = files_below(&archive.out());
    names.retain(|name| name.contains(".mp4-") && name.contains(".jsonl.") && name.ends_with(".part"));
    names
}

/// Some seconds of work, and some more where nobody waits for its end.
const SLOW: [&str; 2] = ["--set", "input-size=448"];
const ENDLESS: [&str; 2] = ["--set", "input-size=896"];

#[test]
fn what_a_killed_worker_had_is_done_by_another() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.video("a.mp4");
    archive.picture("b.png", 1);
    submit(&archive, &nats, &SLOW);
    let mut first = Worker::start(&nats.url(), &[]);
    until("the video is begun", || !parts(&archive).is_empty());
    let cut_off = parts(&archive);
    first.kill();
    assert_eq!(parts(&archive), cut_off, "a killed worker clears nothing");
    let (ended, out, _) = Worker::start(&nats.url(), &["--until-empty"]).end();
    assert!(ended.success() && out.lines().count() == 2, "{out}");
    assert_eq!(archive.results(), ["a.mp4.jsonl", "b.png.jsonl"], "and nothing half-written is left");
    assert_eq!(archive.lines("a.mp4").len(), FRAMES);
    assert_eq!(count(&nats.url(), "done"), 2);
}

#[test]
fn a_worker_that_freezes_and_wakes_does_not_end_it_twice() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.video("a.mp4");
    submit(&archive, &nats, &SLOW);
    let frozen = Worker::start(&nats.url(), &["--until-empty"]);
    until("the video is begun", || !parts(&archive).is_empty());
    frozen.signal("STOP");
    let (ended, out, _) = Worker::start(&nats.url(), &["--until-empty"]).end();
    assert!(ended.success() && out.contains("100 frames"), "{out}");
    let result = || {
        std::fs::metadata(archive.out().join(&files_below(&archive.out())[0])).unwrap().modified().unwrap()
    };
    let written = result();
    frozen.signal("CONT");
    let (ended, out, err) = frozen.end();
    assert!(ended.success() && out.is_empty(), "{out}{err}");
    assert_eq!((result(), archive.results()), (written, vec!["a.mp4.jsonl".to_string()]));
    assert_eq!((archive.lines("a.mp4").len(), count(&nats.url(), "done")), (FRAMES, 1));
}

#[test]
fn what_brings_worker_after_worker_down_is_set_aside() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.video("poison.mp4");
    submit(&archive, &nats, &ENDLESS);
    for _ in 0..3 {
        let before = parts(&archive);
        let mut worker = Worker::start(&nats.url(), &["--at-once", "2"]);
        until("the video is begun", || parts(&archive).len() > before.len());
        worker.kill();
    }
    archive.picture("b.png", 1);
    submit(&archive, &nats, &ENDLESS);
    let (ended, out, err) = Worker::start(&nats.url(), &["--until-empty"]).end();
    assert!(ended.success() && out.lines().count() == 1, "{out}");
    assert!(err.contains("poison.mp4 is set aside: it was begun 3 times"), "{err}");
    let now = status(&nats.url());
    assert_eq!([&now["done"], &now["set_aside"]], [1, 1], "{now}");
}

#[test]
fn a_worker_that_is_stopped_gives_back_what_it_has_and_it_does_not_count() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.video("a.mp4");
    submit(&archive, &nats, &ENDLESS);
    for _ in 0..4 {
        let worker = Worker::start(&nats.url(), &[]);
        until("the video is begun", || !parts(&archive).is_empty());
        worker.signal("TERM");
        let (ended, _, err) = worker.end();
        assert!(ended.success() && err.is_empty(), "{err}");
        assert!(parts(&archive).is_empty());
        let now = status(&nats.url());
        assert_eq!([&now["waiting"], &now["running"]], [1, 0], "at once, and not after the patience: {now}");
    }
}

#[test]
fn a_server_that_is_away_for_a_while_costs_nothing() {
    let Some(mut nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.video("a.mp4");
    (0..3).for_each(|number| drop(archive.picture(&format!("z{number}.png"), number)));
    submit(&archive, &nats, &SLOW);
    let worker = Worker::start(&nats.url(), &["--until-empty"]);
    until("the video is begun", || !parts(&archive).is_empty());
    nats.kill();
    std::thread::sleep(std::time::Duration::from_secs(2));
    nats.resume();
    let (ended, out, err) = worker.end();
    assert!(ended.success() && out.lines().count() == 4, "{out}{err}");
    assert_eq!(err.matches("cannot be reached").count(), err.matches("is there again").count(), "{err}");
    assert_eq!(archive.results().len(), 4);
    assert_eq!(count(&nats.url(), "done"), 4);
}

#[test]
fn one_of_three_servers_may_go() {
    let Some(mut cluster) = Nats::cluster() else { return };
    let all: Vec<String> = cluster.iter().map(Nats::url).collect();
    let all = all.join(",");
    let archive = Archive::new();
    (0..6).for_each(|number| drop(archive.picture(&format!("{number}.png"), number)));
    // Three servers take a moment to become one.
    until("the cluster takes files", || {
        archive
            .hand_in("submit", &["--patience", "2"])
            .env("GCLIP_NATS", &all)
            .output()
            .unwrap()
            .status
            .success()
    });
    let held_by = |number: usize| {
        let store = cluster[number].folder.path().join("store");
        files_below(&store)
            .iter()
            .filter(|name| name.contains("gclip-jobs/") && name.ends_with(".blk"))
            .count()
    };
    assert!((0..3).all(|number| held_by(number) > 0), "each server has a copy");
    cluster[0].kill();
    // The other two take a moment to know it.
    until("two are enough", || gclip(&["status"]).env("GCLIP_NATS", &all).output().unwrap().status.success());
    let (ended, out, err) = Worker::start(&all, &["--until-empty"]).end();
    assert!(ended.success() && out.lines().count() == 6, "{out}{err}");
    assert_eq!(archive.results().len(), 6);
}

/// The numbers of docs/jobs.md: `cargo test --workspace --test jobs two_thousand -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn two_thousand_jobs_and_twenty_kills_lose_none_and_double_none() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    for number in 0..2000 {
        archive.picture(&format!("{:02}/{number}.png", number % 50), (number % 256) as u8);
    }
    let began = std::time::Instant::now();
    submit(&archive, &nats, &[]);
    println!("2000 files handed in after {:.1} s", began.elapsed().as_secs_f64());
    let mut workers: Vec<Worker> = (0..3).map(|_| Worker::start(&nats.url(), &["--at-once", "2"])).collect();
    let mut kills = 0;
    let mut dice = gclip_testing::dice::Dice::new(7, 0);
    while count(&nats.url(), "waiting") + count(&nats.url(), "running") > 0 {
        std::thread::sleep(std::time::Duration::from_millis(500 + dice.below(1500)));
        if kills < 20 {
            let index = usize::try_from(dice.below(3)).unwrap();
            workers[index].kill();
            workers[index] = Worker::start(&nats.url(), &["--at-once", "2"]);
            kills += 1;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let now = status(&nats.url());
    println!("{kills} workers killed; all ended after {seconds:.1} s: {now}");
    assert_eq!(kills, 20, "they were done too soon");
    assert_eq!([&now["done"], &now["set_aside"]], [2000, 0]);
    let results = files_below(&archive.out());
    let whole = results.iter().filter(|name| name.ends_with(".jsonl")).count();
    println!("{whole} results, {} parts of killed runs left", results.len() - whole);
    assert_eq!(whole, 2000);
    for name in results.iter().filter(|name| name.ends_with(".jsonl")) {
        let text = std::fs::read_to_string(archive.out().join(name)).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(line["regions"].is_array() && text.lines().count() == 1, "{name}");
    }
}
