// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip pull` against a hub of our own on 127.0.0.1.

mod hub;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hub::{FakeHub, Fault, sha256};

const ID: &str = "owner/tiny-clip";

/// A cache folder, and the program run with it against `hub`.
struct Session {
    home: tempfile::TempDir,
    endpoint: String,
}

impl Session {
    fn new(hub: &FakeHub) -> Session {
        Session { home: tempfile::tempdir().unwrap(), endpoint: hub.endpoint() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
        command.args(["pull", ID]).args(arguments);
        for name in ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.endpoint);
        command
    }

    fn pull(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.home.path().join("hub/models--owner--tiny-clip")
    }

    fn snapshot(&self) -> PathBuf {
        self.repository().join("snapshots").join(hub::COMMIT)
    }

    fn partial(&self, contents: &[u8]) -> PathBuf {
        self.repository().join("blobs").join(format!("{}.incomplete", sha256(contents)))
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "one sentence: {text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

#[track_caller]
fn assert_same(path: &Path, contents: &[u8]) {
    assert!(std::fs::read(path).unwrap() == contents, "{} differs", path.display());
}

fn weights() -> Vec<u8> {
    (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn plain_hub() -> FakeHub {
    FakeHub::new()
        .file("config.json", b"{}")
        .file("tokenizer.json", b"{\"version\":\"1.0\"}")
        .file("README.md", b"not fetched")
        .large_file("pytorch_model.bin", b"not fetched either")
        .large_file("model.safetensors", &weights())
}

#[test]
fn fetches_what_makes_a_checkpoint() {
    let hub = plain_hub().start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let snapshot = session.snapshot();
    assert_same(&snapshot.join("model.safetensors"), &weights());
    assert_same(&snapshot.join("config.json"), b"{}");
    assert!(snapshot.join("tokenizer.json").is_file());
    assert!(!snapshot.join("README.md").exists());
    assert!(!snapshot.join("pytorch_model.bin").exists());
    let reference = std::fs::read_to_string(session.repository().join("refs/main")).unwrap();
    assert_eq!(reference, hub::COMMIT);

    // A second run fetches nothing, an offline one asks nothing.
    let before = hub.downloads().len();
    assert!(session.pull(&[]).status.success());
    assert_eq!(hub.downloads().len(), before);
    let requests = hub.requests();
    let offline = session.command(&[]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert!(offline.status.success(), "{}", stderr(&offline));
    assert_eq!(hub.requests(), requests);
}

#[test]
fn resumes_within_one_run_when_the_connection_is_cut() {
    let hub = plain_hub().fault("model.safetensors", Fault::Cut { after: 100_000, times: 1 }).start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("model.safetensors"), &weights());
    let ranges = hub.ranges_of("model.safetensors");
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert_eq!(ranges[0], None);
    let start: u64 = ranges[1].as_deref().unwrap().trim_end_matches('-').parse().unwrap();
    assert!(start > 0 && start <= 100_000, "resumed from {start}");
}

#[test]
fn resumes_in_a_later_run() {
    let hub = plain_hub().fault("model.safetensors", Fault::Cut { after: 120_000, times: 1 }).start();
    let session = Session::new(&hub);
    let first = session.pull(&["--retries", "0"]);
    assert_refused(&first, &["model.safetensors", "run the same command again"]);
    // Nothing points to the half: neither the snapshot nor the branch.
    assert!(!session.snapshot().join("model.safetensors").exists());
    assert!(!session.repository().join("refs/main").exists());
    let kept = std::fs::metadata(session.partial(&weights())).unwrap().len();
    assert!(kept > 0 && kept <= 120_000, "kept {kept}");

    let second = session.pull(&["--retries", "0"]);
    assert!(second.status.success(), "{}", stderr(&second));
    assert_same(&session.snapshot().join("model.safetensors"), &weights());
    assert_eq!(hub.ranges_of("model.safetensors").last().unwrap().as_deref(), Some(&*format!("{kept}-")));
    assert!(!session.partial(&weights()).exists());
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let hub = plain_hub()
        .fault("model.safetensors", Fault::Cut { after: 50_000, times: 1 })
        .without_ranges()
        .start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("model.safetensors"), &weights());
}

#[test]
fn a_corrupted_file_is_refused_and_thrown_away() {
    for name in ["model.safetensors", "config.json"] {
        let hub = plain_hub().fault(name, Fault::FlipLastByte).start();
        let session = Session::new(&hub);
        assert_refused(&session.pull(&[]), &[name, "corrupted"]);
        assert!(!session.snapshot().join(name).exists());
        assert!(!session.repository().join("refs/main").exists());
        assert!(!session.partial(&weights()).exists());
    }
}

#[test]
fn a_hub_that_lists_no_hashes_is_asked_for_them() {
    let hub = plain_hub().without_hashes().start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("model.safetensors"), &weights());
    let hub = plain_hub().without_hashes().fault("model.safetensors", Fault::FlipLastByte).start();
    assert_refused(&Session::new(&hub).pull(&[]), &["model.safetensors", "corrupted"]);
}

#[test]
fn a_corrupted_part_of_an_earlier_run_is_fetched_anew() {
    let hub = plain_hub().start();
    let session = Session::new(&hub);
    let partial = session.partial(&weights());
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::fs::write(&partial, vec![7; 1000]).unwrap();
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("model.safetensors"), &weights());
}

#[test]
fn a_damaged_file_in_the_cache_is_noticed_and_replaced() {
    let hub = plain_hub().start();
    let session = Session::new(&hub);
    assert!(session.pull(&[]).status.success());
    let blob = session.repository().join("blobs").join(sha256(&weights()));
    std::fs::write(&blob, b"damaged").unwrap();
    assert!(session.pull(&[]).status.success());
    assert_same(&session.snapshot().join("model.safetensors"), &weights());
}

#[test]
fn a_file_longer_than_listed_is_refused() {
    let hub = plain_hub().fault("model.safetensors", Fault::TooLong).start();
    let session = Session::new(&hub);
    assert_refused(&session.pull(&[]), &["model.safetensors", "more than the 300000 bytes"]);
    assert!(!session.snapshot().join("model.safetensors").exists());
}

#[test]
fn shards_come_with_their_index() {
    let index =
        br#"{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let hub = FakeHub::new()
        .file("config.json", b"{}")
        .file("model.safetensors.index.json", index)
        .large_file("model-00001-of-00002.safetensors", b"first")
        .large_file("model-00002-of-00002.safetensors", b"second")
        .start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("model-00001-of-00002.safetensors"), b"first");
    assert_same(&session.snapshot().join("model-00002-of-00002.safetensors"), b"second");
}

#[test]
fn open_clip_files_are_fetched() {
    let hub = FakeHub::new()
        .file("open_clip_config.json", b"{}")
        .large_file("open_clip_model.safetensors", b"weights")
        .start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("open_clip_model.safetensors"), b"weights");
}

#[test]
fn weights_that_only_a_conversion_request_has_are_found() {
    let hub = FakeHub::new()
        .file("config.json", b"{}")
        .large_file("pytorch_model.bin", b"pickle")
        .converted_file("model.safetensors", b"converted")
        .start();
    let session = Session::new(&hub);
    let output = session.pull(&[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_same(&session.snapshot().join("model.safetensors"), b"converted");
    assert_same(&session.snapshot().join("config.json"), b"{}");
}

#[test]
fn a_repository_without_safetensors_says_what_it_has() {
    let hub = FakeHub::new().file("config.json", b"{}").large_file("pytorch_model.bin", b"pickle").start();
    assert_refused(&Session::new(&hub).pull(&[]), &[ID, "safetensors", "pytorch_model.bin"]);
}

#[test]
fn the_token_is_sent_to_the_hub() {
    let hub = plain_hub().token("secret").start();
    let session = Session::new(&hub);
    assert_refused(&session.pull(&[]), &[ID, "HF_TOKEN"]);
    let output = session.command(&[]).env("HF_TOKEN", "secret").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    // And the token that a log-in leaves in the home folder.
    let other = Session::new(&hub);
    std::fs::write(other.home.path().join("token"), "secret\n").unwrap();
    assert!(other.pull(&[]).status.success());
}

#[test]
fn the_cache_folder_can_be_named() {
    let hub = plain_hub().start();
    let session = Session::new(&hub);
    let cache = tempfile::tempdir().unwrap();
    let output = session.command(&[]).env("HF_HUB_CACHE", cache.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let file = cache.path().join("models--owner--tiny-clip/snapshots").join(hub::COMMIT).join("config.json");
    assert_same(&file, b"{}");
}

#[test]
fn what_the_user_does_wrong_gets_one_sentence() {
    let hub = plain_hub().start();
    let session = Session::new(&hub);
    let offline = session.command(&[]).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_refused(&offline, &[ID, "HF_HUB_OFFLINE"]);
    assert_refused(&session.pull(&["--revision", "nowhere"]), &[ID, "no model"]);
    let nobody = session.command(&[]).env("HF_ENDPOINT", "http://127.0.0.1:1").output().unwrap();
    assert_refused(&nobody, &["cannot reach http://127.0.0.1:1"]);
    let odd = session.command(&[]).env("HF_ENDPOINT", "hub.example").output().unwrap();
    assert_refused(&odd, &["HF_ENDPOINT", "hub.example"]);
    for id in ["../../etc", "a/b/c", "", "/tmp"] {
        let output = Command::new(env!("CARGO_BIN_EXE_gclip")).args(["pull", id]).output().unwrap();
        assert_refused(&output, &["no model id"]);
    }
}
