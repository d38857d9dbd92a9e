// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines by way of a real broker: mosquitto, which is stopped and started again meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use super::harness::{PATIENCE, Watch, camera, config};
use super::metrics::scrape;
use gclip_testing::certificate;
use gclip_testing::rtsp::{Server, free_port};

struct Broker(Child);

impl Broker {
    /// Mosquitto in a folder of its own, where it also keeps what subscribers have not fetched yet. `None` where it
    /// is not installed.
    fn start(folder: &Path, port: u16) -> Option<Broker> {
        Broker::start_with(folder, port, "")
    }

    /// With further lines for the listener.
    fn start_with(folder: &Path, port: u16, listener: &str) -> Option<Broker> {
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let Some(program) = program.iter().find(|path| Path::new(path).exists()) else {
            eprintln!("skipped: no mosquitto (scripts/setup.sh --tests installs it)");
            return None;
        };
        // It gives up root's rights for those of this user, who could not write here.
        let user = Command::new("id").arg("-un").output().unwrap();
        let config = format!(
            "listener {port} 127.0.0.1\n{listener}allow_anonymous false\npassword_file {0}/passwords\nuser {1}\n\
             persistence true\npersistence_location {0}/\nmax_queued_messages 0\n",
            folder.display(),
            String::from_utf8_lossy(&user.stdout).trim()
        );
        std::fs::write(folder.join("mosquitto.conf"), config).unwrap();
        // In clear text; mosquitto_passwd hashes it in place.
        std::fs::write(folder.join("passwords"), "watcher:br0kerword\n").unwrap();
        let hashed = Command::new("mosquitto_passwd").arg("-U").arg(folder.join("passwords")).status();
        assert!(hashed.unwrap().success());
        let process = Command::new(program)
            .arg("-c")
            .arg(folder.join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Broker(process))
    }

    /// Ends it properly, so that it saves what it has promised to deliver.
    fn stop(mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Collects what is published below `gclip/`, over restarts of the broker.
fn subscribe(port: u16) -> Arc<Mutex<Vec<(String, String)>>> {
    let received: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let mut options = MqttOptions::new("subscriber", "127.0.0.1", port);
    options.set_clean_session(false).set_credentials("watcher", "br0kerword");
    let (client, mut connection) = Client::new(options, 10);
    let (into, (ready, subscribed)) = (received.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let text = String::from_utf8_lossy(&message.payload).into_owned();
                    into.lock().unwrap().push((message.topic, text));
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    });
    client.subscribe("gclip/#", QoS::AtLeastOnce).unwrap();
    subscribed.recv_timeout(PATIENCE).unwrap();
    std::mem::forget(client); // the connection lives as long as it
    received
}

#[test]
fn a_restart_of_the_broker_loses_no_line() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let Some(broker) = Broker::start(folder.path(), port) else { return };
    let received = subscribe(port);
    let outputs = format!(
        "[output.broker]\ntype = 'mqtt'\nwhat = 'all'\nbroker = 'mqtt://watcher:br0kerword@127.0.0.1:{port}'\n\
         [output.lines]\ntype = 'stdout'\nwhat = 'all'\n"
    );
    let mut watch = Watch::start(&(config("") + &outputs + &camera("gate", &server.url("gate"), "")));
    watch.until_frames("gate", 30);
    broker.stop();
    watch.until_log("lines wait for it");
    watch.until_frames("gate", 30);
    let Some(broker) = Broker::start(folder.path(), port) else { return };
    watch.until_log("connected again");
    watch.until_frames("gate", 30);
    watch.stop();
    assert!(!watch.stderr().contains("could not be delivered"), "{}", watch.stderr());

    let sent: BTreeSet<String> = watch.seen.iter().map(|line| line.trim_end().to_string()).collect();
    let start = Instant::now();
    let arrived = || -> BTreeSet<String> {
        let received = received.lock().unwrap();
        received.iter().filter(|(topic, _)| topic == "gclip/gate").map(|(_, line)| line.clone()).collect()
    };
    while arrived() != sent {
        let missing = sent.difference(&arrived()).count();
        assert!(start.elapsed() < PATIENCE, "{missing} of {} lines did not arrive", sent.len());
        std::thread::sleep(Duration::from_millis(50));
    }
    broker.stop();
}

#[test]
fn a_full_buffer_drops_the_oldest_lines_and_counts_them() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let folder = tempfile::tempdir().unwrap();
    let (port, metrics) = (free_port(), free_port());
    let outputs = format!(
        "[output.broker]\ntype = 'mqtt'\nwhat = 'all'\nbuffer = 10\ntopic = 'gclip/all'\n\
         broker = 'mqtt://watcher:br0kerword@127.0.0.1:{port}'\n[output.lines]\ntype = 'stdout'\nwhat = 'all'\n"
    );
    let config = config(&format!("metrics = '127.0.0.1:{metrics}'")) + &outputs;
    let mut watch = Watch::start(&(config + &camera("gate", &server.url("gate"), "")));
    watch.until_frames("gate", 40);
    let start = Instant::now();
    let dropped = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with(r#"gclip_output_dropped_total{output="broker"}"#));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    while dropped(&scrape(metrics)) < 20 {
        assert!(start.elapsed() < PATIENCE, "nothing was dropped");
        std::thread::sleep(Duration::from_millis(100));
    }
    // The broker comes late; from then on all is well.
    let Some(_broker) = Broker::start(folder.path(), port) else { return };
    let received = subscribe(port);
    watch.until_log("connected again");
    watch.until_frames("gate", 20);
    watch.stop();
    let last = watch.seen.last().unwrap().trim_end();
    while !received.lock().unwrap().iter().any(|(_, line)| line == last) {
        assert!(start.elapsed() < PATIENCE, "the last line did not arrive");
        std::thread::sleep(Duration::from_millis(50));
    }
    let received = received.lock().unwrap();
    assert!(received.len() < watch.seen.len() - 10, "{} of {}", received.len(), watch.seen.len());
}

#[test]
fn lines_go_over_tls_to_the_broker_that_is_trusted_and_to_no_other() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let (own, key) = certificate(folder.path(), "broker");
    let (another, _) = certificate(folder.path(), "another");
    let listener = format!("certfile {own}\nkeyfile {key}\n");
    let Some(_broker) = Broker::start_with(folder.path(), port, &listener) else { return };
    let outputs = |ca: &str| {
        format!(
            "[output.broker]\ntype = 'mqtt'\nwhat = 'all'\nbroker = 'mqtts://watcher:br0kerword@127.0.0.1:{port}'\n\
             ca = '{ca}'\n[output.lines]\ntype = 'stdout'\nwhat = 'all'\n"
        )
    };
    let camera = camera("gate", &server.url("gate"), "");
    let mut watch = Watch::start(&(config("") + &outputs(&another) + &camera));
    watch.until_log("lines wait for it");
    assert!(watch.stderr().contains("certificate"), "{}", watch.stderr());
    watch.stop();

    let mut watch = Watch::start(&(config("") + &outputs(&own) + &camera));
    watch.until_frames("gate", 10);
    watch.stop();
    // Those that the broker has not acknowledged would be told at the end.
    let log = watch.stderr();
    assert!(!log.contains("could not be delivered") && !log.contains("lines wait"), "{log}");
}

/// What the broker keeps at each topic for later subscribers.
fn kept(port: u16) -> BTreeMap<String, String> {
    let mut options = MqttOptions::new("later", "127.0.0.1", port);
    options.set_credentials("watcher", "br0kerword").set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("#", QoS::AtLeastOnce).unwrap();
    let (mut kept, start) = (BTreeMap::new(), Instant::now());
    while start.elapsed() < Duration::from_secs(1) {
        if let Ok(Ok(Event::Incoming(Packet::Publish(message)))) =
            connection.recv_timeout(Duration::from_millis(100))
            && message.retain
        {
            kept.insert(message.topic, String::from_utf8_lossy(&message.payload).into_owned());
        }
    }
    kept
}

#[test]
fn a_line_above_the_brokers_limit_is_dropped_and_the_others_go_on() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (320, 180), 10);
    let (folder, port, metrics) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    // Of the listener's file, but for the whole broker.
    let Some(_broker) = Broker::start_with(folder.path(), port, "max_packet_size 2000\n") else { return };
    let received = subscribe(port);
    let output = format!(
        "[output.broker]\ntype = 'mqtt'\nwhat = 'all'\nbroker = 'mqtt://watcher:br0kerword@127.0.0.1:{port}'\n"
    );
    // Its name makes every line of it long.
    let big = format!("big{}", "g".repeat(2000));
    let cameras =
        camera(&big, &server.url("gate"), "fps = 2") + &camera("small", &server.url("gate"), "fps = 2");
    let first = format!("metrics = '127.0.0.1:{metrics}'");
    let watch = Watch::start(&(config(&first) + &output + &cameras));
    watch.until_log("it closes the connection on lines as long as one of ");
    let small = || received.lock().unwrap().iter().filter(|(topic, _)| topic == "gclip/small").count();
    let (before, start) = (small(), Instant::now());
    while small() < before + 20 {
        assert!(start.elapsed() < PATIENCE, "only {} lines: {}", small(), watch.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = watch.stderr().matches("it closes the connection on lines").count();
    assert_eq!(told, 1, "{}", watch.stderr());
    assert!(watch.stderr().contains("bytes of bigg"), "{}", watch.stderr());
}

#[test]
fn the_broker_keeps_how_things_stand() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 20);
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let Some(_broker) = Broker::start(folder.path(), port) else { return };
    let outputs = format!(
        "[output.broker]\ntype = 'mqtt'\nbroker = 'mqtt://watcher:br0kerword@127.0.0.1:{port}'\n\
         discovery = 'homeassistant'\n[output.lines]\ntype = 'stdout'\nwhat = 'all'\n"
    );
    let gate = camera("gate", &server.url("gate"), "zones = 'all=0,0 1,0 1,1 0,1'");
    let text = config("") + &outputs + &gate;
    let mut watch = Watch::start(&text);
    let entered = watch.until("somebody enters", |line| line["state"] == "entered" && line["zone"].is_null());
    let label = entered["label"].as_str().unwrap().to_string();
    let until = |topic: &str, payload: &str| {
        let start = Instant::now();
        while kept(port).get(topic).map(String::as_str) != Some(payload) {
            assert!(start.elapsed() < PATIENCE, "{topic} is not {payload}: {:?}", kept(port));
        }
    };
    until(&format!("gclip/gate/presence/{label}"), "ON");
    until("gclip/gate/availability", "online");
    until("gclip/availability", "online");
    let told = kept(port);
    let sensors: Vec<&String> = told.keys().filter(|topic| topic.starts_with("homeassistant/")).collect();
    assert_eq!(sensors.len(), 6, "three labels in two places: {sensors:?}");
    let sensor = &told[&format!("homeassistant/binary_sensor/gclip_gate_{label}/config")];
    let sensor: serde_json::Value = serde_json::from_str(sensor).unwrap();
    assert_eq!(told[sensor["state_topic"].as_str().unwrap()], "ON", "the sensor shows what is there");

    server.say("remove gate");
    until("gclip/gate/availability", "offline");
    watch.stop();
    until("gclip/availability", "offline");

    let mut watch = Watch::start(&text);
    until("gclip/availability", "online");
    watch.signal("KILL");
    watch.end();
    until("gclip/availability", "offline");
}
