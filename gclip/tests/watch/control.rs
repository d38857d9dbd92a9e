// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface behind the page: what is shown, changed and refused, over HTTP.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::client::Browser;
use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::rtsp::{Server, free_port};

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
    let mut live = here.listen("/api/events/live?camera=gate");
    let told = live.until("\"connected\"");
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
    assert!(here.send("DELETE", "/api/cameras/hall", json!({})).refusal(404).contains("hall"));
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
    assert_eq!(stranger.get("/api/session").json(), json!({ "token": true, "password": false }));
    stranger.send("POST", "/api/session", json!({ "token": "correct horse" })).refusal(401);
    stranger.send("POST", "/api/session", json!({ "word": "correct horse" })).refusal(422);
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

#[test]
fn a_camera_is_stopped_and_started_and_gets_another_rate_and_address() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    server.serve("yard", (176, 144), 20);
    let (port, metrics) = (free_port(), free_port());
    let here = Browser { port, head: String::new() };
    let file = config(&format!("metrics = '127.0.0.1:{metrics}'\nweb = {{ listen = '127.0.0.1:{port}' }}"))
        + &camera("gate", &server.url("gate"), "")
        + &camera("yard", &server.url("yard"), "enabled = false");
    let mut watch = Watch::start(&file);
    watch.until_camera("gate", "connected");
    let at = |all: &Value, name: &str| {
        all["cameras"].as_array().unwrap().iter().find(|camera| camera["name"] == name).unwrap().clone()
    };
    let state = |all: &Value, name: &str| at(all, name)["state"].as_str().unwrap().to_string();
    here.until("/api/cameras", "one plays, one does not", |all| {
        state(all, "gate") == "playing" && state(all, "yard") == "stopped"
    });
    assert_eq!(here.get("/readyz").status, 200, "one that is not to be watched is not waited for");

    here.works("POST", "/api/cameras/yard/start", json!({}));
    watch.until_camera("yard", "connected");
    here.works("POST", "/api/cameras/gate/stop", json!({}));
    assert_eq!(watch.until_camera("gate", "lost")["reason"], "stopped");
    let all = here.until("/api/cameras", "it has stopped", |all| state(all, "gate") == "stopped");
    assert_eq!(at(&all, "gate")["counts"]["connections"], 1);
    let before = here.get("/api/cameras/gate").json();
    assert_eq!((&before["keys"]["enabled"], &before["saved"]), (&json!(false), &json!(false)));
    // Other words while it is stopped are there when it starts.
    here.works("PATCH", "/api/cameras/gate", json!({ "prompts": "sky" }));
    here.works("POST", "/api/cameras/gate/start", json!({}));
    watch.until_camera("gate", "connected");
    let is_sky = |view: &Value| view["masks"].is_object() && labels(view) == ["sky"];
    here.until("/api/cameras/gate/view", "it looks for the sky", is_sky);
    assert!(here.send("POST", "/api/cameras/hall/stop", json!({})).refusal(404).contains("hall"));
    assert_eq!(here.send("GET", "/api/cameras/gate/stop", json!({})).status, 405);

    // Another rate, and another place: new connections of this camera alone.
    here.works("PATCH", "/api/cameras/gate", json!({ "fps": 2 }));
    watch.until_camera("gate", "lost");
    watch.until_camera("gate", "connected");
    let frames =
        |name: &str| at(&here.get("/api/cameras").json(), name)["counts"]["frames"].as_u64().unwrap();
    let (before, start) = (frames("gate"), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let rate = (frames("gate") - before) as f64 / start.elapsed().as_secs_f64();
    assert!((0.5..4.0).contains(&rate), "{rate} frames a second of 2");
    here.works("PATCH", "/api/cameras/gate", json!({ "url": server.url("yard"), "fps": null }));
    watch.until_camera("gate", "lost");
    watch.until_camera("gate", "connected");
    let all = here.until("/api/cameras", "it is the other one", |all| at(all, "gate")["width"] == 176);
    assert_eq!(at(&all, "yard")["counts"]["connections"], 1, "the other one was not disturbed");

    // A picture to keep.
    let snapshot = here.get("/api/cameras/yard/snapshot");
    assert!(snapshot.status == 200 && snapshot.head.contains("image/jpeg"), "{}", snapshot.head);
    let plain = here.get("/api/cameras/yard/snapshot?masks=false");
    let [drawn, plain] =
        [&snapshot, &plain].map(|reply| image::load_from_memory(&reply.body).unwrap().to_rgb8());
    assert!(drawn.dimensions() == (176, 144) && plain.dimensions() == (176, 144));
    // The legend stands on a dark box at the lower left.
    let difference = |x: u32, y: u32| -> u32 {
        let pixels = drawn.get_pixel(x, y).0.into_iter().zip(plain.get_pixel(x, y).0);
        pixels.map(|(one, other)| u32::from(one.abs_diff(other))).sum()
    };
    let changed = (0..176 * 144).filter(|at| difference(at % 176, at / 176) > 60).count();
    assert!(changed > 1000, "{changed} pixels are drawn on");
    assert!(here.get("/api/cameras/yard/snapshot?masks=maybe").refusal(400).contains("masks"));
    assert!(here.get("/api/cameras/hall/snapshot").refusal(404).contains("hall"));

    // How they are, from the counters that the metrics show.
    let health = here.get("/api/health").json();
    let shown = Browser { port: metrics, head: String::new() };
    let text = String::from_utf8(shown.get("/metrics").body).unwrap();
    let metric = |name: &str| -> f64 {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    };
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{health}"));
    for (name, of_it) in
        health["cameras"].as_array().unwrap().iter().zip(["gate", "yard"]).map(|pair| (pair.1, pair.0))
    {
        for (key, count) in of_it["counts"].as_object().unwrap() {
            let metric = metric(&format!("gclip_camera_{key}_total{{camera=\"{name}\"}}"));
            assert!(
                metric >= number(count) && metric < number(count) + 60.0,
                "{name} {key}: {count}, {metric}"
            );
        }
    }
    assert_eq!(health["cameras"][0]["failures"], json!([]), "being stopped is no failure");
    assert!(number(&health["model"]["fill"]) >= 1.0 && number(&health["model"]["queue_ms"]) >= 0.0);
    assert!((metric("gclip_model_batch_frames") - number(&health["model"]["fill"])).abs() < 1.0);
    assert_eq!(metric("gclip_texts_encoded_total"), number(&health["texts"]["encoded"]));
    assert!(number(&health["texts"]["hits"]) + number(&health["texts"]["misses"]) >= 4.0);
    assert!(number(&health["process"]["resident_bytes"]) > 1e7);

    server.say("drop yard");
    watch.until_camera("yard", "lost");
    let health = here.until("/api/health", "why it was lost", |health| {
        at(health, "yard")["failures"].as_array().is_some_and(|failures| !failures.is_empty())
    });
    let failure = &at(&health, "yard")["failures"][0];
    assert!(failure["why"].as_str().unwrap().len() > 3 && failure["time"].as_str().unwrap().ends_with('Z'));
    watch.stop();
}

#[test]
fn it_begins_and_ends_without_a_camera() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    let port = free_port();
    let here = Browser { port, head: String::new() };
    let mut watch = Watch::start(&config(&format!("web = {{ listen = '127.0.0.1:{port}' }}")));
    let none = |all: &Value| all["cameras"].as_array().unwrap().is_empty();
    here.until("/api/cameras", "there is none", |all| none(all) && all["model"]["forwards"] == 0);
    assert_eq!(here.get("/readyz").status, 200);
    let gate = json!({ "name": "gate", "url": server.url("gate"), "prompts": "sky" });
    here.works("POST", "/api/cameras", gate.clone());
    watch.until_camera("gate", "connected");
    here.works("DELETE", "/api/cameras/gate", json!({}));
    assert_eq!(watch.until_camera("gate", "lost")["reason"], "stopped");
    here.until("/api/cameras", "there is none again", none);
    here.works("POST", "/api/config/save", json!({}));
    // The model has stayed, and so has the place of the table in the file.
    here.works("POST", "/api/cameras", gate);
    watch.until_camera("gate", "connected");
    here.works("POST", "/api/config/save", json!({}));
    assert!(
        std::fs::read_to_string(watch.path("cameras.toml")).unwrap().contains("[[camera]]\nname = \"gate\"")
    );
    watch.stop();
}
