// SPDX-License-Identifier: MIT OR Apache-2.0
//! The crates that are shipped: whose licences, from where, and that who wants the elements alone compiles none of the
//! program's. `deny.toml` has the rules; `cargo deny check` knows more of them, but is not in every checkout.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// cargo's account of the workspace and of all that it is made of, for this platform.
fn metadata() -> Value {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().expect("rustc");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform"])
        .arg(String::from_utf8(host.stdout).unwrap().trim())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Packages by id.
fn packages(metadata: &Value) -> BTreeMap<&str, &Value> {
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|package| (package["id"].as_str().unwrap(), package)).collect()
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

/// Ids of a member and of all that is linked into it or runs while it is compiled.
fn linked<'a>(metadata: &'a Value, member: &str) -> BTreeSet<&'a str> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let packages = packages(metadata);
    let start = packages.iter().find(|(_, package)| name(package) == member).expect("a member").0;
    let (mut seen, mut open) = (BTreeSet::from([*start]), vec![*start]);
    while let Some(id) = open.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let id = dependency["pkg"].as_str().unwrap();
            if kinds.iter().any(|kind| kind["kind"].is_null()) && seen.insert(id) {
                open.push(id);
            }
        }
    }
    seen
}

/// The licences that deny.toml allows.
fn allowed() -> BTreeSet<String> {
    let rules = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml")).unwrap();
    let list =
        rules.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("allow = [...]");
    let entries = list.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next());
    entries.map(str::to_owned).collect()
}

#[test]
fn every_licence_is_allowed() {
    let (metadata, allowed) = (metadata(), allowed());
    assert!(allowed.len() > 5, "{allowed:?}");
    let packages = packages(&metadata);
    let mut offences = Vec::new();
    for id in linked(&metadata, "gclip") {
        let package = packages[id];
        let text = package["license"].as_str().unwrap_or_default();
        let fits = spdx::Expression::parse_mode(text, spdx::ParseMode::LAX)
            .is_ok_and(|licence| licence.evaluate(|term| allowed.contains(&term.to_string())));
        if !fits {
            offences.push(format!("{} {}: {text:?}", name(package), package["version"]));
        }
    }
    assert!(offences.is_empty(), "not allowed by deny.toml:\n  {}", offences.join("\n  "));
}

#[test]
fn every_crate_is_the_projects_or_of_the_public_registry() {
    let metadata = metadata();
    for (id, package) in packages(&metadata) {
        let source = package["source"].as_str();
        let expected = source.is_none_or(|source| source.starts_with("registry+"));
        assert!(expected, "{id} comes from {source:?}");
    }
}

#[test]
fn the_elements_need_no_crate_of_the_program() {
    // Of the plugin alone: cargo's metadata are those of all members together, with the features that the program asks for.
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "gst-plugin-gclip", "--edges", "normal", "--prefix", "none"])
        .args(["--format", "{p}", "--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let plugin: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let names: BTreeSet<&str> = plugin.iter().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains("gclip-model") && names.contains("glib"), "{names:?}");
    for program in
        ["clap", "ureq", "tokenizers", "rumqttc", "tokio", "rustls", "metrics", "indicatif", "toml", "image"]
    {
        assert!(!names.contains(program), "the plugin needs {program}");
    }
    // 142 at the time of writing, half of them for tch; a new one wants a reason.
    assert!(plugin.len() <= 145, "{} crates: {names:?}", plugin.len());
}
