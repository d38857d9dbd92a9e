// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a service manager hears: `NOTIFY_SOCKET` and `WATCHDOG_USEC` as systemd sets them.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::rtsp::free_port;

/// Messages until one of them is `wanted`, with when they came.
fn until(socket: &UnixDatagram, wanted: &str) -> Vec<(String, Instant)> {
    let mut heard = Vec::new();
    let mut message = [0; 1024];
    loop {
        let length =
            socket.recv(&mut message).unwrap_or_else(|error| panic!("no {wanted}, {error}: {heard:?}"));
        for line in String::from_utf8_lossy(&message[..length]).lines() {
            heard.push((line.to_owned(), Instant::now()));
        }
        if heard.iter().any(|(line, _)| line == wanted) {
            return heard;
        }
    }
}

#[test]
fn it_is_ready_then_alive_then_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let gone = camera("gone", &format!("rtsp://127.0.0.1:{}/gone", free_port()), "");
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "2000000")];
    let mut watch = Watch::start_with(&(config("") + &gone), &environment);
    let heard = until(&socket, "READY=1");
    assert_eq!(heard.len(), 1, "nothing before it runs: {heard:?}");
    let mut last = heard[0].1;
    for _ in 0..3 {
        let fed = until(&socket, "WATCHDOG=1").pop().unwrap().1;
        assert!(fed - last < Duration::from_secs(10), "fed after {:?}", fed - last);
        last = fed;
    }
    // Held up as a program that hangs is: it is not fed any more, and once more when it goes on.
    watch.signal("STOP");
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut message = [0; 1024];
    while socket.recv(&mut message).is_ok() && last.elapsed() < Duration::from_secs(3) {}
    assert!(socket.recv(&mut message).is_err(), "a program that stands still is alive");
    watch.signal("CONT");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    until(&socket, "WATCHDOG=1");
    watch.signal("TERM");
    until(&socket, "STOPPING=1");
    assert_eq!(watch.end().code(), Some(0), "{}", watch.stderr());
}

#[test]
fn a_manager_that_does_not_listen_stops_nothing() {
    let gone = camera("gone", &format!("rtsp://127.0.0.1:{}/gone", free_port()), "");
    let mut watch = Watch::start_with(&(config("") + &gone), &[("NOTIFY_SOCKET", "/nowhere/notify")]);
    watch.until_log("service manager");
    assert!(watch.is_running());
    watch.stop();
}
