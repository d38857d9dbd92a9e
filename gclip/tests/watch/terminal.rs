// SPDX-License-Identifier: MIT OR Apache-2.0
//! Status lines, on a terminal that the test holds.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, camera, command, config};
use gclip_testing::rtsp::{Server, free_port};

const ROWS: u16 = 6;
const COLUMNS: u16 = 50;

/// A terminal of this size: the end that the program writes to, and the one from which its text is read.
fn terminal() -> (OwnedFd, File) {
    let (mut master, mut slave) = (0, 0);
    let size = libc::winsize { ws_row: ROWS, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both numbers are written; a name and settings are not asked for, and the size is only read.
    let made =
        unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: openpty has just opened them, and nobody else has them.
    unsafe { (OwnedFd::from_raw_fd(slave), File::from_raw_fd(master)) }
}

/// The lines that were drawn, without what moves the cursor or colours them.
fn drawn(text: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => {
                // CSI: parameters, then a letter. Where the cursor goes, another line may begin.
                characters.by_ref().find(|c| c.is_ascii_alphabetic());
                plain.push('\n');
            }
            '\r' => plain.push('\n'),
            c => plain.push(c),
        }
    }
    // A row that is full goes on in the next one without any sign.
    let width = usize::from(COLUMNS);
    let rows = |line: &str| {
        let characters: Vec<char> = line.chars().collect();
        characters
            .chunks(width)
            .map(|row| row.iter().collect::<String>().trim_end().to_string())
            .collect::<Vec<_>>()
    };
    let is_log = |line: &str| line.starts_with("20");
    let lines = plain.lines().flat_map(|line| if is_log(line) { vec![line.to_string()] } else { rows(line) });
    lines.filter(|line| !line.is_empty()).collect()
}

#[test]
fn status_lines_keep_to_the_terminal_and_say_how_many_are_left_out() {
    let Some(mut server) = Server::start() else { return };
    server.serve("good", (160, 90), 15);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    let gone: String = (0..7)
        .map(|number| camera(&format!("gone{number}"), &format!("rtsp://127.0.0.1:{}/x", free_port()), ""))
        .collect();
    std::fs::write(&path, config("") + &camera("good", &server.url("good"), "") + &gone).unwrap();
    let (slave, mut master) = terminal();
    let mut process = {
        // Which must not keep the terminal open.
        let mut command = command(&path);
        command.env("TERM", "xterm").env_remove("NO_COLOR").stdout(Stdio::null()).stderr(slave);
        command.spawn().unwrap()
    };
    let (sender, texts) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // The terminal's end is an error.
        while let Ok(length @ 1..) = master.read(&mut bytes) {
            let _ = sender.send(bytes[..length].to_vec());
        }
    });
    let (start, mut bytes) = (Instant::now(), Vec::new());
    // 5 of 6 rows: 4 cameras in trouble, and what became of the other 4.
    let wanted = "and 4 more cameras, 1 of them playing";
    while !drawn(&String::from_utf8_lossy(&bytes)).iter().any(|line| line == wanted) {
        let said = String::from_utf8_lossy(&bytes).into_owned();
        assert!(start.elapsed() < PATIENCE, "{:?}", drawn(&said));
        bytes.extend(texts.recv_timeout(Duration::from_millis(200)).unwrap_or_default());
    }
    assert!(Command::new("kill").arg(process.id().to_string()).status().unwrap().success());
    assert_eq!(process.wait().unwrap().code(), Some(0));
    bytes.extend(texts.iter().flatten());
    reader.join().unwrap();
    let all = drawn(&String::from_utf8_lossy(&bytes));
    // Those of the log begin with the year.
    let status: Vec<&String> = all.iter().filter(|line| !line.starts_with("20")).collect();
    assert!(
        status.iter().any(|line| line.starts_with("gone") && line.contains("down, next try in")),
        "{status:?}"
    );
    // What was wider than the terminal would go on in a row without a name.
    for line in status {
        assert!(["good", "gone", "and "].iter().any(|begin| line.starts_with(begin)), "{line}");
    }
    assert!(all.iter().any(|line| line.contains("gclip: stopped after")), "{all:?}");
}
