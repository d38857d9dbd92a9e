// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told to who does something wrong: one sentence.

use gclip_testing::certificate;
use gclip_testing::nats::Nats;
use gclip_testing::rtsp::free_port;

use super::harness::{Archive, Worker, fail, gclip, status, submit, succeed, until};

#[test]
fn servers_that_cannot_be_used() {
    let archive = Archive::new();
    archive.picture("a.png", 1);
    let tell = |command: &mut std::process::Command, url: &str, words: &[&str]| {
        let said = fail(command.env("GCLIP_NATS", url));
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!said.contains("hunter"), "{said}");
    };
    for mut command in [archive.hand_in("submit", &[]), gclip(&["work"]), gclip(&["cancel", "--all"])] {
        tell(&mut command, "", &["no NATS server is named", "GCLIP_NATS"]);
    }
    let refused = |url: &str, words: &[&str]| tell(&mut gclip(&["status"]), url, words);
    refused("http://127.0.0.1:1", &["write nats:// or tls://"]);
    refused(&format!("nats://127.0.0.1:{}", free_port()), &["cannot be reached"]);
    let users = "authorization { user: me, password: hunter2 }\n";
    let Some(guarded) = Nats::start_with(users) else { return };
    refused(&guarded.url(), &["refuses who comes"]);
    refused(&guarded.url().replace("//", "//me:hunter3@"), &["refuses who comes"]);
    let right = guarded.url().replace("//", "//me:hunter2@");
    succeed(archive.hand_in("submit", &[]).env("GCLIP_NATS", right));
    if let Some(plain) = Nats::start_without_jetstream() {
        refused(&plain.url(), &["has no JetStream for this user", "-js"]);
    }
    if let Some(old) = Nats::start_old() {
        refused(&old.url(), &["is version 2.9", "2.10 or newer is needed"]);
    }
}

#[test]
fn servers_whose_certificate_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (own, key) = certificate(folder.path(), "nats");
    let (another, _) = certificate(folder.path(), "another");
    let users = "authorization { user: me, password: hunter2 }";
    let Some(nats) =
        Nats::start_with(&format!("tls {{ cert_file: \"{own}\", key_file: \"{key}\" }}\n{users}\n"))
    else {
        return;
    };
    let url = format!("tls://me:hunter2@127.0.0.1:{}", nats.port);
    let archive = Archive::new();
    archive.picture("a.png", 1);
    for ca in [&[][..], &["--ca", &another]] {
        for mut command in [archive.hand_in("submit", ca), gclip(&[&["work"], ca].concat())] {
            let said = fail(command.env("GCLIP_NATS", &url));
            assert!(said.contains("its certificate is not trusted") && !said.contains("hunter"), "{said}");
        }
    }
    succeed(archive.hand_in("submit", &["--ca", &own]).env("GCLIP_NATS", &url));
    let (ended, _, err) = Worker::start(&url, &["--ca", &own, "--until-empty"]).end();
    assert!(ended.success(), "{err}");
    assert_eq!(archive.results(), ["a.png.jsonl"]);
}

/// Who may do just what docs/jobs.md names can do everything.
#[test]
fn a_user_who_may_do_little() {
    let may = "authorization { users: [ { user: me, password: pw, permissions: {\n\
               publish: [\"gclip-jobs.>\", \"$JS.API.>\", \"$JS.ACK.>\"], subscribe: [\"_INBOX.>\"] } } ] }\n";
    let Some(nats) = Nats::start_with(may) else { return };
    let url = nats.url().replace("//", "//me:pw@");
    let archive = Archive::new();
    (0..3).for_each(|number| drop(archive.picture(&format!("{number}.png"), number)));
    let cancelled = archive.write("bad.mp4", b"no");
    archive.write("worse.mp4", b"no");
    succeed(archive.hand_in("submit", &["--patience", "1"]).env("GCLIP_NATS", &url));
    succeed(gclip(&["cancel", cancelled.to_str().unwrap()]).env("GCLIP_NATS", &url));
    let (ended, _, err) = Worker::start(&url, &["--until-empty"]).end();
    assert!(ended.success() && err.lines().count() == 1, "{err}");
    let now = status(&url);
    assert_eq!([&now["done"], &now["set_aside"], &now["cancelled"]], [3, 1, 1], "{now}");
}

#[test]
fn files_and_settings_that_cannot_be_used() {
    let archive = Archive::new();
    let picture = archive.picture("a.png", 1);
    let wrong = |files: &[&str], more: &[&str], words: &str| {
        let files: Vec<_> = files.iter().map(std::path::PathBuf::from).collect();
        let said = fail(&mut archive.hand_in_of("run", &files, &archive.out().display().to_string(), more));
        assert!(said.contains(words), "{said}");
    };
    let picture = picture.to_str().unwrap();
    wrong(&["/no/such/file.mp4"], &[], "cannot read /no/such/file.mp4");
    wrong(&["rtsp://me:hunter2@camera/1"], &[], "rtsp://camera/1 is no recording");
    wrong(&[picture], &["--set", "no-such=1"], "no property `no-such`");
    wrong(&[picture], &["--overlay", "--draw", "mode=loud"], "`loud` is no value for the property `mode`");
    let empty = archive.folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    wrong(&[empty.to_str().unwrap()], &[], "holds no video and no picture");
    let out = "gs://bucket/x";
    let said = fail(&mut archive.hand_in_of("run", &[picture.into()], out, &[]));
    assert!(said.contains("results go to a folder, to file:///FOLDER or to s3://BUCKET/FOLDER"), "{said}");
    let said = fail(&mut archive.hand_in_of("run", &[picture.into()], "s3://bucket", &[]));
    assert!(said.contains("--journal FILE is needed"), "{said}");
}

/// No worker has the model: the first says so and ends, and so do others; the file is not to blame before three have.
#[test]
fn a_model_that_is_not_there() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    archive.picture("a.png", 1);
    submit(&archive, &nats, &["--set", "helper-model=/no/such/model"]);
    for _ in 0..2 {
        let (ended, _, err) = Worker::start(&nats.url(), &["--until-empty"]).end();
        assert!(!ended.success() && err.lines().count() == 1, "{err}");
        assert!(err.contains("cannot be loaded"), "{err}");
    }
    let (ended, _, err) = Worker::start(&nats.url(), &["--until-empty"]).end();
    assert!(ended.success() && err.contains("a.png is set aside: the model"), "{err}");
}

/// It is read three times, as a disk in the network may come back.
#[test]
fn a_file_that_is_gone() {
    let Some(nats) = Nats::start() else { return };
    let archive = Archive::new();
    let gone = archive.picture("gone.png", 1);
    archive.picture("there.png", 2);
    let back = archive.video("back.mp4");
    submit(&archive, &nats, &[]);
    std::fs::remove_file(gone).unwrap();
    let elsewhere = archive.folder.path().join("elsewhere");
    std::fs::rename(&back, &elsewhere).unwrap();
    let worker = Worker::start(&nats.url(), &["--until-empty"]);
    until("one is done", || status(&nats.url())["done"] == 1);
    std::fs::rename(elsewhere, back).unwrap();
    let (ended, out, err) = worker.end();
    assert!(ended.success() && out.contains("back.mp4: 100 frames"), "{out}{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    assert!(err.contains("gone.png is set aside: it cannot be read: No such file or directory"), "{err}");
}
