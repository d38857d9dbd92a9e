// SPDX-License-Identifier: MIT OR Apache-2.0
//! NATS servers in processes of their own, alone or as a cluster of three, which tests kill, freeze and start again.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{python, rtsp::free_port};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Nats {
    pub port: u16,
    program: PathBuf,
    config: PathBuf,
    /// Its configuration and what it stores.
    pub folder: tempfile::TempDir,
    process: Option<Child>,
}

/// The server that `scripts/setup.sh --tests` installs. `None`, with a word, where it is missing.
pub fn program() -> Option<PathBuf> {
    let program =
        python::packages().map(|folder| folder.join("bin/nats-server")).filter(|path| path.is_file());
    if program.is_none() {
        eprintln!("skipped: no nats-server (scripts/setup.sh --tests installs it)");
    }
    program
}

/// One that is too old. `None`, with a word, where there is none: only Debian 12 has it.
pub fn old_program() -> Option<PathBuf> {
    let program = python::packages()?.join("nats-server-2.9/usr/sbin/nats-server");
    let program = Some(program).filter(|path| path.is_file());
    if program.is_none() {
        eprintln!("skipped: no nats-server 2.9 (scripts/setup.sh --tests takes it from Debian 12)");
    }
    program
}

impl Nats {
    /// One with JetStream that lets everybody in.
    pub fn start() -> Option<Nats> {
        Nats::with(program()?, free_port(), "", true)
    }

    /// One with these lines in its configuration too.
    pub fn start_with(more: &str) -> Option<Nats> {
        Nats::with(program()?, free_port(), more, true)
    }

    pub fn start_old() -> Option<Nats> {
        Nats::with(old_program()?, free_port(), "", true)
    }

    pub fn start_without_jetstream() -> Option<Nats> {
        Nats::with(program()?, free_port(), "", false)
    }

    /// Three that copy to each other.
    pub fn cluster() -> Option<[Nats; 3]> {
        let program = program()?;
        let routes = [free_port(), free_port(), free_port()];
        let all: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let servers = routes.map(|route| {
            let cluster = format!(
                "cluster {{ name: fleet, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                all.join(", ")
            );
            Nats::with(program.clone(), free_port(), &cluster, true)
        });
        let [Some(one), Some(two), Some(three)] = servers else { return None };
        Some([one, two, three])
    }

    fn with(program: PathBuf, port: u16, more: &str, jetstream: bool) -> Option<Nats> {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nats.conf");
        let mut text = format!("listen: \"127.0.0.1:{port}\"\nserver_name: \"n{port}\"\n");
        if jetstream {
            let store = folder.path().join("store");
            // The old one does not know it.
            let sync = if program.iter().any(|part| part == "nats-server-2.9") {
                ""
            } else {
                ", sync_interval: always"
            };
            writeln!(text, "jetstream {{ store_dir: \"{}\"{sync} }}", store.display()).unwrap();
        }
        text.push_str(more);
        std::fs::write(&config, text).unwrap();
        let mut server = Nats { port, program, config, folder, process: None };
        server.resume();
        Some(server)
    }

    /// Starts it again, with what it has stored.
    pub fn resume(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let process = Command::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let begun = Instant::now();
        while !self.is_there() {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "nats-server does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it greets who comes.
    fn is_there(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO")
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
