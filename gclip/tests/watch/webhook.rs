// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines by POST to a server of the test, which is away, slow and choosy.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::rtsp::Server;

const SECRET: &str = "wh-s3cret";

/// One request: its headers in lower case, and its body.
type Request = (Vec<String>, Vec<u8>);

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let (mut headers, mut line) = (vec![], String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        if line.trim().is_empty() {
            break;
        }
        headers.push(line.trim().to_string());
    }
    let length = headers.iter().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")
            .map(|length| length.trim().parse::<usize>().unwrap())
    });
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    Some((headers, body))
}

/// Requests that have come, each with the status that it was answered with.
type Received = Arc<Mutex<Vec<(u16, Request)>>>;

/// Answers the requests with these numbers, one after the other, and then with 204.
fn receive(answers: &'static [u16]) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook/t0ken", listener.local_addr().unwrap());
    let received: Received = Arc::default();
    let into = received.clone();
    std::thread::spawn(move || {
        let mut answers = answers.iter();
        for mut stream in listener.incoming().flatten() {
            while let Some(request) = read(&stream) {
                let status = answers.next().copied().unwrap_or(204);
                into.lock().unwrap().push((status, request));
                if write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").is_err() {
                    break;
                }
            }
        }
    });
    (url, received)
}

#[test]
fn lines_are_signed_sent_again_and_in_order() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 15);
    let (url, received) = receive(&[204, 500, 503, 400, 204, 429]);
    let outputs = format!(
        "[output.hook]\ntype = 'webhook'\nwhat = 'all'\nurl = '{url}'\nsecret = '{SECRET}'\n\
         authorization = 'Bearer hook-t0ken'\n[output.lines]\ntype = 'stdout'\nwhat = 'all'\n"
    );
    let mut watch = Watch::start(&(config("") + &outputs + &camera("gate", &server.url("gate"), "")));
    watch.until_frames("gate", 30);
    watch.until_log("it answers 400: 1 lines dropped");
    let start = Instant::now();
    while received.lock().unwrap().len() < 30 {
        assert!(start.elapsed() < PATIENCE, "{}", watch.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    watch.stop();
    assert!(!watch.stderr().contains("t0ken"), "the path of a webhook is a secret: {}", watch.stderr());
    assert!(watch.stderr().contains("it answers 500; lines wait for it"), "{}", watch.stderr());

    let received = received.lock().unwrap();
    let event = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["event"].as_u64().unwrap();
    for (_, (headers, body)) in received.iter() {
        let mut hmac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        hmac.update(body);
        let digits: String = hmac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let has = |wanted: &str| headers.iter().any(|header| header.eq_ignore_ascii_case(wanted));
        assert!(has(&format!("X-Hub-Signature-256: sha256={digits}")), "{headers:?}");
        assert!(
            has("Authorization: Bearer hook-t0ken") && has("Content-Type: application/json"),
            "{headers:?}"
        );
        assert!(!body.ends_with(b"\n"));
    }
    let tried: Vec<u64> = received.iter().map(|(_, (_, body))| event(body)).collect();
    assert_eq!((tried[1], tried[2]), (tried[3], tried[3]), "the same line until it is taken or refused");
    assert!(!tried[4..].contains(&tried[3]), "what is refused is not sent again");
    // Frames and what they change come from two threads: they may change places.
    let mut taken: Vec<u64> =
        received.iter().filter(|(status, _)| *status == 204).map(|(_, (_, body))| event(body)).collect();
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "none twice: {taken:?}");
    let lines = watch.seen.len();
    assert_eq!(taken.len() + 1, lines, "all but the refused one");
}
