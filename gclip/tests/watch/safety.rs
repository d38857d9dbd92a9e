// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may ask, and how much: passwords, TLS, questions that do not end, and too many of them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Browser;
use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::certificate;
use gclip_testing::rtsp::{Server, free_port};

fn nobody() -> String {
    camera("gate", &format!("rtsp://127.0.0.1:{}/x", free_port()), "")
}

/// What `gclip watch --hash-password` says to a password.
pub fn hashed(password: &str) -> Result<String, String> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .args(["watch", "--hash-password"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn a_password_lets_a_browser_in() {
    assert!(hashed("short\n").unwrap_err().contains("8 characters"));
    let line = hashed("correct horse\n").unwrap();
    assert!(line.starts_with("password = \"$argon2id$") && line.ends_with("\"\n"), "{line}");
    let port = free_port();
    let stranger = Browser { port, head: String::new() };
    let web = format!("[web]\nlisten = '127.0.0.1:{port}'\nuser = 'anna'\n{line}");
    let mut watch = Watch::start(&(config("") + &web + &nobody()));
    watch.until_camera("gate", "lost");
    assert_eq!(stranger.get("/api/session").json(), json!({ "token": false, "password": true }));
    assert!(stranger.get("/api/cameras").refusal(401).contains("/api/session"));
    let log_in = |user: &str, password: &str| {
        stranger.send("POST", "/api/session", json!({ "user": user, "password": password }))
    };
    for (user, password) in [("anna", "correct horsf"), ("otto", "correct horse"), ("", "")] {
        let start = Instant::now();
        assert!(log_in(user, password).refusal(401).contains("user or password"));
        assert!(start.elapsed() >= Duration::from_secs(1), "who tries waits");
    }
    stranger.send("POST", "/api/session", json!({ "token": "" })).refusal(401);
    stranger.send("POST", "/api/session", json!({ "user": "anna" })).refusal(422);
    let login = log_in("anna", "correct horse");
    assert_eq!(login.status, 200, "{}", login.head);
    let cookie = login.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
    let browser = Browser { port, head: format!("Cookie: {}\r\n", cookie.split(';').next().unwrap()) };
    assert_eq!(browser.get("/api/cameras").status, 200);
    // Many at once do not get more tries.
    let start = Instant::now();
    let tries: Vec<u16> = std::thread::scope(|scope| {
        let try_one =
            || stranger.send("POST", "/api/session", json!({ "user": "anna", "password": "x" })).status;
        let threads: Vec<_> = (0..20).map(|_| scope.spawn(try_one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let wrong = tries.iter().filter(|status| **status == 401).count();
    assert!(tries.iter().all(|status| [401, 429].contains(status)) && wrong >= 1, "{tries:?}");
    assert!(start.elapsed() >= Duration::from_secs(wrong as u64), "one a second: {tries:?}");
    watch.stop();
    assert!(!watch.stderr().contains("argon2id"));
}

#[test]
fn the_page_is_served_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = certificate(folder.path(), "page");
    let port = free_port();
    let web = format!("[web]\nlisten = '127.0.0.1:{port}'\ncertificate = '{file}'\nkey = '{key}'\n");
    let token = "token = 'correct horse battery staple'\n";
    let mut watch = Watch::start(&(config("") + &web + token + &nobody()));
    watch.until_camera("gate", "lost");
    watch.until_log("https://127.0.0.1");
    let trusted = ureq::tls::Certificate::from_pem(&std::fs::read(&file).unwrap()).unwrap();
    let tls =
        ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::new_with_certs(&[trusted])).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    let mut page = agent.get(url("/")).call().unwrap();
    assert!(page.body_mut().read_to_string().unwrap().contains("<html"));
    let body = json!({ "token": "correct horse battery staple" });
    let login = agent.post(url("/api/session")).send_json(&body).unwrap();
    let cookie = login.headers()["set-cookie"].to_str().unwrap().to_string();
    assert!(cookie.contains("HttpOnly") && cookie.contains("; Secure"), "{cookie}");
    // Without TLS there is no answer, and no harm.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(agent.get(url("/healthz")).call().unwrap().status(), 200);
    watch.stop();
}

#[test]
fn what_the_page_may_load_and_who_may_change_anything() {
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let web = format!("[web]\nlisten = '127.0.0.1:{port}'\n");
    let mut watch = Watch::start(&(config("") + &web + &nobody()));
    watch.until_camera("gate", "lost");
    for path in ["/", "/app.js", "/api/cameras", "/api/nothing"] {
        let head = here.get(path).head;
        for line in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
             media-src blob:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(line), "{path}: {line} in {head}");
        }
    }
    // What a form, a picture or a script of another page can send.
    let evil = "Origin: http://evil.example\r\n";
    let json = "Content-Type: application/json\r\n";
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let head = format!("Content-Type: {kind}\r\n");
        here.ask("POST", "/api/config/reload", &head, "{}").refusal(415);
        here.ask("POST", "/api/config/reload", &format!("{head}{evil}"), "{}").refusal(403);
    }
    here.ask("POST", "/api/config/reload", "", "").refusal(415);
    here.ask("DELETE", "/api/cameras/gate", &format!("{json}{evil}"), "").refusal(403);
    here.ask("POST", "/api/config/reload", &format!("{json}Origin: null\r\n"), "{}").refusal(403);
    here.ask("POST", "/api/config/reload", &format!("{json}Host: cameras.evil.example\r\n"), "{}")
        .refusal(403);
    assert_eq!(
        here.ask("POST", "/api/config/reload", &format!("{json}Origin: http://localhost\r\n"), "{}").status,
        200
    );
    assert_eq!(here.get("/api/cameras/gate").json()["version"], 1);
    watch.stop();
}

#[test]
fn questions_that_do_not_end_and_a_thousand_clients_disturb_no_camera() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let web = format!("[web]\nlisten = '127.0.0.1:{port}'\n");
    let mut watch = Watch::start(&(config("") + &web + &camera("gate", &server.url("gate"), "")));
    watch.until_camera("gate", "connected");
    let frames = || here.get("/api/cameras").json()["cameras"][0]["counts"]["frames"].as_u64().unwrap();

    // A head and a body that come a byte at a time, and nothing at all.
    let head = "PATCH /api/cameras/gate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let mut slow_body = TcpStream::connect(("127.0.0.1", port)).unwrap();
    slow_body.write_all(format!("{head}Content-Length: 1000\r\n\r\n").as_bytes()).unwrap();
    let mut slow_head = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
    for stream in [&slow_body, &slow_head, &silent] {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    }
    let (start, mut answers, mut ended) = (Instant::now(), [vec![], vec![], vec![]], [None; 3]);
    let mut drip = head.bytes().cycle();
    while ended.contains(&None) {
        assert!(start.elapsed() < PATIENCE, "{ended:?}");
        let byte = [drip.next().unwrap()];
        // Writing to one that has been closed is no surprise.
        let _ = slow_head.write_all(&byte);
        let _ = slow_body.write_all(b" ");
        for (index, stream) in [&mut slow_body, &mut slow_head, &mut silent].into_iter().enumerate() {
            let mut bytes = [0; 1024];
            match stream.read(&mut bytes) {
                Ok(0) => ended[index] = ended[index].or(Some(start.elapsed())),
                Ok(length) => answers[index].extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => ended[index] = ended[index].or(Some(start.elapsed())),
            }
        }
    }
    let answer = String::from_utf8_lossy(&answers[0]);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("10 seconds"), "{answer}");
    for time in ended.into_iter().flatten() {
        assert!((5.0..30.0).contains(&time.as_secs_f64()), "{time:?}");
    }

    // A thousand that say nothing.
    let before = frames();
    let crowd: Vec<TcpStream> =
        (0..1000).map_while(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    assert!(crowd.len() >= 900, "only {} connections", crowd.len());
    let refused = here.get("/api/cameras");
    assert!(
        refused.refusal(503).contains("too many") && refused.head.contains("Retry-After"),
        "{}",
        refused.head
    );
    let start = Instant::now();
    while here.try_get("/healthz").is_none_or(|reply| reply.status != 200) {
        assert!(start.elapsed() < PATIENCE, "they keep their places");
        std::thread::sleep(Duration::from_millis(200));
    }
    let (passed, came) = (start.elapsed().as_secs_f64(), frames() - before);
    assert!(came as f64 > 8.0 * passed, "{came} frames in {passed} s");
    drop(crowd);

    // One that asks without a pause.
    let statuses: Vec<u16> = (0..300).map(|_| here.get("/api/session").status).collect();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert!(refused > 0 && statuses[..50].iter().all(|status| *status == 200), "{refused} of 300");
    std::thread::sleep(Duration::from_secs(2));
    // Several at once: each waits for its answer.
    let change = || {
        let reply = here.send("PATCH", "/api/cameras/hall", json!({ "fps": 1 }));
        assert!(
            reply.status == 404 || reply.status == 429 && reply.head.contains("retry-after: 1"),
            "{}",
            reply.head
        );
        reply.status
    };
    let refused: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..16).map(|_| scope.spawn(|| (0..20).filter(|_| change() == 429).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((1..=320 - 60).contains(&refused), "{refused} of 320");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(here.get("/api/cameras").json()["cameras"][0]["counts"]["connections"], Value::from(1));
    watch.stop();
}
