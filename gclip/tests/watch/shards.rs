// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several programs share one file: each camera is watched by exactly one of them.

use super::harness::{Watch, camera, command, config};
use gclip_testing::rtsp::free_port;

const CAMERAS: [&str; 5] = ["gate", "yard", "hall", "ramp", "roof"];

/// Cameras that are not there.
fn file() -> String {
    let url = format!("rtsp://127.0.0.1:{}/x", free_port());
    CAMERAS.iter().fold(config(""), |file, name| file + &camera(name, &url, ""))
}

#[test]
fn each_camera_is_on_one_of_two_shards() {
    let file = file();
    let mut shards: Vec<Watch> =
        ["0/2", "1/2"].map(|shard| Watch::start_with(&file, &[("GCLIP_SHARD", shard)])).into();
    let own =
        |shard: usize| -> &[&str] { if shard == 1 { &["gate"] } else { &["yard", "hall", "ramp", "roof"] } };
    for (shard, watch) in shards.iter_mut().enumerate() {
        watch.until_cameras(own(shard), "lost");
        watch.until_log(&format!("cameras: {} of 5", own(shard).len()));
    }
    // A file that is read again is shared in the same way.
    for (shard, watch) in shards.iter_mut().enumerate() {
        watch.signal("HUP");
        watch.until_log("nothing has changed");
        watch.stop();
        let strange = watch.seen.iter().filter(|line| !own(shard).iter().any(|name| line.contains(name)));
        assert_eq!(strange.collect::<Vec<_>>(), [] as [&String; 0], "shard {shard} watches others");
    }
}

#[test]
fn a_shard_that_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cameras.toml");
    std::fs::write(&path, file()).unwrap();
    let run = |option: &[&str], variable: &str| {
        command(&path).args(option).env("GCLIP_SHARD", variable).output().unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let output = run(&["--check"], "7");
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output.stderr);
    assert!(
        said.contains("GCLIP_SHARD: `7` is no shard: write I/N") && said.trim().lines().count() == 1,
        "{said}"
    );
    let output = run(&["--check", "--shard", "3/3"], "0/1");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("counted from 0 to 2"), "{}", text(&output.stderr));
    // The option counts, not the variable.
    let output = run(&["--check", "--shard", "1/2"], "0/2");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("cameras: 1 of 5"), "{}", text(&output.stdout));
}
