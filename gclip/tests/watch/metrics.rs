// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prometheus metrics, and by them that cameras share one model.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, Watch, camera, config};
use gclip_testing::rtsp::{Server, free_port};

/// The metrics as Prometheus fetches them.
pub fn scrape(port: u16) -> String {
    let answer = get(port, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The value of a metric, such as `gclip_camera_up{camera="gate"}`.
pub fn value(text: &str, metric: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.trim().parse().ok())
}

fn until(port: u16, what: &str, wanted: impl Fn(&dyn Fn(&str) -> f64) -> bool) -> String {
    let start = Instant::now();
    loop {
        let text = scrape(port);
        if wanted(&|metric| value(&text, metric).unwrap_or(0.0)) {
            return text;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {text}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn two_cameras_share_one_model() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    server.serve("yard", (176, 144), 10);
    let port = free_port();
    let cameras =
        camera("gate", &server.url("gate"), "") + &camera("yard", &server.url("yard"), "prompts = 'sky'");
    let mut watch = Watch::start(&(config(&format!("metrics = '127.0.0.1:{port}'")) + &cameras));
    watch.until_cameras(&["gate", "yard"], "connected");
    let (gate, yard) =
        (r#"gclip_camera_masks_total{camera="gate"}"#, r#"gclip_camera_masks_total{camera="yard"}"#);
    let text = until(port, "both have masks", |value| value(gate) > 30.0 && value(yard) > 30.0);
    let value = |metric: &str| value(&text, metric).unwrap_or_else(|| panic!("no {metric} in {text}"));
    // A model of its own would have counted the frames of one camera alone.
    let (shared, one, other) = (value("gclip_model_frames_total"), value(gate), value(yard));
    assert!(shared > one + 0.5 * other && shared > other + 0.5 * one, "{shared} of {one} and {other}");
    assert!(value("gclip_model_batches_total") <= shared && value("gclip_model_forward_seconds") > 0.0);
    assert_eq!(value(r#"gclip_camera_up{camera="gate"}"#), 1.0);
    for probe in ["/healthz", "/readyz"] {
        let answer = get(port, probe);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("yes\n"), "{probe}: {answer}");
    }
    assert!(get(port, "/other").starts_with("HTTP/1.1 404"));
    assert_eq!(value(r#"gclip_camera_connections_total{camera="gate"}"#), 1.0);
    assert!(value(r#"gclip_output_lines_total{output="stdout"}"#) >= 2.0);

    server.say("remove yard");
    watch.until_camera("yard", "lost");
    let text =
        until(port, "yard is down", |value| value(r#"gclip_camera_failures_total{camera="yard"}"#) >= 2.0);
    assert!(text.contains(r#"gclip_camera_up{camera="yard"} 0"#), "{text}");
    assert!(text.contains(r#"gclip_camera_up{camera="gate"} 1"#), "{text}");
    watch.stop();
}
