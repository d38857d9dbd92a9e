// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has happened, kept on disk: it survives a new start, is found by camera, label, zone and time, and what cannot be
//! kept holds nobody up.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Browser;
use super::harness::{PATIENCE, Watch, camera, config};
use super::surroundings::SmallDisk;
use gclip_testing::rtsp::{Server, free_port};

/// With a zone that is the whole picture, which random weights find full of something.
fn file(port: u16, history: &Path, url: &str) -> String {
    let parts =
        format!("web = {{ listen = '127.0.0.1:{port}' }}\nhistory = {{ folder = '{}' }}", history.display());
    config(&parts) + &camera("gate", url, "zones = 'all=0,0 1,0 1,1 0,1'")
}

fn entered(watch: &mut Watch) -> Value {
    watch.until("something enters", |line| line["type"] == "presence" && line["state"] == "entered")
}

fn numbers(events: &Value) -> Vec<u64> {
    events["events"].as_array().unwrap().iter().map(|event| event["number"].as_u64().unwrap()).collect()
}

#[test]
fn what_has_happened_survives_a_new_start() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (800, 450), 10);
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let text = file(port, &folder.path().join("kept"), &server.url("gate"));
    let mut watch = Watch::start(&text);
    let line = entered(&mut watch);
    let label = line["label"].as_str().unwrap().to_string();
    // The snapshot comes after the event.
    let with_snapshot =
        |all: &Value| all["events"].as_array().unwrap().iter().any(|event| event["snapshot"] == true);
    let all = here.until(&format!("/api/events?label={label}"), "a snapshot is kept", with_snapshot);
    let event = all["events"].as_array().unwrap().iter().find(|event| event["snapshot"] == true).unwrap();
    assert_eq!((&event["line"]["label"], &event["line"]["state"]), (&json!(label), &json!("entered")));
    let number = event["number"].as_u64().unwrap();
    assert_eq!(here.works("GET", &format!("/api/events/{number}"), json!({})), *event);
    let picture = here.get(&format!("/api/events/{number}/snapshot"));
    assert!(picture.status == 200 && picture.head.contains("image/jpeg"), "{}", picture.head);
    let decoded = image::load_from_memory(&picture.body).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (640, 360), "a small one");

    // Each question finds its own.
    let found = |question: &str| numbers(&here.get(&format!("/api/events?{question}")).json());
    let everything = found("limit=1000");
    assert!(everything.len() >= 3 && everything.is_sorted(), "{everything:?}");
    assert_eq!(found("limit=2"), everything[everything.len() - 2..], "the newest");
    let of_zone = here.get("/api/events?zone=all").json();
    assert!(numbers(&of_zone).len() < everything.len() && of_zone["events"][0]["line"]["zone"] == "all");
    assert!(here.get("/api/events?zone=").json()["events"][0]["line"]["zone"].is_null());
    assert!(found("camera=yard").is_empty() && found("label=elephant").is_empty());
    let (first, time) = (everything[0], event["line"]["time"].as_str().unwrap());
    assert!(!found(&format!("since={first}&limit=1000")).contains(&first));
    assert_eq!(found(&format!("before={}", first + 1)), [first]);
    assert!(found(&format!("from={time}&to={time}")).contains(&number));
    assert!(!found(&format!("to=2020-01-01T00:00:00Z&from={time}")).contains(&number));

    // The share of the picture that each label takes.
    let path = format!("/api/stats?camera=gate&label={label}");
    let stats =
        here.until(&path, "there are statistics", |stats| stats["series"].as_array().unwrap().len() == 1);
    let point = &stats["series"][0]["points"][0];
    let share = point[1].as_f64().unwrap();
    assert!(share > 0.0 && share <= 1.0 && point[2].as_f64().unwrap() > 0.0, "{stats}");
    let is_now = |time: &Value| {
        let ago = now_in_millis() - time.as_i64().unwrap();
        (0..3 * 60_000).contains(&ago)
    };
    assert!(is_now(&point[0]) && stats["step"].as_i64().unwrap() >= 1, "{stats}");
    let status = here.until("/api/cameras", "it is counted", |all| {
        all["history"]["events"].as_u64() >= Some(3) && all["history"]["snapshots"].as_u64() >= Some(1)
    });
    let status = &status["history"];
    assert!(
        status["lost_events"] == 0
            && status["trouble"].is_null()
            && status["snapshot_bytes"].as_u64() > Some(1000)
    );
    watch.stop();
    let lines =
        watch.seen.iter().inspect(|line| drop(serde_json::from_str::<Value>(line).unwrap())).count() as u64;

    let mut watch = Watch::start(&text);
    let before = here.until("/api/events?limit=1000", "it listens", |_| true);
    let numbers_before = numbers(&before);
    assert_eq!(numbers_before[..everything.len()], everything, "the same as before");
    assert!(numbers_before.contains(&lines), "every line of the first run is there, to the last");
    assert_eq!(here.get(&format!("/api/events/{number}")).json(), *event);
    assert_eq!(here.get(&format!("/api/events/{number}/snapshot")).body, picture.body);
    entered(&mut watch);
    let newest = here.until("/api/events?limit=1", "the numbers go on", |all| {
        numbers(all)[0] > *numbers_before.last().unwrap()
    });
    assert!(numbers(&newest)[0] > lines);
    // Who was cut off by the new start gets what he has missed.
    let mut missed = here.listen(&format!("/api/events/live?since={}", first));
    missed.until(&format!("id: {}", first + 1));
    // Two programs do not write the same.
    let mut other = Watch::start(&file(free_port(), &folder.path().join("kept"), &server.url("gate")));
    other.until_log("another program keeps its history there");
    entered(&mut other);
    other.stop();
    watch.stop();
}

fn now_in_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let file = config(&format!("web = {{ listen = '127.0.0.1:{port}' }}"))
        + &camera("gate", &format!("rtsp://127.0.0.1:{}/x", free_port()), "");
    let mut watch = Watch::start(&file);
    watch.until_camera("gate", "lost");
    for (path, word) in [
        ("/api/events?limit=many", "limit"),
        ("/api/events?limt=3", "limt"),
        ("/api/events?from=yesterday", "2025-11-29T07:00:00Z"),
        ("/api/events?since=-1", "since"),
        ("/api/events/x", "x"),
        ("/api/events/live?to=0", "`0`"),
        ("/api/stats?from=2025-01-02T00:00:00Z&to=2025-01-01T00:00:00Z", "`from` is before `to`"),
        ("/api/stats?step=0", "`step`"),
        ("/api/stats?from=1990-01-01T00:00:00Z&step=1", "5000"),
        ("/api/cameras/gate/view?after=x", "after"),
        ("/api/cameras/%ff/view", "UTF-8"),
    ] {
        let why = here.get(path).refusal(400);
        assert!(why.contains(word) && !why.contains('\n'), "{path}: {why}");
    }
    for path in ["/api/events/4711", "/api/events/1/snapshot", "/api/events/4711/snapshot"] {
        assert!(here.get(path).refusal(404).contains("there is no"), "{path}");
    }
    assert!(here.get("/api/stats").refusal(404).contains("[history]"));
    // Without a history on disk the latest are there all the same.
    assert_eq!(here.get("/api/events?camera=gate").json()["events"][0]["line"]["state"], "lost");
    assert_eq!(here.get("/api/events/1").json()["snapshot"], false);
    assert!(here.get("/api/cameras").json()["history"].is_null());
    watch.stop();
}

#[test]
fn a_folder_that_cannot_be_written_costs_what_is_kept_and_nothing_else() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    let folder = tempfile::tempdir().unwrap();
    // Not even root can make a folder of a file.
    let place = folder.path().join("kept");
    std::fs::write(&place, "").unwrap();
    let (port, metrics) = (free_port(), free_port());
    let here = Browser { port, head: String::new() };
    let text = format!("metrics = '127.0.0.1:{metrics}'\n") + &file(port, &place, &server.url("gate"));
    let mut watch = Watch::start(&text);
    entered(&mut watch);
    watch.until_log("history: cannot keep it in");
    let lost = |all: &Value| all["history"]["lost_events"].as_u64() > Some(0);
    let all = here.until("/api/cameras", "what is lost is counted", lost);
    assert!(all["history"]["trouble"].as_str().unwrap().contains("kept"), "{all}");
    let shown = Browser { port: metrics, head: String::new() };
    let text = String::from_utf8(shown.get("/metrics").body).unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("gclip_history_lost_events_total "));
    assert!(count.unwrap().parse::<u64>().unwrap() > 0, "{text}");
    assert!(!numbers(&here.get("/api/events").json()).is_empty(), "they are in memory");
    std::fs::remove_file(&place).unwrap();
    watch.until_log("history: events are kept again");
    let told = watch.stderr();
    assert_eq!(told.matches("history: cannot keep it in").count(), 1, "told once: {told}");
    server.say("drop gate");
    watch.until_camera("gate", "lost");
    here.until("/api/cameras", "it is kept again", |all| {
        all["history"]["events"].as_u64() > Some(0) && all["history"]["trouble"].is_null()
    });
    watch.stop();
}

#[test]
fn a_full_disk_costs_what_does_not_fit() {
    let Some(mut server) = Server::start() else { return };
    let Some(disk) = SmallDisk::mount("1m") else { return };
    server.serve("gate", (320, 180), 10);
    let filler = disk.0.path().join("filler");
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let mut watch = Watch::start(&file(port, &disk.0.path().join("kept"), &server.url("gate")));
    entered(&mut watch);
    here.until("/api/cameras", "it is kept", |all| all["history"]["snapshots"].as_u64() > Some(0));
    // All that is left, to the last block.
    let mut rest = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut rest, &[0; 4096]).is_ok() {}
    // Cameras that come and go are events, and what they show enters again.
    let start = Instant::now();
    let lost = |all: &Value| {
        let history = &all["history"];
        history["lost_events"].as_u64().unwrap() > 0 && history["lost_snapshots"].as_u64().unwrap() > 0
    };
    while !lost(&here.get("/api/cameras").json()) {
        assert!(start.elapsed() < PATIENCE, "{}", here.get("/api/cameras").json()["history"]);
        server.say("drop gate");
        watch.until_camera("gate", "lost");
        entered(&mut watch);
        std::thread::sleep(Duration::from_millis(600));
    }
    let told = watch.stderr();
    assert!(told.contains("history: cannot write") && told.contains("full"), "{told}");
    assert!(!numbers(&here.get("/api/events").json()).is_empty());
    drop(rest);
    std::fs::remove_file(&filler).unwrap();
    let kept = here.get("/api/cameras").json()["history"]["events"].as_u64();
    server.say("drop gate");
    entered(&mut watch);
    here.until("/api/cameras", "it is kept again", |all| all["history"]["events"].as_u64() > kept);
    watch.until_log("history: events are kept again");
    watch.stop();
}

#[test]
fn a_damaged_database_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("kept");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("events.db"), "no database".repeat(1000)).unwrap();
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let nobody = format!("rtsp://127.0.0.1:{}/x", free_port());
    let mut watch = Watch::start(&file(port, &place, &nobody));
    watch.until_camera("gate", "lost");
    watch.until_log("is damaged: it is now");
    here.until("/api/cameras", "it is kept", |all| all["history"]["events"] == 1);
    watch.stop();
    let names =
        std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<String> = names.filter(|name| name.starts_with("events-damaged-")).collect();
    let kept = std::fs::read_to_string(place.join(&aside[0])).unwrap();
    assert!(kept.starts_with("no database"));
}

#[test]
fn damage_is_a_line_and_an_event() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let own = "segment = { anomaly = 'bottle', anomaly-threshold = 0.001, enter-frames = 1 }";
    let page = format!("web = {{ listen = '127.0.0.1:{port}' }}\n[history]\nfolder = 'history'");
    let mut watch = Watch::start(&(config(&page) + &camera("gate", &server.url("gate"), own)));
    let line = watch.until("damage", |line| line["type"] == "anomaly");
    assert_eq!((&line["state"], &line["label"]), (&"damaged".into(), &"bottle".into()));
    assert!(line["score"].as_f64() >= line["threshold"].as_f64() && line["pts"].is_u64(), "{line}");
    let has = |events: &Value| {
        events["events"]
            .as_array()
            .is_some_and(|all| all.iter().any(|event| event["line"]["type"] == "anomaly"))
    };
    here.until("/api/events?label=bottle", "the event of it", has);
    watch.stop();
    // And after a new start, from the disk.
    let store = rusqlite::Connection::open(watch.path("history/events.db")).unwrap();
    let kept: u32 =
        store.query_row("SELECT count(*) FROM events WHERE state = 'damaged'", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}
