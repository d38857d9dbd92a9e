// SPDX-License-Identifier: MIT OR Apache-2.0
//! Passwords of cameras and brokers turn up nowhere.

use super::harness::{Watch, camera, config};
use super::metrics::scrape;
use gclip_testing::certificate;
use gclip_testing::rtsp::{Server, free_port};

/// What a camera is told to be must not make the program's own words unreadable.
#[test]
fn a_password_may_be_any_word() {
    let gone = camera("gate", &format!("rtsp://camera:connection@127.0.0.1:{}/x", free_port()), "");
    let mut watch = Watch::start(&(config("") + &gone));
    let lost = watch.until_camera("gate", "lost");
    let reason = lost["reason"].as_str().unwrap();
    assert!(reason.starts_with("no connection to 127.0.0.1:"), "{reason}");
    watch.until_log("gate: no connection to 127.0.0.1:");
    watch.stop();
}

#[test]
fn no_output_holds_a_password() {
    let Some(mut server) = Server::start_on(0, Some("viewer:hunter2@home")) else { return };
    server.serve("gate", (160, 90), 15);
    let login = "//viewer:hunter2%40home@";
    let with_login = |url: String| url.replace("//", login);
    let (metrics, broker) = (free_port(), free_port());
    let outputs = format!(
        "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n[output.archive]\ntype = 'file'\npath = 'lines.jsonl'\n\
         [output.broker]\ntype = 'mqtt'\nbroker = 'mqtt:{login}127.0.0.1:{broker}'\n"
    );
    let cameras = [
        camera("gate", &with_login(server.url("gate")), ""),
        camera("missing", &with_login(server.url("missing?token=tok3n")), ""),
        camera("refused", &with_login(format!("rtsp://127.0.0.1:{}/x?token=tok3n", free_port())), ""),
        camera("locked", &server.url("gate").replace("//", "//viewer:wr0ngword@"), ""),
    ];
    let config = config(&format!("metrics = '127.0.0.1:{metrics}'")) + &outputs + &cameras.concat();
    // GStreamer's own log is part of what is shown when somebody looks for a mistake.
    let environment = [("GST_DEBUG", "*:3,rtsp*:6"), ("GST_DEBUG_NO_COLOR", "1")];
    let mut watch = Watch::start_with(&config, &environment);
    watch.until_frames("gate", 3); // so the password does its work
    for name in ["missing", "refused", "locked"] {
        watch.until_log(&format!(" {name}: "));
    }
    watch.until_log("output.broker: mqtt://127.0.0.1");
    let scraped = scrape(metrics);
    watch.stop();

    let file = std::fs::read_to_string(watch.path("lines.jsonl")).unwrap();
    let log = watch.stderr();
    // What the program itself says; GStreamer's own log shows a URL's query, as GStreamer has to know it.
    let said: String = log.lines().filter(|line| line.starts_with("20")).collect();
    let everything = ["hunter2", "wr0ngword", "tok3n"];
    let shown = [
        ("stdout", watch.seen.concat(), everything.as_slice()),
        ("file", file, everything.as_slice()),
        ("metrics", scraped, everything.as_slice()),
        ("the log", said, everything.as_slice()),
        ("stderr", log.clone(), &everything[..2]),
    ];
    for (place, text, secrets) in shown {
        assert!(!text.is_empty(), "{place} is empty");
        for secret in secrets {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "{place} shows {secret}: {found:?}");
        }
    }
    assert!(log.contains("missing: ") && log.contains("next try in"), "{log}");
}

#[test]
fn a_camera_over_tls_must_be_trusted_unless_any_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let (own, key) = certificate(folder.path(), "camera");
    let Some(mut server) = Server::start_with(&["0", "viewer:hunter2", &own, &key]) else { return };
    server.serve("gate", (160, 90), 15);
    let url = server.url("gate").replace("rtsp://", "rtsps://viewer:hunter2@");
    let cameras = [camera("gate", &url, ""), camera("yard", &url, "certificate = 'any'")];
    let outputs = "[output.lines]\ntype = 'stdout'\nwhat = 'all'\n";
    let mut watch = Watch::start(&(config("") + outputs + &cameras.concat()));
    watch.until_frames("yard", 5);
    let lost = match watch.seen.iter().find(|line| line.contains(r#""camera":"gate""#)) {
        Some(line) => serde_json::from_str(line).unwrap(),
        None => watch.until_camera("gate", "lost"),
    };
    assert_eq!(lost["state"], "lost", "{lost}");
    watch.stop();
    assert!(!watch.stderr().contains("hunter2"), "{}", watch.stderr());
    println!("{lost}");
}
