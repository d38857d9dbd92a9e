// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start and pause of the source pad's task, with the moment before a pause made long: what comes in it is not lost.
//! This process has a `gst_pad_pause_task` of its own, which sleeps and then calls GStreamer's.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use gclip_testing::fake::*;
use gst::prelude::*;
use libloading::os::unix::Library;

type PauseTask = unsafe extern "C" fn(*mut std::ffi::c_void) -> std::ffi::c_int;

/// # Safety
/// As GStreamer's function of this name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gst_pad_pause_task(pad: *mut std::ffi::c_void) -> std::ffi::c_int {
    // SAFETY: the library is loaded already, and the function is of this type.
    static REAL: LazyLock<PauseTask> = LazyLock::new(|| unsafe {
        let library = Library::new("libgstreamer-1.0.so.0").unwrap();
        let function = *library.get::<PauseTask>(b"gst_pad_pause_task\0").unwrap();
        std::mem::forget(library);
        function
    });
    thread::sleep(Duration::from_millis(5));
    // SAFETY: the caller's pad.
    unsafe { REAL(pad) }
}

fn stream() -> (Rig, gst::Pad, gst::Pad) {
    let fake = Fake::install();
    let rig = fake.rig_with(|e| {
        e.set_property("inference-interval", 1_000_000u32);
        e.set_property_from_str("late-policy", "wait");
    });
    let src = rig.element.static_pad("src").unwrap();
    let peer = src.peer().unwrap();
    std::mem::forget(fake);
    (rig, src, peer)
}

#[test]
fn a_link_that_comes_before_the_pause_is_not_lost() {
    let (mut rig, src, peer) = stream();
    let upstream = rig.upstream();
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // Refused while nothing is linked, as a tee with `allow-not-linked` bears.
                let _ = upstream.push(frame(number % 250));
                number += 1;
                thread::sleep(Duration::from_micros(300));
            }
        });
        for round in 0..60 {
            src.unlink(&peer).unwrap();
            thread::sleep(Duration::from_micros(round % 20 * 400));
            src.link(&peer).unwrap();
            while rig.harness.try_pull().is_some() {}
            let start = Instant::now();
            while rig.harness.try_pull().is_none() {
                if start.elapsed() > Duration::from_secs(5) {
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("round {round}: nothing comes after the link");
                }
                thread::sleep(Duration::from_micros(200));
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Downstream takes two frames of each segment and wants no more, as what ends at a segment's stop does; the next segment
/// comes at once, as `concat` and playlists send it.
#[test]
fn a_segment_that_comes_before_the_pause_is_not_lost() {
    let (rig, src, _) = stream();
    let wanted = AtomicU32::new(0);
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    src.add_probe(mask, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Segment => {
                wanted.store(2, Ordering::Relaxed);
            }
            Some(gst::PadProbeData::Buffer(_)) => {
                let took = |left: u32| left.checked_sub(1);
                let enough = wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, took).is_err();
                info.flow_res = if enough { Err(gst::FlowError::Eos) } else { Ok(gst::FlowSuccess::Ok) };
                return gst::PadProbeReturn::Handled;
            }
            _ => (),
        }
        gst::PadProbeReturn::Ok
    });
    let upstream = rig.upstream();
    let (done, rounds) = channel();
    // Left behind where it hangs: the test fails then.
    thread::spawn(move || {
        for round in 0..100 {
            upstream.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
            let refused = std::iter::repeat_with(|| upstream.push(frame(1))).find_map(Result::err);
            done.send((round, refused)).unwrap();
        }
    });
    for expected in 0..100 {
        let round = rounds.recv_timeout(PATIENCE);
        assert_eq!(round, Ok((expected, Some(gst::FlowError::Eos))), "upstream waits for ever");
    }
}
