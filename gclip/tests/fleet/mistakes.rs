// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cannot work is told in one sentence.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use gclip_testing::certificate;
use gclip_testing::nats::Nats;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::harness::{Watch, camera, command, config};
use crate::{fleet, worker};

/// What is said of a fleet by its command.
#[track_caller]
fn refused(url: &str, arguments: &[&str], words: &str) {
    let (done, said) = fleet(url, arguments);
    assert!(!done && said.contains(words) && said.trim().lines().count() == 1, "{arguments:?}: {said}");
}

#[test]
fn servers_that_cannot_be_used_are_told() {
    if let Some(old) = Nats::start_old() {
        refused(&old.url(), &["list"], "is version 2.9.10, and 2.10 or newer is needed");
        let mut watch = worker("one", &format!("'{}'", old.url()), "");
        assert!(!watch.end().success());
        assert!(watch.stderr().contains("2.10 or newer is needed"), "{}", watch.stderr());
    }
    let Some(plain) = Nats::start_without_jetstream() else { return };
    refused(&plain.url(), &["list"], "has no JetStream");
    let guarded = Nats::start_with("authorization { user: \"gclip\", password: \"s3cretword\" }\n").unwrap();
    let with = |login: &str| format!("nats://{login}@127.0.0.1:{}", guarded.port);
    refused(&guarded.url(), &["list"], "refuses who comes");
    refused(&with("gclip:wr0ngword"), &["list"], "refuses who comes");
    let (done, said) = fleet(&with("gclip:s3cretword"), &["list"]);
    assert!(done && said.is_empty(), "{said}");
    let mut watch = worker("one", &format!("'{}'", with("gclip:wr0ngword")), "");
    assert!(!watch.end().success());
    assert!(
        watch.stderr().contains("refuses who comes") && !watch.stderr().contains("wr0ng"),
        "{}",
        watch.stderr()
    );
    refused("nats://127.0.0.1:9", &["list"], "cannot be reached");
    refused("http://127.0.0.1:9", &["list"], "http:// is not spoken here");
}

#[test]
fn keys_and_certificates_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(folder.path(), "nats");
    // A seed that NATS' own tools made for their documentation of NKeys, and its public key.
    let (seed, public) = (
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
        "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
    );
    let more = format!(
        "tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}\nauthorization {{ users: [ {{ nkey: \"{public}\" }} ] }}\n"
    );
    let Some(server) = Nats::start_with(&more) else { return };
    let seed_file = folder.path().join("worker.nk");
    std::fs::write(&seed_file, format!("{seed}\n")).unwrap();
    let url = format!("tls://127.0.0.1:{}", server.port);
    let nkey = seed_file.display().to_string();
    refused(&url, &["--nkey", &nkey, "list"], "its certificate is not trusted");
    let (done, said) = fleet(&url, &["--nkey", &nkey, "--ca", &cert, "list"]);
    assert!(done, "{said}");
    refused(&url, &["--ca", &cert, "list"], "refuses who comes");
    let more = format!("nkey = '{nkey}'\nca = '{cert}'");
    let mut watch = worker("one", &format!("'{url}'"), &more);
    watch.until_log("worker one of the fleet gclip");
    watch.stop();
}

#[test]
fn a_name_that_is_taken_is_told() {
    let Some(nats) = Nats::start() else { return };
    let servers = format!("'{}'", nats.url());
    let mut one = worker("one", &servers, "ttl = 1");
    one.until_log("worker one of the fleet gclip");
    let mut other = worker("one", &servers, "ttl = 1");
    assert!(!other.end().success());
    assert!(
        other.stderr().contains("another worker of the fleet gclip is called \"one\""),
        "{}",
        other.stderr()
    );
    assert!(one.is_running());
    // One that was killed leaves its name, after a while.
    one.signal("KILL");
    let mut again = worker("one", &servers, "ttl = 1");
    again.until_log("worker one of the fleet gclip");
    again.stop();
}

#[test]
fn what_another_version_wrote_is_left_alone() {
    let Some(nats) = Nats::start() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
        let config = async_nats::jetstream::kv::Config { bucket: "gclip-fleet".into(), ..Default::default() };
        let store = context.create_key_value(config).await.unwrap();
        store.put("format", "7".into()).await.unwrap();
    });
    refused(&nats.url(), &["list"], "was written by another version of gclip (format 7, this one writes 1)");
    let mut watch = worker("one", &format!("'{}'", nats.url()), "");
    assert!(!watch.end().success());
    assert!(watch.stderr().contains("another version of gclip"), "{}", watch.stderr());
    let (done, said) = fleet(&nats.url(), &["--bucket", "mine", "list"]);
    assert!(done, "{said}");
}

#[test]
fn cameras_that_cannot_be_are_told() {
    let Some(nats) = Nats::start() else { return };
    let url = nats.url();
    refused(&url, &["add", "gate", "url=http://x"], "camera gate: camera.gate.url");
    refused(&url, &["add", "Tor 1", "url=rtsp://x"], "a name has letters, digits, `-`, `_` and `.` only");
    refused(&url, &["add", "gate", "prompts=cat"], "camera.gate.url: it is missing");
    refused(
        &url,
        &["add", "gate", "url=rtsp://x", "prompts=@/etc/passwd"],
        "are named in the config file only",
    );
    refused(&url, &["add", "gate", "url"], "`url` is no setting: write KEY=VALUE");
    assert!(fleet(&url, &["add", "tür.1", "url=rtsp://me:s3cretword@127.0.0.1:9/x", "prompts=cat"]).0);
    refused(&url, &["add", "tür.1", "url=rtsp://x", "prompts=cat"], "there is a camera \"tür.1\" already");
    refused(&url, &["set", "gate", "fps=3"], "there is no camera \"gate\"");
    refused(&url, &["set", "tür.1", "fps=-3"], "fps");
    refused(&url, &["remove", "gate"], "there is no camera \"gate\"");
    refused(&url, &["drain", "one"], "there is no worker \"one\"");
    assert!(fleet(&url, &["set", "tür.1", "fps=3"]).0);
    let (_, said) = fleet(&url, &["list"]);
    assert_eq!(said, "tür.1: url=rtsp://127.0.0.1:9/x prompts=cat fps=3\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cameras.toml");
    let text = "model = 'x'\n[defaults]\nprompts = 'dog'\n[[camera]]\nname = 'yard'\nurl = 'rtsp://127.0.0.1:9/y'\n\
                [[camera]]\nname = 'tür.1'\nurl = 'rtsp://127.0.0.1:9/z'\n";
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    refused(&url, &["import", &file], "there is a camera \"tür.1\" with other settings already");
    let (done, said) = fleet(&url, &["import", &file, "--replace"]);
    assert!(done && said.contains("1 cameras added, 1 changed, 0 as they were"), "{said}");
    let (_, said) = fleet(&url, &["list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&list["yard"]["prompts"], &list["tür.1"]["prompts"]), (&"dog".into(), &"dog".into()));

    // In a file, with a fleet, there are none; and what a worker cannot watch does not keep it from the others.
    let text = config(&format!("[fleet]\nservers = '{url}'")) + &camera("x", "rtsp://x", "");
    let path = folder.path().join("watch.toml");
    std::fs::write(&path, text).unwrap();
    let said = command(&path).output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("with [fleet] the cameras are kept by the servers"), "{said}");
    assert!(fleet(&url, &["set", "yard", "outputs=[\"nowhere\"]"]).0);
    let mut watch: Watch = worker("one", &format!("'{url}'"), "");
    watch.until_log("yard: it cannot be watched");
    watch.until_camera("tür.1", "lost");
    watch.stop();
}

/// A JWT as NATS has them: what `issuer` says of `subject`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let encoded = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "jti": name, "iat": now, "iss": issuer.public_key(), "name": name, "sub": subject.public_key(),
                         "nats": nats });
    let signed = format!("{}.{}", encoded(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encoded(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn credentials_are_taken() {
    let [operator, system, account, user] =
        [KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_user()];
    let limits = |storage: i64| {
        json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": -1, "consumer": -1 })
    };
    let of_account = |storage| json!({ "type": "account", "version": 2, "limits": limits(storage) });
    let (of_system, of_workers) = (system.public_key(), account.public_key());
    let said = json!({ "type": "operator", "version": 2, "system_account": of_system });
    let more = format!(
        "operator: {}\nsystem_account: {of_system}\nresolver: MEMORY\nresolver_preload: {{\n{of_system}: {}\n{of_workers}: {}\n}}\n",
        jwt(&operator, &operator, "operator", said),
        jwt(&operator, &system, "system", of_account(0)),
        jwt(&operator, &account, "workers", of_account(-1)),
    );
    let Some(server) = Nats::start_with(&more) else { return };
    let said =
        json!({ "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1 });
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, jwt: &str| {
        let path = folder.path().join(name);
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            user.seed().unwrap()
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let right = written("worker.creds", &jwt(&account, &user, "worker", said.clone()));
    // Another account's word, which this server does not know.
    let wrong = written("other.creds", &jwt(&KeyPair::new_account(), &user, "worker", said));
    let (done, text) = fleet(&server.url(), &["--credentials", &right, "list"]);
    assert!(done, "{text}");
    refused(&server.url(), &["list"], "refuses who comes");
    refused(&server.url(), &["--credentials", &wrong, "list"], "refuses who comes");
    let mut watch = worker("one", &format!("'{}'", server.url()), &format!("credentials = '{right}'"));
    watch.until_log("worker one of the fleet gclip");
    watch.stop();
}
