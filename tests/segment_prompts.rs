// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prompts of `gclipsegment`, changed while frames pass.

use std::thread;
use std::time::Duration;

use gclip_testing::fake::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

fn generation(buffer: &gst::Buffer) -> u64 {
    Masks::from_buffer(buffer).unwrap().generation
}

fn prompts_event(prompts: &str) -> gst::Event {
    let structure = gst::Structure::builder("application/x-gclip-prompts").field("prompts", prompts).build();
    gst::event::CustomDownstream::new(structure)
}

/// Pushes frames until one comes out with these labels; returns how many came out with others before.
fn until_labels(rig: &mut Rig, expected: &[&str]) -> u64 {
    for count in 0..2000 {
        rig.push(count % 250).unwrap();
        if labels(&rig.pull()) == expected {
            return count;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("no frame with {expected:?}");
}

#[test]
fn text_is_encoded_once_for_a_thousand_frames() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property("batch-size", 1u32));
    for number in 0..1000 {
        rig.push(number % 250).unwrap();
        rig.pull();
    }
    assert_eq!(fake.control.set(|b| (b.text_calls, b.texts_encoded)), (1, 2));
}

#[test]
fn frames_go_on_with_the_old_prompts_while_new_ones_are_encoded() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    fake.control.set(|b| b.text_gate_closed = true);
    rig.element.set_property("prompts", "cat; dog");
    fake.control.until("the new prompts are at the encoder", |b| b.text_calls == 2);
    for number in 0..50 {
        rig.push(number).unwrap();
        let buffer = rig.pull();
        assert_eq!((labels(&buffer), generation(&buffer)), (vec!["a".to_string(), "b".into()], 1));
    }
    fake.control.set(|b| b.text_gate_closed = false);
    until_labels(&mut rig, &["cat", "dog"]);
    rig.push(1).unwrap();
    let buffer = rig.pull();
    assert_eq!(generation(&buffer), 2);
    assert_eq!(rig.stat::<u64>("prompt-generation"), 2);
}

#[test]
fn thresholds_and_synonyms_change_as_prompts_do_and_encode_nothing_anew() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    let until_generation = |rig: &mut Rig, wanted: u64| {
        for count in 0..2000 {
            rig.push(count % 250).unwrap();
            if generation(&rig.pull()) == wanted {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("no frame of generation {wanted}");
    };
    until_generation(&mut rig, 1);
    rig.element.set_property("prompt-thresholds", "a=0.5, b=0.25");
    until_generation(&mut rig, 2);
    rig.element.set_property_from_str("synonyms", "mean");
    until_generation(&mut rig, 3);
    assert_eq!(fake.control.set(|b| b.texts_encoded), 2);
    rig.element.set_property("prompt-thresholds", "a=2");
    assert!(rig.warning_text().contains("from 0 to 1"));
    assert_eq!(rig.element.property::<String>("prompt-thresholds"), "a=0.5, b=0.25");
    rig.element.set_property("prompt-thresholds", "c=0.5");
    assert!(rig.warning_text().contains("no class of that label"));
    rig.push(1).unwrap();
    assert_eq!(labels(&rig.pull()), ["a", "b"]);
}

#[test]
fn negations_are_warned_of_and_looked_for() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.element.set_property("prompts", "person; person without helmet");
    let warning = rig.warning_text();
    assert!(warning.contains("person without helmet") && warning.contains("CLIP"), "{warning}");
    until_labels(&mut rig, &["person", "person without helmet"]);
    assert!(rig.harness.push_event(prompts_event("no cat")));
    assert!(rig.warning_text().contains("no cat"));
}

#[test]
fn the_last_of_many_changes_wins() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    for number in 0..200 {
        rig.element.set_property("prompts", format!("class{number}"));
    }
    until_labels(&mut rig, &["class199"]);
    rig.push(1).unwrap();
    assert_eq!(generation(&rig.pull()), 201);
    assert!(fake.control.set(|b| b.text_calls) <= 201);
}

#[test]
fn prompts_that_mean_nothing_are_refused_with_a_warning() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.element.set_property("prompts", "cat;; dog");
    assert!(rig.warning_text().contains("prompts"));
    assert_eq!(rig.element.property::<String>("prompts"), "a; b");
    rig.element.set_property("prompts-file", "/no/such/file");
    assert!(rig.warning_text().contains("/no/such/file"));
    rig.push(1).unwrap();
    assert_eq!(labels(&rig.pull()), ["a", "b"]);
}

#[test]
fn prompts_that_cannot_be_encoded_leave_the_old_ones_in_force() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    fake.control.set(|b| b.text_fails = true);
    rig.element.set_property("prompts", "cat");
    assert!(rig.warning_text().contains("the old ones stay"));
    rig.push(1).unwrap();
    assert_eq!(labels(&rig.pull()), ["a", "b"]);
    // Nor does an event make the stream wait for what never comes.
    assert!(rig.harness.push_event(prompts_event("dog")));
    rig.push(2).unwrap();
    assert_eq!(labels(&rig.pull()), ["a", "b"]);
}

#[test]
fn an_event_changes_the_prompts_of_exactly_the_next_frame() {
    let fake = Fake::install();
    fake.control.set(|b| b.delay = Duration::from_millis(5));
    let mut rig = fake.rig();
    let upstream = rig.upstream();
    let feeder = thread::spawn(move || {
        for number in 0..30 {
            if number % 10 == 5 {
                assert!(upstream.push_event(prompts_event(&format!("class{number}"))));
            }
            upstream.push(frame(number)).unwrap();
        }
    });
    for number in 0..30u64 {
        let buffer = rig.pull();
        let expected = match number {
            0..5 => vec!["a".to_string(), "b".into()],
            5..15 => vec!["class5".into()],
            15..25 => vec!["class15".into()],
            _ => vec!["class25".into()],
        };
        assert_eq!((number_of(&buffer), labels(&buffer)), (number, expected));
    }
    feeder.join().unwrap();
    // Others behind the element see the event too, in its place.
    let events = rig.events();
    assert_eq!(events.iter().filter(|e| e.type_() == gst::EventType::CustomDownstream).count(), 3);
    assert_eq!(rig.element.property::<String>("prompts"), "a; b", "the property is the application's");
}

#[test]
fn a_frame_that_waits_for_an_events_prompts_is_flushed_at_once() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    fake.control.set(|b| b.text_gate_closed = true);
    assert!(rig.harness.push_event(prompts_event("cat")));
    let upstream = rig.upstream();
    let blocked = thread::spawn(move || upstream.push(frame(1)));
    fake.control.until("the new prompts are at the encoder", |b| b.text_calls == 2);
    assert!(rig.harness.push_event(gst::event::FlushStart::new()));
    assert_eq!(blocked.join().unwrap(), Err(gst::FlowError::Flushing));
    fake.control.set(|b| b.text_gate_closed = false);
}

#[test]
fn an_event_that_means_nothing_is_ignored_with_a_warning() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    let empty = gst::Structure::new_empty("application/x-gclip-prompts");
    assert!(rig.harness.push_event(gst::event::CustomDownstream::new(empty)));
    assert!(rig.warning_text().contains("application/x-gclip-prompts"));
    rig.push(1).unwrap();
    assert_eq!(labels(&rig.pull()), ["a", "b"]);
}

#[test]
fn prompts_come_from_a_file_until_the_property_is_set() {
    let fake = Fake::install();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("classes.txt");
    std::fs::write(&path, "# what to look for\nroad\ncar, truck\n").unwrap();
    let mut rig = fake.rig_with(|e| e.set_property("prompts-file", path.to_str().unwrap()));
    assert_eq!(rig.element.property::<Option<String>>("prompts"), None);
    rig.push(1).unwrap();
    assert_eq!(labels(&rig.pull()), ["road", "car"]);
    rig.element.set_property("prompts", "tree");
    assert_eq!(rig.element.property::<Option<String>>("prompts-file"), None);
    until_labels(&mut rig, &["tree"]);
}

#[test]
fn a_stopped_stream_forgets_the_prompts_of_its_events() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    assert!(rig.harness.push_event(prompts_event("cat")));
    rig.push(1).unwrap();
    assert_eq!(labels(&rig.pull()), ["cat"]);
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_state(gst::State::Playing).unwrap();
    rig.harness.push_event(gst::event::StreamStart::new("again"));
    rig.harness.push_event(gst::event::Caps::new(&caps(8, 4)));
    rig.harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    rig.push(2).unwrap();
    assert_eq!(labels(&rig.pull()), ["a", "b"]);
}
