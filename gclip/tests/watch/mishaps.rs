// SPDX-License-Identifier: MIT OR Apache-2.0
//! What goes wrong on the page's way to the cameras and the file: each gets one clear answer, nothing is lost, and the
//! cameras go on. What is wrong in a single key stands in `control.rs`.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Browser;
use super::harness::{PATIENCE, Watch, camera, config};
use super::surroundings::SmallDisk;
use gclip_testing::rtsp::{Server, free_port};

fn page(port: u16) -> String {
    config(&format!("web = {{ listen = '127.0.0.1:{port}' }}"))
}

fn labels(view: &Value) -> Vec<&str> {
    let regions = view["masks"]["regions"].as_array();
    regions.into_iter().flatten().map(|region| region["label"].as_str().unwrap()).collect()
}

#[test]
fn words_that_change_while_the_camera_is_away_are_there_when_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let mut watch = Watch::start(&(page(port) + &camera("gate", &server.url("gate"), "")));
    watch.until_camera("gate", "connected");
    server.say("remove gate");
    server.try_say("drop gate");
    watch.until_camera("gate", "lost");
    let said = here.works(
        "PATCH",
        "/api/cameras/gate",
        json!({ "prompts": "sky; sea", "zones": "all=0,0 1,0 1,1 0,1" }),
    );
    assert!(said["done"].as_str().unwrap().contains("1 changed"), "{said}");
    assert!(
        here.get("/api/cameras/gate/picture").refusal(503).contains("gate"),
        "and meanwhile there is no picture"
    );
    server.serve("gate", (160, 90), 10);
    watch.until_camera("gate", "connected");
    let known = |view: &Value| {
        !labels(view).is_empty() && labels(view).iter().all(|label| ["sky", "sea"].contains(label))
    };
    here.until("/api/cameras/gate/view", "it looks for the new words", known);
    let in_zone = |line: &Value| line["type"] == "presence" && line["zone"] == "all";
    watch.until("something is in the new zone", in_zone);
    watch.stop();
}

#[test]
fn ten_thousand_words_hold_up_nobody() {
    let Some(mut server) = Server::start() else { return };
    for name in ["gate", "yard"] {
        server.serve(name, (160, 90), 10);
    }
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let cameras = ["gate", "yard"].map(|name| camera(name, &server.url(name), "")).concat();
    let mut watch = Watch::start(&(page(port) + &cameras));
    watch.until_cameras(&["gate", "yard"], "connected");
    let frames = || here.get("/api/cameras").json()["cameras"][1]["counts"]["frames"].as_u64().unwrap();
    let many: Vec<String> = (0..10_000).map(|number| format!("thing {number}")).collect();
    let (before, start) = (frames(), Instant::now());
    let said = here.works("PATCH", "/api/cameras/gate", json!({ "prompts": many.join("; ") }));
    let took = start.elapsed();
    assert!(said["done"].as_str().unwrap().contains("1 changed"), "{said}");
    let came = frames() - before;
    assert!(came as f64 >= 0.3 * 10.0 * took.as_secs_f64(), "{came} frames of the other camera in {took:?}");
    let thing = |view: &Value| labels(view).first().is_some_and(|label| label.starts_with("thing"));
    here.until("/api/cameras/gate/view", "one of ten thousand", thing);
    // More than fits into a question.
    let more = json!({ "prompts": "thing; ".repeat(50_000) }).to_string();
    let typed = "Content-Type: application/json\r\n";
    here.ask("PATCH", "/api/cameras/gate", typed, &more).refusal(413);
    here.works("PATCH", "/api/cameras/gate", json!({ "prompts": "cat" }));
    here.until("/api/cameras/gate/view", "a cat", |view| labels(view) == ["cat"]);
    let all = here.get("/api/cameras").json();
    for camera in all["cameras"].as_array().unwrap() {
        assert_eq!(camera["counts"]["connections"], 1, "{camera}");
    }
    watch.stop();
}

#[test]
fn of_two_who_save_the_second_is_told() {
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let nobody = camera("gate", &format!("rtsp://127.0.0.1:{}/x", free_port()), "");
    let mut watch = Watch::start(&(page(port) + &nobody));
    watch.until_camera("gate", "lost");
    let version = here.get("/api/cameras/gate").json()["version"].clone();
    let change = |words: &str| {
        let head = format!("Content-Type: application/json\r\nIf-Match: \"{version}\"\r\n");
        here.ask("PATCH", "/api/cameras/gate", &head, &json!({ "prompts": words }).to_string())
    };
    // At the same moment, again and again: one of them each time.
    let outcomes: Vec<u16> = std::thread::scope(|scope| {
        let change = &change;
        let threads: Vec<_> =
            (0..8).map(|number| scope.spawn(move || change(&format!("word {number}")).status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|status| **status == 200).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|status| **status == 409).count(), 7, "{outcomes:?}");
    let save = |version: &Value| {
        let head = format!("Content-Type: application/json\r\nIf-Match: \"{version}\"\r\n");
        here.ask("POST", "/api/config/save", &head, "{}")
    };
    assert!(save(&version).refusal(409).contains("somebody else"));
    let file = watch.path("cameras.toml");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("word"), "nothing has been written");
    let now = here.get("/api/cameras/gate").json();
    assert_eq!(save(&now["version"]).status, 200);
    let prompts = now["keys"]["prompts"].as_str().unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&format!("prompts = \"{prompts}\"")));
    watch.stop();
}

#[test]
fn a_file_that_cannot_be_written_keeps_what_it_says() {
    let Some(disk) = SmallDisk::mount("256k") else { return };
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let nobody = camera("gate", &format!("rtsp://127.0.0.1:{}/x", free_port()), "");
    let text = page(port) + &nobody;
    let mut watch = Watch::start(&text);
    watch.until_camera("gate", "lost");
    // The file leads to a disk that is full.
    let (link, file, filler) =
        (watch.path("cameras.toml"), disk.0.path().join("cameras.toml"), disk.0.path().join("filler"));
    std::fs::write(&file, &text).unwrap();
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut rest = std::fs::File::create(&filler).unwrap();
    while std::io::Write::write(&mut rest, &[0; 4096]).is_ok() {}
    here.works("PATCH", "/api/cameras/gate", json!({ "prompts": "a word that is not there yet" }));
    let why = here.send("POST", "/api/config/save", json!({})).refusal(503);
    assert!(why.contains("cannot write") && why.contains("No space left"), "{why}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "whole, as it was");
    let names = || std::fs::read_dir(disk.0.path()).unwrap().count();
    assert_eq!(names(), 2, "no part of it is left");
    let now = here.get("/api/cameras/gate").json();
    assert!(now["saved"] == false && now["keys"]["prompts"] == "a word that is not there yet", "{now}");
    drop(rest);
    std::fs::remove_file(&filler).unwrap();
    here.works("POST", "/api/config/save", json!({}));
    assert!(std::fs::read_to_string(&file).unwrap().contains("a word that is not there yet"));
    assert!(link.is_symlink());
    // And one that is gone.
    std::fs::remove_file(&file).unwrap();
    assert!(here.send("POST", "/api/config/save", json!({})).refusal(503).contains("cannot read"));
    watch.stop();
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let nobody = camera("gate", "rtsp://127.0.0.1:9/x", "");
    for text in [page(port), format!("metrics = '127.0.0.1:{port}'\n") + &config("")] {
        let start = Instant::now();
        let mut watch = Watch::start(&(text + &nobody));
        assert_eq!(watch.end().code(), Some(1));
        assert!(start.elapsed() < PATIENCE.min(Duration::from_secs(60)));
        let told = watch.stderr();
        assert!(
            told.contains(&format!("cannot listen on 127.0.0.1:{port}")) && told.contains("in use"),
            "{told}"
        );
        assert!(watch.seen.is_empty(), "no camera has been started: {:?}", watch.seen);
    }
}
