// SPDX-License-Identifier: MIT OR Apache-2.0
//! GStreamer's leaks tracer finds nothing after pipelines with `gclipsegment` have come and gone, and nothing is
//! warned about on the way. The tracer works from `gst_init` to `gst_deinit`, so this is a process of its own.

use std::process::Command;

use gclip_testing::fake::*;
use gst::prelude::*;

/// Set in the process that is traced.
const CHILD: &str = "GCLIP_TEST_LEAKS_CHILD";

fn play() {
    let fake = Fake::install();
    for round in 0..3 {
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=20 ! video/x-raw,format=NV12,width=32,height=24 \
             ! gclipsegment name=segment model=fake model-instance-id={} prompts=a prompt-template=none meta=custom+roi \
             ! videoconvert ! fakesink",
            fake.id
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let segment = pipeline.by_name("segment").unwrap();
        segment.set_property("prompts", "b; c");
        if round > 0 {
            let bus = pipeline.bus().unwrap();
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), &kinds).unwrap();
            assert_eq!(end.type_(), gst::MessageType::Eos, "{end:?}");
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    rig.pull();
    rig.push(2).unwrap();
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
}

#[test]
fn the_leaks_tracer_finds_nothing() {
    if std::env::var_os(CHILD).is_some() {
        play();
        // SAFETY: nothing of GStreamer is used after this, in this process of one test.
        unsafe { gst::deinit() };
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_leaks_tracer_finds_nothing", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7,leaks:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .env("G_DEBUG", "fatal_warnings")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{log}");
    assert!(log.contains("leaks"), "the tracer was not at work:\n{log}");
    // The first lines of the tracer describe its records; a record has an address.
    let is_leak = |line: &&str| line.contains("object-alive, ") && line.contains("address=(gpointer)0x");
    let leaks: Vec<&str> = log.lines().filter(is_leak).collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
