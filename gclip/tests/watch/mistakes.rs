// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes in the config end the program before anything starts; src/bin/gclip/watch/config/tests.rs has the many
//! that need no model.

use std::path::Path;
use std::process::Output;

use super::harness::{camera, command, config};

fn run(config: &str) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    std::fs::write(&path, config).unwrap();
    let output = command(&path).output().unwrap();
    (folder, output)
}

#[test]
fn the_program_ends_with_one_sentence() {
    let file = "[output.archive]\ntype = 'file'\npath = 'lines.jsonl'\n";
    let good = camera("gate", "rtsp://127.0.0.1:1/x", "");
    let no_model = config("").replacen("/model'", "/nothing'", 1) + file + &good;
    let unknown_key = config("") + file + &good.replace("url", "uri");
    let bad_file = config("") + "[output.archive]\ntype = 'file'\npath = 'no/such/folder/x'\n" + &good;
    let bad_template = config("").replace("'none'", "'no braces'") + file + &good;
    let table = [
        (no_model, 78, vec!["cameras.toml", "camera.gate", "nothing"]),
        (unknown_key, 78, vec!["cameras.toml:", "camera[0].uri", "unknown field", "`url`"]),
        (bad_file, 1, vec!["output.archive", "no/such/folder/x"]),
        (bad_template, 78, vec!["cameras.toml", "camera.gate", "no braces"]),
    ];
    for (config, code, words) in table {
        let (folder, output) = run(&config);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(text.trim_end().lines().count(), 1, "one sentence: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} in: {text}");
        assert!(
            output.stdout.is_empty() && !folder.path().join("lines.jsonl").exists(),
            "something has started"
        );
    }
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let (_folder, output) = run(&(config(&format!("metrics = '{address}'")) + &good));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains(&address), "{text}");
}

#[test]
fn the_example_has_no_mistake() {
    let example = Path::new(gclip_testing::ROOT).join("pipelines/cameras.toml");
    let output = command(&example).arg("--check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("cameras: 2, outputs: 2"), "{text}");
}
