// SPDX-License-Identifier: MIT OR Apache-2.0
//! RTSP cameras for tests: `server.c` on gst-rtsp-server, in a process of its own that ends with the test.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/demo/demo.mp4");

/// The compiled server; `None`, with the reason printed, where it cannot be built.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let packages = ["gstreamer-rtsp-server-1.0", "gstreamer-rtsp-1.0", "gstreamer-app-1.0", "gio-2.0"];
    let flags = Command::new("pkg-config").args(["--cflags", "--libs"]).args(packages).output();
    let Some(flags) = flags.ok().filter(|output| output.status.success()) else {
        eprintln!("skipped: no headers of gst-rtsp-server (scripts/setup.sh --tests installs them)");
        return None;
    };
    // Test programs run beside each other: each has a server of its own.
    let program = crate::scratch().join(format!("rtsp-server-{}", std::process::id()));
    let compile = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O1"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rtsp/server.c"))
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .arg("-o")
        .arg(&program)
        .output()
        .expect("a C compiler");
    assert!(compile.status.success(), "{}", String::from_utf8_lossy(&compile.stderr));
    Some(program)
});

/// Video files to serve: the demo, and the camera clips of `../shared/videos` where they are.
pub fn videos() -> Vec<PathBuf> {
    let shared = crate::shared("videos");
    let clips = std::fs::read_dir(shared).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut clips: Vec<_> = clips.filter(|path| path.extension().is_some_and(|end| end == "mp4")).collect();
    clips.sort();
    if clips.is_empty() {
        eprintln!("no ../shared/videos: the demo video alone");
    }
    std::iter::once(PathBuf::from(DEMO)).chain(clips).collect()
}

/// A port of 127.0.0.1 on which nobody listens.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running server; dropping it closes every connection.
pub struct Server {
    pub port: u16,
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// On a free port, open to everybody. `None` where the server cannot be built: the test is skipped then.
    pub fn start() -> Option<Server> {
        Server::start_on(0, None)
    }

    /// On a given port (0: a free one); with `user:password` clients need these.
    pub fn start_on(port: u16, login: Option<&str>) -> Option<Server> {
        Server::start_with(&[port.to_string().as_str()].into_iter().chain(login).collect::<Vec<_>>())
    }

    /// On a port that may still be in use; `None` then.
    pub fn try_start_on(port: u16) -> Option<Server> {
        let mut server = Server::spawn(&[&port.to_string()])?;
        server.port = server.answer().strip_prefix("ready ")?.parse().ok()?;
        Some(server)
    }

    /// With the arguments of `server.c`.
    pub fn start_with(arguments: &[&str]) -> Option<Server> {
        let mut server = Server::spawn(arguments)?;
        let ready = server.answer();
        server.port = ready.strip_prefix("ready ").expect("the server listens").parse().unwrap();
        Some(server)
    }

    /// On a port of 127.0.0.1 in a network namespace.
    pub fn start_in(network: &str, port: u16) -> Option<Server> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", network]).arg(PROGRAM.as_ref()?);
        let mut server = Server::run(command.arg(port.to_string()));
        server.port = server.answer().strip_prefix("ready ")?.parse().ok()?;
        Some(server)
    }

    fn spawn(arguments: &[&str]) -> Option<Server> {
        Some(Server::run(Command::new(PROGRAM.as_ref()?).args(arguments)))
    }

    fn run(command: &mut Command) -> Server {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Server { port: 0, process, commands, answers }
    }

    /// A camera of this name that shows the demo video.
    pub fn serve(&mut self, name: &str, (width, height): (u32, u32), fps: u32) {
        self.serve_file(name, (width, height), fps, Path::new(DEMO));
    }

    pub fn serve_file(&mut self, name: &str, (width, height): (u32, u32), fps: u32, file: &Path) {
        self.say(&format!("serve {name} {width} {height} {fps} {}", file.display()));
    }

    /// Sends a command of `server.c` and returns what follows its `ok`.
    pub fn say(&mut self, command: &str) -> String {
        match self.try_say(command) {
            Some(Ok(result)) => result,
            Some(Err(answer)) => panic!("{command}: {answer}"),
            None => panic!("{command}: the server has ended"),
        }
    }

    /// The same, for commands that may fail; `None` when the server has ended.
    pub fn try_say(&mut self, command: &str) -> Option<Result<String, String>> {
        writeln!(self.commands.as_mut()?, "{command}").ok()?;
        let answer = self.answer();
        let result = answer.strip_prefix("ok").map(|result| result.trim().to_string());
        if answer.is_empty() { None } else { Some(result.ok_or(answer)) }
    }

    pub fn url(&self, name: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{name}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Threads of the server, which keeps those of clients that are gone; `None` where the system does not say.
    pub fn threads(&self) -> Option<usize> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).ok()?;
        Some(tasks.count())
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.commands.take(); // it ends with its input
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
