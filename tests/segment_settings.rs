// SPDX-License-Identifier: MIT OR Apache-2.0
//! Properties of `gclipsegment`, what is posted when they make no sense, and what it reports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use gclip_testing::fake::*;
use gst::prelude::*;
use gstgclip::meta::Masks;

#[test]
fn every_property_starts_with_the_default_it_declares() {
    init();
    let element = gst::ElementFactory::make("gclipsegment").build().unwrap();
    let mut checked = 0;
    for spec in element.list_properties().iter().filter(|spec| spec.name() != "stats") {
        if spec.owner_type() != element.type_() {
            continue;
        }
        let (value, default) = (element.property_value(spec.name()), spec.default_value());
        assert_eq!(format!("{value:?}"), format!("{default:?}"), "{}", spec.name());
        let flags = spec.flags() & (gst::PARAM_FLAG_MUTABLE_READY | gst::PARAM_FLAG_MUTABLE_PLAYING);
        assert!(!flags.is_empty(), "{} does not say when it may be set", spec.name());
        checked += 1;
    }
    assert!(checked > 20);
}

/// Error text of an element that cannot go to READY.
fn refusal(set: impl FnOnce(&gst::Element)) -> String {
    init();
    let element = gst::ElementFactory::make("gclipsegment").build().unwrap();
    set(&element);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Ready).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error message");
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    element.set_state(gst::State::Null).unwrap();
    error.error().to_string()
}

#[test]
fn what_is_missing_or_wrong_is_said_in_one_sentence() {
    assert!(refusal(|_| ()).contains("set the property \"model\""));
    let text = refusal(|e| e.set_property("model", "/no/such/folder"));
    assert!(text.contains("set the property \"prompts\""), "{text}");
    let text = refusal(|e| {
        e.set_property("model", "/no/such/folder");
        e.set_property("prompts", "person");
    });
    assert!(text.contains("/no/such/folder"), "{text}");
    for empty in ["", "  ;  "] {
        let text = refusal(|e| {
            e.set_property("model", "/no/such/folder");
            e.set_property("prompts", empty);
        });
        assert!(text.contains("prompts") && !text.contains('\n'), "{text}");
    }
    let text = refusal(|e| {
        e.set_property("model", "/no/such/folder");
        e.set_property("prompts-file", "/no/such/file");
    });
    assert!(text.contains("/no/such/file"), "{text}");
    let text = refusal(|e| {
        e.set_property("model", "/no/such/folder");
        e.set_property("prompts", "person");
        e.set_property("device", "gpu");
    });
    assert!(text.contains("gpu") && text.contains("cuda:N"), "{text}");
    let text = refusal(|e| {
        e.set_property("model", gclip_testing::DEMO);
        e.set_property("prompts", "person");
        e.set_property("helper-model", "/no/such/dino");
    });
    assert!(text.contains("method gclip reads no helper model"), "{text}");
    let text = refusal(|e| {
        e.set_property("model", gclip_testing::DEMO);
        e.set_property("prompts", "person");
        e.set_property("method", "proxyclip");
    });
    assert!(text.contains("method proxyclip needs a helper model beside CLIP"), "{text}");
    let text = refusal(|e| {
        e.set_property("model", "/no/such/folder");
        e.set_property("prompts", "person");
        e.set_property_from_str("enrich", "tse");
    });
    assert!(text.contains("set the property \"descriptions\""), "{text}");
    let text = refusal(|e| {
        e.set_property("model", "/no/such/folder");
        e.set_property("prompts", "person");
        e.set_property_from_str("enrich", "tse");
        e.set_property("descriptions", "/no/such/sentences.json");
    });
    assert!(text.contains("/no/such/sentences.json"), "{text}");
}

#[test]
fn values_that_mean_nothing_leave_the_old_ones_with_a_warning() {
    let fake = Fake::install();
    let rig = fake.rig();
    for (name, bad) in [("input-size", "huge"), ("input-size", "0"), ("prompt-template", "no slot")] {
        let before = rig.element.property::<String>(name);
        rig.element.set_property(name, bad);
        assert!(rig.warning_text().contains(name));
        assert_eq!(rig.element.property::<String>(name), before);
    }
    for (name, bad) in [("refine-options", "gird=40"), ("context-options", "nudge=2")] {
        rig.element.set_property(name, bad);
        let text = rig.warning_text();
        assert!(text.contains(bad.split('=').next().unwrap()), "{text}");
        assert_eq!(rig.element.property::<Option<String>>(name), None);
    }
    // Switches and what they are of may be set in either order.
    rig.element.set_property("refine-options", "grid=40");
    rig.element.set_property_from_str("refine", "tlp");
    assert_eq!(rig.element.property::<Option<String>>("refine-options").as_deref(), Some("grid=40"));
    rig.element.set_property("window", 100u32);
    rig.element.set_property("stride", 200u32);
    assert!(rig.warning_text().contains("stride 200"));
    assert_eq!(rig.element.property::<u32>("stride"), 0);
    rig.element.set_property("model", "another");
    assert!(rig.warning_text().contains("NULL or READY"));
    assert_eq!(rig.element.property::<String>("model"), "fake");
}

#[test]
fn settings_reach_the_next_frame() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.element.set_property_from_str("meta", "roi");
    rig.push(1).unwrap();
    let buffer = rig.pull();
    assert!(Masks::from_buffer(&buffer).is_none());
    let boxes: Vec<_> = buffer
        .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
        .map(|roi| (roi.roi_type().to_string(), roi.rect()))
        .collect();
    assert_eq!(boxes, [("a".to_string(), (2, 0, 4, 4)), ("b".into(), (2, 0, 4, 4))]);
    rig.element.set_property_from_str("meta", "custom+roi");
    rig.push(2).unwrap();
    let buffer = rig.pull();
    assert!(Masks::from_buffer(&buffer).is_some());
    assert_eq!(buffer.iter_meta::<gst_video::VideoRegionOfInterestMeta>().count(), 2);
}

#[cfg(feature = "v1_26")]
#[test]
fn the_standard_metadata_is_attached_on_demand() {
    use gst_analytics::{AnalyticsODMtd, AnalyticsRelationMeta, prelude::*};

    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    assert!(rig.pull().meta::<AnalyticsRelationMeta>().is_none());
    for (number, meta, objects) in [(1, "analytics", 0), (2, "analytics-objects", 2)] {
        rig.element.set_property_from_str("meta", meta);
        rig.push(number).unwrap();
        let buffer = rig.pull();
        assert!(Masks::from_buffer(&buffer).is_none());
        let masks = Masks::found_on(&buffer, Some(SIZE)).unwrap();
        let found = masks.regions.iter().map(|region| (region.value, region.label.as_str()));
        // Every pixel of the nth frame has the value n.
        assert_eq!(found.collect::<Vec<_>>(), [(number as u32, ["a", "b"][number as usize - 1])]);
        let relations = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        assert_eq!(relations.iter::<AnalyticsODMtd>().count(), objects, "{meta}");
    }
}

#[test]
fn regions_are_posted_when_asked_for_at_most_ten_times_a_second() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    rig.push(1).unwrap();
    rig.pull();
    assert!(rig.messages(gst::MessageType::Element).is_empty());
    rig.element.set_property_from_str("messages", "all");
    let start = std::time::Instant::now();
    for number in 2..30 {
        rig.push(number).unwrap();
        rig.pull();
    }
    let mut messages = rig.messages(gst::MessageType::Element);
    messages.retain(|message| message.structure().is_some_and(|fields| fields.name() == "gclip-regions"));
    let most = start.elapsed().as_millis() / 100 + 1;
    assert!(!messages.is_empty() && messages.len() as u128 <= most, "{} messages", messages.len());
    let structure = messages[0].structure().unwrap();
    assert_eq!(structure.get::<gst::ClockTime>("pts").unwrap(), gst::ClockTime::from_mseconds(80));
    assert_eq!(structure.get::<u64>("generation").unwrap(), 1);
    let regions = structure.get::<gst::ArrayRef>("regions").unwrap();
    let first = regions.as_slice()[0].get::<gst::Structure>().unwrap();
    assert_eq!(first.get::<&str>("label").unwrap(), "a");
}

#[test]
fn properties_may_be_set_from_other_threads_while_frames_pass() {
    let fake = Fake::install();
    let mut rig = fake.rig();
    let done = AtomicBool::new(false);
    let element = rig.element.clone();
    thread::scope(|scope| {
        for seed in 0..3u32 {
            let (element, done) = (&element, &done);
            scope.spawn(move || {
                let mut n = seed;
                while !done.load(Ordering::Relaxed) {
                    n = n.wrapping_add(1);
                    element.set_property("threshold", f64::from(n % 10) / 10.0);
                    element.set_property("prompts", format!("class{n}"));
                    element.set_property("batch-size", 1 + n % 4);
                    element.set_property("max-in-flight", 1 + n % 8);
                    element.set_property("batch-timeout", u64::from(n % 3) * 1_000_000);
                    element.set_property("inference-interval", 1 + n % 2);
                    element.set_property_from_str("late-policy", ["wait", "auto"][n as usize % 2]);
                    element.property::<gst::Structure>("stats");
                }
            });
        }
        for number in 0..300 {
            rig.push(number % 250).unwrap();
            assert_eq!(number_of(&rig.pull()), number % 250);
        }
        done.store(true, Ordering::Relaxed);
    });
    rig.until_empty();
    assert_eq!(rig.stat::<u64>("frames"), 300);
    assert!(rig.messages(gst::MessageType::Error).is_empty());
}

#[test]
fn statistics_tell_what_the_element_and_its_model_did() {
    let fake = Fake::install();
    let mut rig = fake.rig_with(|e| e.set_property("batch-size", 2u32));
    for number in 0..8 {
        rig.push(number).unwrap();
    }
    (0..8).for_each(|_| drop(rig.pull()));
    rig.until_empty();
    let batches = fake.control.set(|b| b.batches.len()) as u64;
    assert_eq!(rig.stat::<u64>("batches"), batches);
    assert!((rig.stat::<f64>("mean-batch-fill") - 8.0 / batches as f64).abs() < 1e-9);
    assert_eq!(rig.stat::<u64>("texts-encoded"), 2);
    assert_eq!(rig.stat::<u64>("prompt-generation"), 1);
    // Counts begin anew with a stream.
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_state(gst::State::Paused).unwrap();
    assert_eq!(rig.stat::<u64>("frames"), 0);
}
