// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cameras end sessions of which they have not heard for as long as they said; RTCP's reports do not count with all.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::harness::{Watch, camera, config};
use gclip_testing::rtsp::Server;

const ALL: &str = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n";
/// What a camera bears without a request.
const PATIENCE: Duration = Duration::from_secs(7);

/// Stands before a camera and ends a connection without requests for `PATIENCE`; returns its port, and how many there have been
/// after the one to play.
fn impatient(camera: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", camera)).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            let counter = counter.clone();
            std::thread::spawn(move || listen(client, server, &counter));
        }
    });
    (port, requests)
}

/// Hands on what the client says, as long as there are requests among it.
fn listen(mut client: TcpStream, mut server: TcpStream, requests: &AtomicUsize) {
    let (mut bytes, mut plays, mut last) = ([0; 4096], false, std::time::Instant::now());
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while last.elapsed() < PATIENCE {
        let length = match client.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => length,
            Err(_) => continue,
        };
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.contains(" RTSP/1.0\r\n") {
            last = std::time::Instant::now();
            requests.fetch_add(usize::from(plays), Ordering::Relaxed);
            plays |= text.contains("PLAY ");
        }
        if server.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

#[test]
fn a_camera_hears_that_its_pictures_are_wanted() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let (port, requests) = impatient(server.port);
    let gate = camera("gate", &format!("rtsp://127.0.0.1:{port}/gate"), "");
    let mut watch = Watch::start(&(config("") + ALL + &gate));
    let end = 2.5 * PATIENCE.as_nanos() as f64;
    watch.until("it plays for longer than the camera's patience", |line| {
        assert!(line["state"] != "lost", "{line}");
        line["type"] == "frame" && line["running_time"].as_f64().is_some_and(|time| time > end)
    });
    let requests = requests.load(Ordering::Relaxed);
    assert!((3..=8).contains(&requests), "{requests} requests in 17.5 s");
    watch.stop();
}
