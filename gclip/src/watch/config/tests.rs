// SPDX-License-Identifier: MIT OR Apache-2.0
//! Mistakes by file, line and key.

use std::sync::LazyLock;

use super::*;

const GOOD: &str = "model = 'm'\n[[camera]]\nname = 'gate'\nurl = 'rtsp://u:secret@h/x'\nprompts = 'cat'\n";

fn read(text: &str) -> Result<Config> {
    // Once: registering it again takes the factory away from who is using it.
    static PLUGIN: LazyLock<()> = LazyLock::new(|| {
        gst::init().unwrap();
        gstgclip::plugin_register_static().unwrap();
    });
    LazyLock::force(&PLUGIN);
    parse(text, Path::new("folder/cameras.toml"))
}

/// Line 1 is the model; what is given stands from line 2 on, before the camera of `GOOD` if it is no table.
#[track_caller]
fn refuses(text: &str, words: &[&str]) {
    let Err(error) = read(text) else { panic!("it is accepted: {text}") };
    let error = format!("{error:#}");
    assert!(error.starts_with("folder/cameras.toml"), "{error}");
    assert!(!error.contains('\n') && !error.contains("secret"), "{error}");
    assert!(words.iter().all(|word| error.contains(word)), "{words:?} in: {error}");
}

#[test]
fn what_is_not_written_has_a_default() {
    let config = read(GOOD).unwrap();
    assert!(config.metrics.is_none() && config.history.is_none() && config.model == "m");
    assert_eq!((config.outputs.len(), &config.outputs[0].what), (1, &What::Changes));
    assert!(matches!(config.outputs[0].target, Target::Stdout));
    let camera = &config.cameras[0];
    assert_eq!(
        (camera.name.as_str(), camera.outputs.as_slice()),
        ("gate", ["stdout".to_string()].as_slice())
    );
    assert_eq!((camera.protocols, camera.masks), (Protocols::Tcp, Masks::None));
    assert_eq!((camera.timeout, camera.latency), (Duration::from_secs(10), Duration::from_millis(200)));
    assert_eq!((camera.fps, camera.width), (None, None));
}

#[test]
fn cameras_take_what_they_do_not_say_from_the_defaults() {
    let text = GOOD.to_string()
        + "fps = 2.5\n[[camera]]\nname = 'yard'\nurl = 'rtsp://h/y'\noutputs = ['b']\nsegment = { threshold = 0.5 }\n\
           [defaults]\nprompts = 'dog'\nfps = 10\nzones = 'a=0,0 1,0 1,1'\n[defaults.segment]\nmin-area = 0.1\n\
           [segment]\nthreshold = 0.25\nwindow = 64\nstride = 32\n\
           [output.a]\ntype = 'file'\npath = 'x.jsonl'\n[output.b]\ntype = 'mqtt'\nbroker = 'mqtt://h'\n";
    let config = read(&text).unwrap();
    let [gate, yard] = config.cameras.as_slice() else { panic!() };
    assert_eq!((gate.prompts.as_str(), yard.prompts.as_str()), ("cat", "dog"));
    assert_eq!((gate.fps, yard.fps), (Some(gst::Fraction::new(5, 2)), Some(gst::Fraction::new(10, 1))));
    assert_eq!((gate.outputs.join(" "), yard.outputs.join(" ")), ("a b".into(), "b".into()));
    assert_eq!(yard.segment, ["window=64", "stride=32", "threshold=0.25", "min-area=0.1", "threshold=0.5"]);
    assert_eq!(yard.zones, "a=0,0 1,0 1,1");
    assert!(matches!(&config.outputs[0].target, Target::File(path) if path == Path::new("folder/x.jsonl")));
    assert!(matches!(&config.outputs[1].target, Target::Mqtt(target) if target.topic == "gclip/{camera}"));
}

#[test]
fn what_is_kept_and_for_how_long() {
    let history = |rest: &str| read(&format!("{GOOD}[history]\n{rest}")).unwrap().history.unwrap();
    let usual = history("");
    assert_eq!(usual.folder, Path::new("folder/history"));
    assert_eq!((usual.age.as_secs(), usual.snapshot_age.as_secs()), (30 * 86_400, 7 * 86_400));
    assert_eq!((usual.bytes, usual.snapshot_bytes), (500 << 20, 1000 << 20));
    let other = history("folder = '/x'\ndays = 1\nmegabytes = 2\nsnapshot-days = 3\nsnapshot-megabytes = 0");
    assert_eq!(
        (other.folder.as_path(), other.age.as_secs(), other.bytes),
        (Path::new("/x"), 86_400, 2 << 20)
    );
    assert_eq!((other.snapshot_age.as_secs(), other.snapshot_bytes), (3 * 86_400, 0));
    refuses(&format!("{GOOD}[history]\ndays = 0"), &[":7: history.days", "from 1 to 3650"]);
    refuses(&format!("{GOOD}[history]\nmegabytes = 0"), &[":7: history.megabytes"]);
    refuses(&format!("{GOOD}[history]\nfolder = ''"), &[":7: history.folder", "empty"]);
    refuses(&format!("{GOOD}[history]\nday = 3"), &[":7: history.day", "unknown field"]);
}

#[test]
fn who_may_reach_the_page() {
    let web = |rest: &str| format!("{GOOD}[web]\n{rest}\n");
    let token = "token = '0123456789abcdef'";
    assert!(read(&web("listen = '127.0.0.1:1'")).unwrap().web.unwrap().token.is_none());
    let behind = format!("listen = '0.0.0.0:1'\n{token}\nbehind-proxy = true");
    assert!(read(&web(&behind)).unwrap().web.unwrap().behind_proxy);
    refuses(&web("listen = '0.0.0.0:1'"), &[":6: web.token", "set a token"]);
    refuses(&web(&format!("listen = '0.0.0.0:1'\n{token}")), &[":6: web.certificate", "behind-proxy = true"]);
    refuses(&web("listen = '127.0.0.1:1'\ntoken = 'short'"), &[":8: web.token", "16 characters"]);
    let hash = crate::watch::password::hash("correct horse").unwrap();
    let login = format!("listen = '127.0.0.1:1'\nuser = 'anna'\npassword = '{hash}'");
    let read_login = read(&web(&login)).unwrap().web.unwrap().login.unwrap();
    assert_eq!((read_login.user.as_str(), &read_login.hash), ("anna", &hash));
    let plain = "listen = '127.0.0.1:1'\nuser = 'anna'\npassword = 'correct horse'";
    refuses(&web(plain), &[":9: web.password", "--hash-password"]);
    refuses(&web("listen = '127.0.0.1:1'\nuser = 'anna'"), &[":8: web.password", "missing"]);
    refuses(&web("listen = '127.0.0.1:1'\npassword = 'x'"), &[":8: web.user", "missing"]);
    refuses(&web("listen = '127.0.0.1:1'\ncertificate = 'x.pem'"), &[":8: web.key", "missing"]);
    let files = "listen = '127.0.0.1:1'\ncertificate = 'x.pem'\nkey = 'x.key'";
    refuses(&web(files), &[":8: web.certificate", "cannot read the certificate folder/x.pem"]);
}

#[test]
fn what_is_told_beside_the_lines() {
    let text = |rest: &str| format!("{GOOD}[output.x]\ntype = 'mqtt'\nbroker = 'mqtt://h'\n{rest}");
    let target = |rest: &str| match read(&text(rest)).unwrap().outputs.remove(0).target {
        Target::Mqtt(target) => target,
        other => panic!("{other:?}"),
    };
    let usual = target("topic = 'site/{camera}/lines'");
    assert_eq!(usual.availability.as_deref(), Some("site/availability"));
    assert!(!usual.retain_presence && usual.discovery.is_none());
    assert_eq!(target("availability = ''").availability, None);
    let home = target("discovery = 'homeassistant:ha'");
    assert!(home.retain_presence && home.discovery.as_deref() == Some("ha"));
}

#[test]
fn a_camera_is_compared_with_what_it_was() {
    let text = GOOD.to_string() + "zones = 'door=0,0 1,0 1,1'\n";
    let camera = |text: &str| read(text).unwrap().cameras.remove(0);
    let (one, same) = (camera(&text), camera(&format!("{text}outputs = ['x']\n[output.x]\ntype = 'stdout'")));
    assert!(one.is_like(&same) && one != same, "where its lines go is another matter");
    assert_eq!((one.labels.join(" "), one.zone_names().join(" ")), ("cat".into(), "door".into()));
    for changed in [
        text.replace("'cat'", "'dog'"),
        text.replace("secret", "other"),
        text.clone() + "fps = 5\n",
        text.clone() + "enabled = false\n",
    ] {
        assert!(!one.is_like(&camera(&changed)), "{changed}");
    }
}

#[test]
fn mistakes_in_the_form() {
    refuses("model = ", &["cameras.toml:1"]);
    refuses(&format!("{GOOD}[segment"), &["cameras.toml:6"]);
    refuses("[[camera]]\n", &["model", "missing"]);
    refuses(&format!("{GOOD}promts = 'x'"), &[":6: camera[0].promts", "unknown field", "`prompts`"]);
    refuses(&GOOD.replace("'cat'", "5"), &[":5: camera[0].prompts", "integer", "string"]);
    refuses(&GOOD.replace("'cat'", "['rtsp://u:secret@h']"), &[":5: camera[0].prompts"]);
    refuses(&format!("{GOOD}latency = 'rtsp://u:secret@h/x'"), &[":6: camera[0].latency"]);
    refuses(&format!("{GOOD}protocols = 'tpc'"), &[":6: camera[0].protocols", "`tcp`"]);
    refuses(&format!("metrics = '9464'\n{GOOD}"), &[":1: metrics", "address"]);
    refuses(&format!("{GOOD}[output.x]\ntype = 'kafka'"), &[":7: output.x.type", "`mqtt`"]);
}

#[test]
fn mistakes_in_cameras() {
    refuses("model = 'm'", &["no [[camera]]", "[web]"]);
    assert!(read("model = 'm'\nweb = { listen = '127.0.0.1:1' }").unwrap().cameras.is_empty());
    refuses(&GOOD.replace("name = 'gate'", ""), &[":2: camera[0].name", "missing"]);
    refuses(&GOOD.replace("'gate'", "'a/b'"), &[":3: camera[0].name"]);
    refuses(&GOOD.replace("prompts = 'cat'", ""), &[":2: camera.gate.prompts", "missing"]);
    refuses(&format!("{GOOD}latency = 10000"), &[":6: camera.gate.latency", "timeout"]);
    refuses(&format!("{GOOD}latency = 4294967295"), &[":6: camera.gate.latency", "timeout"]);
    let patient = read(&format!("{GOOD}latency = 10000\ntimeout = 10.1")).unwrap();
    assert_eq!(patient.cameras[0].latency, Duration::from_secs(10));
    refuses(&GOOD.replace("rtsp:", "http:"), &[":4: camera.gate.url", "rtsp://"]);
    refuses(&GOOD.replace("@h/x", "@"), &[":4: camera.gate.url"]);
    refuses(&GOOD.replace("'cat'", "' ; '"), &[":5: camera.gate.prompts"]);
    refuses(&GOOD.replace("'cat'", "'@nowhere.txt'"), &[":5: camera.gate.prompts", "folder/nowhere.txt"]);
    refuses(&format!("{GOOD}zones = 'door=0,0 1,1'"), &[":6: camera.gate.zones", "door"]);
    refuses(&format!("{GOOD}outputs = ['x']"), &[":6: camera.gate.outputs", "stdout"]);
    refuses(&format!("{GOOD}fps = 0"), &[":6: camera.gate.fps"]);
    refuses(&format!("{GOOD}width = 1"), &[":6: camera.gate.width"]);
    refuses(&format!("{GOOD}timeout = -1"), &[":6: camera.gate.timeout"]);
    refuses(&format!("{GOOD}retry-min = 5\nretry-max = 4"), &[":7: camera.gate.retry-max"]);
    let again = GOOD.replace("model = 'm'\n", "");
    refuses(&format!("{GOOD}{again}"), &[":7: camera[1].name", "two cameras"]);
    refuses(&format!("{GOOD}[defaults]\nname = 'x'"), &[":7: defaults.name"]);
}

#[test]
fn thresholds_of_single_prompts() {
    let text = GOOD.replace("'cat'", "'cat, kitten; dog'");
    let camera = |text: &str| read(text).unwrap().cameras.remove(0);
    let one = camera(&format!("{text}prompt-thresholds = 'cat=0.4'"));
    assert_eq!(one.prompt_thresholds.of("cat"), Some(0.4));
    assert!(one.doubts.is_empty());
    assert!(one.differs_in_words(&camera(&text)), "it changes while it plays");
    let shared = camera(&format!("{text}[defaults]\nprompt-thresholds = 'dog=0.3, cow=0.5'"));
    assert_eq!(shared.prompt_thresholds.to_string(), "dog=0.3", "others may have a cow");
    refuses(
        &format!("{text}prompt-thresholds = 'kitten=0.4'"),
        &[":6: camera.gate.prompt-thresholds", "kitten"],
    );
    refuses(&format!("{text}prompt-thresholds = 'cat=4'"), &[":6: camera.gate.prompt-thresholds", "0 to 1"]);
    refuses(
        &format!("{GOOD}[segment]\nprompt-thresholds = 'cat=1'"),
        &[":7: segment.prompt-thresholds", "[[camera]]"],
    );
}

#[test]
fn what_clip_cannot_do_is_told_and_no_mistake() {
    let camera = read(&GOOD.replace("'cat'", "'cat; no cat'")).unwrap().cameras.remove(0);
    assert!(camera.doubts.len() == 1 && camera.doubts[0].contains("no cat"), "{:?}", camera.doubts);
}

#[test]
fn mistakes_in_outputs_and_properties() {
    refuses(&format!("{GOOD}[output.x]\ntype = 'file'"), &[":6: output.x.path", "missing"]);
    for folder in ["/tmp", "/", ""] {
        let text = format!("{GOOD}[output.x]\ntype = 'file'\npath = '{folder}'");
        refuses(&text, &[":8: output.x.path", "it is a folder"]);
    }
    let file = |name: &str, path: &str| format!("[output.{name}]\ntype = 'file'\npath = '{path}'\n");
    for same in ["/tmp/lines.jsonl", "/tmp/../tmp/lines.jsonl", "/proc/self/root/tmp/lines.jsonl"] {
        let text = GOOD.to_string() + &file("x", "/tmp/lines.jsonl") + &file("y", same);
        refuses(&text, &["output.y", "same place as output.x"]);
    }
    refuses(&format!("{GOOD}[output.x]\ntype = 'stdout'\npath = 'p'"), &[":8: output.x.path", "\"file\""]);
    refuses(
        &format!("{GOOD}[output.x]\ntype = 'mqtt'\nbroker = 'mqtt://u:secret@'"),
        &[":8: output.x.broker"],
    );
    refuses(
        &format!("{GOOD}[output.x]\ntype = 'mqtt'\nbroker = 'mqtt://h'\ntopic = 'a/#'"),
        &[":9: output.x.topic"],
    );
    refuses(
        &format!("{GOOD}[output.x]\ntype = 'mqtt'\nbroker = 'mqtt://h'\ntopic = 'a/{{cam}}'"),
        &[":9: output.x.topic", "{camera}"],
    );
    let hook = |rest: &str| format!("{GOOD}[output.x]\ntype = 'webhook'\n{rest}");
    refuses(&hook(""), &[":6: output.x.url", "missing"]);
    refuses(&hook("url = 'ftp://h'"), &[":8: output.x.url", "http://"]);
    refuses(&hook("url = 'https://u:secret@h/x'"), &[":8: output.x.url", "authorization"]);
    refuses(&hook("url = 'https://h/x'\nauthorization = 'a\tsecret'"), &[":9: output.x.authorization"]);
    refuses(&hook("url = 'https://h/x'\nbroker = 'mqtt://h'"), &[":9: output.x.broker", "\"mqtt\""]);
    refuses(&hook("url = 'https://h/x'\nretain-presence = true"), &[":9: output.x.retain-presence"]);
    let mqtt = |rest: &str| format!("{GOOD}[output.x]\ntype = 'mqtt'\n{rest}");
    refuses(&mqtt("broker = 'mqtts://h'\nca = 'nowhere.pem'"), &[":9: output.x.ca", "folder/nowhere.pem"]);
    refuses(&mqtt("broker = 'mqtts://h'\nca = '/proc/version'"), &[":9: output.x.ca", "no certificate"]);
    refuses(
        &mqtt("broker = 'mqtt://h'\ndiscovery = 'openhab'"),
        &[":9: output.x.discovery", "homeassistant"],
    );
    refuses(
        &mqtt("broker = 'mqtt://h'\ndiscovery = 'homeassistant'\nretain-presence = false"),
        &[":10: output.x.retain-presence"],
    );
    refuses(&mqtt("broker = 'mqtt://h'\nca = 'ca.pem'"), &[":9: output.x.ca", "mqtts://"]);
    refuses(&format!("{GOOD}[output.x]\ntype = 'stdout'\nbuffer = 0"), &[":8: output.x.buffer"]);
    refuses(
        &format!("{GOOD}[output.x]\ntype = 'stdout'\n[output.y]\ntype = 'stdout'"),
        &[":8: output.y", "output.x"],
    );
    refuses(&format!("{GOOD}[segment]\nthreshhold = 1"), &[":7: segment.threshhold", "no property"]);
    refuses(&format!("{GOOD}[segment]\nthreshold = 'high'"), &[":7: segment.threshold", "high"]);
    refuses(&format!("{GOOD}[segment]\ninput-size = 'big'"), &[":7: segment.input-size", "big"]);
    refuses(&format!("{GOOD}[segment]\nbatch-size = 0"), &[":7: segment.batch-size", "it takes 1 to"]);
    refuses(
        &format!("{GOOD}segment = {{ threshold = 7 }}"),
        &[":6: camera.gate.segment.threshold", "0 to 1"],
    );
    refuses(&format!("{GOOD}[segment]\nthreshold = nan"), &[":7: segment.threshold"]);
    refuses(&format!("{GOOD}[segment]\nprompts = 'x'"), &[":7: segment.prompts", "[[camera]]"]);
    refuses(&format!("{GOOD}[segment]\nstats = 'x'"), &[":7: segment.stats"]);
    refuses(
        &format!("{GOOD}segment = {{ device = 'cpu' }}"),
        &[":6: camera.gate.segment.device", "[segment]"],
    );
}
