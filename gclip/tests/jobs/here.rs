// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip jobs run`: an archive on one machine, without a server.

use std::process::{Child, Command, Stdio};

use super::harness::{Archive, FRAMES, PATIENCE, fail, said, signal, succeed, until};
use super::workers::parts;

const SLOW: [&str; 2] = ["--set", "input-size=448"];
const ENDLESS: [&str; 2] = ["--set", "input-size=896"];

/// How often each file was begun, by the journal.
fn begun(archive: &Archive) -> Vec<usize> {
    let text = std::fs::read_to_string(archive.out().join(".gclip-jobs.jsonl")).unwrap_or_default();
    let mut counts = std::collections::BTreeMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        if let Some(id) = line["begun"].as_str() {
            *counts.entry(id.to_string()).or_default() += 1;
        }
    }
    let mut counts: Vec<usize> = counts.into_values().collect();
    counts.sort();
    counts
}

/// The process in which the files are looked at.
fn inner(outer: &Child) -> u32 {
    let mut found = None;
    until("there is an inner process", || {
        let of = format!("/proc/{0}/task/{0}/children", outer.id());
        let children = std::fs::read_to_string(of).unwrap_or_default();
        found = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

fn start(archive: &Archive, more: &[&str]) -> Child {
    let mut command: Command = archive.hand_in("run", more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn what_is_done_is_not_done_again() {
    let archive = Archive::new();
    (0..3).for_each(|number| drop(archive.picture(&format!("a{number}.png"), number)));
    archive.video("b.mp4");
    archive.picture("c.png", 7);
    let mut first = start(&archive, &SLOW);
    until("the video is begun", || !parts(&archive).is_empty() && archive_results(&archive) == 3);
    let looks = inner(&first);
    first.kill().unwrap();
    first.wait().unwrap();
    until("what it started ends too", || !std::path::Path::new(&format!("/proc/{looks}")).exists());
    assert!(parts(&archive).is_empty(), "it had time to clear up");
    let told = succeed(&mut archive.hand_in("run", &SLOW));
    assert!(
        told.starts_with("3 of 5 files are done already\n") && told.ends_with("5 files done\n"),
        "{told}"
    );
    assert_eq!(told.matches(": done in").count() + told.matches(" frames in ").count(), 2, "{told}");
    assert_eq!(begun(&archive), [1, 1, 1, 1, 2]);
    assert_eq!((archive.results().len(), archive.lines("b.mp4").len()), (5, FRAMES));
    let told = succeed(&mut archive.hand_in("run", &SLOW));
    assert_eq!(told, "5 of 5 files are done already\n5 files done\n");
    // Other words are other jobs; a file that has changed is another one too.
    archive.picture("c.png", 8);
    let told = succeed(&mut archive.hand_in("run", &SLOW));
    assert!(told.starts_with("4 of 5 files are done already\n"), "{told}");
    let told = succeed(&mut archive.hand_in("run", &[&SLOW[..], &["--again", "--at-once", "3"]].concat()));
    assert!(!told.contains("already") && told.ends_with("5 files done\n"), "{told}");
}

fn archive_results(archive: &Archive) -> usize {
    super::harness::files_below(&archive.out())
        .iter()
        .filter(|name| name.ends_with(".jsonl"))
        .count()
        .saturating_sub(1)
}

#[test]
fn a_file_that_brings_the_program_down_is_set_aside_and_the_others_are_done() {
    let archive = Archive::new();
    archive.picture("a.png", 1);
    archive.video("b.mp4");
    archive.picture("c.png", 2);
    let mut run = start(&archive, &ENDLESS);
    for round in 1..=3 {
        until("the video is begun", || {
            begun(&archive).last() == Some(&round) && parts(&archive).len() == round
        });
        signal(inner(&run), "KILL");
    }
    until("it ends", || run.try_wait().unwrap().is_some());
    let output = run.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.matches("it went down (signal 9) and is started again").count(), 3, "{text}");
    assert!(text.contains("b.mp4 is set aside: it was begun 3 times"), "{text}");
    assert!(text.ends_with("gclip: 1 of 3 files were set aside\n"), "{text}");
    assert_eq!(begun(&archive), [1, 1, 4]);
}

#[test]
fn a_signal_stops_it_and_costs_no_try() {
    let archive = Archive::new();
    archive.video("a.mp4");
    for _ in 0..4 {
        let run = start(&archive, &ENDLESS);
        until("the video is begun", || !parts(&archive).is_empty());
        signal(run.id(), "INT");
        let begun = std::time::Instant::now();
        let output = run.wait_with_output().unwrap();
        assert!(begun.elapsed() < PATIENCE / 4);
        let text = said(&output);
        assert!(
            text.ends_with("gclip: stopped: 0 of 1 files are done; the same command goes on\n"),
            "{text}"
        );
        assert!(parts(&archive).is_empty());
    }
}

#[test]
fn two_do_not_share_a_journal() {
    let archive = Archive::new();
    archive.video("a.mp4");
    let mut run = start(&archive, &ENDLESS);
    until("the video is begun", || !parts(&archive).is_empty());
    assert!(fail(&mut archive.hand_in("run", &ENDLESS)).contains("another gclip jobs run has the journal"));
    run.kill().unwrap();
    run.wait().unwrap();
}
