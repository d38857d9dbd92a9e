// SPDX-License-Identifier: MIT OR Apache-2.0
//! Workers that share cameras by way of real NATS servers: each in a process of its own, killed, frozen, asked to end,
//! cut off from servers that go and come, while a reader of the stream of results looks at every line.

#[path = "fleet/deployments.rs"]
mod deployments;
// Those of one program take more of it.
#[allow(dead_code)]
#[path = "watch/harness.rs"]
mod harness;
#[path = "fleet/measure.rs"]
mod measure;
#[path = "fleet/mistakes.rs"]
mod mistakes;
#[path = "fleet/reader.rs"]
mod reader;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use gclip_testing::DEMO;
use gclip_testing::nats::Nats;
use gclip_testing::rtsp::Server;
use harness::{PATIENCE, Watch, config};
use reader::Reader;

pub const CAMERAS: [&str; 4] = ["gate", "yard", "hall", "roof"];

/// A worker of this fleet, whose lines go to the stream.
pub fn worker(name: &str, servers: &str, more: &str) -> Watch {
    Watch::start(&config(&format!(
        "[fleet]\nservers = {servers}\nname = '{name}'\ncapacity = 4\n{more}\n\
         [output.bus]\ntype = 'nats'\nwhat = 'all'\n[output.lines]\ntype = 'stdout'\nwhat = 'changes'"
    )))
}

/// One whose lines are nobody's.
pub fn worker_without_bus(name: &str, servers: &str) -> Watch {
    Watch::start(&config(&format!(
        "[fleet]\nservers = {servers}\nname = '{name}'\ncapacity = 4\n\
         [output.lines]\ntype = 'file'\npath = '/dev/null'\nwhat = 'all'"
    )))
}

/// One in a network namespace of its own, which also shows all its lines.
pub fn worker_in(network: &str, name: &str, servers: &str, more: &str) -> Watch {
    let text = config(&format!(
        "[fleet]\nservers = {servers}\nname = '{name}'\ncapacity = 4\n{more}\n\
         [output.bus]\ntype = 'nats'\nwhat = 'all'\n[output.lines]\ntype = 'stdout'\nwhat = 'all'"
    ));
    Watch::start_in(network, &text)
}

/// `gclip fleet` with these arguments; whether it went well, and what it said.
pub fn fleet(url: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .args(["fleet", "--server", url])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

/// RTSP cameras of these names that are in the fleet.
pub fn cameras(url: &str, names: &[&str], fps: u32) -> Option<Server> {
    let mut server = Server::start()?;
    for name in names {
        server.serve(name, (160, 90), fps);
        let add = ["add", name, &format!("url={}", server.url(name)), "masks=none"];
        // A cluster has to find itself first.
        let begun = Instant::now();
        while let (false, said) = fleet(url, &add) {
            assert!(begun.elapsed() < PATIENCE && !said.contains("already"), "{said}");
        }
    }
    Some(server)
}

/// How the fleet is, as JSON.
pub fn status(url: &str) -> serde_json::Value {
    let (done, said) = fleet(url, &["status", "--json"]);
    assert!(done, "{said}");
    serde_json::from_str(&said).unwrap()
}

/// Waits until all cameras play, and returns who has which.
#[track_caller]
pub fn until_all_play(url: &str, wanted: impl Fn(&[(String, String)]) -> bool) -> Vec<(String, String)> {
    let begun = Instant::now();
    loop {
        let status = status(url);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("").to_string();
        let cameras = status["cameras"].as_array().unwrap();
        let all: Vec<(String, String)> =
            cameras.iter().map(|camera| (text(&camera["camera"]), text(&camera["worker"]))).collect();
        if cameras.iter().all(|camera| camera["state"] == "playing") && wanted(&all) {
            return all;
        }
        assert!(begun.elapsed() < PATIENCE, "{status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn of<'a>(all: &'a [(String, String)], worker: &str) -> BTreeSet<&'a str> {
    all.iter().filter(|(_, owner)| owner == worker).map(|(camera, _)| camera.as_str()).collect()
}

#[test]
fn two_workers_share_cameras_and_one_takes_over_what_the_other_had() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let Some(_server) = cameras(&url, &CAMERAS, 10) else { return };
    let (mut one, two) = (worker("one", &format!("'{url}'"), ""), worker("two", &format!("'{url}'"), ""));
    let both = |all: &[(String, String)]| of(all, "one").len() == 2 && of(all, "two").len() == 2;
    let before = until_all_play(&url, both);
    let reader = Reader::start(&nats);
    reader.until_each_has(&CAMERAS, 5);

    // Killed: the other has them soon, with higher epochs.
    two.signal("KILL");
    let killed = Instant::now();
    let lost: Vec<String> = of(&before, "two").into_iter().map(str::to_string).collect();
    for camera in &lost {
        reader
            .until(&format!("{camera} by the other"), |line| line.camera == *camera && line.worker == "one");
    }
    println!("taken over after {:.2} s", killed.elapsed().as_secs_f64());
    reader.check();

    // Back again: it takes its share, and no more than that moves.
    let two = worker("two", &format!("'{url}'"), "");
    until_all_play(&url, both);

    // Drained, one after the other; then with cameras again.
    assert!(fleet(&url, &["drain", "one"]).0);
    until_all_play(&url, |all| of(all, "two").len() == 4);
    assert!(fleet(&url, &["drain", "one", "--undo"]).0);
    until_all_play(&url, both);

    // Asked to end: at once.
    let mut two = two;
    let asked = Instant::now();
    two.stop();
    until_all_play(&url, |all| of(all, "one").len() == 4);
    println!("after SIGTERM all play again after {:.2} s", asked.elapsed().as_secs_f64());

    // Cameras come, change and go while the others play.
    let played = |reader: &Reader| reader.lines().iter().filter(|line| line.kind == "camera").count();
    let connections = played(&reader);
    assert!(fleet(&url, &["set", "gate", "prompts=cat; dog"]).0);
    one.until_log("cameras: 0 added, 1 changed, 0 stopped");
    assert_eq!(played(&reader), connections, "words change without a new connection");
    assert!(fleet(&url, &["remove", "yard"]).0);
    one.until_log("cameras: 0 added, 0 changed, 1 stopped");
    let (done, said) = fleet(&url, &["status"]);
    assert!(done && said.contains("gate") && !said.contains("yard") && said.contains("playing"), "{said}");
    one.stop();
    reader.check();
    archives_are_welcome(&url);
}

/// A queue of files on servers that keep results of cameras.
fn archives_are_welcome(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.png");
    std::fs::write(&file, "not looked at yet").unwrap();
    let out = folder.path().join("out");
    let output = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .args(["jobs", "submit", "--server", url, "--model", DEMO, "--prompts", "cat", "--out"])
        .args([&out, &file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_worker_that_was_frozen_says_nothing_any_more() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let Some(_server) = cameras(&url, &CAMERAS, 10) else { return };
    let workers = ["one", "two"].map(|name| worker(name, &format!("'{url}'"), ""));
    let before = until_all_play(&url, |all| of(all, "one").len() == 2 && of(all, "two").len() == 2);
    let reader = Reader::start(&nats);
    reader.until_each_has(&CAMERAS, 5);
    workers[1].signal("STOP");
    for camera in of(&before, "two") {
        reader.until(&format!("{camera} by the other"), |line| line.camera == camera && line.worker == "one");
    }
    workers[1].signal("CONT");
    workers[1].until_log("others have taken over");
    until_all_play(&url, |all| of(all, "one").len() == 2 && of(all, "two").len() == 2);
    reader.check();
}

#[test]
fn servers_that_go_and_come_cost_no_connection_and_no_line() {
    for alone in ["hold", "go-on"] {
        let Some(mut nats) = Nats::start() else { return };
        let url = nats.url();
        let Some(_server) = cameras(&url, &CAMERAS[..2], 10) else { return };
        let mut one = worker("one", &format!("'{url}'"), &format!("when-alone = '{alone}'"));
        until_all_play(&url, |all| of(all, "one").len() == 2);
        nats.kill();
        one.until_log("the servers do not answer");
        std::thread::sleep(Duration::from_secs(3));
        nats.resume();
        one.until_log("the servers answer again");
        until_all_play(&url, |all| of(all, "one").len() == 2);
        std::thread::sleep(Duration::from_secs(1));
        one.stop();
        let reader = Reader::start(&nats);
        reader.until_each_has(&CAMERAS[..2], 1);
        reader.until_quiet();
        reader.check();
        reader.check_complete();
        let connected =
            reader.lines().iter().filter(|line| line.kind == "camera" && line.state == "connected").count();
        assert_eq!(connected, 2, "{alone}: each camera connects once");
        assert!(!one.stderr().contains("dropped"), "{}", one.stderr());
    }
}

#[test]
fn a_full_store_loses_no_line() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    let size = |bytes: i64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let context = jetstream::new(async_nats::connect(&url).await.unwrap());
            let config = jetstream::stream::Config {
                name: "gclip".into(),
                subjects: vec!["gclip.>".into()],
                max_bytes: bytes,
                discard: jetstream::stream::DiscardPolicy::New,
                ..Default::default()
            };
            context.create_or_update_stream(config).await.unwrap();
        });
    };
    size(20_000);
    let Some(_server) = cameras(&url, &CAMERAS[..2], 10) else { return };
    let mut one = worker("one", &format!("'{url}'"), "");
    one.until_log("maximum bytes exceeded");
    one.until_log("lines wait for it");
    size(50_000_000);
    one.until_log("it takes lines again");
    let reader = Reader::start(&nats);
    reader.until_each_has(&CAMERAS[..2], 20);
    one.stop();
    reader.until_quiet();
    reader.check();
    reader.check_complete();
}
