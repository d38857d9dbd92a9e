// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip video` from end to end on the demo clip: what it writes, what it prints, what it says when it cannot.

use gclip_testing::rtsp;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn gclip(folder: &Path, source: &str, arguments: &[&str]) -> Output {
    command(folder, source, arguments).output().unwrap()
}

fn command(folder: &Path, source: &str, arguments: &[&str]) -> Command {
    let demo = Path::new(gclip_testing::DEMO);
    let source = if source == "demo" { demo.join("demo.mp4").display().to_string() } else { source.into() };
    let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
    command
        .arg("video")
        .arg(source)
        .args(["--prompts", "car; road; sky", "--set", "input-size=112", "--set", "prompt-template=none"])
        .args(["--set", "device=cpu", "--model"])
        .arg(demo)
        .arg("--out")
        .arg(folder)
        .args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_run_leaves_a_video_a_picture_and_one_object_a_frame() {
    let folder = tempfile::tempdir().unwrap();
    let output = gclip(folder.path(), "demo", &["--seconds", "0.4"]);
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // 25 frames a second.
    assert!(printed.contains("10 frames in"), "{printed}");
    for row in ["road", "model", "forward", "texts encoded"] {
        assert!(printed.lines().any(|line| line.starts_with(row)), "no row {row}: {printed}");
    }
    let json = std::fs::read_to_string(folder.path().join("video.jsonl")).unwrap();
    let frames: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames.len(), 10);
    assert!(frames.iter().all(|frame| frame["regions"].as_array().is_some_and(|all| !all.is_empty())));
    let picture = image::open(folder.path().join("video.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (854, 480));
    let video = std::fs::read(folder.path().join("video.mp4")).unwrap();
    assert_eq!(&video[4..8], b"ftyp");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "nothing half-written is left");
}

/// A damaged table of the offsets between decoding and showing: frames come with equal and falling time stamps.
#[test]
fn frames_whose_time_stamps_do_not_rise_are_put_behind_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(gclip_testing::DEMO).join("demo.mp4");
    let mut file = std::fs::read(demo).unwrap();
    let table = file.windows(4).rposition(|word| word == b"ctts").expect("the demo video has B frames");
    // name, version and flags, number of entries, then (samples, offset) each; 32 bits all of them
    let offset_of_third = table + 12 + 2 * 8 + 4;
    file[offset_of_third..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
    let damaged = folder.path().join("damaged.mp4");
    std::fs::write(&damaged, file).unwrap();
    let out = folder.path().join("out");
    let output = gclip(&out, damaged.to_str().unwrap(), &["--seconds", "0.4"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("frames are missing or do not rise"), "{said}");
    let json = std::fs::read_to_string(out.join("video.jsonl")).unwrap();
    let times: Vec<u64> = json
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["pts"].as_u64().unwrap())
        .collect();
    assert!(times.len() >= 8 && times.is_sorted_by(|before, after| before < after), "{times:?}");
    assert!(std::fs::metadata(out.join("video.mp4")).unwrap().len() > 1000);
}

#[test]
fn torn_packets_do_not_crash_it() {
    let Some(mut server) = rtsp::Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    server.say("damage gate 0.3");
    let folders = [(); 3].map(|_| tempfile::tempdir().unwrap());
    let runs = folders.each_ref().map(|folder| {
        let mut run = command(folder.path(), &server.url("gate"), &["--seconds", "4"]);
        run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    for run in runs {
        let output = run.wait_with_output().unwrap();
        // A depayloader may give up on what is left.
        let said = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {said}", output.status);
    }
}

/// What a service manager, a container's end or a terminal that closes sends must not cost the recording.
#[test]
fn every_signal_that_asks_for_the_end_keeps_the_recording() {
    let Some(mut server) = rtsp::Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    for signal in ["TERM", "HUP", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = command(folder.path(), &server.url("gate"), &[]);
        let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // What is being written bears another name; the index of frames grows with them.
        let growing = || {
            let files = std::fs::read_dir(folder.path()).into_iter().flatten().flatten();
            let json = files.map(|file| file.path()).find(|path| path.to_string_lossy().contains(".jsonl"));
            json.and_then(|path| std::fs::metadata(path).ok()).is_some_and(|file| file.len() > 0)
        };
        let start = Instant::now();
        while !growing() {
            assert!(start.elapsed() < Duration::from_secs(60), "no frame");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &run.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "SIG{signal}: {}", text(&output.stderr));
        let json = std::fs::read_to_string(folder.path().join("video.jsonl")).unwrap();
        assert!(json.lines().count() > 3 && json.ends_with('\n'), "SIG{signal}: {json}");
        let video = std::fs::read(folder.path().join("video.mp4")).unwrap();
        assert!(video.windows(4).any(|name| name == b"moov"), "SIG{signal}: the video has no index");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}

#[test]
fn what_a_camera_sent_before_it_broke_off_is_kept() {
    let Some(mut server) = rtsp::Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(folder.path(), &server.url("gate"), &[]);
    let run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let start = Instant::now();
    while server.say("clients gate") == "0" {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not play");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(3));
    server.say("remove gate");
    let output = run.wait_with_output().unwrap();
    let said = text(&output.stderr);
    // A camera may also say goodbye properly.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let json = std::fs::read_to_string(folder.path().join("video.jsonl")).unwrap();
    assert!(json.lines().count() > 3, "{said}");
    let video = std::fs::read(folder.path().join("video.mp4")).unwrap();
    assert!(video.windows(4).any(|name| name == b"moov"), "the video has no index: {said}");
}

#[test]
fn results_that_cannot_all_get_into_place_leave_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["video.mp4", "video.png"] {
        std::fs::write(path(name), "old").unwrap();
    }
    // A folder that holds something cannot be replaced by a file on the way that others are.
    std::fs::create_dir(path("video.jsonl")).unwrap();
    let output = Command::new("chattr").arg("+i").arg(path("video.jsonl")).output();
    if !output.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no attributes on this file system");
        return;
    }
    let output = gclip(folder.path(), "demo", &["--seconds", "0.2"]);
    let freed = Command::new("chattr").arg("-i").arg(path("video.jsonl")).status().unwrap();
    assert!(freed.success());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("video.jsonl"), "{said}");
    for name in ["video.mp4", "video.png"] {
        assert_eq!(std::fs::read_to_string(path(name)).unwrap(), "old");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_reader_who_leaves_early_costs_nothing_but_his_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(folder.path(), "demo", &["--seconds", "0.2"]);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(run.stdout.take());
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);

    let full = std::fs::File::create("/dev/full").unwrap();
    let output = command(folder.path(), "demo", &["--seconds", "0.2"]).stdout(full).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output") && said.lines().count() == 1, "{said}");
}

/// The results are not HDR, and look paler than the source.
#[test]
fn results_of_an_hdr_source_get_a_word() {
    let folder = tempfile::tempdir().unwrap();
    for (colorimetry, words) in
        [("bt2100-pq", Some("HDR (PQ)")), ("bt2100-hlg", Some("HDR (HLG)")), ("bt709", None)]
    {
        let source = folder.path().join(format!("{colorimetry}.mp4"));
        let made = Command::new("gst-launch-1.0")
            .args(["-q", "videotestsrc", "num-buffers=3", "!"])
            .arg(format!(
                "video/x-raw,format=I420_10LE,width=160,height=96,framerate=10/1,colorimetry={colorimetry}"
            ))
            .args(["!", "x264enc", "!", "h264parse", "!", "mp4mux", "!", "filesink"])
            .arg(format!("location={}", source.display()))
            .status();
        assert!(made.unwrap().success());
        let output = gclip(&folder.path().join("out"), source.to_str().unwrap(), &[]);
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        match words {
            Some(words) => assert!(said.contains(words) && said.contains("paler"), "{colorimetry}: {said}"),
            None => assert!(said.is_empty(), "{colorimetry}: {said}"),
        }
    }
}

#[test]
fn what_is_wrong_with_a_camera_is_told_as_gclip_watch_tells_it() {
    let Some(mut server) = rtsp::Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    server.say("launch sound ( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 )");
    let folder = tempfile::tempdir().unwrap();
    let port = rtsp::free_port();
    let sound = folder.path().join("sound.ogg");
    let made = Command::new("gst-launch-1.0")
        .args(["-q", "audiotestsrc", "num-buffers=20", "!", "vorbisenc", "!", "oggmux", "!", "filesink"])
        .arg(format!("location={}", sound.display()))
        .status();
    assert!(made.unwrap().success());
    let cases = [
        (server.url("missing"), "is not there (404)"),
        (format!("rtsp://user:secret@127.0.0.1:{port}/x"), "Connection refused"),
        ("rtsp://no-such-host.invalid/x".to_string(), "there is no host called no-such-host.invalid"),
        (sound.display().to_string(), "it holds no video that can be decoded"),
        (server.url("sound"), "no video"),
    ];
    for (source, words) in cases {
        let output = gclip(&folder.path().join("out"), &source, &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{source}: {said}");
        assert!(said.contains(words) && !said.contains("secret"), "{source}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_camera_that_says_nothing_is_left_at_the_first_signal() {
    let camera = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/gate", camera.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut run = command(folder.path(), &url, &[]);
    let run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let _connection = camera.accept().unwrap();
    let start = Instant::now();
    assert!(Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped before the first frame"), "{said}");
    // GStreamer would wait for an answer for 20 seconds.
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_wrong_is_one_sentence_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let noise = folder.path().join("noise.mp4");
    std::fs::write(&noise, [7u8; 4096]).unwrap();
    let out = folder.path().join("out");
    let cases: [(&str, &[&str], &str); 5] = [
        ("no-such-file.mp4", &[], "no-such-file.mp4"),
        (noise.to_str().unwrap(), &[], "noise.mp4"),
        ("demo", &["--seconds=-1"], "--seconds -1"),
        ("demo", &["--set", "threshold=high"], "threshold"),
        ("rtsp://user:secret@127.0.0.1:9/stream", &[], "127.0.0.1:9"),
    ];
    for (source, arguments, named) in cases {
        let output = gclip(&out, source, arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{source} {arguments:?}: {said}");
        assert!(said.contains(named), "{source} {arguments:?}: {said}");
        assert!(!said.contains("secret") && !said.contains("panicked"), "{said}");
        let left = std::fs::read_dir(&out).map(|entries| entries.count()).unwrap_or_default();
        assert_eq!(left, 0, "{source} {arguments:?} left something");
    }
}
