// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface behind the page: what is shown, changed and refused, over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::rtsp::{Server, free_port};

struct Browser {
    port: u16,
    /// Further lines of the head.
    head: String,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The sentence that says why not.
    #[track_caller]
    fn refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()["error"].as_str().unwrap().to_string()
    }
}

impl Browser {
    fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> Reply {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let host = if more.contains("Host:") { "" } else { "Host: localhost\r\n" };
        let question = format!(
            "{method} {path} HTTP/1.1\r\n{host}{}{more}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.head,
            body.len()
        );
        stream.write_all(question.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: answer[end + 4..].to_vec() }
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "")
    }

    fn send(&self, method: &str, path: &str, body: Value) -> Reply {
        self.ask(method, path, "Content-Type: application/json\r\n", &body.to_string())
    }

    #[track_caller]
    fn works(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.send(method, path, body);
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    /// Looks until something is so.
    #[track_caller]
    fn until(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let reply = self.get(path);
            if reply.status == 200 && wanted(&reply.json()) {
                return reply.json();
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {}", String::from_utf8_lossy(&reply.body));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn labels(view: &Value) -> Vec<&str> {
    view["masks"]["regions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|region| region["label"].as_str().unwrap())
        .collect()
}

#[test]
fn cameras_are_seen_changed_and_saved_while_they_play() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    server.serve("yard", (176, 144), 10);
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let file = config(&format!("# the page\nweb = {{ listen = '127.0.0.1:{port}' }}"))
        + &camera("gate", &server.url("gate"), "prompts = 'cat; dog' # for now");
    let mut watch = Watch::start(&file);
    watch.until_camera("gate", "connected");
    here.until("/api/cameras", "the gate plays", |all| all["cameras"][0]["state"] == "playing");

    // What it shows.
    let view = here.until("/api/cameras/gate/view", "there are masks", |view| view["masks"].is_object());
    let jpeg = BASE64_STANDARD.decode(view["jpeg"].as_str().unwrap()).unwrap();
    assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
    let ids = BASE64_STANDARD.decode(view["masks"]["ids"].as_str().unwrap()).unwrap();
    assert!(ids.starts_with(b"\x89PNG"));
    assert!(labels(&view).iter().all(|label| ["cat", "dog"].contains(label)), "{view}");
    let number = view["number"].as_u64().unwrap();
    let next = here.get(&format!("/api/cameras/gate/view?after={number}")).json();
    assert!(next["number"].as_u64().unwrap() > number, "a newer one");
    assert!(here.get("/api/cameras/gate/picture").body.starts_with(&[0xff, 0xd8]));

    // Other words, while it plays.
    let before = here.works("GET", "/api/cameras/gate", json!({}));
    assert_eq!((&before["keys"]["prompts"], &before["saved"]), (&json!("cat; dog"), &json!(true)));
    assert!(before["keys"].get("url").is_none());
    let said = here.works("PATCH", "/api/cameras/gate", json!({ "prompts": "tree" }));
    assert!(said["version"].as_u64() > before["version"].as_u64() && said["saved"] == false, "{said}");
    here.until("/api/cameras/gate/view", "it looks for trees", |view| labels(view) == ["tree"]);
    let nothing_is_sure = json!({ "prompts": "tree; sky", "prompt-thresholds": "tree=1, sky=1" });
    here.works("PATCH", "/api/cameras/gate", nothing_is_sure);
    here.until("/api/cameras/gate/view", "no pixel is sure", |view| labels(view).is_empty());
    here.send("PATCH", "/api/cameras/gate", json!({ "prompts": "tree" })).refusal(422);
    here.works("PATCH", "/api/cameras/gate", json!({ "prompts": "tree", "prompt-thresholds": null }));
    here.until("/api/cameras/gate/view", "trees again", |view| labels(view) == ["tree"]);
    let stale = format!("Content-Type: application/json\r\nIf-Match: \"{}\"\r\n", before["version"]);
    let reply = here.ask("PATCH", "/api/cameras/gate", &stale, "{\"prompts\":\"sky\"}");
    assert!(reply.refusal(409).contains("somebody else"));

    // A thousand words take the model a while, and hold nobody up.
    let many: Vec<String> = (0..1000).map(|number| format!("thing {number}")).collect();
    here.works("PATCH", "/api/cameras/gate", json!({ "prompts": many.join("; ") }));
    let is_one = |label: &&str| label.starts_with("thing");
    let path = "/api/cameras/gate/view";
    here.until(path, "one of a thousand", |view| labels(view).first().is_some_and(is_one));
    here.works("PATCH", "/api/cameras/gate", json!({ "prompts": "tree" }));

    let now = here.works("GET", "/api/cameras/gate", json!({}));
    assert_eq!(now["now"]["counts"]["connections"], 1, "it was not disturbed");

    // One more camera, and one less.
    let url = server.url("yard");
    here.works("POST", "/api/cameras", json!({ "name": "yard", "url": url, "prompts": "sky", "fps": 5 }));
    watch.until_camera("yard", "connected");
    assert!(
        here.send("POST", "/api/cameras", json!({ "name": "yard", "url": url }))
            .refusal(422)
            .contains("yard")
    );
    here.works("DELETE", "/api/cameras/yard", json!({}));
    watch.until_camera("yard", "lost");
    assert!(here.get("/api/cameras/yard/view").refusal(404).contains("yard"));

    // The file keeps what is in it.
    here.works("POST", "/api/config/save", json!({}));
    let path = watch.path("cameras.toml");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        file.replace("'cat; dog' # for now", "\"tree\" # for now")
    );
    std::fs::write(&path, file.replace("cat; dog", "sky")).unwrap();
    assert!(here.send("POST", "/api/config/save", json!({})).refusal(409).contains("by hand"));
    here.works("POST", "/api/config/reload", json!({}));
    here.until("/api/cameras/gate/view", "it looks for the sky", |view| labels(view) == ["sky"]);

    // What has happened.
    let events = here.get("/api/events?camera=yard").json();
    let states: Vec<&Value> =
        events["events"].as_array().unwrap().iter().map(|event| &event["line"]["state"]).collect();
    assert_eq!(states, ["connected", "lost"]);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /api/events/live?camera=gate HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut told = String::new();
    while !told.contains("\"connected\"") {
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        assert!(length > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    assert!(told.contains("text/event-stream") && told.contains("id: 1"), "{told}");
    watch.stop();
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let file = config(&format!("web = {{ listen = '127.0.0.1:{port}' }}"))
        + &camera("gate", &format!("rtsp://me:hunter2@127.0.0.1:{}/x", free_port()), "");
    let mut watch = Watch::start(&file);
    watch.until_camera("gate", "lost");
    let patch = |body: Value| here.send("PATCH", "/api/cameras/gate", body).refusal(422);
    for (body, key) in [
        (json!({ "fps": -1 }), "camera.gate.fps"),
        (json!({ "zones": "door=0,0 1,1" }), "camera.gate.zones"),
        (json!({ "prompts": "" }), "camera.gate.prompts"),
        (json!({ "prompts": 7 }), "prompts"),
        (json!({ "prompt-thresholds": "nobody=0.5" }), "camera.gate.prompt-thresholds"),
        (json!({ "colour": "red" }), "colour"),
        (json!({ "name": "yard" }), "camera.gate.name"),
        (json!({ "segment": { "threshold": 7 } }), "threshold"),
        (json!({ "url": "http://x" }), "camera.gate.url"),
        (json!({ "prompts": null, "url": null }), "url"),
    ] {
        let why = patch(body.clone());
        assert!(why.contains(key) && !why.contains('\n') && !why.contains("hunter2"), "{body}: {why}");
    }
    assert!(here.send("PATCH", "/api/cameras/hall", json!({ "fps": 1 })).refusal(404).contains("hall"));
    assert!(here.send("DELETE", "/api/cameras/gate", json!({})).refusal(422).contains("[[camera]]"));
    let typed = "Content-Type: application/json\r\n";
    here.ask("PATCH", "/api/cameras/gate", typed, "{").refusal(400);
    here.ask("PATCH", "/api/cameras/gate", typed, "[]").refusal(422);
    here.ask("PATCH", "/api/cameras/gate", "Content-Type: text/plain\r\n", "{}").refusal(415);
    here.ask("PATCH", "/api/cameras/gate", typed, &format!("\"{}\"", "x".repeat(1 << 20))).refusal(413);
    here.ask("PATCH", "/api/cameras/gate", &format!("{typed}If-Match: x\r\n"), "{}").refusal(400);
    here.ask("PATCH", "/api/cameras/gate", &format!("{typed}Origin: http://evil.example\r\n"), "{}")
        .refusal(403);
    here.ask("GET", "/api/cameras", "Host: evil.example\r\n", "").refusal(403);
    here.get("/api/other").refusal(404);
    here.send("PUT", "/api/cameras/gate", json!({})).refusal(405);
    let after = here.get("/api/cameras/gate").json();
    assert_eq!((&after["version"], &after["saved"]), (&json!(1), &json!(true)));
    assert!(
        !after.to_string().contains("hunter2") && after["address"].as_str().unwrap().contains("127.0.0.1")
    );
    let page = here.get("/");
    assert!(
        page.status == 200 && page.head.contains("content-security-policy: default-src 'none'"),
        "{}",
        page.head
    );
    let start = Instant::now();
    while here.get("/readyz").status != 200 || here.get("/healthz").status != 200 {
        assert!(start.elapsed() < PATIENCE, "{:?}", here.get("/readyz").body);
        std::thread::sleep(Duration::from_millis(50));
    }
    watch.stop();
}

#[test]
fn with_a_token_nothing_is_told_without_it() {
    let port = free_port();
    let token = "correct horse battery staple";
    let stranger = Browser { port, head: String::new() };
    let file = config(&format!("web = {{ listen = '127.0.0.1:{port}', token = '{token}' }}"))
        + &camera("gate", &format!("rtsp://127.0.0.1:{}/x", free_port()), "");
    let mut watch = Watch::start(&file);
    watch.until_camera("gate", "lost");
    for path in
        ["/api/cameras", "/api/cameras/gate", "/api/cameras/gate/view", "/api/events", "/api/events/live"]
    {
        stranger.get(path).refusal(401);
    }
    assert_eq!(stranger.get("/api/session").json(), json!({ "token": true }));
    stranger.send("POST", "/api/session", json!({ "token": "correct horse" })).refusal(401);
    stranger.send("POST", "/api/session", json!({ "word": "correct horse" })).refusal(400);
    let program = Browser { port, head: format!("Authorization: Bearer {token}\r\n") };
    assert_eq!(program.get("/api/cameras").json()["cameras"][0]["name"], "gate");
    let login = stranger.send("POST", "/api/session", json!({ "token": token }));
    let cookie = login.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let browser = Browser { port, head: format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap()) };
    assert_eq!(browser.get("/api/cameras").status, 200);
    watch.stop();
    assert!(!watch.stderr().contains(token));
}
