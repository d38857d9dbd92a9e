// SPDX-License-Identifier: MIT OR Apache-2.0
//! `docs/openapi.json` and the program say the same: every route is in it, every answer that a test gets is as it says, and
//! every answer that it promises is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::client::{Browser, Reply};
use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::rtsp::{Server, free_port};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

/// An answer's description, through the reference to it.
fn resolved(response: &'static Value) -> &'static Value {
    match response["$ref"].as_str() {
        Some(place) => DOCUMENT.pointer(place.trim_start_matches('#')).expect("a reference leads somewhere"),
        None => response,
    }
}

/// Of the path of a question, such as `/api/cameras/gate?x=1`.
fn template(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('?').next().unwrap().split('/').collect();
    let fits = |template: &&String| {
        let wanted: Vec<&str> = template.split('/').collect();
        let same = |(wanted, part): (&&str, &&str)| wanted == part || wanted.starts_with('{');
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(same)
    };
    // What stands there as it is comes before what stands for something.
    let all = DOCUMENT["paths"].as_object().unwrap();
    all.keys().filter(fits).min_by_key(|template| template.matches('{').count()).map(String::as_str)
}

/// Fails if an answer is not as the document says.
#[track_caller]
pub fn check(method: &str, path: &str, reply: &Reply) {
    let Some(template) = template(path) else { return };
    let operation = &DOCUMENT["paths"][template][method.to_lowercase()];
    if operation.is_null() {
        return;
    }
    let what = format!("{method} {template} answers {}", reply.status);
    let response = operation["responses"].get(reply.status.to_string());
    let response =
        resolved(response.unwrap_or_else(|| panic!("{what}, which docs/openapi.json does not know")));
    let kind =
        reply.head.to_lowercase().lines().find_map(|line| {
            Some(line.strip_prefix("content-type: ")?.split(';').next().unwrap().to_string())
        });
    let kind = kind.unwrap_or_default();
    let content = response["content"].get(&kind).unwrap_or_else(|| panic!("{what} with content of {kind}"));
    if kind != "application/json" {
        return;
    }
    static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let make = || {
        let schema = json!({ "allOf": [content["schema"]], "components": DOCUMENT["components"] });
        Arc::new(jsonschema::validator_for(&schema).unwrap())
    };
    let validator = VALIDATORS.lock().unwrap().entry(what.clone()).or_insert_with(make).clone();
    let body = reply.json();
    if let Err(error) = validator.validate(&body) {
        panic!(
            "{what} with a body that is not as docs/openapi.json says: {error} at {}: {body}",
            error.instance_path()
        );
    }
}

/// Method, path and status of all answers that it knows.
fn promised() -> Vec<(String, &'static str, u16)> {
    let mut all = Vec::new();
    for (path, operations) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                all.push((method.to_uppercase(), path.as_str(), status.parse().unwrap()));
            }
        }
    }
    all
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/watch/web");
    let mut routes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        // Recorded results have an interface of their own.
        let is_it = file.extension().is_some_and(|kind| kind == "rs") && !file.ends_with("results.rs");
        if !is_it {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for route in text.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once('"').unwrap();
            let line = rest.lines().next().unwrap();
            let methods = ["get", "post", "put", "patch", "delete"].into_iter().filter(|method| {
                line.contains(&format!("{method}(")) || *method == "get" && line.contains("probe(")
            });
            routes.entry(path.into()).or_default().extend(methods.map(str::to_string));
        }
    }
    let described = DOCUMENT["paths"].as_object().unwrap().iter();
    let described: BTreeMap<String, BTreeSet<String>> = described
        .map(|(path, operations)| (path.clone(), operations.as_object().unwrap().keys().cloned().collect()))
        .collect();
    assert!(routes.len() > 10, "these are not the routes: {routes:?}");
    assert_eq!(routes, described);
}

struct Scene {
    /// With a camera that plays and a history; nothing is needed to ask it.
    open: Browser,
    /// With a token, without a history.
    guarded: Browser,
    token: String,
    /// An event with a snapshot.
    event: u64,
    url: String,
}

impl Scene {
    fn path(&self, template: &str, status: u16) -> String {
        let (name, number) = match status {
            404 => ("nowhere".to_string(), "99999999".to_string()),
            400 => ("gate".to_string(), "x".to_string()),
            _ => ("gate".to_string(), self.event.to_string()),
        };
        template.replace("{name}", &name).replace("{number}", &number)
    }

    fn body(method: &str, template: &str, url: &str) -> Value {
        match (method, template) {
            ("POST", "/api/cameras") => json!({ "name": "extra", "url": url, "prompts": "sky" }),
            ("PATCH", _) => json!({ "prompts": "sky" }),
            ("POST", "/api/session") => json!({ "token": "wrong" }),
            _ => json!({}),
        }
    }

    /// Brings an answer of this status about; `None` if nobody knows how.
    fn provoke(&self, method: &str, template: &str, status: u16) -> Option<Reply> {
        let path = self.path(template, status);
        let typed = "Content-Type: application/json\r\n";
        let body = Scene::body(method, template, &self.url).to_string();
        let open =
            |more: &str, body: &str| Some(self.open.ask(method, &path, &format!("{typed}{more}"), body));
        match (status, method, template) {
            (200, "POST", "/api/session") => {
                let body = json!({ "token": self.token }).to_string();
                Some(self.guarded.ask(method, &path, typed, &body))
            }
            (200, "GET", "/api/events/live") => Some(self.open.listen(&path).head()),
            (200, "DELETE", _) => Some(self.open.ask(method, "/api/cameras/extra", typed, "{}")),
            (200, ..) => open("", &body),
            (400, "POST", "/api/session") => open("", "{"),
            (400, "GET", _) => Some(self.open.get(&format!("{path}?bogus=1"))),
            (400, ..) => open("If-Match: x\r\n", &body),
            (401, ..) => Some(self.guarded.ask(method, &path, typed, &body)),
            (403, ..) => open("Host: evil.example\r\n", &body),
            (404, "GET", "/api/stats") => {
                let known = format!("Authorization: Bearer {}\r\n", self.token);
                Some(self.guarded.ask(method, &path, &known, ""))
            }
            (404, ..) => open("", &body),
            (408, ..) => Some(self.open.never_ending(method, &path)),
            (409, ..) => open("If-Match: \"0\"\r\n", &body),
            (413, ..) => open("", &format!("{{\"name\":\"{}\"}}", "x".repeat(300 << 10))),
            (415, ..) => Some(self.open.ask(method, &path, "Content-Type: text/plain\r\n", "{}")),
            (422, "POST", "/api/session") => open("", "{\"word\":1}"),
            // The file that a camera's words are in is gone.
            (422, ..) => open("", &body),
            (429 | 503, ..) => open("", &body),
            _ => None,
        }
    }
}

impl Browser {
    /// A question whose body does not come.
    fn never_ending(&self, method: &str, path: &str) -> Reply {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
        stream.write_all(format!("{method} {path} HTTP/1.1\r\n{head}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let reply = Reply::read(&answer).unwrap();
        check(method, path, &reply);
        reply
    }
}

#[test]
fn every_answer_that_is_described_is_given() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    let [port, guarded] = [free_port(), free_port()];
    let token = "correct horse battery staple".to_string();
    let web = format!("web = {{ listen = '127.0.0.1:{port}' }}\nhistory = {{}}");
    let words = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(words.path(), "cat\n").unwrap();
    let of_file = format!("enabled = false\nprompts = '@{}'", words.path().display());
    let url = server.url("gate");
    let file = config(&web) + &camera("gate", &url, "") + &camera("yard", &url, &of_file);
    let mut watch = Watch::start(&file);
    let web = format!("web = {{ listen = '127.0.0.1:{guarded}', token = '{token}' }}");
    let nobody = camera("gate", &format!("rtsp://127.0.0.1:{}/x", free_port()), "");
    let mut other = Watch::start(&(config(&web) + &nobody));
    let open = Browser { port, head: String::new() };
    let has_snapshot = |event: &Value| event["snapshot"] == true;
    let events = open
        .until("/api/events", "a snapshot", |all| all["events"].as_array().unwrap().iter().any(has_snapshot));
    let event =
        events["events"].as_array().unwrap().iter().find(|event| has_snapshot(event)).unwrap()["number"]
            .as_u64();
    other.until_camera("gate", "lost");
    let guarded = Browser { port: guarded, head: String::new() };
    let scene = Scene { open, guarded, token, event: event.unwrap(), url };

    let mut missing = Vec::new();
    let mut try_all = |statuses: &[u16], and_wait: bool| {
        for (method, template, status) in promised() {
            if !statuses.contains(&status) {
                continue;
            }
            let start = Instant::now();
            let given = loop {
                let given = scene.provoke(&method, template, status).map(|reply| reply.status);
                // Not what is wanted here: it goes away by itself.
                let is_too_often = given == Some(429) && status != 429 && and_wait;
                if !is_too_often || start.elapsed() > PATIENCE {
                    break given;
                }
                std::thread::sleep(Duration::from_millis(300));
            };
            if given != Some(status) {
                missing.push(format!("{method} {template}: {status}, but {given:?}"));
            }
        }
    };
    try_all(&[200, 400, 401, 403, 404, 409, 413, 415], true);
    std::fs::remove_file(words.path()).unwrap();
    try_all(&[422], true);
    let unknown: Vec<_> = promised()
        .into_iter()
        .filter(|(.., status)| ![200, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503].contains(status))
        .collect();
    assert!(unknown.is_empty(), "nobody knows how to bring these about: {unknown:?}");
    // Ten seconds each, so all at once.
    std::thread::sleep(Duration::from_secs(3));
    let slow: Vec<String> = std::thread::scope(|scope| {
        let of_them = promised().into_iter().filter(|(.., status)| *status == 408);
        let scene = &scene;
        let threads: Vec<_> = of_them
            .map(|(method, template, status)| {
                let given = scope.spawn({
                    let method = method.clone();
                    move || scene.provoke(&method, template, status).unwrap().status
                });
                (format!("{method} {template}: 408"), given)
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|(what, given)| (given.join().unwrap() != 408).then_some(what))
            .collect()
    });
    assert!(slow.is_empty(), "{slow:?}");
    // No room.
    let crowd: Vec<TcpStream> =
        (0..400).map(|_| TcpStream::connect(("127.0.0.1", scene.open.port)).unwrap()).collect();
    try_all(&[503], false);
    drop(crowd);
    let start = Instant::now();
    while scene.open.try_get("/healthz").is_none_or(|reply| reply.status != 200) {
        assert!(start.elapsed() < PATIENCE, "there is room again");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Too often: by several at once, as each waits for its answer. It does not stay so for long.
    let exhaust = |method: &'static str, path: &'static str| {
        let (start, done) = (Instant::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) && start.elapsed() < PATIENCE {
                        let refused = scene.open.send(method, path, json!({})).status == 429;
                        done.fetch_or(refused, Ordering::Relaxed);
                    }
                });
            }
        });
    };
    for (method, template, status) in promised().into_iter().filter(|(.., status)| *status == 429) {
        let is_given = (0..20).any(|_| {
            match method.as_str() {
                "GET" => exhaust("GET", "/api/session"),
                _ => exhaust("PATCH", "/api/cameras/nowhere"),
            }
            scene.provoke(&method, template, status).unwrap().status == 429
        });
        if !is_given {
            missing.push(format!("{method} {template}: 429"));
        }
    }
    assert!(missing.is_empty(), "promised, but not given:\n  {}", missing.join("\n  "));
    watch.stop();
    other.stop();
}
