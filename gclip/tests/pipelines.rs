// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every script in `pipelines/` runs to its end, with the demo model, a few frames of the demo video, and a sink that
//! shows nothing.

use gclip_testing::rtsp;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::prelude::*;

const ROOT: &str = gclip_testing::ROOT;
/// The scripts that a test below runs.
const TESTED: [&str; 7] =
    ["cameras.sh", "demo.sh", "file.sh", "json.sh", "masks.sh", "privacy.sh", "rtsp.sh"];

/// A folder for all tests of this run: the plugin alone in `plugins`, the first frames of the demo video, caches.
static WORKSHOP: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipelines");
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let library = gclip_testing::plugin();
    let _ = std::fs::remove_file(plugins.join("libgstgclip.so"));
    std::os::unix::fs::symlink(library, plugins.join("libgstgclip.so")).unwrap();
    write_clip(&folder.join("clip.mp4"));
    folder
});

/// Frames of the clip.
const FRAMES: usize = 6;

/// The first frames of the demo video.
fn write_clip(file: &Path) {
    let demo = format!("filesrc location={ROOT}/models/demo/demo.mp4 ! decodebin ! videoconvert");
    let (_playing, samples) = appsink(&format!("{demo} ! video/x-raw,format=I420"));
    let encoder =
        format!("appsrc name=in format=time ! x264enc ! mp4mux ! filesink location={}", file.display());
    let encoder = gst::parse::launch(&encoder).unwrap().downcast::<gst::Pipeline>().unwrap();
    let encoder = Stop(encoder);
    let source = encoder.0.by_name("in").unwrap().downcast::<gst_app::AppSrc>().unwrap();
    encoder.0.set_state(gst::State::Playing).unwrap();
    for sample in samples.take(FRAMES) {
        source.push_sample(&sample).unwrap();
    }
    source.end_of_stream().unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = encoder.0.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends).unwrap();
    assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
}

/// The samples at the end of a pipeline, which stops when it is dropped.
fn appsink(description: &str) -> (Stop, impl Iterator<Item = gst::Sample> + use<>) {
    gst::init().unwrap();
    let pipeline =
        gst::parse::launch(&format!("{description} ! appsink name=out sync=false max-buffers=4")).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("out").unwrap().downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    (Stop(pipeline), std::iter::from_fn(move || sink.pull_sample().ok()))
}

struct Stop(gst::Pipeline);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.set_state(gst::State::Null).unwrap();
    }
}

/// A script on the clip, with nothing to build and caches of its own.
fn script(name: &str) -> Command {
    let mut script = Command::new("bash");
    script
        .arg(Path::new(ROOT).join("pipelines").join(name))
        .current_dir(&*WORKSHOP)
        .env("GCLIP_PLUGINS", WORKSHOP.join("plugins"))
        .env("GCLIP", env!("CARGO_BIN_EXE_gclip"))
        .env("GST_REGISTRY", WORKSHOP.join("registry.bin"))
        .env("XDG_CACHE_HOME", WORKSHOP.join("cache"))
        .env("OMP_NUM_THREADS", "1")
        .env("SRC", WORKSHOP.join("clip.mp4"))
        .env("SINK", "fakesink")
        .env("PROMPTS", "road; car; sky")
        .env_remove("MODEL");
    script
}

/// What it writes to stdout, once it has ended well.
fn play(script: &mut Command) -> String {
    let output = script.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script:?}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_script_is_short_explained_and_tested() {
    let files =
        std::fs::read_dir(Path::new(ROOT).join("pipelines")).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "sh")).collect();
    scripts.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let tested: Vec<String> = scripts.iter().map(name).filter(|name| name != "env.sh").collect();
    assert_eq!(tested, TESTED, "each script needs a test here");
    for path in scripts {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() < 60, "{}", path.display());
        assert!(
            text.lines().nth(2).is_some_and(|line| line.starts_with("# ")),
            "{}: says what it does",
            path.display()
        );
    }
}

#[test]
fn file() {
    play(&mut script("file.sh"));
}

#[test]
fn json() {
    let objects = json_lines(&play(&mut script("json.sh")));
    assert_eq!(objects.len(), FRAMES);
    assert!(objects.iter().all(|object| object["regions"][0]["label"].is_string()), "{objects:?}");
}

/// Lossless: the pixels of each number are the share of the frame that the JSON says.
#[test]
fn masks() {
    play(script("masks.sh").env("MASKS", WORKSHOP.join("masks")));
    let objects = json_lines(&std::fs::read_to_string(WORKSHOP.join("masks.jsonl")).unwrap());
    assert_eq!(objects.len(), FRAMES);
    let file = WORKSHOP.join("masks.mkv");
    let (_playing, mut samples) = appsink(&format!(
        "filesrc location={} ! matroskademux ! avdec_ffv1 ! video/x-raw,format=GRAY8",
        file.display()
    ));
    for object in &objects {
        let sample = samples.next().unwrap();
        let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let frame =
            gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().unwrap(), &info).unwrap();
        let (stride, width) = (frame.plane_stride()[0] as usize, frame.width() as usize);
        let rows = frame.plane_data(0).unwrap().chunks(stride).map(|row| &row[..width]);
        let pixels: Vec<u8> = rows.flatten().copied().collect();
        for region in object["regions"].as_array().unwrap() {
            let found = pixels.iter().filter(|&&pixel| u64::from(pixel) == region["value"]).count();
            let share = found as f64 / pixels.len() as f64;
            assert!((share - region["area"].as_f64().unwrap()).abs() < 1e-6, "{region}: {share}");
        }
    }
    assert!(samples.next().is_none(), "as many masks as objects");
}

#[test]
fn privacy() {
    play(script("privacy.sh").env("KEEP", "car"));
    play(script("privacy.sh").env("HIDE", "car").env("BACKGROUND", "road, sky"));
}

#[test]
fn cameras() {
    play(script("cameras.sh").env("SRC2", WORKSHOP.join("clip.mp4")).env("PROMPTS2", "tree"));
}

/// A camera has no end: Ctrl-C ends it, once pictures came, and what is under way still passes (EOS reaches the sink).
///
/// The exit status says less: when the pipeline goes to NULL after that, `rtspsrc` breaks off its own PAUSE request to
/// send TEARDOWN, at times posts this as an error, and gst-launch 1.22 counts it, without anything of ours in the
/// pipeline too. Any other error fails the test, and so does one before EOS.
#[test]
fn rtsp() {
    let Some(mut server) = rtsp::Server::start() else { return };
    server.serve("gate", (320, 180), 10);
    let pictures = WORKSHOP.join("rtsp.raw");
    let _ = std::fs::remove_file(&pictures);
    let sink = format!("filesink buffer-mode=unbuffered location={}", pictures.display());
    let mut camera = script("rtsp.sh")
        .env("SRC", server.url("gate"))
        .env("SINK", sink)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while std::fs::metadata(&pictures).map_or(0, |file| file.len()) == 0 {
        assert!(camera.try_wait().unwrap().is_none(), "it ended before a picture came");
        assert!(start.elapsed() < Duration::from_secs(120), "no picture comes");
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupt = Command::new("kill").args(["-INT", &camera.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let output = camera.wait_with_output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Got EOS from element"), "{said}{errors}");
    let mut failures = errors.lines().filter(|line| line.starts_with("ERROR")).peekable();
    let expected = if failures.peek().is_none() { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{said}{errors}");
    assert!(failures.all(|line| line.contains("GstRTSPSrc:rtspsrc0: Could not")), "{said}{errors}");
    assert!(!said.contains("ERROR"), "{said}");
}

#[test]
fn demo() {
    let out = WORKSHOP.join("out");
    play(script("demo.sh").env("OUT", &out));
    let objects = json_lines(&std::fs::read_to_string(out.join("demo.jsonl")).unwrap());
    assert_eq!(objects.len(), FRAMES);
    for name in ["demo.mp4", "demo.png"] {
        assert!(std::fs::metadata(out.join(name)).unwrap().len() > 1000, "{name}");
    }
}
