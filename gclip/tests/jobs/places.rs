// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where results go, and places that take none.

use std::process::{Command, Stdio};

use gclip_testing::nats::Nats;
use gclip_testing::s3::S3;

use super::harness::{Archive, FRAMES, Worker, fail, gclip, said, status, succeed, until};

/// A worker that cannot write ends, and the file is as it was: nothing is its fault.
#[test]
fn a_folder_that_takes_nothing() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.picture("a.png", 1);
    let in_the_way = archive.write("a.txt", b"a file");
    let out = in_the_way.join("results").display().to_string();
    let files = [archive.folder.path().join("files")];
    succeed(archive.hand_in_of("submit", &files, &out, &[]).env("GCLIP_NATS", nats.url()));
    for _ in 0..2 {
        let (ended, _, err) = Worker::start(&nats.url(), &["--until-empty"]).end();
        assert!(!ended.success() && err.lines().count() == 1, "{err}");
        assert!(err.contains("nothing can be written to") && err.contains("Not a directory"), "{err}");
        let now = status(&nats.url());
        assert_eq!([&now["waiting"], &now["running"], &now["set_aside"]], [1, 0, 0], "{now}");
    }
    std::fs::remove_file(in_the_way).unwrap();
    assert!(Worker::start(&nats.url(), &["--until-empty"]).end().0.success());
    assert_eq!(status(&nats.url())["done"], 1);
    assert!(
        fail(&mut archive.hand_in_of("run", &files, "/proc/results", &[]))
            .contains("nothing can be written to")
    );
}

/// A small file system, until it is dropped.
struct SmallDisk(tempfile::TempDir);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_the_run_which_goes_on_when_there_is_room() {
    let disk = SmallDisk(tempfile::tempdir().unwrap());
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=32k", "tmpfs"])
        .arg(disk.0.path())
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: a small disk can be mounted by root alone");
    }
    let archive = Archive::new();
    archive.picture("a.png", 1);
    archive.video("b.mp4");
    let files = [archive.folder.path().join("files")];
    let journal = archive.folder.path().join("journal").display().to_string();
    let out = disk.0.path().display().to_string();
    let run = || archive.hand_in_of("run", &files, &out, &["--journal", &journal, "--set", "input-size=32"]);
    let output = run().output().unwrap();
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("gclip: 1 of 2 files are done; the same command goes on: "), "{text}");
    assert!(text.to_lowercase().contains("no space left"), "{text}");
    let names = super::harness::files_below(disk.0.path());
    assert!(names.len() == 1 && names[0].starts_with("a.png-"), "no part is left: {names:?}");
    let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(disk.0.path()).status();
    assert!(grown.unwrap().success());
    assert!(succeed(&mut run()).starts_with("1 of 2 files are done already"));
    assert_eq!(super::harness::files_below(disk.0.path()).len(), 2);
}

#[test]
fn a_store_has_each_result_once() {
    let Some(nats) = Nats::start() else { return };
    let (archive, store) = (Archive::new(), S3::start());
    archive.picture("a b.png", 1);
    archive.video("sub/v.mp4");
    let files = [archive.folder.path().join("files")];
    let more = ["--overlay", "--draw", "mode=contour", "--set", "input-size=32"];
    succeed(archive.hand_in_of("submit", &files, "s3://bucket/x/", &more).env("GCLIP_NATS", nats.url()));
    let work = |environment: Vec<(&str, String)>| {
        let mut command = gclip(&["work", "--until-empty"]);
        command.env("GCLIP_NATS", nats.url()).envs(environment).output().unwrap()
    };
    store.refuse(true);
    let output = work(store.environment());
    let text = said(&output);
    assert!(!output.status.success() && text.lines().count() == 1, "{text}");
    assert!(
        text.contains("nothing can be written to s3://bucket/x: the store answers AccessDenied: Not for you"),
        "{text}"
    );
    let now = status(&nats.url());
    assert_eq!([&now["waiting"], &now["running"], &now["set_aside"]], [2, 0, 0], "{now}");
    store.refuse(false);
    let output = work(store.environment());
    assert!(output.status.success(), "{}", said(&output));
    let objects = store.objects();
    let kinds: Vec<(&str, &str)> = objects
        .keys()
        .map(|name| (name.rsplit_once('-').unwrap().0, name.rsplit_once('.').unwrap().1))
        .collect();
    let (picture, video) = ("bucket/x/a%20b.png", "bucket/x/sub/v.mp4");
    let all = [(picture, "jsonl"), (picture, "png"), (video, "jsonl"), (video, "mp4"), (video, "png")];
    assert_eq!(kinds, all);
    let lines = objects.iter().find(|(name, _)| name.contains("v.mp4") && name.ends_with("jsonl")).unwrap().1;
    assert_eq!(String::from_utf8_lossy(lines).lines().count(), FRAMES);
    let drawn = objects.iter().find(|(name, _)| name.ends_with(".mp4")).unwrap().1;
    assert_eq!(&drawn[4..8], b"ftyp");
    assert_eq!(store.replaced(), 0);
}

#[test]
fn a_store_that_goes_away_is_waited_for_a_while() {
    let (archive, store) = (Archive::new(), S3::start());
    archive.picture("a.png", 1);
    archive.video("b.mp4");
    let files = [archive.folder.path().join("files")];
    let journal = archive.folder.path().join("journal").display().to_string();
    let more = ["--journal", &journal, "--set", "input-size=448"];
    let mut run = archive.hand_in_of("run", &files, "s3://bucket", &more);
    let run = run.envs(store.environment()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the picture is there", || store.objects().keys().any(|name| name.contains("a.png-")));
    store.refuse(true);
    let output = run.wait_with_output().unwrap();
    let text = said(&output);
    assert!(
        text.contains(
            "gclip: 1 of 2 files are done; the same command goes on: cannot write s3://bucket/b.mp4-"
        ),
        "{text}"
    );
    store.refuse(false);
    let mut run = archive.hand_in_of("run", &files, "s3://bucket", &more);
    succeed(run.envs(store.environment()));
    assert_eq!(store.objects().len(), 2);
}
