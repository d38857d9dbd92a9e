// SPDX-License-Identifier: MIT OR Apache-2.0
//! The element messages of `gclipsegment`: who has entered and left, and what is on each frame.

use gclip_testing::fake::*;
use gst::prelude::*;

const MS: fn(u64) -> gst::ClockTime = gst::ClockTime::from_mseconds;

/// An element on a fake model whose regions are true, that tells changes at the first mask.
fn rig_with(fake: &Fake, set: impl FnOnce(&gst::Element)) -> Rig {
    fake.control.set(|b| b.true_regions = true);
    fake.rig_with(|e| {
        e.set_property_from_str("messages", "changes");
        e.set_property("enter-frames", 1u32);
        e.set_property("leave-frames", 1u32);
        set(e);
    })
}

/// A frame of 8x4 whose left half is one value and whose right half another.
fn halves(number: u64, left: u8, right: u8) -> gst::Buffer {
    let mut buffer = frame(number);
    let fresh = buffer.get_mut().unwrap();
    for (index, pixel) in fresh.map_writable().unwrap().iter_mut().enumerate() {
        *pixel = if index % 8 < 4 { left } else { right };
    }
    buffer
}

fn see(rig: &mut Rig, buffer: gst::Buffer) {
    rig.harness.push(buffer).unwrap();
    rig.pull();
}

fn structures(rig: &Rig, name: &str) -> Vec<gst::Structure> {
    let messages = rig.messages(gst::MessageType::Element).into_iter();
    let structures = messages.map(|message| message.structure().unwrap().to_owned());
    structures.filter(|structure| structure.name() == name).collect()
}

/// What has been told since the last time: `+label` and `-label`, with `@zone`.
fn told(rig: &Rig) -> Vec<String> {
    let sentence = |message: &gst::Structure| {
        let sign = match message.get::<&str>("state").unwrap() {
            "entered" => '+',
            "left" => '-',
            other => panic!("state {other}"),
        };
        let zone = message.get::<Option<&str>>("zone").unwrap();
        let zone = zone.map(|zone| format!("@{zone}")).unwrap_or_default();
        format!("{sign}{}{zone}", message.get::<&str>("label").unwrap())
    };
    structures(rig, "gclip-presence").iter().map(sentence).collect()
}

#[test]
fn a_prompt_enters_and_leaves_the_picture_and_its_message_says_when() {
    let fake = Fake::install();
    let mut rig = rig_with(&fake, |_| ());
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_base(MS(1000));
    segment.set_time(MS(5000));
    assert!(rig.harness.push_event(gst::event::Segment::new(&segment)));
    see(&mut rig, halves(0, 0, 0));
    assert_eq!(told(&rig), [""; 0]);
    see(&mut rig, halves(1, 1, 0));
    let messages = structures(&rig, "gclip-presence");
    let [entered] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(entered.get::<&str>("label").unwrap(), "a");
    assert_eq!(entered.get::<Option<&str>>("zone").unwrap(), None);
    assert_eq!(entered.get::<&str>("state").unwrap(), "entered");
    assert_eq!(entered.get::<f64>("area").unwrap(), 0.5);
    assert_eq!(entered.get::<f64>("score").unwrap(), 0.5);
    assert_eq!(entered.get::<gst::ClockTime>("pts").unwrap(), MS(40));
    assert_eq!(entered.get::<gst::ClockTime>("running-time").unwrap(), MS(1040));
    assert_eq!(entered.get::<gst::ClockTime>("stream-time").unwrap(), MS(5040));
    assert_eq!(entered.get::<u64>("generation").unwrap(), 1);
    see(&mut rig, halves(2, 1, 2));
    assert_eq!(told(&rig), ["+b"]);
    see(&mut rig, halves(3, 2, 2));
    let left = &structures(&rig, "gclip-presence")[0];
    assert_eq!((left.get::<&str>("state").unwrap(), left.get::<f64>("area").unwrap()), ("left", 0.0));
}

#[test]
fn flicker_and_specks_are_not_told() {
    let fake = Fake::install();
    let mut rig = rig_with(&fake, |e| {
        e.set_property("enter-frames", 3u32);
        e.set_property("leave-frames", 2u32);
        e.set_property("enter-area", 0.2);
        e.set_property("leave-area", 0.1);
    });
    for number in 0..20 {
        see(&mut rig, halves(number, if number % 3 == 2 { 0 } else { 1 }, 0));
    }
    assert_eq!(told(&rig), [""; 0], "never three in a row");
    let speck = |number: u64| {
        let mut buffer = frame_of(number, SIZE);
        let fresh = buffer.get_mut().unwrap();
        // 1 of 32 pixels.
        fresh.map_writable().unwrap().iter_mut().enumerate().for_each(|(i, p)| *p = u8::from(i == 9));
        buffer
    };
    (20..30).for_each(|number| see(&mut rig, speck(number)));
    assert_eq!(told(&rig), [""; 0], "too small to enter");
    (30..33).for_each(|number| see(&mut rig, halves(number, 1, 0)));
    assert_eq!(told(&rig), ["+a"]);
    see(&mut rig, speck(33));
    assert_eq!(told(&rig), [""; 0], "one in a row is not leaving");
    see(&mut rig, speck(34));
    assert_eq!(told(&rig), ["-a"]);
}

#[test]
fn zones_have_their_own_changes_and_may_be_set_while_playing() {
    let fake = Fake::install();
    let zones = "left=0,0 0.5,0 0.5,1 0,1; corner=0.75,0 1,0 1,0.25 0.75,0.25";
    let mut rig = rig_with(&fake, |e| e.set_property("zones", zones));
    see(&mut rig, halves(0, 1, 0));
    assert_eq!(told(&rig), ["+a", "+a@left"]);
    see(&mut rig, halves(1, 0, 1));
    assert_eq!(told(&rig), ["-a@left", "+a@corner"], "in the picture it was all along");
    // "corner" stays known by its name, "left" is gone, and "right" is new.
    rig.element.set_property("zones", "right=0.5,0 1,0 1,1 0.5,1; corner=0.75,0 1,0 1,0.5 0.75,0.5");
    see(&mut rig, halves(2, 0, 1));
    assert_eq!(told(&rig), ["+a@right"]);
    // A resolution change keeps what is known.
    rig.harness.set_src_caps(caps(16, 12));
    see(&mut rig, frame_of(1, (16, 12)));
    assert_eq!(told(&rig), [""; 0]);
    see(&mut rig, frame_of(0, (16, 12)));
    assert_eq!(told(&rig), ["-a", "-a@right", "-a@corner"]);
    rig.element.set_property("zones", "right=0.5,0");
    let warning = rig.warning_text();
    assert!(warning.contains("zones") && warning.contains("at least 3 corners"), "{warning}");
    assert!(rig.element.property::<String>("zones").contains("corner"));
    rig.element.set_property("zones", None::<String>);
    see(&mut rig, frame_of(2, (16, 12)));
    assert_eq!(told(&rig), ["+b"]);
}

#[test]
fn carried_masks_are_not_counted_again() {
    let fake = Fake::install();
    let mut rig = rig_with(&fake, |e| {
        e.set_property("inference-interval", 4u32);
        e.set_property("enter-frames", 2u32);
    });
    for number in 0..4 {
        see(&mut rig, halves(number, 1, 1));
    }
    assert_eq!(told(&rig), [""; 0], "one mask on four frames");
    see(&mut rig, halves(4, 1, 1));
    assert_eq!(told(&rig), ["+a"]);
}

#[test]
fn new_prompts_leave_with_the_old_and_a_flush_starts_afresh() {
    let fake = Fake::install();
    let mut rig = rig_with(&fake, |_| ());
    see(&mut rig, halves(0, 1, 1));
    assert_eq!(told(&rig), ["+a"]);
    rig.element.set_property("prompts", "cat; dog");
    rig.until_stat("prompt-generation", 2);
    see(&mut rig, halves(1, 1, 1));
    assert_eq!(told(&rig), ["-a", "+cat"]);
    rig.harness.push_event(gst::event::FlushStart::new());
    rig.harness.push_event(gst::event::FlushStop::new(true));
    rig.harness.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    see(&mut rig, halves(2, 1, 1));
    assert_eq!(told(&rig), ["+cat"]);
}

#[test]
fn all_tells_every_frame_as_fast_as_it_is_allowed_to_and_changes_too() {
    let fake = Fake::install();
    let mut rig = rig_with(&fake, |e| {
        e.set_property_from_str("messages", "all");
        e.set_property("message-rate", 0.0);
    });
    (0..10).for_each(|number| see(&mut rig, halves(number, 1, 2)));
    let messages = rig.messages(gst::MessageType::Element);
    let names: Vec<_> = messages.iter().map(|message| message.structure().unwrap().name().as_str()).collect();
    let count = |name| names.iter().filter(|&&found| found == name).count();
    assert_eq!((count("gclip-regions"), count("gclip-presence")), (10, 2));
    let regions = messages[0].structure().unwrap().get::<gst::Array>("regions").unwrap();
    assert_eq!(regions.len(), 2);
    // One in a hundred seconds: no more come.
    rig.element.set_property("message-rate", 0.01);
    (10..20).for_each(|number| see(&mut rig, halves(number, 1, 2)));
    assert_eq!(structures(&rig, "gclip-regions").len(), 0);
    rig.element.set_property_from_str("messages", "none");
    rig.element.set_property("message-rate", 0.0);
    (20..30).for_each(|number| see(&mut rig, halves(number, 0, 0)));
    assert_eq!(rig.messages(gst::MessageType::Element).len(), 0);
}
