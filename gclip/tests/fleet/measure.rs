// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a fleet does when something fails, in numbers: `benches/fleet.sh`. Three workers, six cameras, real servers.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use gclip_testing::nats::Nats;
use gclip_testing::rtsp::{Server, free_port};

use crate::harness::{PATIENCE, Watch, camera, config};
use crate::reader::{Line, Reader, seconds};
use crate::{cameras, fleet, of, until_all_play, worker};

const NAMES: [&str; 6] = ["gate", "hall", "ramp", "roof", "shop", "yard"];
const WORKERS: [&str; 3] = ["one", "two", "three"];

/// How often each is done.
fn times() -> usize {
    std::env::var("GCLIP_FLEET_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

fn told(what: &str, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (seconds.first(), seconds.last()) else {
        return println!("{what}: nothing");
    };
    println!(
        "{what}, s: min {min:.2}, median {:.2}, max {max:.2} (n = {})",
        seconds[seconds.len() / 2],
        seconds.len()
    );
}

/// Frames of each camera, in order.
fn frames(lines: &[Line]) -> BTreeMap<String, Vec<Line>> {
    let mut frames: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.kind == "frame") {
        frames.entry(line.camera.clone()).or_default().push(line.clone());
    }
    frames
}

/// Times between neighbouring frames of a camera that came in a span.
fn gaps(frames: &[Line], from: Instant, to: Instant) -> Vec<f64> {
    let within = frames.windows(2).filter(|pair| pair[1].came >= from && pair[0].came <= to);
    within.map(|pair| pair[1].came.duration_since(pair[0].came).as_secs_f64()).collect()
}

fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0.0)
}

struct Fleet {
    nats: Nats,
    _server: Server,
    workers: Vec<Watch>,
    reader: Reader,
}

impl Fleet {
    fn start(more: &str) -> Option<Fleet> {
        let nats = Nats::start()?;
        let url = nats.url();
        let server = cameras(&url, &NAMES, 10)?;
        let workers = WORKERS.map(|name| worker(name, &format!("'{url}'"), more)).into();
        let reader = Reader::start(&nats);
        let fleet = Fleet { nats, _server: server, workers, reader };
        fleet.until_even();
        fleet.reader.until_each_has(&NAMES, 10);
        Some(fleet)
    }

    /// Waits until each worker has two cameras that play; who has which.
    fn until_even(&self) -> Vec<(String, String)> {
        until_all_play(&self.nats.url(), |all| WORKERS.iter().all(|name| of(all, name).len() == 2))
    }

    fn again(&mut self, index: usize, more: &str) {
        self.workers[index] = worker(WORKERS[index], &format!("'{}'", self.nats.url()), more);
    }

    /// When each of a worker's cameras is said to be seen by another, after `since`; and the frame before that.
    fn taken_over(&self, before: &[(String, String)], name: &str) -> Vec<(Option<Line>, Line)> {
        let lost = of(before, name);
        let over = lost.iter().map(|camera| {
            let known = self.reader.lines();
            let of_camera = |line: &Line| line.camera == **camera && line.kind == "frame";
            let last = known.iter().rev().find(|line| of_camera(line) && line.worker == name).cloned();
            let epoch = last.as_ref().map_or(0, |line| line.epoch);
            let next = self
                .reader
                .until(&format!("{camera} by another"), |line| of_camera(line) && line.epoch > epoch);
            let known = self.reader.lines();
            let last = known.iter().rev().find(|line| of_camera(line) && line.epoch == epoch).cloned();
            (last, next)
        });
        over.collect()
    }
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn killed() {
    let Some(mut fleet) = Fleet::start("") else { return };
    let (mut takes, mut usual, mut neighbours, mut beyond) = (vec![], vec![], vec![], vec![]);
    for round in 0..times() {
        let before = fleet.until_even();
        let calm = Instant::now();
        std::thread::sleep(Duration::from_secs(8));
        let index = round % WORKERS.len();
        fleet.workers[index].signal("KILL");
        let killed = Instant::now();
        let over = fleet.taken_over(&before, WORKERS[index]);
        let latest = over.iter().map(|(_, line)| line.came).max().unwrap();
        takes.push(latest.duration_since(killed).as_secs_f64());
        let frames = frames(&fleet.reader.lines());
        for (camera, owner) in &before {
            if owner != WORKERS[index] {
                let before = percentile(gaps(&frames[camera], calm, killed), 0.99);
                let longest = gaps(&frames[camera], killed, latest).into_iter().fold(0.0, f64::max);
                usual.push(before);
                neighbours.push(longest);
                beyond.push((longest - before).max(0.0));
            }
        }
        fleet.again(index, "");
    }
    told("worker killed: until the last of its cameras is seen by another", takes);
    told("  neighbours: usual gap between frames, p99", usual);
    told("  neighbours: longest gap meanwhile", neighbours);
    told("  neighbours: that, beyond the usual of the same camera", beyond);
    fleet.reader.check();
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn frozen() {
    let Some(fleet) = Fleet::start("") else { return };
    let mut takes = vec![];
    for round in 0..times() {
        let before = fleet.until_even();
        let index = round % WORKERS.len();
        fleet.workers[index].signal("STOP");
        let stopped = Instant::now();
        let over = fleet.taken_over(&before, WORKERS[index]);
        takes.push(
            over.iter().map(|(_, line)| line.came).max().unwrap().duration_since(stopped).as_secs_f64(),
        );
        std::thread::sleep(Duration::from_secs(20).saturating_sub(stopped.elapsed()));
        fleet.workers[index].signal("CONT");
        // It has to find out first.
        std::thread::sleep(Duration::from_secs(2));
    }
    fleet.until_even();
    fleet.reader.check();
    told("worker frozen for 20 s: until the last of its cameras is seen by another", takes);
    println!("  lines of a lower epoch after a higher: 0 of {}", fleet.reader.lines().len());
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn asked_to_end() {
    let Some(mut fleet) = Fleet::start("") else { return };
    // What a camera takes to be connected anew, by the same worker: it is asked for another latency.
    let mut reconnects = vec![];
    for round in 0..times() {
        for camera in NAMES {
            let changed = Instant::now();
            let latency = format!("latency={}", 50 + round % 2 + 1);
            assert!(self::fleet(&fleet.nats.url(), &["set", camera, &latency]).0);
            let of_camera = |line: &Line, state: &str| {
                line.camera == camera && line.kind == "camera" && line.state == state && line.came > changed
            };
            let lost = fleet.reader.until("lost", |line| of_camera(line, "lost"));
            let back = fleet.reader.until("back", |line| of_camera(line, "connected"));
            reconnects.push(back.came.duration_since(lost.came).as_secs_f64());
        }
    }
    let mut gaps = vec![];
    for round in 0..times() {
        let before = fleet.until_even();
        let index = round % WORKERS.len();
        fleet.workers[index].signal("TERM");
        let over = fleet.taken_over(&before, WORKERS[index]);
        for (last, next) in over {
            gaps.push(next.came.duration_since(last.unwrap().came).as_secs_f64());
        }
        assert!(fleet.workers[index].end().success());
        fleet.again(index, "");
    }
    told("a camera connected anew by the same worker", reconnects);
    told("SIGTERM: gap of a camera between the last frame of the one and the first of the other", gaps);
    fleet.reader.check();
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn server_restarted() {
    for away in [2, 30] {
        let Some(mut fleet) = Fleet::start("when-alone = 'go-on'") else { return };
        for _ in 0..times() {
            fleet.nats.kill();
            std::thread::sleep(Duration::from_secs(away));
            fleet.nats.resume();
            std::thread::sleep(Duration::from_secs(5));
        }
        nothing_lost(&mut fleet.workers, &fleet.reader, &format!("one server, away for {away} s"));
    }
}

/// Ends the workers; then no camera has connected twice, and every line has come.
fn nothing_lost(workers: &mut [Watch], reader: &Reader, what: &str) {
    workers.iter_mut().for_each(Watch::stop);
    for watch in workers.iter() {
        eprintln!("{}", watch.stderr());
    }
    reader.until_quiet();
    reader.check();
    reader.check_complete();
    let lines = reader.lines();
    let lost = lines.iter().filter(|line| line.state == "lost").count();
    // One at the end for each camera, which nobody takes over any more; those that were taken over at the end two.
    let connected: BTreeMap<(&str, u64), usize> =
        lines.iter().filter(|line| line.state == "connected").fold(BTreeMap::new(), |mut all, line| {
            *all.entry((line.camera.as_str(), line.epoch)).or_default() += 1;
            all
        });
    let again = connected.values().filter(|count| **count > 1).count();
    println!("{what}: {again} cameras connected again, {lost} ended, 0 of {} lines lost", lines.len());
    assert_eq!(again, 0);
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn leader_killed() {
    let Some(servers) = Nats::cluster() else { return };
    let mut servers = Vec::from(servers);
    let urls: Vec<String> = servers.iter().map(Nats::url).collect();
    let all = format!("[{}]", urls.iter().map(|url| format!("'{url}'")).collect::<Vec<_>>().join(", "));
    let Some(_server) = cameras(&urls[0], &NAMES, 10) else { return };
    let mut workers: Vec<Watch> = WORKERS.map(|name| worker(name, &all, "when-alone = 'go-on'")).into();
    let even = |url: &str| until_all_play(url, |all| WORKERS.iter().all(|name| of(all, name).len() == 2));
    even(&urls[0]);
    let reader = Reader::start_at(&urls);
    reader.until_each_has(&NAMES, 10);
    let mut pauses = vec![];
    for _ in 0..times() {
        let leader = leader(&urls);
        let index = servers
            .iter()
            .position(|server| leader == format!("n{}", server.port))
            .expect("one of the three");
        let before = Instant::now();
        std::thread::sleep(Duration::from_secs(5));
        servers[index].kill();
        let killed = Instant::now();
        std::thread::sleep(Duration::from_secs(10));
        servers[index].resume();
        std::thread::sleep(Duration::from_secs(10));
        let frames = frames(&reader.lines());
        for frames in frames.values() {
            let usual = percentile(gaps(frames, before, killed), 0.99);
            let longest =
                gaps(frames, killed, killed + Duration::from_secs(15)).into_iter().fold(0.0, f64::max);
            pauses.push((longest - usual).max(0.0));
        }
    }
    even(&urls[0]);
    told("leader of three killed: longest pause of a camera in the stream", pauses);
    nothing_lost(&mut workers, &reader, "leader of three killed");
}

/// The server that leads the workers' bucket.
fn leader(urls: &[String]) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = async_nats::jetstream::new(async_nats::connect(urls.to_vec()).await.unwrap());
        let begun = Instant::now();
        loop {
            if let Ok(mut stream) = context.get_stream("KV_gclip-fleet").await
                && let Ok(info) = stream.info().await
                && let Some(leader) = info.cluster.as_ref().and_then(|cluster| cluster.leader.clone())
            {
                return leader;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the cluster has no leader");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
}

/// A network of its own, in which one direction can be cut: what is sent there goes to a card that nobody has.
struct Network {
    name: String,
    side: u32,
}

impl Network {
    fn make(side: u32) -> Option<Network> {
        let network = Network { name: format!("gclip-{side}"), side };
        let (name, own, other) = (&network.name, network.host(), network.inside());
        let made = [
            format!("netns add {name}"),
            format!("link add gclip{side} type veth peer name eth0 netns {name}"),
            format!("addr add {own}/24 dev gclip{side}"),
            format!("link set gclip{side} up"),
            format!("-n {name} addr add {other}/24 dev eth0"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} link set lo up"),
        ];
        made.iter().all(|command| ip(command)).then_some(network).or_else(|| {
            eprintln!("skipped: no network namespaces here (they take root)");
            None
        })
    }

    fn host(&self) -> String {
        format!("10.77.{}.1", self.side)
    }

    fn inside(&self) -> String {
        format!("10.77.{}.2", self.side)
    }

    /// Nothing gets from the worker to the servers, or nothing from them to it.
    fn cut(&self, from_worker: bool) {
        let (name, nobody) = (&self.name, "lladdr 02:00:00:00:00:99 nud permanent");
        assert!(ip(&match from_worker {
            true => format!("-n {name} neigh replace {} {nobody} dev eth0", self.host()),
            false => format!("neigh replace {} {nobody} dev gclip{}", self.inside(), self.side),
        }));
    }

    fn mend(&self) {
        ip(&format!("-n {} neigh del {} dev eth0", self.name, self.host()));
        ip(&format!("neigh del {} dev gclip{}", self.inside(), self.side));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.name));
    }
}

fn ip(arguments: &str) -> bool {
    let status = Command::new("ip").args(arguments.split(' ')).stderr(std::process::Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn cut_off_one_way() {
    let side = 64 + std::process::id() % 128;
    let Some(network) = Network::make(side) else { return };
    let Some(nats) = Nats::start_everywhere() else { return };
    let url = nats.url();
    // Cameras at the same address on both sides.
    let port = free_port();
    let Some(mut outside) = Server::start_on(port, None) else { return };
    let Some(mut inside) = Server::start_in(&network.name, port) else { return };
    for name in &NAMES[..4] {
        outside.serve(name, (160, 90), 10);
        inside.serve(name, (160, 90), 10);
        assert!(fleet(&url, &["add", name, &format!("url={}", outside.url(name)), "masks=none"]).0);
    }
    let one = worker("one", &format!("'{url}'"), "");
    let there = format!("'nats://{}:{}'", network.host(), nats.port);
    let mut two = crate::worker_in(&network.name, "two", &there, "");
    let even = || until_all_play(&url, |all| of(all, "one").len() == 2 && of(all, "two").len() == 2);
    even();
    let reader = Reader::start(&nats);
    reader.until_each_has(&NAMES[..4], 10);
    let (mut silences, mut takes) = (vec![], vec![]);
    for round in 0..times() {
        let before = even();
        let lost: Vec<&str> = of(&before, "two").into_iter().collect();
        network.cut(round % 2 == 0);
        let cut = Instant::now();
        for camera in &lost {
            let of_camera = |line: &Line| line.camera == *camera && line.worker == "one" && line.came > cut;
            let first = reader.until(&format!("{camera} by the other"), of_camera);
            takes.push(first.came.duration_since(cut).as_secs_f64());
            // What the cut-off worker has let out by another way, with an older claim.
            let written = two
                .lines_so_far()
                .iter()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let mut of_two = written.filter(|line| line["camera"] == *camera);
            let last =
                of_two.by_ref().filter(|line| line["epoch"].as_u64() < Some(first.epoch)).last().unwrap();
            let silence = first.made - seconds(&last);
            assert!(silence > 0.0, "two said something of {camera} at a time: {last} and {first:?}");
            silences.push(silence);
        }
        network.mend();
        let begun = Instant::now();
        while two.stderr().matches("others have taken over").count() <= round {
            assert!(begun.elapsed() < PATIENCE, "{}", two.stderr());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    even();
    reader.check();
    told("cut off in one direction: until the other sees its cameras", takes);
    told("  between the last line of the one by another way and the first of the other", silences);
    drop(one);
}

#[test]
#[ignore = "minutes: benches/fleet.sh"]
fn what_it_costs() {
    let port = free_port();
    let Some(nats) = Nats::start_with(&format!("http: \"127.0.0.1:{port}\"\n")) else { return };
    let url = nats.url();
    let Some(server) = cameras(&url, &NAMES, 5) else { return };
    // Lines go elsewhere: only what the fleet itself says is counted.
    let workers = WORKERS.map(|name| crate::worker_without_bus(name, &format!("'{url}'")));
    until_all_play(&url, |all| WORKERS.iter().all(|name| of(all, name).len() == 2));
    std::thread::sleep(Duration::from_secs(5));
    let counts = || {
        let text =
            ureq::get(format!("http://127.0.0.1:{port}/varz")).call().unwrap().body_mut().read_to_string();
        let value: serde_json::Value = serde_json::from_str(&text.unwrap()).unwrap();
        ["in_msgs", "out_msgs", "in_bytes", "out_bytes"].map(|key| value[key].as_f64().unwrap())
    };
    let (before, begun) = (counts(), Instant::now());
    std::thread::sleep(Duration::from_secs(30));
    let after = counts();
    let rate = |index: usize| (after[index] - before[index]) / begun.elapsed().as_secs_f64();
    println!(
        "three workers with six cameras: {:.1} messages a second to the servers, {:.1} from them, {:.0} and {:.0} bytes",
        rate(0),
        rate(1),
        rate(2),
        rate(3)
    );
    let resident = |watch: &Watch| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", watch.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_string();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    let with: Vec<f64> = workers.iter().map(resident).collect();
    // The same two cameras, watched by a program of its own.
    let alone = NAMES[..2]
        .iter()
        .fold(config("[output.lines]\ntype = 'file'\npath = '/dev/null'\nwhat = 'all'"), |text, name| {
            text + &camera(name, &server.url(name), "masks = 'none'")
        });
    let mut alone = Watch::start(&alone);
    NAMES[..2].iter().for_each(|name| alone.until_log(&format!("{name}: connected")));
    std::thread::sleep(Duration::from_secs(35));
    println!(
        "memory of a worker with two cameras: {with:.0?} MiB; of a program without a fleet: {:.0} MiB",
        resident(&alone)
    );
    alone.stop();
}
