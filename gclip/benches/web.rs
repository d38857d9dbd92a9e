// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the page of `gclip watch` costs, and whom it disturbs.
//!
//! * `looked`: four cameras of 720p at 10 frames a second, on a model of random weights that is asked once a second, so that it
//!   hides nothing. CPU time of the program without `[web]`, with it and nobody looking, with one viewer of one camera, and
//!   with 16 viewers of all four; in turn, several rounds. A looked-at picture is what the difference comes to for each that
//!   was made (a picture is made once for all who look).
//! * `apply`: one camera, demo model: from sending other words to the first picture whose masks are made with them.
//! * `others`: 16 cameras at 10 frames a second; the words of one change every half second. Gaps between the frames of the
//!   other 15, with changes and without, in turn.
//!
//! Cameras come from a server in another process, which is not counted.
//!
//! Run with `cargo bench -p gclip --bench web`, or `-- looked` for one of them.

#[allow(dead_code)]
#[path = "../tests/watch/harness.rs"]
mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use gclip_testing::rtsp::{Server, free_port};
use harness::{Watch, camera, config};

const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(3);

type Part = fn(&mut Server);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("run with: cargo bench -p gclip --bench web");
        return;
    }
    let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let all: [(&str, Part); 3] = [("looked", looked), ("apply", apply), ("others", others)];
    let Some(mut server) = Server::start() else {
        println!("there is no RTSP server: run scripts/setup.sh --tests");
        return;
    };
    for (name, run) in all {
        if names.is_empty() || names.iter().any(|wanted| *wanted == name) {
            run(&mut server);
        }
    }
}

/// CPU seconds that the program has used.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // utime and stime, in the ticks that Linux shows: a hundred a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn get(agent: &ureq::Agent, port: u16, path: &str) -> Option<Value> {
    let mut reply = agent.get(format!("http://127.0.0.1:{port}{path}")).call().ok()?;
    reply.body_mut().with_config().limit(1 << 26).read_json().ok()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().into()
}

/// Looks at cameras until `meanwhile` has ended: each viewer asks for the next picture as soon as it has one, as the page does.
fn view<R>(port: u16, viewers: usize, cameras: &[&str], meanwhile: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in (0..viewers).flat_map(|_| cameras) {
            let stop = &stop;
            scope.spawn(move || {
                let (agent, mut number) = (agent(), 0);
                while !stop.load(Ordering::Relaxed) {
                    if let Some(view) = get(&agent, port, &format!("/api/cameras/{name}/view?after={number}"))
                    {
                        number = view["number"].as_u64().unwrap();
                    }
                }
            });
        }
        let result = meanwhile();
        stop.store(true, Ordering::Relaxed);
        result
    })
}

fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

fn looked(server: &mut Server) {
    let names = ["one", "two", "three", "four"];
    for name in names {
        server.serve(name, (1280, 720), 10);
    }
    let cameras: String = names.iter().map(|name| camera(name, &server.url(name), "")).collect();
    let rest = "[segment]\ninference-interval = 10\n";
    let with = |web: &str| config(web).replace("[segment]\n", rest) + &cameras;
    let port = free_port();
    let mut plain = Watch::start(&with(""));
    let mut web = Watch::start(&with(&format!("web = {{ listen = '127.0.0.1:{port}' }}")));
    plain.until_cameras(&names, "connected");
    web.until_cameras(&names, "connected");
    std::thread::sleep(SETTLE);
    let of_span = |pid: u32| {
        let before = cpu(pid);
        std::thread::sleep(SPAN);
        (cpu(pid) - before) * 1000.0
    };
    let (mut without, mut unseen, mut one, mut many, mut rates) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (base, idle) = std::thread::scope(|scope| {
            let (beside, watched) = (plain.pid(), web.pid());
            let other = scope.spawn(move || of_span(beside));
            let idle = of_span(watched);
            (other.join().unwrap(), idle)
        });
        let per_camera = 1000.0 * SPAN.as_secs_f64() * names.len() as f64;
        without.push(base / per_camera * 1000.0);
        unseen.push(idle / per_camera * 1000.0);
        let (spent, made) = seen(port, 1, &names[..1], &web);
        one.push((spent - idle) / made);
        let (spent, made) = seen(port, 16, &names, &web);
        many.push((spent - idle) / made);
        rates.push(made / SPAN.as_secs_f64() / names.len() as f64);
    }
    println!(
        "looked: 4 cameras of 720p, 10 frames a second, {ROUNDS} rounds of {} s, median (least to most)",
        SPAN.as_secs()
    );
    println!("  without [web], ms of CPU for each camera and second:          {}", spread(&without));
    println!("  with it, nobody looking:                                      {}", spread(&unseen));
    println!("  one viewer of one camera, ms of CPU a picture:                {}", spread(&one));
    println!("  16 viewers of 4 cameras, ms of CPU a picture made:            {}", spread(&many));
    println!("  pictures a second of each camera, with 16 viewers:            {}", spread(&rates));
    plain.stop();
    web.stop();
}

/// CPU milliseconds of a span with viewers, and pictures that were made in it.
fn seen(port: u16, viewers: usize, cameras: &[&str], watch: &Watch) -> (f64, f64) {
    let numbers = || -> u64 {
        let agent = agent();
        cameras
            .iter()
            .map(|name| {
                get(&agent, port, &format!("/api/cameras/{name}/view")).unwrap()["number"].as_u64().unwrap()
            })
            .sum()
    };
    view(port, viewers, cameras, || {
        std::thread::sleep(Duration::from_secs(1));
        let (before, first) = (cpu(watch.pid()), numbers());
        std::thread::sleep(SPAN);
        ((cpu(watch.pid()) - before) * 1000.0, (numbers() - first) as f64)
    })
}

fn apply(server: &mut Server) {
    const CHANGES: usize = 200;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    server.serve_file("street", (854, 480), 10, &root.join("models/demo/demo.mp4"));
    let port = free_port();
    let file = format!(
        "model = '{}'\nweb = {{ listen = '127.0.0.1:{port}' }}\n[[camera]]\nname = 'street'\nurl = '{}'\nprompts = 'car'\n",
        root.join("models/demo").display(),
        server.url("street")
    );
    let mut watch = Watch::start(&file);
    watch.until_camera("street", "connected");
    let agent = agent();
    let generation = |after: u64| -> (u64, u64) {
        let view = get(&agent, port, &format!("/api/cameras/street/view?after={after}")).unwrap_or_default();
        (view["number"].as_u64().unwrap_or(after), view["masks"]["generation"].as_u64().unwrap_or(0))
    };
    // Somebody looks all the time, as who tries words does.
    let (mut times, mut answers) = view(port, 1, &["street"], || {
        let (mut times, mut answers) = (vec![], vec![]);
        let (mut number, mut last) = generation(0);
        for index in 0..CHANGES {
            // Half of them have been seen before, half have to be encoded.
            let words = match index % 2 {
                0 => "tree; road; car".to_string(),
                _ => format!("tree number {index}; a grey road; car"),
            };
            let start = Instant::now();
            let url = format!("http://127.0.0.1:{port}/api/cameras/street");
            agent.patch(url).send_json(json!({ "prompts": words })).unwrap();
            answers.push(start.elapsed().as_secs_f64() * 1000.0);
            let before = last;
            while last == before {
                (number, last) = generation(number);
                assert!(start.elapsed() < Duration::from_secs(30), "no mask with the new words");
            }
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            std::thread::sleep(Duration::from_millis(300));
        }
        (times, answers)
    });
    let of = |values: &mut Vec<f64>| (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0));
    let (p50, p99, most) = of(&mut times);
    let (answer50, answer99, _) = of(&mut answers);
    println!(
        "apply: demo model, one camera of 480p at 10 frames a second, {CHANGES} changes of three names, two of them new in each second"
    );
    println!(
        "  until the first picture with masks of the new words: p50 {p50:.0} ms, p99 {p99:.0} ms, most {most:.0} ms"
    );
    println!("  until the change is answered: p50 {answer50:.0} ms, p99 {answer99:.0} ms");
    watch.stop();
}

fn others(server: &mut Server) {
    const CAMERAS: usize = 16;
    const CHANGE: Duration = Duration::from_millis(500);
    let names: Vec<String> = (0..CAMERAS).map(|number| format!("camera{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        server.serve(name, (160, 90), 10);
    }
    let port = free_port();
    let web = format!("web = {{ listen = '127.0.0.1:{port}' }}\n[output.all]\ntype = 'stdout'\nwhat = 'all'");
    let cameras: String = names.iter().map(|name| camera(name, &server.url(name), "")).collect();
    let mut watch = Watch::start(&(config(&web) + &cameras));
    watch.until_cameras(&names, "connected");
    std::thread::sleep(SETTLE);
    let agent = agent();
    let (mut quiet, mut changing, mut changes) = (vec![], vec![], 0);
    for round in 0..2 * ROUNDS {
        watch.seen.clear();
        let start = Instant::now();
        for step in 1..=SPAN.as_millis() / CHANGE.as_millis() {
            if round % 2 == 1 {
                changes += 1;
                let words = format!("thing {changes}; cat; dog");
                let url = format!("http://127.0.0.1:{port}/api/cameras/camera0");
                agent.patch(url).send_json(json!({ "prompts": words })).unwrap();
            }
            watch.until("time passes", |_| start.elapsed() >= CHANGE * step as u32);
        }
        let lines: Vec<Value> = watch.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let gaps = gaps(&lines);
        if round % 2 == 1 { changing.extend(gaps) } else { quiet.extend(gaps) }
    }
    println!(
        "others: 16 cameras, 10 frames a second, {ROUNDS} rounds of {} s each, {changes} changes of the words of one",
        SPAN.as_secs()
    );
    for (what, gaps) in [("without changes", &mut quiet), ("with changes", &mut changing)] {
        let count = gaps.len();
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(gaps, share));
        println!(
            "  gaps between frames of the other 15, {what}: p50 {p50:.0} ms, p99 {p99:.0} ms, most {most:.0} ms, of {count}"
        );
    }
    watch.stop();
}

/// Milliseconds between the lines of a camera's frames, of all but the first camera.
fn gaps(lines: &[Value]) -> Vec<f64> {
    let mut last: BTreeMap<&str, f64> = BTreeMap::new();
    let mut gaps = Vec::new();
    for line in lines.iter().filter(|line| line["type"] == "frame" && line["camera"] != "camera0") {
        let time = line["time"].as_str().unwrap();
        // Seconds of the day are enough.
        let [hours, minutes, seconds] =
            [&time[11..13], &time[14..16], &time[17..26]].map(|part| part.parse::<f64>().unwrap());
        let now = (hours * 3600.0 + minutes * 60.0 + seconds) * 1000.0;
        if let Some(before) = last.insert(line["camera"].as_str().unwrap(), now) {
            gaps.push(now - before);
        }
    }
    gaps
}
