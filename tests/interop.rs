// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our elements inside other people's: applications, recorders and servers that build pipelines of their own around them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gclip_testing::fake::{Fake, PATIENCE};
use gst::prelude::*;
use gstgclip::meta::Masks;

/// Whether all of these elements are there; says which is not.
fn have(elements: &[&str]) -> bool {
    gst::init().unwrap();
    let missing = elements.iter().find(|name| gst::ElementFactory::find(name).is_none());
    if let Some(name) = missing {
        eprintln!("skipped: no element {name} here (scripts/setup.sh --tests installs it)");
    }
    missing.is_none()
}

fn demo() -> String {
    format!("file://{}", std::fs::canonicalize(gclip_testing::DEMO).unwrap().join("demo.mp4").display())
}

/// Counts the frames with masks that pass a pad.
fn count(pad: &gst::Pad) -> Arc<AtomicUsize> {
    let counted = Arc::new(AtomicUsize::new(0));
    let counts = counted.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let masks = info.buffer().and_then(|buffer| Masks::from_buffer(buffer));
        counts.fetch_add(usize::from(masks.is_some()), Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    counted
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Plays to the end of the stream.
fn play(pipeline: &gst::Element) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message =
        pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends).unwrap();
    if let gst::MessageView::Error(error) = message.view() {
        panic!("{}: {:?}", error.error(), error.debug());
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Frames in a file that GStreamer decodes.
fn frames_in(file: &Path) -> usize {
    let uri = format!("file://{}", file.display());
    let pipeline = gst::parse::launch(&format!("uridecodebin uri={uri} ! fakesink name=out")).unwrap();
    let pad =
        pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("out").unwrap().static_pad("sink").unwrap();
    let frames = Arc::new(AtomicUsize::new(0));
    let counts = frames.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        counts.fetch_add(1, Ordering::Relaxed);
        gst::PadProbeReturn::Ok
    });
    play(&pipeline);
    frames.load(Ordering::Relaxed)
}

fn files(folder: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == ending)).collect();
    files.sort();
    files
}

#[test]
fn splitmuxsink_records_every_frame_in_parts() {
    if !have(&["splitmuxsink", "x264enc", "mp4mux"]) {
        return;
    }
    let fake = Fake::install();
    let folder = tempfile::tempdir().unwrap();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=40 ! video/x-raw,format=I420,width=64,height=48,framerate=10/1 ! {} ! gclipoverlay ! videoconvert \
         ! x264enc key-int-max=10 bframes=0 ! h264parse ! splitmuxsink max-size-time=1000000000 location={}/part%02d.mp4",
        fake.description(),
        folder.path().display()
    ));
    play(&pipeline.unwrap());
    let parts = files(folder.path(), "mp4");
    assert!(parts.len() >= 3, "{parts:?}");
    assert_eq!(parts.iter().map(|part| frames_in(part)).sum::<usize>(), 40);
}

#[test]
fn hlssink2_writes_a_playlist_of_every_frame() {
    if !have(&["hlssink2", "x264enc", "mpegtsmux"]) {
        return;
    }
    let fake = Fake::install();
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let pipeline = gst::parse::launch(&format!(
        "videotestsrc num-buffers=40 ! video/x-raw,format=I420,width=64,height=48,framerate=10/1 ! {} ! gclipoverlay ! videoconvert \
         ! x264enc key-int-max=10 bframes=0 ! h264parse ! hlssink2 target-duration=1 max-files=0 playlist-length=0 \
         location={at}/part%02d.ts playlist-location={at}/list.m3u8",
        fake.description()
    ));
    play(&pipeline.unwrap());
    let parts = files(folder.path(), "ts");
    let list = std::fs::read_to_string(folder.path().join("list.m3u8")).unwrap();
    assert_eq!(list.matches("#EXTINF").count(), parts.len(), "{list}");
    assert!(parts.len() >= 3 && list.contains("#EXT-X-ENDLIST"), "{list}");
    assert_eq!(parts.iter().map(|part| frames_in(part)).sum::<usize>(), 40);
}

#[test]
fn playbin_takes_our_elements_as_its_video_filter() {
    let fake = Fake::install();
    // It ends before us: in playbin a queue follows, and a query that waits in it while the stream ends behind it waits for
    // ever (seen in 1.22, with a plain queue in our place each time).
    let filter =
        format!("identity eos-after=12 ! videoconvert ! {} ! gclipoverlay name=draw", fake.description());
    let filter = gst::parse::bin_from_description(&filter, true).unwrap();
    let masks = count(&filter.by_name("draw").unwrap().static_pad("src").unwrap());
    let sink = gst::ElementFactory::make("fakevideosink").property("sync", false).build().unwrap();
    let playbin = gst::ElementFactory::make("playbin").property("uri", demo()).build().unwrap();
    playbin.set_property("video-filter", &filter);
    playbin.set_property("video-sink", &sink);
    play(&playbin);
    assert!(masks.load(Ordering::Relaxed) >= 11, "{masks:?}");
}

#[test]
fn uridecodebin3_feeds_us() {
    if !have(&["uridecodebin3"]) {
        return;
    }
    let fake = Fake::install();
    let description = format!(
        "uridecodebin3 uri={} ! videoconvert ! {} name=s ! identity eos-after=12 ! fakesink",
        demo(),
        fake.description()
    );
    let pipeline = gst::parse::launch(&description).unwrap();
    let element = pipeline.downcast_ref::<gst::Bin>().unwrap().by_name("s").unwrap();
    let masks = count(&element.static_pad("src").unwrap());
    play(&pipeline);
    assert!(masks.load(Ordering::Relaxed) >= 11, "{masks:?}");
}

/// A promise whose answer's field goes on to `then`.
fn answered(field: &'static str, then: impl FnOnce(&glib::Value) + Send + 'static) -> gst::Promise {
    gst::Promise::with_change_func(move |reply| {
        if let Ok(Some(reply)) = reply
            && let Ok(value) = reply.value(field)
        {
            then(value);
        }
    })
}

fn describe(element: &gst::Element, signal: &str, description: &glib::Value) {
    element.emit_by_name_with_values(signal, &[description.clone(), None::<gst::Promise>.to_value()]);
}

/// One peer sends drawn frames, the other receives them.
#[test]
fn webrtcbin_sends_what_we_draw() {
    if !have(&["webrtcbin", "nicesrc", "vp8enc", "dtlsdec", "srtpenc"]) {
        return;
    }
    let fake = Fake::install();
    let sender = gst::parse::launch(&format!(
        "videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=15/1 ! {} ! gclipoverlay \
         ! videoconvert ! queue ! vp8enc deadline=1 ! rtpvp8pay \
         ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! webrtcbin name=peer bundle-policy=max-bundle",
        fake.description()
    ));
    let sender = sender.unwrap().downcast::<gst::Pipeline>().unwrap();
    let receiver = gst::Pipeline::new();
    let (from, to) =
        (sender.by_name("peer").unwrap(), gst::ElementFactory::make("webrtcbin").build().unwrap());
    receiver.add(&to).unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    let (counts, bin) = (received.clone(), receiver.downgrade());
    to.connect_pad_added(move |_, pad| {
        let Some(bin) = bin.upgrade().filter(|_| pad.direction() == gst::PadDirection::Src) else { return };
        let sink = "rtpvp8depay ! vp8dec ! fakesink name=out sync=false";
        let sink = gst::parse::bin_from_description(sink, true).unwrap();
        let counts = counts.clone();
        let out = sink.by_name("out").unwrap().static_pad("sink").unwrap();
        out.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counts.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        bin.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
    });
    for (one, other) in [(&from, &to), (&to, &from)] {
        let other = other.downgrade();
        one.connect("on-ice-candidate", false, move |values| {
            if let Some(other) = other.upgrade() {
                other.emit_by_name_with_values("add-ice-candidate", &values[1..3]);
            }
            None
        });
    }
    let (offering, answering) = (from.downgrade(), to.downgrade());
    from.connect("on-negotiation-needed", false, move |_| {
        let (from, to) = (offering.upgrade()?, answering.upgrade()?);
        let peers = (from.clone(), to);
        let offered = answered("offer", move |offer| {
            let (from, to) = peers;
            describe(&from, "set-local-description", offer);
            describe(&to, "set-remote-description", offer);
            let answering = to.clone();
            let agreed = answered("answer", move |answer| {
                describe(&answering, "set-local-description", answer);
                describe(&from, "set-remote-description", answer);
            });
            to.emit_by_name::<()>("create-answer", &[&None::<gst::Structure>, &agreed]);
        });
        from.emit_by_name::<()>("create-offer", &[&None::<gst::Structure>, &offered]);
        None
    });
    receiver.set_state(gst::State::Playing).unwrap();
    sender.set_state(gst::State::Playing).unwrap();
    until("frames at the other peer", || received.load(Ordering::Relaxed) >= 20);
    sender.set_state(gst::State::Null).unwrap();
    receiver.set_state(gst::State::Null).unwrap();
}

/// A command that finds the plugin of this build, and nothing of others' registries.
fn with_plugin(program: &str, folder: &Path) -> Command {
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).unwrap();
    let library = plugins.join("libgstgclip.so");
    if !library.exists() {
        std::os::unix::fs::symlink(gclip_testing::plugin(), library).unwrap();
    }
    let mut command = Command::new(program);
    command.env("GST_PLUGIN_PATH", plugins).env("GST_REGISTRY", folder.join("registry.bin"));
    command
}

/// The demo model, looking quickly.
fn real_segment() -> String {
    let demo = std::fs::canonicalize(gclip_testing::DEMO).unwrap();
    format!(
        "gclipsegment model={} prompts=car;road;sky prompt-template=none input-size=112 device=cpu",
        demo.display()
    )
}

#[test]
fn a_timeline_of_gst_editing_services_has_us_as_an_effect() {
    if Command::new("ges-launch-1.0").arg("--version").output().is_err() {
        eprintln!("skipped: no ges-launch-1.0 here (scripts/setup.sh --tests installs it)");
        return;
    }
    gclip_testing::fake::init();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.ogv");
    let effect = format!("videoconvert ! {} ! gclipoverlay mode=fill", real_segment());
    let output = with_plugin("ges-launch-1.0", folder.path())
        .args(["+clip", &demo(), "duration=0.4", "+effect", &effect])
        .args(["-o", &format!("file://{}", out.display()), "-f", "application/ogg:video/x-theora"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && out.exists(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    assert!(frames_in(&out) >= 8, "{said}");
}

/// As of a Python program with its own torch: all libtorches have the same names.
#[test]
fn a_copy_with_names_of_its_own_bears_another_libtorch_in_its_process() {
    let folder = tempfile::tempdir_in(gclip_testing::scratch()).unwrap();
    let private = folder.path().join("private");
    let make = |folder: &Path| {
        let script = Path::new(gclip_testing::ROOT).join("scripts/private-libtorch.py");
        let plugin = gclip_testing::plugin();
        Command::new("python3").arg(script).arg(folder).arg("--plugin").arg(plugin).output().unwrap()
    };
    // A folder of others is left as it is.
    let refused = make(folder.path().parent().unwrap());
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("holds something else"), "{refused:?}");
    for _ in 0..2 {
        let made = make(&private);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    let play = |out: &str| {
        format!(
            "filesrc location={} ! qtdemux ! h264parse ! avdec_h264 ! identity eos-after=5 ! {} ! gclipmask ! filesink location={}",
            demo().trim_start_matches("file://"),
            real_segment(),
            folder.path().join(out).display()
        )
    };
    let alone =
        with_plugin("gst-launch-1.0", folder.path()).arg("-q").args(play("alone").split(' ')).status();
    assert!(alone.unwrap().success());
    let expected = std::fs::read(folder.path().join("alone")).unwrap();
    assert!(!expected.is_empty());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let other = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so")).unwrap();
    let other = &other[other.find('/').unwrap()..];
    for first in ["libtorch", "pipeline"] {
        let output = Command::new("python3")
            .arg(Path::new(gclip_testing::ROOT).join("testing/src/python/two_libtorches.py"))
            .args([first, other, &play(first)])
            .env("GST_PLUGIN_PATH", private.join("plugin"))
            .env("GST_REGISTRY", folder.path().join("private.bin"))
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{first}: {}", String::from_utf8_lossy(&output.stderr));
        for library in [other, private.join("lib/libgclip_cpu.so").to_str().unwrap()] {
            assert!(said.contains(library), "{first}: {library} is not loaded: {said}");
        }
        assert!(std::fs::read(folder.path().join(first)).unwrap() == expected, "{first}: other masks");
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A camera that serves drawn frames: our elements are in the server's factory, and are made anew for each client.
#[test]
fn gst_rtsp_server_has_us_in_its_factory() {
    let folder = tempfile::tempdir().unwrap();
    let question =
        "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
    let can = |python: &&str| {
        Command::new(python).args(["-c", question]).output().is_ok_and(|output| output.status.success())
    };
    let Some(python) = ["python3", "/usr/bin/python3"].into_iter().find(can) else {
        eprintln!("skipped: no Python with gst-rtsp-server (scripts/setup.sh --tests installs it)");
        return;
    };
    let port = gclip_testing::rtsp::free_port();
    let launch = format!(
        "( videotestsrc is-live=true ! video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! {} ! gclipoverlay ! videoconvert \
         ! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 )",
        real_segment().replace("car;road;sky", "\"car;road;sky\"")
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/rtsp_server.py");
    let server = with_plugin(python, folder.path())
        .arg(script)
        .args([&port.to_string(), &launch])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let _server = Server(server);
    until("the server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    gst::init().unwrap();
    for _ in 0..2 {
        let client = gst::parse::launch(&format!(
            "rtspsrc location=rtsp://127.0.0.1:{port}/drawn protocols=tcp latency=0 ! rtph264depay ! avdec_h264 ! fakesink name=out sync=false"
        ));
        let client = client.unwrap().downcast::<gst::Pipeline>().unwrap();
        let frames = Arc::new(AtomicUsize::new(0));
        let counts = frames.clone();
        let out = client.by_name("out").unwrap().static_pad("sink").unwrap();
        out.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            counts.fetch_add(1, Ordering::Relaxed);
            gst::PadProbeReturn::Ok
        });
        client.set_state(gst::State::Playing).unwrap();
        until("frames of the server", || frames.load(Ordering::Relaxed) >= 10);
        client.set_state(gst::State::Null).unwrap();
    }
}
