// SPDX-License-Identifier: MIT OR Apache-2.0
//! A camera that refuses the password is left in peace: many lock out whoever is wrong too often.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, Watch, camera, config};
use super::metrics::{scrape, value};
use gclip_testing::rtsp::free_port;

/// Wants a password and takes none; returns its address and when it was given one.
fn locked() -> (String, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let given = tries.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let given = given.clone();
            std::thread::spawn(move || {
                let (mut request, mut byte) = (Vec::new(), [0]);
                while stream.read_exact(&mut byte).is_ok() {
                    request.push(byte[0]);
                    if !request.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let text = String::from_utf8_lossy(&std::mem::take(&mut request)).into_owned();
                    let number =
                        text.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0").to_string();
                    if text.contains("\r\nAuthorization: ") {
                        given.lock().unwrap().push(Instant::now());
                    }
                    let answer = format!(
                        "RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\n\
                         WWW-Authenticate: Digest realm=\"cam\", nonce=\"abc\"\r\n\r\n"
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, tries)
}

/// Waits until a camera that nobody listens for has been tried in vain so often.
fn until_failures(port: u16, name: &str, count: f64) {
    let start = Instant::now();
    let failures = format!("gclip_camera_failures_total{{camera=\"{name}\"}}");
    while value(&scrape(port), &failures).unwrap_or(0.0) < count {
        assert!(start.elapsed() < PATIENCE, "{name} is not tried");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_wrong_password_is_tried_seldom() {
    let (address, tries) = locked();
    let (long, long_tries) = locked();
    let port = free_port();
    let wait = 4;
    let cameras = camera("gone", &format!("rtsp://127.0.0.1:{}/x", free_port()), "")
        + &camera("short", &format!("rtsp://me:wr0ng@{address}/x"), &format!("retry-login = {wait}"))
        + &camera("long", &format!("rtsp://me:wr0ng@{long}/x"), "");
    let mut watch = Watch::start(&(config(&format!("metrics = '127.0.0.1:{port}'")) + &cameras));
    watch.until_log("short: rtsp://");
    watch.until_log("refuses user or password (401)");
    // It is tried again, and not before its time.
    until_failures(port, "short", 2.0);
    let first = tries.lock().unwrap()[0];
    let gap = tries
        .lock()
        .unwrap()
        .iter()
        .map(|at| at.duration_since(first))
        .find(|gap| *gap > Duration::from_secs(1));
    assert!(gap.is_some_and(|gap| gap >= Duration::from_secs(wait)), "{gap:?}");
    until_failures(port, "gone", 8.0);
    // Without `retry-login` it is five minutes. GStreamer would give the password eight times in a row.
    let given = long_tries.lock().unwrap().len();
    assert!((1..=2).contains(&given), "given {given} times");
    assert_eq!(value(&scrape(port), "gclip_camera_failures_total{camera=\"long\"}"), Some(1.0));
    watch.stop();
}
