// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cameras that talk without end, and sources whose rate is not known: none may hold a thread, a core or the program.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::harness::{Watch, camera, command, config};
use gclip_testing::rtsp::Server;

const ALL: &str = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n";

/// Something that listens, and answers each connection's first request by this; returns its address and how many
/// connections there were.
fn answering(answer: impl Fn(TcpStream, &str) + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (count, answer, own) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer), address.clone());
    let counter = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
            let (answer, own) = (answer.clone(), own.clone());
            std::thread::spawn(move || answer(stream, &own));
        }
    });
    (address, count)
}

/// The number that an answer has to repeat; `None` at the end of the connection.
fn next_request(stream: &mut TcpStream) -> Option<String> {
    next_question(stream).map(|(_, number)| number)
}

/// What is asked, and that number.
fn next_question(stream: &mut TcpStream) -> Option<(String, String)> {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let number = request.lines().find_map(|line| line.strip_prefix("CSeq: "))?;
    Some((request.split(' ').next()?.to_string(), number.to_string()))
}

/// A camera that has video, answers SETUP by this, and closes the connection after PLAY.
fn short(setup: &'static str) -> String {
    let (address, _) = answering(move |mut stream, _| {
        while let Some((method, number)) = next_question(&mut stream) {
            let video = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:1\r\n";
            let rest = match method.as_str() {
                "OPTIONS" => "200 OK\r\nPublic: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_string(),
                "DESCRIBE" => {
                    format!(
                        "200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{video}",
                        video.len()
                    )
                }
                "SETUP" => format!("{setup}\r\n\r\n"),
                _ => "200 OK\r\nSession: 7\r\n\r\n".to_string(),
            };
            let (code, headers) = rest.split_once("\r\n").unwrap();
            if write!(stream, "RTSP/1.0 {code}\r\nCSeq: {number}\r\n{headers}").is_err() || method == "PLAY" {
                return;
            }
        }
    });
    format!("rtsp://{address}/x")
}

#[test]
fn a_camera_that_refuses_or_leaves_is_told_as_that() {
    let refuses = short("461 Unsupported Transport");
    let leaves = short("200 OK\r\nSession: 7\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1");
    let cameras = camera("refuses", &refuses, "") + &camera("leaves", &leaves, "timeout = 30");
    let mut watch = Watch::start(&(config("") + ALL + &cameras));
    let start = Instant::now();
    watch.until_log(&format!("refuses: {refuses} does not send by tcp: try protocols = \"any\" or \"udp\""));
    watch.until_log(&format!("leaves: {leaves} has closed the connection before the first picture"));
    assert!(start.elapsed() < Duration::from_secs(28), "not after the timeout");
    watch.stop();

    let (mute, _) =
        answering(|mut stream, _| while stream.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {});
    let cameras = cameras + &camera("mute", &format!("rtsp://{mute}/x"), "timeout = 2.5");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    std::fs::write(&path, config("") + &cameras).unwrap();
    let start = Instant::now();
    let output = command(&path).args(["--check", "--connect"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    for words in [
        format!("camera.refuses: NOT REACHED: {refuses} does not send by tcp: "),
        format!("camera.leaves: NOT REACHED: {leaves} has closed the connection before the first picture"),
        "camera.mute: NOT REACHED: no picture for 2.5 s".to_string(),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
    assert!(start.elapsed() < Duration::from_secs(28), "not after the timeout");
}

#[test]
fn a_camera_whose_headers_never_end_is_left() {
    let Some(mut server) = Server::start() else { return };
    server.serve("good", (160, 90), 15);
    let (endless, connections) = answering(|mut stream, _| {
        let Some(number) = next_request(&mut stream) else { return };
        let _ = write!(stream, "RTSP/1.0 200 OK\r\nCSeq: {number}\r\n");
        let line = [b"X-A: ".as_slice(), &[b'b'; 4000], b"\r\n"].concat();
        while stream.write_all(&line).is_ok() {}
    });
    // It says a line now and then: no limit of bytes is ever reached.
    let (slow, _) = answering(|mut stream, _| {
        let Some(number) = next_request(&mut stream) else { return };
        let _ = write!(stream, "RTSP/1.0 200 OK\r\nCSeq: {number}\r\n");
        while stream.write_all(b"X-A: b\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let cameras = camera("good", &server.url("good"), "")
        + &camera("endless", &format!("rtsp://{endless}/x"), "timeout = 30")
        + &camera("slow", &format!("rtsp://{slow}/x"), "");
    let mut watch = Watch::start(&(config("") + ALL + &cameras));
    let lost = watch.until_camera("endless", "lost");
    assert!(lost["reason"].as_str().unwrap().contains("talks without end"), "{lost}");
    watch.until_log("slow: no picture for 3 s");
    // It is tried again: its thread is free.
    let start = Instant::now();
    while connections.load(Ordering::Relaxed) < 3 {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", watch.stderr());
        watch.until_frames("good", 1);
    }
    watch.stop();
}

#[test]
fn a_camera_that_sends_round_in_a_circle_is_left() {
    let (circle, connections) = answering(|mut stream, own| {
        while let Some(number) = next_request(&mut stream) {
            let to = format!("RTSP/1.0 302 Moved\r\nCSeq: {number}\r\nLocation: rtsp://{own}/circle\r\n\r\n");
            if stream.write_all(to.as_bytes()).is_err() {
                return;
            }
        }
    });
    let gone = camera("circle", &format!("rtsp://{circle}/circle"), "retry-min = 60\nretry-max = 60");
    let mut watch = Watch::start(&(config("") + ALL + &gone));
    let lost = watch.until_camera("circle", "lost");
    assert!(lost["reason"].as_str().unwrap().contains("from one address to the next"), "{lost}");
    let connections = connections.load(Ordering::Relaxed);
    assert!(connections < 200, "{connections} connections");
    watch.stop();
}

/// `videorate` ended the program on the first of them, and never let the last ones play.
#[test]
fn a_rate_is_kept_whatever_the_camera_announces() {
    let Some(mut server) = Server::start() else { return };
    let caps = |rest: &str| {
        format!("capssetter join=false replace=true caps=\"image/jpeg,width=160,height=96{rest}\"")
    };
    let source = |rate: u32| {
        format!("videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=96,framerate={rate}/1")
    };
    let jpeg = |rate: u32, rest: &str| {
        format!("( {} ! jpegenc ! {} ! rtpjpegpay name=pay0 )", source(rate), caps(rest))
    };
    let cameras = [
        ("none", jpeg(20, "")),
        ("zero", jpeg(20, ",framerate=0/1")),
        ("low", jpeg(20, ",framerate=1/1")),
        ("high", jpeg(20, ",framerate=90000/1")),
        ("vp8", format!("( {} ! vp8enc deadline=1 ! rtpvp8pay name=pay0 )", source(20))),
        ("slow", jpeg(2, ",framerate=2/1")),
    ];
    let mut written = config("") + ALL;
    for (name, launch) in &cameras {
        server.say(&format!("launch {name} {launch}"));
        written += &camera(name, &server.url(name), "fps = 5");
    }
    let mut watch = Watch::start(&written);
    let names = cameras.each_ref().map(|(name, _)| *name);
    watch.until_cameras(&names, "connected");
    for name in names {
        let first = watch.until_frames(name, 1);
        let last = watch.until_frames(name, 8);
        let seconds = (last["pts"].as_f64().unwrap() - first["pts"].as_f64().unwrap()) / 1e9;
        let least = if name == "slow" { 3.5 } else { 1.3 };
        assert!(seconds > least, "{name}: 8 frames in {seconds} s");
    }
    assert!(!watch.stderr().contains("lost"), "{}", watch.stderr());
    watch.stop();
}
