// SPDX-License-Identifier: MIT OR Apache-2.0
//! SIGINT, SIGTERM, and a reader that goes away.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{PATIENCE, Watch, camera, command, config};
use gclip_testing::rtsp::{Server, free_port};

const SIGTERM: i32 = 15;

#[test]
fn a_signal_ends_it_with_whole_lines() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 30);
    let outputs = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n\
                   [output.archive]\ntype = 'file'\npath = 'lines.jsonl'\nwhat = 'all'\n";
    // One camera plays, one is being tried.
    let cameras = camera("gate", &server.url("gate"), "")
        + &camera(
            "gone",
            &format!("rtsp://127.0.0.1:{}/gone", free_port()),
            "retry-min = 60\nretry-max = 60",
        );
    for signal in ["INT", "TERM"] {
        let mut watch = Watch::start(&(config("") + outputs + &cameras));
        watch.until_camera("gone", "lost");
        watch.until_frames("gate", 20);
        let start = Instant::now();
        watch.signal(signal);
        let status = watch.end();
        assert_eq!(status.code(), Some(0), "{status}: {}", watch.stderr());
        assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
        let file = std::fs::read_to_string(watch.path("lines.jsonl")).unwrap();
        assert!(file.ends_with('\n') && file.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        // Frames and what they change come from two threads: only the order may differ.
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&file), sorted(&watch.seen.concat()), "both outputs have every line");
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    // Lines for a broker that is not there are waited for a while.
    let broker = format!("[output.broker]\ntype = 'mqtt'\nbroker = 'mqtt://127.0.0.1:{}'\n", free_port());
    let gone = camera("gone", &format!("rtsp://127.0.0.1:{}/gone", free_port()), "");
    let mut watch = Watch::start(&(config("") + &broker + &gone));
    watch.until_log("lines wait for it");
    watch.until_log("next try");
    watch.signal("TERM");
    watch.until_log("stopping");
    watch.signal("TERM");
    let status = watch.end();
    assert_eq!(status.signal(), Some(SIGTERM), "{status}: {}", watch.stderr());

    let mut watch = Watch::start(&(config("") + &broker + &gone));
    watch.until_log("next try");
    watch.stop();
    assert!(watch.stderr().contains("output.broker: 1 lines could not be delivered"), "{}", watch.stderr());
}

#[test]
fn it_ends_when_nobody_reads_its_output() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 30);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    let output = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n";
    std::fs::write(&path, config("") + output + &camera("gate", &server.url("gate"), "")).unwrap();
    let mut watch = command(&path).stdout(Stdio::piped()).spawn().unwrap();
    drop(watch.stdout.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = watch.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = watch.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // EX_IOERR: a service manager starts it again.
    assert_eq!(status.code(), Some(74), "{status}");
}

#[test]
fn a_reader_that_stops_reading_holds_up_nobody() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 30);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let outputs = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\nbuffer = 50\n\
                   [output.archive]\ntype = 'file'\npath = 'lines.jsonl'\nwhat = 'all'\n";
    let gate = camera("gate", &server.url("gate"), "masks = 'png'");
    std::fs::write(path("cameras.toml"), config("") + outputs + &gate).unwrap();
    let mut watch =
        command(&path("cameras.toml")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe and the buffer hold.
    let start = Instant::now();
    let length = || std::fs::metadata(path("lines.jsonl")).map_or(0, |file| file.len());
    while length() < 200_000 {
        assert!(start.elapsed() < PATIENCE, "the file stays at {} bytes", length());
        std::thread::sleep(Duration::from_millis(50));
    }
    let asked = Instant::now();
    let sent = Command::new("kill").arg(watch.id().to_string()).status().unwrap();
    assert!(sent.success());
    let mut said = String::new();
    watch.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = watch.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(30), "it took {:?}", asked.elapsed());
    assert!(said.contains("output.lines: ") && said.contains("could not be delivered"), "{said}");
}
