// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is handed out to run workers by (`packaging/fleet`): what Kubernetes, NATS and Compose take, as far as that can be
//! seen without them.

use std::path::{Path, PathBuf};
use std::process::Command;

use gclip_testing::{DEMO, ROOT, nats, python};
use serde_json::Value;

use crate::harness::command;

fn folder(name: &str) -> PathBuf {
    Path::new(ROOT).join("packaging/fleet").join(name)
}

#[test]
fn kubernetes_takes_the_manifests() {
    let folders = ["base", "gpu", "shard"].map(|name| folder("kubernetes").join(name).display().to_string());
    let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
    let Some(said) = python::run("kubernetes.py", &folders, "") else { return };
    let all: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = all.iter().map(|built| built["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Deployment", "Deployment", "StatefulSet"]);
    for built in &all {
        // Longer than the program may take to end.
        assert!(built["grace"].as_u64() > Some(10), "{built}");
        let config = built["args"][1].as_str().unwrap().rsplit('/').next().unwrap();
        let text = built["files"][config].as_str().expect("the config that is named is there");
        // The probes ask there.
        assert!(text.contains("metrics = \"0.0.0.0:9090\""), "{text}");
        is_taken(text);
    }
    // What an operator brings: the key to NATS.
    assert_eq!(all[0]["not-made-here"], serde_json::json!(["gclip-nats"]));
    assert_eq!(all[2]["not-made-here"], serde_json::json!([]));
}

/// `gclip watch --check` takes it, with the demo model and keys where they are to be.
#[track_caller]
fn is_taken(config: &str) {
    let place = tempfile::tempdir().unwrap();
    let key = place.path().join("worker.creds");
    std::fs::write(&key, "a key").unwrap();
    let demo = Path::new(DEMO).display().to_string();
    let config = config
        .replace("/usr/share/gst-plugin-gclip/models/demo", &demo)
        .replace("/etc/gclip/nats/worker.creds", &key.display().to_string())
        + "\n[segment]\ndevice = \"cpu\"\n";
    let path = place.path().join("watch.toml");
    std::fs::write(&path, config).unwrap();
    let output = command(&path).arg("--check").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn nats_takes_its_configuration() {
    let Some(program) = nats::program() else { return };
    let output = Command::new(program).args(["-t", "-c"]).arg(folder("nats.conf")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("is valid"), "{said}");
}

#[test]
fn compose_names_files_that_are_there() {
    let text = std::fs::read_to_string(folder("compose.yaml")).unwrap();
    let mounted: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next()).collect();
    assert_eq!(mounted, ["nats.conf", "worker.toml"]);
    is_taken(&std::fs::read_to_string(folder("worker.toml")).unwrap());
    for file in mounted {
        assert!(folder(file).is_file(), "{file}");
    }
}
