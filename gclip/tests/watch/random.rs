// SPDX-License-Identifier: MIT OR Apache-2.0
//! A camera that changes everything it says at random, beside a good one that must not notice.
//!
//! `GCLIP_RANDOM_CAMERA=SECONDS cargo test -p gclip --test watch random -- --ignored --nocapture`

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::{Watch, camera, config};
use gclip_testing::rtsp::Server;

/// Of the test, where the environment does not say it.
const USUAL: Duration = Duration::from_secs(60);
/// The good camera sends 10 frames a second; a machine with other work may be slow.
const LONGEST_GAP: f64 = 5.0;

/// Of the random camera's server: with more, which wait for encoders of clients that are gone, it is exchanged.
const MOST_THREADS: usize = 120;
/// It answers a command within this time, or is killed.
const ANSWER: Duration = Duration::from_secs(30);

/// Ends a server that does not answer: a random camera may do that to it, and the test is about who watches.
#[derive(Clone)]
struct Watchdog {
    server: Arc<AtomicU32>,
    since: Arc<Mutex<Option<Instant>>>,
}

impl Watchdog {
    fn start() -> Watchdog {
        let dog = Watchdog { server: Arc::default(), since: Arc::default() };
        let own = dog.clone();
        std::thread::spawn(move || {
            // Until the test has dropped its own.
            while Arc::strong_count(&own.since) > 1 {
                let waits = *own.since.lock().unwrap();
                if waits.is_some_and(|since| since.elapsed() > ANSWER) {
                    let server = own.server.load(Ordering::Relaxed).to_string();
                    let _ = Command::new("kill").args(["-KILL", &server]).status();
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        dog
    }

    /// Says a command; `None` when the server has ended, or was ended.
    fn say(&self, server: &mut Server, command: &str) -> Option<Result<String, String>> {
        self.server.store(server.pid(), Ordering::Relaxed);
        *self.since.lock().unwrap() = Some(Instant::now());
        let said = server.try_say(command);
        *self.since.lock().unwrap() = None;
        said
    }
}

/// Marsaglia's xorshift64: the same faults for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }
}

/// A camera that never was.
fn launch(dice: &mut Dice) -> String {
    let rate = dice.of(&["1/1", "2/1", "10/1", "25/1", "30000/1001", "60/1", "7/3"]);
    let width = [2, 16, 46, 160, 322, 640, 1278][dice.roll(7)];
    let height = [2, 16, 30, 90, 182, 480, 718][dice.roll(7)];
    let pattern = dice.of(&["smpte", "snow", "black", "ball", "zone-plate"]);
    let par = dice.of(&["1/1", "12/11", "40/33", "1/2", "9/1"]);
    let format = dice.of(&["I420", "I420", "I420", "Y42B", "Y444"]);
    let (format, codec) = match dice.roll(10) {
        0..=3 => {
            let profile = dice.of(&[
                "tune=zerolatency",
                "tune=zerolatency intra-refresh=true",
                "bframes=2",
                "interlaced=true",
            ]);
            let interval = dice.of(&["-1", "0", "1"]);
            let parse = dice.of(&["", "! h264parse"]);
            (
                format,
                format!(
                    "x264enc speed-preset=ultrafast threads=1 key-int-max=20 {profile} {parse} ! rtph264pay config-interval={interval} name=pay0"
                ),
            )
        }
        4 | 5 => ("I420", "jpegenc ! rtpjpegpay name=pay0".to_string()),
        6 => ("I420", "vp8enc deadline=1 threads=1 ! rtpvp8pay name=pay0".into()),
        7 => ("I420", "avenc_mpeg4 ! rtpmp4vpay config-interval=1 name=pay0".into()),
        8 => ("I420", "theoraenc ! rtptheorapay config-interval=1 name=pay0".into()),
        _ => ("I420", "avenc_h263p ! rtph263ppay name=pay0".into()),
    };
    // Rates that are not so, or none at all.
    let lie = match dice.roll(4) {
        0 => "! capssetter join=true caps=\"video/x-raw,framerate=0/1\"",
        1 => "! capssetter join=true caps=\"video/x-raw,framerate=1/1\"",
        2 => "! capssetter join=true caps=\"video/x-raw,framerate=2147483647/1\"",
        _ => "",
    };
    let jump = dice.of(&["", "", "! identity ts-offset=3600000000000", "! identity drop-probability=0.3"]);
    let sound = dice.of(&["", "", "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1"]);
    format!(
        "( videotestsrc is-live=true pattern={pattern} ! \
         video/x-raw,format={format},width={width},height={height},framerate={rate},pixel-aspect-ratio={par} {lie} {jump} ! {codec} {sound} )"
    )
}

/// The same address, and nothing of what was there.
fn restart(server: Server) -> Server {
    let port = server.port;
    drop(server);
    let start = Instant::now();
    loop {
        if let Some(server) = Server::try_start_on(port) {
            return server;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "port {port} stays in use");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "takes as long as GCLIP_RANDOM_CAMERA says, in seconds"]
fn a_random_camera_disturbs_nobody() {
    let Some(mut server) = Server::start() else { return };
    // In a process of its own: what the random camera does to its server is nothing to the good one.
    let Some(mut good) = Server::start() else { return };
    good.serve("good", (320, 180), 10);
    let seconds = std::env::var("GCLIP_RANDOM_CAMERA").ok().and_then(|text| text.parse().ok());
    let length = seconds.map_or(USUAL, Duration::from_secs);
    let seed = std::env::var("GCLIP_RANDOM_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0x9e37_79b9_7f4a_7c15);
    let mut dice = Dice(seed);
    let file = "[output.file]\ntype = 'file'\npath = 'lines.jsonl'\nwhat = 'all'\n";
    let mut cameras = camera("good", &good.url("good"), "");
    for (name, rest) in
        [("random", "fps = 5"), ("keys", "decode = 'keyframes'\nwidth = 128"), ("udp", "protocols = 'udp'")]
    {
        cameras += &camera(name, &server.url("random"), rest);
    }
    let mut watch = Watch::start(&(config("") + file + &cameras));
    watch.until_log("good: connected");
    let dog = Watchdog::start();
    let start = Instant::now();
    let (mut faults, mut restarts) = ([0u64; 6], 0u64);
    while start.elapsed() < length {
        let fault = dice.roll(faults.len());
        let commands: Vec<String> = match fault {
            0 | 1 => vec![format!("launch random {}", launch(&mut dice)), "drop random".into()],
            2 => vec![format!("damage random 0.{}", dice.roll(5))],
            3 => vec![format!("alter random 0.{}", dice.roll(8)), "drop random".into()],
            4 => vec![dice.of(&["stall random", "resume random"]).into()],
            _ => vec!["drop random".into()],
        };
        // gst-rtsp-server keeps what it made for a client that is gone; here that would be dozens of encoders.
        let fresh = fault < 2 || server.threads().is_some_and(|threads| threads > MOST_THREADS);
        for (index, command) in commands.iter().enumerate() {
            let said = if fresh && index == 0 { None } else { dog.say(&mut server, command) };
            if said.is_none() {
                // Or it has not survived what it was told, which is another matter.
                restarts += u64::from(!fresh || index > 0);
                server = restart(server);
            }
            if let Some(Err(why)) = said.or_else(|| dog.say(&mut server, command)) {
                // There may be no camera yet, or no such encoder.
                eprintln!("{command}: {why}");
            }
        }
        faults[fault] += 1;
        std::thread::sleep(Duration::from_millis(300 + 100 * dice.roll(30) as u64));
        assert!(watch.is_running(), "after {:?}: {}", start.elapsed(), watch.stderr());
    }
    let ran = start.elapsed().as_secs_f64();
    watch.stop();
    let text = std::fs::read_to_string(watch.path("lines.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |name: &str, state: &str| {
        lines
            .iter()
            .filter(|line| line["camera"] == name && (line["state"] == state || line["type"] == state))
            .count()
    };
    let mut pts: Vec<f64> = lines
        .iter()
        .filter(|line| line["camera"] == "good" && line["type"] == "frame")
        .map(|line| line["pts"].as_f64().unwrap() / 1e9)
        .collect();
    pts.dedup();
    let gap = pts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    println!(
        "{ran:.0} s, seed {seed}: faults by kind {faults:?}, {restarts} restarts of the server; good: {} frames ({:.2}/s), \
         longest gap {gap:.2} s, {} connections, {} losses",
        pts.len(),
        pts.len() as f64 / ran,
        of("good", "connected"),
        of("good", "lost").saturating_sub(1)
    );
    for name in ["random", "keys", "udp"] {
        println!(
            "{name}: {} connections, {} losses, {} frames",
            of(name, "connected"),
            of(name, "lost"),
            of(name, "frame")
        );
    }
    assert_eq!(of("good", "connected"), 1, "the good camera was lost");
    assert!(gap < LONGEST_GAP, "the good camera was held up for {gap} s");
    assert!(of("random", "connected") > 0, "the random camera never played");
}
