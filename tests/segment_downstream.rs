// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclipsegment` before a downstream that refuses frames: who learns of it, and what still gets through.

use std::thread;
use std::time::{Duration, Instant};

use gclip_testing::fake::{Fake, PATIENCE, Rig};
use gst::prelude::*;

/// Makes the pad behind the element answer every buffer with an error.
fn refuse(rig: &Rig, error: gst::FlowError) {
    let pad = rig.element.static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        info.flow_res = Err(error);
        gst::PadProbeReturn::Handled
    });
}

#[test]
fn what_downstream_answers_goes_upstream_with_the_next_frame() {
    for error in [gst::FlowError::Eos, gst::FlowError::NotLinked, gst::FlowError::Error] {
        let fake = Fake::install();
        let mut rig = fake.rig();
        refuse(&rig, error);
        let start = Instant::now();
        let mut number = 0;
        while rig.push(number).is_ok() {
            number += 1;
            thread::sleep(Duration::from_millis(1));
            assert!(start.elapsed() < PATIENCE, "{error} never came upstream");
        }
        assert_eq!(rig.push(number), Err(error));
        assert!(rig.messages(gst::MessageType::Error).is_empty(), "upstream reports it");
    }
}

#[test]
fn who_wants_no_more_frames_still_hears_of_the_end() {
    // The end comes while the frame is with the model, or after it has been refused.
    for with_the_model in [true, false] {
        let fake = Fake::install();
        fake.control.set(|b| b.gate_closed = with_the_model);
        let mut rig = fake.rig();
        refuse(&rig, gst::FlowError::Eos);
        rig.push(1).unwrap();
        let start = Instant::now();
        while !with_the_model && rig.push(2).is_ok() {
            assert!(start.elapsed() < PATIENCE, "the refusal never came upstream");
        }
        assert!(rig.harness.push_event(gst::event::Eos::new()));
        fake.control.set(|b| b.gate_closed = false);
        rig.event(gst::EventType::Eos);
    }
}

#[test]
fn an_error_downstream_after_eos_is_posted() {
    let fake = Fake::install();
    fake.control.set(|b| b.gate_closed = true);
    let mut rig = fake.rig();
    refuse(&rig, gst::FlowError::NotNegotiated);
    rig.push(1).unwrap();
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    fake.control.set(|b| b.gate_closed = false);
    assert!(rig.error_text().contains("downstream"), "the application learns why nothing more comes");
}
