// SPDX-License-Identifier: MIT OR Apache-2.0
//! Things that are looked at for damage, on `gclipsegment` and a real checkpoint of random weights.

use gclip_testing::fake::Rig;
use gclip_testing::workshop::{Workshop, picture, rig};
use gst::prelude::*;
use gstgclip::meta::Masks;
use gstgclip::meta::json::{Frame, MaskForm, Times};

fn next(rig: &mut Rig, number: u64) -> Masks {
    rig.harness.push(picture(number)).unwrap();
    Masks::from_buffer(&rig.pull()).unwrap()
}

/// Pushes pictures until the things that are looked at are so many.
fn until(rig: &mut Rig, things: usize) -> Masks {
    for number in 0..5000 {
        let masks = next(rig, number);
        if masks.anomalies.len() == things {
            return masks;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("never {things}");
}

#[test]
fn every_thing_has_a_map_and_a_score_beside_the_masks() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    let before = next(&mut rig, 0);
    assert!(before.anomalies.is_empty());
    rig.element.set_property("anomaly", "bottle; cable, bottle");
    let masks = until(&mut rig, 2);
    assert_eq!(masks.regions, before.regions, "they take no pixel");
    assert_eq!(masks.generation, 2);
    for (anomaly, label) in masks.anomalies.iter().zip(["bottle", "cable"]) {
        assert_eq!(anomaly.label, label);
        assert!((0.0..=1.0).contains(&anomaly.score), "{anomaly:?}");
        let view = anomaly.view().unwrap();
        assert!(view.width() >= 2 && view.height() >= 2, "a value a patch");
        let most = view.rows().flat_map(|row| (0..row.len()).filter_map(move |x| row.get(x))).max().unwrap();
        assert!(
            (f64::from(most) / 255.0 - anomaly.score).abs() < 0.5 / 255.0 + 1e-6,
            "of four patches the highest counts"
        );
    }
    let frame = Frame::new(&masks, Times::default(), None, MaskForm::None).unwrap();
    let json = serde_json::to_value(&frame).unwrap();
    assert_eq!(json["anomalies"].as_array().unwrap().len(), 2);
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../src/meta2json/schema.json")).unwrap();
    jsonschema::validate(&schema, &json).unwrap();
    rig.element.set_property("window", 32u32);
    assert_eq!(next(&mut rig, 1).anomalies.len(), 2, "in windows too");
    rig.element.set_property("anomaly", None::<&str>);
    until(&mut rig, 0);
    rig.element.set_property("anomaly-states", "/no/such/file");
    assert!(rig.warning_text().contains("/no/such/file"));
    assert_eq!(rig.stat::<u64>("errors"), 0);
}

#[test]
fn damage_is_looked_for_in_one_class_alone() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    rig.element.set_property("anomaly", "bottle");
    let everywhere = until(&mut rig, 1);
    let label = everywhere.regions[0].label.clone();
    rig.element.set_property("anomaly-within", &label);
    let generation = everywhere.generation;
    let within = (1..5000)
        .map(|number| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            next(&mut rig, number)
        })
        .find(|masks| masks.generation > generation)
        .unwrap();
    let values = |masks: &Masks| -> Vec<u16> {
        let view = masks.anomalies[0].view().unwrap();
        view.rows()
            .flat_map(|row| (0..row.len()).filter_map(move |x| row.get(x)).collect::<Vec<_>>())
            .collect()
    };
    let (before, after) = (values(&everywhere), values(&within));
    assert!(before.iter().all(|&value| value > 0), "{before:?}");
    assert!(before.iter().zip(&after).all(|(before, after)| *after == 0 || after == before), "{after:?}");
    let of_class =
        within.regions.iter().find(|region| region.label == label).map_or(0.0, |region| region.area);
    let kept = after.iter().filter(|&&value| value > 0).count() as f64 / after.len() as f64;
    assert!((kept - of_class).abs() <= 0.3, "{kept} of the patches, {of_class} of the picture");
    let most = after.iter().copied().max().unwrap();
    assert!((f64::from(most) / 255.0 - within.anomalies[0].score).abs() < 0.5 / 255.0 + 1e-6);
    // A class that is not looked for.
    rig.element.set_property("anomaly-within", "unicorn");
    let told = rig.warning_text();
    assert!(told.contains("anomaly-within") && told.contains("unicorn"), "{told}");
    assert_eq!(rig.stat::<u64>("errors"), 0);
}

#[test]
fn what_is_usual_in_a_stream_is_no_anomaly() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    rig.element.set_property("anomaly-baseline", 5u32);
    rig.element.set_property("anomaly", "bottle");
    until(&mut rig, 1);
    // The same picture over and over: it is learnt, and then nothing about it is unusual.
    let scores: Vec<f64> = (0..12).map(|number| next(&mut rig, number).anomalies[0].score).collect();
    assert_eq!(scores[0], 0.0, "{scores:?}");
    assert!(scores[11] > 0.0 && scores[11] < 0.1, "{scores:?}");
}

/// Messages `gclip-anomaly` that are on the bus: label and state, with the score.
fn told(bus: &gst::Bus) -> Vec<(String, String, f64)> {
    let of = |message: gst::Message| {
        let structure = message.structure().filter(|structure| structure.name() == "gclip-anomaly")?;
        assert_eq!(structure.get::<u64>("generation").unwrap(), 2);
        assert!(structure.has_field("running-time") && structure.has_field("pts"), "{structure}");
        Some((
            structure.get("label").unwrap(),
            structure.get("state").unwrap(),
            structure.get("score").unwrap(),
        ))
    };
    std::iter::from_fn(|| bus.pop_filtered(&[gst::MessageType::Element])).filter_map(of).collect()
}

#[test]
fn damage_is_told_once_and_so_is_its_end() {
    let workshop = Workshop::new();
    let mut rig = rig(&workshop.model(1), None);
    let bus = gst::Bus::new();
    rig.element.set_bus(Some(&bus));
    rig.element.set_property_from_str("messages", "changes");
    rig.element.set_property("enter-frames", 2u32);
    rig.element.set_property("leave-frames", 2u32);
    rig.element.set_property("anomaly", "bottle");
    let score = until(&mut rig, 1).anomalies[0].score;
    assert!(score > 0.0, "{score}");
    (0..4).for_each(|number| drop(next(&mut rig, number)));
    assert!(told(&bus).is_empty(), "without a threshold nothing is told");
    // Pictures of one kind, so that each has about this score.
    let same = |rig: &mut Rig| (0..6).map(|_| next(rig, 3).anomalies[0].score).fold(0.0, f64::max);
    let score = same(&mut rig);
    told(&bus);
    rig.element.set_property("anomaly-threshold", 0.5 * score);
    same(&mut rig);
    let messages = told(&bus);
    assert_eq!(messages.len(), 1, "{messages:?}");
    let (label, state, told_score) = &messages[0];
    assert_eq!((label.as_str(), state.as_str()), ("bottle", "damaged"));
    assert!((told_score - score).abs() < 1e-6, "{told_score} {score}");
    // A higher one is below nine tenths now.
    rig.element.set_property("anomaly-threshold", (2.0 * score).min(1.0));
    same(&mut rig);
    let messages = told(&bus);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0].1, "sound");
}
