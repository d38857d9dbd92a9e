// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip try`: what is on the page of a source without a config.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gclip_testing::DEMO;
use gclip_testing::browser::{Browser, DESKTOP};
use gclip_testing::playing::ended;
use gclip_testing::rtsp::Server;
use gst::prelude::*;
use image::{Rgb, RgbImage};
use serde_json::Value;

use super::harness::PATIENCE;
use super::page::{complaints, picture_moves, shot, until_regions};

/// A running `gclip try`, and where its page is.
pub struct Try {
    process: Child,
    pub url: String,
    folder: tempfile::TempDir,
}

fn command(source: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gclip"));
    command
        .args(["try", source, "--model", DEMO, "--set", "prompt-template=none"])
        .args(["--set", "device=cpu", "--set", "input-size=112"])
        .current_dir(folder)
        .env("OMP_NUM_THREADS", "1")
        .env("XDG_CACHE_HOME", folder);
    command
}

impl Try {
    pub fn start(source: &str) -> Try {
        let folder = tempfile::tempdir().unwrap();
        let mut process = command(source, folder.path())
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut said = process.stderr.take().unwrap();
        if line.is_empty() {
            let mut why = String::new();
            said.read_to_string(&mut why).unwrap();
            panic!("{why}");
        }
        // Who is not read stops.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let url = line.split_whitespace().next().unwrap().to_string();
        assert!(url.starts_with("http://127.0.0.1:"), "{line}");
        Try { process, url, folder }
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let place = self.url.split('#').next().unwrap();
        ureq::get(format!("{place}api/cameras{path}")).call().unwrap().body_mut().read_to_vec().unwrap()
    }

    fn camera(&self) -> Value {
        serde_json::from_slice::<Value>(&self.get("")).unwrap()["cameras"].get(0).cloned().unwrap_or_default()
    }

    /// Looks until something is so of its camera.
    #[track_caller]
    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let camera = self.camera();
            if wanted(&camera) {
                return camera;
            }
            assert!(start.elapsed() < PATIENCE, "{what}: {camera}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ctrl-C ends it properly.
    pub fn stop(mut self) {
        let sent = Command::new("kill").args(["-INT", &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A video of so many frames, 25 a second.
fn video(path: &Path, frames: u32) {
    let description = format!(
        "videotestsrc num-buffers={frames} ! video/x-raw,width=160,height=90,framerate=25/1 ! jpegenc ! avimux \
         ! filesink location=\"{}\"",
        path.display()
    );
    gst::init().unwrap();
    let pipeline = gst::parse::launch(&description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let patience = gst::ClockTime::from_seconds(PATIENCE.as_secs());
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    ended(pipeline.bus().unwrap().timed_pop_filtered(patience, &ends).as_ref()).unwrap();
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn words_change_the_masks_as_they_are_typed() {
    let Some(browser) = Browser::start(DESKTOP) else { return };
    let tried = Try::start(&format!("{DEMO}/demo.mp4"));
    browser.open(&tried.url);
    picture_moves(&browser);
    browser.until("it is played", "return document.querySelectorAll('#regions .found').length > 5");
    shot(&browser, "try");
    // From the last key to the first masks of the new words, as the page sees it.
    browser.run(
        "const words = document.querySelector('#prompts');\
         window.took = null;\
         words.addEventListener('input', () => (window.typed = performance.now()));\
         new MutationObserver(() => {\
           const labels = [...document.querySelectorAll('#regions .found')].map((item) => item.dataset.label);\
           if (window.took === null && labels.length && labels.every((label) => ['tree', 'road'].includes(label))) {\
             window.took = performance.now() - window.typed;\
           }\
         }).observe(document.querySelector('#regions'), { subtree: true, attributes: true, childList: true });",
    );
    browser.find("#prompts").fill("tree; road");
    until_regions(&browser, &["road", "tree"]);
    let took = browser.until("it is measured", "return window.took");
    println!("from the last key to the masks of the new words: {took} ms");
    assert!(took.as_f64().unwrap() < 5000.0, "{took} ms, on a machine with other work");

    // What was found good becomes a config.
    browser.find("#save").click();
    browser.until("it is saved", "return document.querySelector('#saved').textContent === ''");
    let config = std::fs::read_to_string(tried.folder.path().join("gclip-try.toml")).unwrap();
    assert!(config.contains("prompts = \"tree; road\"") && config.contains("demo.mp4"), "{config}");
    let checked = Command::new(env!("CARGO_BIN_EXE_gclip"))
        .args(["watch", "--check", "gclip-try.toml"])
        .current_dir(tried.folder.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    browser.find("#revert").click();
    assert_eq!(complaints(&browser), [""; 0]);
    tried.stop();
}

#[test]
fn a_video_is_shown_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a short one.avi");
    video(&path, 25);
    let tried = Try::start(&path.display().to_string());
    let start = Instant::now();
    let camera =
        tried.until("it begins again", |camera| camera["counts"]["source_frames"].as_u64() > Some(75));
    assert!(start.elapsed() > Duration::from_secs(2), "at its own pace");
    assert_eq!((&camera["counts"]["connections"], &camera["state"]), (&1.into(), &"playing".into()));
    tried.stop();
}

#[test]
fn pictures_are_shown_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    RgbImage::from_pixel(97, 61, Rgb([255, 0, 0])).save(folder.path().join("a.png")).unwrap();
    std::fs::write(folder.path().join("b.png"), "no picture").unwrap();
    RgbImage::from_pixel(64, 80, Rgb([0, 0, 255])).save(folder.path().join("c.jpg")).unwrap();
    let tried = Try::start(&folder.path().display().to_string());
    let name = tried.until("it plays", |camera| camera["state"] == "playing")["name"].clone();
    let mut sizes = vec![];
    let start = Instant::now();
    while sizes.len() < 2 {
        let jpeg = tried.get(&format!("/{}/picture", name.as_str().unwrap()));
        let picture = image::load_from_memory(&jpeg).unwrap().to_rgb8();
        let middle = picture.get_pixel(picture.width() / 2, picture.height() / 2);
        let size = (picture.dimensions(), middle[0] > 200, middle[2] > 200);
        if !sizes.contains(&size) {
            sizes.push(size);
        }
        assert!(start.elapsed() < PATIENCE, "{sizes:?}");
    }
    sizes.sort();
    assert_eq!(sizes, [((64, 80), false, true), ((97, 61), true, false)]);
    tried.stop();
}

#[test]
fn a_camera_in_the_network_is_tried_too() {
    let Some(mut server) = Server::start() else { return };
    server.serve("gate", (160, 90), 10);
    let tried = Try::start(&server.url("gate"));
    let camera = tried.until("it plays", |camera| camera["state"] == "playing");
    assert_eq!(camera["name"], "gate");
    tried.stop();
}

#[test]
fn what_cannot_be_tried_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let demo = format!("{DEMO}/demo.mp4");
    for (source, more, words) in [
        ("none.mp4", vec![], "cannot read none.mp4: No such file"),
        ("/dev/video77", vec![], "there is no camera /dev/video77"),
        ("http://127.0.0.1/x", vec![], "rtsp://"),
        (empty.path().to_str().unwrap(), vec![], "holds no PNG or JPEG picture"),
        (&demo, vec!["--listen", &port], "--listen 127.0.0.1:0"),
        (&demo, vec!["--listen", "0.0.0.0:0"], "web.token"),
        (&demo, vec!["--prompts", ";"], "prompts"),
        (&demo, vec!["--set", "colour=red"], "colour"),
    ] {
        let output = command(source, folder.path()).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{source}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("gclip: ") && last.contains(words), "{source}: {said}");
    }
}
