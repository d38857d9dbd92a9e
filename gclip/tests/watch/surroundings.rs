// SPDX-License-Identifier: MIT OR Apache-2.0
//! What surrounds the program: a log that cannot be written, pipes, files that are rotated, a config that changes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{PATIENCE, Watch, camera, command, config};
use super::metrics::scrape;
use gclip_testing::rtsp::{Server, free_port};

const ALL: &str = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n";

fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let start = Instant::now();
    while !wanted() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// A camera that comes and goes makes the log talk all the time; neither it nor the other may notice.
#[test]
fn a_log_that_cannot_be_written_stops_nobody() {
    let Some(mut server) = Server::start() else { return };
    server.serve("good", (160, 90), 15);
    for full in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let port = free_port();
        let file = "[output.file]\ntype = 'file'\npath = 'lines.jsonl'\nwhat = 'all'\n";
        let cameras = camera("good", &server.url("good"), "")
            + &camera("gone", &format!("rtsp://127.0.0.1:{}/x", free_port()), "retry-max = 0.1");
        let metrics = format!("metrics = '127.0.0.1:{port}'");
        std::fs::write(path("cameras.toml"), config(&metrics) + file + &cameras).unwrap();
        let mut process = command(&path("cameras.toml"));
        process.stdout(Stdio::null());
        let stderr = if full { File::create("/dev/full").unwrap().into() } else { Stdio::piped() };
        let mut process = process.stderr(stderr).spawn().unwrap();
        if let Some(reader) = process.stderr.take() {
            // It reads a line and leaves.
            BufReader::new(reader).read_line(&mut String::new()).unwrap();
        }
        until("frames of the good camera", || lines(&path("lines.jsonl")).len() > 60);
        let failures = || -> u64 {
            let text = scrape(port);
            let line =
                text.lines().find(|line| line.starts_with("gclip_camera_failures_total{camera=\"gone\"}"));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
        };
        let before = failures();
        until("the other one is still tried", || failures() > before + 3);
        assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_pipe_holds_up_nobody_whether_it_is_read_or_not() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let output = format!("[output.pipe]\ntype = 'file'\npath = '{}'\nwhat = 'all'\n", pipe.display());
    let text = config("") + ALL + &output + &camera("gate", &server.url("gate"), "");
    // Nobody reads: it starts, works and ends all the same.
    let mut watch = Watch::start(&text);
    watch.until_log("output.pipe: waits for a reader of the pipe");
    watch.until_frames("gate", 5);
    watch.stop();

    let mut watch = Watch::start(&text);
    for _ in 0..2 {
        let mut reader = BufReader::new(File::open(&pipe).unwrap());
        for _ in 0..5 {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        }
        drop(reader);
        watch.until_frames("gate", 10);
    }
    watch.until_log("its reader has left");
    watch.stop();
}

/// A small file system, until it is dropped; `None`, with the reason, where that takes more rights.
pub struct SmallDisk(pub tempfile::TempDir);

impl SmallDisk {
    pub fn mount(size: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("skipped: a small disk can be mounted by root alone");
            return None;
        }
        Some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_leaves_no_part_of_a_line_and_is_used_again_when_there_is_room() {
    let Some(mut server) = Server::start() else { return };
    let Some(disk) = SmallDisk::mount("256k") else { return };
    server.serve("gate", (160, 90), 15);
    let (path, filler) = (disk.0.path().join("lines.jsonl"), disk.0.path().join("filler"));
    std::fs::write(&filler, [0; 128 << 10]).unwrap();
    let file = format!("[output.small]\ntype = 'file'\npath = '{}'\nwhat = 'all'\n", path.display());
    let gate = camera("gate", &server.url("gate"), "masks = 'rle'");
    let mut watch = Watch::start(&(config("") + ALL + &file + &gate));
    watch.until_log("No space left on device");
    watch.until_frames("gate", 10); // and that many tries
    let whole = || {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'), "a part of a line is left: {:?}", text.lines().last());
        lines(&path)
    };
    let before = whole().len();
    assert!(before > 0);
    std::fs::remove_file(filler).unwrap();
    until("lines get in again", || lines(&path).len() > before + 3);
    watch.stop();
    assert!(whole().len() > before + 3);
}

#[test]
fn a_device_that_takes_nothing_costs_its_own_lines_alone() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let full = "[output.full]\ntype = 'file'\npath = '/dev/full'\nwhat = 'all'\n";
    let mut watch = Watch::start(&(config("") + ALL + full + &camera("gate", &server.url("gate"), "")));
    watch.until_log("output.full: ");
    watch.until_frames("gate", 10);
    watch.until_log("No space left on device");
    watch.stop();
}

/// gst-rtsp-server tells its clock, which is this machine's, in RTCP's sender reports.
#[test]
fn lines_tell_when_the_picture_was_taken_by_the_cameras_clock() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let mut watch = Watch::start(&(config("") + ALL + &camera("gate", &server.url("gate"), "")));
    let is_dated = |line: &Value| line["type"] == "frame" && line["captured"].is_string();
    let seconds = |line: &Value, key: &str| {
        let time = glib::DateTime::from_iso8601(line[key].as_str().unwrap(), None).unwrap();
        time.to_unix() as f64 + f64::from(time.microsecond()) / 1e6
    };
    let first = watch.until("a line with the camera's time", is_dated);
    let later = (0..20).map(|_| watch.until("another one", is_dated)).last().unwrap();
    for line in [&first, &later] {
        let age = seconds(line, "time") - seconds(line, "captured");
        assert!((-0.5..20.0).contains(&age), "{age} s old: {line}");
    }
    let passed = (later["pts"].as_f64().unwrap() - first["pts"].as_f64().unwrap()) / 1e9;
    let by_camera = seconds(&later, "captured") - seconds(&first, "captured");
    // Each report corrects what the last one said.
    assert!((passed - by_camera).abs() < 0.5, "{passed} s of the stream, {by_camera} s of the camera");
    watch.stop();
}

#[test]
fn a_file_is_rotated_by_renaming() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let output = "[output.file]\ntype = 'file'\npath = 'lines.jsonl'\nwhat = 'all'\n";
    let mut watch = Watch::start(&(config("") + ALL + output + &camera("gate", &server.url("gate"), "")));
    watch.until_frames("gate", 10);
    let (now, before) = (watch.path("lines.jsonl"), watch.path("lines.jsonl.1"));
    std::fs::rename(&now, &before).unwrap();
    let old = lines(&before).len();
    watch.until_frames("gate", 20);
    // As logrotate asks for after that.
    watch.signal("HUP");
    watch.until_log("read again: nothing has changed");
    watch.until_frames("gate", 5);
    watch.stop();
    let (old, rotated, new) = (old, lines(&before).len(), lines(&now).len());
    assert!(
        rotated <= old + 1 && new >= 20,
        "{old}, then {rotated} in the old file and {new} in the new one"
    );
    assert_eq!(rotated + new, watch.seen.len(), "every line is in one of them");
}

#[test]
fn what_has_changed_in_the_config_is_changed_and_nothing_else() {
    let Some(mut server) = Server::start() else { return };
    for name in ["good", "other", "third"] {
        server.serve(name, (160, 90), 15);
    }
    let file = "[output.file]\ntype = 'file'\npath = 'lines.jsonl'\nwhat = 'all'\n";
    let good = camera("good", &server.url("good"), "");
    let other = |rest: &str| camera("other", &server.url("other"), rest);
    let mut watch = Watch::start(&(config("") + ALL + &good + &other("")));
    watch.until_cameras(&["good", "other"], "connected");

    let write = |watch: &Watch, text: String| std::fs::write(watch.path("cameras.toml"), text).unwrap();
    write(&watch, config("") + ALL + &good + &other("fsp = 1"));
    watch.signal("HUP");
    watch.until_log("nothing changed: ");
    assert!(watch.stderr().contains("unknown field `fsp`"), "{}", watch.stderr());
    write(&watch, config("").replacen("/model'", "/another'", 1) + ALL + &good);
    watch.signal("HUP");
    watch.until_log("`model` has changed: that takes a new start");
    write(&watch, config("") + ALL + &good + &other("segment = { input-size = '1x1x1' }"));
    watch.signal("HUP");
    watch.until_log("input-size");
    watch.until_frames("other", 2);

    let third = camera("third", &server.url("third"), "outputs = ['file']");
    write(&watch, config("") + ALL + file + &good + &other("prompts = 'sky; road'\nfps = 12") + &third);
    watch.signal("HUP");
    watch.until_log("cameras: 1 added, 1 changed, 0 stopped; outputs: 1 opened, 0 closed");
    let lost = watch.until_camera("other", "lost");
    assert_eq!(lost["reason"], "stopped");
    watch.until_camera("other", "connected");
    let frame = watch.until_frames("other", 1);
    assert!(frame["regions"].as_array().unwrap().iter().all(|region| region["label"] != "cat"), "{frame}");
    // Other words do not take another connection.
    write(&watch, config("") + ALL + file + &good + &other("prompts = 'tree'\nfps = 12") + &third);
    watch.signal("HUP");
    watch.until_log("cameras: 0 added, 1 changed, 0 stopped");
    watch.until("other looks for trees", |line| {
        line["camera"] == "other" && line["type"] == "frame" && line["regions"][0]["label"] == "tree"
    });
    let path = watch.path("lines.jsonl");
    until("the third camera's lines", || lines(&path).iter().any(|line| line["camera"] == "third"));
    // The others' lines go into the new output too.
    until("the first camera's lines", || lines(&path).iter().any(|line| line["camera"] == "good"));

    write(&watch, config("") + ALL + &good);
    watch.signal("HUP");
    watch.until_log("cameras: 0 added, 0 changed, 2 stopped; outputs: 0 opened, 1 closed");
    let length = lines(&path).len();
    watch.until_frames("good", 10);
    assert_eq!(lines(&path).len(), length);
    watch.stop();
    assert!(watch.stderr().contains("stopped after 0 h 0 min: SIGTERM"), "{}", watch.stderr());
    let of_good: Vec<Value> = watch.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let connections = |name: &str| {
        of_good.iter().filter(|line| line["camera"] == name && line["state"] == "connected").count()
    };
    assert_eq!(connections("good"), 1, "it was never touched");
    assert_eq!(connections("other"), 2, "once with other frames, not with other words");
    // No line was lost or told twice on the way: the numbers of a run are all different.
    let mut events: Vec<u64> = of_good.iter().map(|line| line["event"].as_u64().unwrap()).collect();
    events.sort_unstable();
    assert!(events.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn clients_of_the_metrics_that_say_nothing_are_closed() {
    let port = free_port();
    let gone = camera("gone", &format!("rtsp://127.0.0.1:{}/x", free_port()), "");
    let mut watch = Watch::start(&(config(&format!("metrics = '127.0.0.1:{port}'")) + &gone));
    watch.until_log("next try");
    let mut idle: Vec<_> =
        (0..100).map(|_| std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let start = Instant::now();
    let text = scrape(port);
    assert!(
        text.contains("gclip_camera_last_failure_seconds{camera=\"gone\",reason=\"no connection to"),
        "{text}"
    );
    assert!(
        text.contains("process_start_time_seconds ") && text.contains("process_resident_memory_bytes "),
        "{text}"
    );
    for stream in &mut idle {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // An answer that it has waited too long, or nothing.
        assert!(stream.read_to_end(&mut vec![]).is_ok());
    }
    assert!(start.elapsed() < Duration::from_secs(45), "{:?}", start.elapsed());
    watch.stop();
}

#[test]
fn cameras_and_outputs_are_tried_on_request() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    let gate = camera("gate", &server.url("gate"), "");
    let file = "[output.file]\ntype = 'file'\npath = 'lines.jsonl'\n";
    let check = |text: String| {
        std::fs::write(&path, text).unwrap();
        let output = command(&path).args(["--check", "--connect"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
    };
    let (code, said) = check(config("") + file + &gate);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("camera.gate: H264 160x90, ") && said.contains("output.file: "), "{said}");
    assert!(!folder.path().join("lines.jsonl").exists());
    let broker = format!("[output.broker]\ntype = 'mqtt'\nbroker = 'mqtt://127.0.0.1:{}'\n", free_port());
    let gone = camera("gone", &server.url("gone"), "");
    let (code, said) = check(config("") + &broker + &gate + &gone);
    assert_eq!(code, Some(1), "{said}");
    for words in
        ["camera.gone: NOT REACHED: ", "is not there (404)", "output.broker: NOT REACHED: ", "2 of 3"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn key_frames_alone_are_decoded_on_wish() {
    let Some(mut server) = Server::start() else { return };
    // A key frame a second.
    server.serve("gate", (160, 90), 20);
    let keys = camera("keys", &server.url("gate"), "decode = 'keyframes'");
    let all = camera("all", &server.url("gate"), "");
    let mut watch = Watch::start(&(config("") + ALL + &keys + &all));
    watch.until_cameras(&["keys", "all"], "connected");
    let first = watch.until_frames("keys", 1);
    let last = watch.until_frames("keys", 4);
    let seconds = (last["pts"].as_f64().unwrap() - first["pts"].as_f64().unwrap()) / 1e9;
    assert!((3.0..6.0).contains(&seconds), "4 key frames in {seconds} s");
    let count = |name: &str| {
        watch.seen.iter().filter(|line| line.contains(&format!("\"{name}\",\"type\":\"frame\""))).count()
    };
    assert!(count("all") > 5 * count("keys"), "{} and {}", count("all"), count("keys"));
    watch.stop();
}
