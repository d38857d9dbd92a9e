// SPDX-License-Identifier: MIT OR Apache-2.0
//! `reload-model`: other weights while frames pass, on real checkpoints of random weights.

use gclip_testing::tiny;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gclip_testing::fake::*;
use gclip_testing::workshop::{PICTURE, Workshop, answer, answer_of, element, picture, rig};
use gst::prelude::*;
use gstgclip::engine::Engine;
use gstgclip::model::embeddings::Embeddings;
use gstgclip::model::{ModelSpec, PrecisionChoice, Prompts, Templates};

fn reload(rig: &Rig, model: Option<&Path>) -> bool {
    let model = model.map(|path| path.to_str().unwrap().to_owned());
    rig.element.emit_by_name("reload-model", &[&model])
}

/// What a model of its own answers, to compare with.
fn expected(model: &Path) -> String {
    answer_of(&mut rig(model, None), 0)
}

#[test]
fn another_model_takes_over_between_frames_and_none_is_lost() {
    let workshop = Workshop::new();
    let (old, new) = (workshop.model(1), workshop.model(2));
    let (before, after) = (expected(&old), expected(&new));
    assert_ne!(before, after);
    let mut rig = rig(&old, None);
    let (upstream, done) = (rig.upstream(), AtomicBool::new(false));
    thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                upstream.push(picture(number)).unwrap();
                number += 1;
            }
            number
        });
        let mut seen = Vec::new();
        let mut pull = |rig: &mut Rig| {
            let buffer = rig.pull();
            assert_eq!(buffer.offset(), seen.len() as u64, "frames come out whole and in order");
            seen.push(answer(&buffer));
        };
        (0..10).for_each(|_| pull(&mut rig));
        let element = rig.element.clone();
        let name = new.to_str().unwrap().to_owned();
        let reloading = scope.spawn(move || element.emit_by_name::<bool>("reload-model", &[&Some(name)]));
        while !reloading.is_finished() {
            pull(&mut rig);
        }
        assert!(reloading.join().unwrap());
        (0..20).for_each(|_| pull(&mut rig));
        done.store(true, Ordering::Relaxed);
        // Lets the feeder out.
        while !feeder.is_finished() {
            if let Some(buffer) = rig.harness.try_pull() {
                assert_eq!(buffer.offset(), seen.len() as u64);
                seen.push(answer(&buffer));
            }
        }
        let pushed = feeder.join().unwrap();
        while (seen.len() as u64) < pushed {
            let buffer = rig.pull();
            seen.push(answer(&buffer));
        }
        // The old model up to some frame, the new one from there on, nothing else.
        let turn = seen.iter().position(|answer| *answer == after).expect("the new model answers");
        assert!(turn >= 10, "frame {turn}");
        assert!(seen[..turn].iter().all(|answer| *answer == before));
        assert!(seen[turn..].iter().all(|answer| *answer == after));
    });
    assert_eq!(rig.element.property::<String>("model"), new.to_str().unwrap());
    assert_eq!((rig.stat::<u64>("reloads"), rig.stat::<u64>("errors")), (1, 0));
}

#[test]
fn a_file_that_has_changed_is_read_again() {
    let workshop = Workshop::new();
    let (model, other) = (workshop.model(1), workshop.model(2));
    let after = expected(&other);
    let mut rig = rig(&model, None);
    assert_ne!(answer_of(&mut rig, 0), after);
    // As a careful download does it: a complete file takes the place of the old one.
    std::fs::rename(other.join("model.safetensors"), model.join("model.safetensors")).unwrap();
    assert!(reload(&rig, None));
    assert_eq!(answer_of(&mut rig, 1), after);
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let workshop = Workshop::new();
    let model = workshop.model(1);
    let before = expected(&model);
    let mut rig = rig(&model, None);
    answer_of(&mut rig, 0);
    let cut = workshop.model(3);
    let weights = std::fs::read(cut.join("model.safetensors")).unwrap();
    std::fs::write(cut.join("model.safetensors"), &weights[..weights.len() / 2]).unwrap();
    // Numbers that load, and whose products are too large for f32.
    let overflowing = workshop.model(4);
    let mut tensors = tiny::tensors(true);
    for large in ["vision_model.post_layernorm.weight", "visual_projection.weight"] {
        tensors.iter_mut().find(|(name, ..)| name == large).unwrap().2.fill(1e30);
    }
    tiny::write_weights(&overflowing.join("model.safetensors"), &tensors);
    let blind = workshop.model(5);
    tiny::write(&blind, false);
    let missing = workshop.folder().join("no-such-model");
    for (model, reason) in [
        (&missing, "no-such-model"),
        (&cut, "model.safetensors"),
        (&overflowing, "not numbers"),
        (&blind, "no text tower"),
    ] {
        assert!(!reload(&rig, Some(model)), "{}", model.display());
        let text = rig.warning_text();
        assert!(text.contains("the model stays as it was") && text.contains(reason), "{reason}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(answer_of(&mut rig, 1), before);
    }
    assert_eq!(rig.element.property::<String>("model"), model.to_str().unwrap());
    assert_eq!(rig.stat::<u64>("reloads"), 0);
}

#[test]
fn an_element_without_a_model_says_so() {
    init();
    let element = gst::ElementFactory::make("gclipsegment").build().unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(!element.emit_by_name::<bool>("reload-model", &[&Some("somewhere")]));
    let message = bus.pop_filtered(&[gst::MessageType::Warning]).expect("a warning");
    let gst::MessageView::Warning(warning) = message.view() else { unreachable!() };
    assert!(warning.error().to_string().contains("none is loaded yet"), "{}", warning.error());
    bus.set_flushing(true);
}

#[test]
fn all_elements_of_an_instance_change_together() {
    let workshop = Workshop::new();
    let (old, new) = (workshop.model(1), workshop.model(2));
    let after = expected(&new);
    let id = Some("reloaded-together");
    let (mut first, mut second) = (rig(&old, id), rig(&old, id));
    answer_of(&mut first, 0);
    answer_of(&mut second, 0);
    second.element.set_property("prompts", "car");
    second.until_stat("prompt-generation", 2);
    assert!(reload(&first, Some(&new)));
    assert_eq!(answer_of(&mut first, 1), after);
    second.harness.push(picture(1)).unwrap();
    assert_eq!(labels(&second.pull()), ["car"]);
    second.element.set_property("prompts", "cat; dog; sky; road");
    second.until_stat("prompt-generation", 3);
    assert_eq!(answer_of(&mut second, 2), after);
    // Who joins now has to ask for the new one.
    let mut third = rig(&new, id);
    assert_eq!(answer_of(&mut third, 0), after);
    let late = gst::ElementFactory::make("gclipsegment")
        .property("model", old.to_str().unwrap())
        .property("model-instance-id", id)
        .property("prompts", "cat")
        .property_from_str("precision", "f32")
        .property("device", "cpu")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    late.set_bus(Some(&bus));
    assert!(late.set_state(gst::State::Ready).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).expect("an error");
    let gst::MessageView::Error(error) = message.view() else { unreachable!() };
    let text = error.error().to_string();
    for part in
        [late.name(), first.element.name(), old.to_str().unwrap().into(), new.to_str().unwrap().into()]
    {
        assert!(text.contains(part.as_str()), "{part} is not in: {text}");
    }
    bus.set_flushing(true);
    late.set_state(gst::State::Null).unwrap();
    // An element that stops and starts stays with it.
    first.element.set_state(gst::State::Ready).unwrap();
    first.element.set_state(gst::State::Null).unwrap();
    assert_eq!(first.element.property::<String>("model"), new.to_str().unwrap());
    assert!(first.element.set_state(gst::State::Ready).is_ok());
}

#[test]
fn prompts_that_change_during_reloads_are_never_scored_with_other_weights() {
    let workshop = Workshop::new();
    let models = [workshop.model(1), workshop.model(2)];
    let prompts = ["cat; dog; sky; road", "tree; house; sea; car"];
    // Every answer that one of the models gives to one of the prompts.
    let mut possible = BTreeSet::new();
    for model in &models {
        let mut alone = rig(model, None);
        for (index, text) in prompts.iter().enumerate() {
            alone.element.set_property("prompts", *text);
            alone.until_stat("prompt-generation", index as u64 + 2);
            possible.insert(answer_of(&mut alone, 0));
        }
    }
    assert_eq!(possible.len(), 4);
    let mut rig = rig(&models[0], None);
    let (element, stop) = (rig.element.clone(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..6 {
                let name = models[(number + 1) % 2].to_str().unwrap();
                assert!(element.emit_by_name::<bool>("reload-model", &[&Some(name)]));
            }
            stop.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            for text in prompts.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                element.set_property("prompts", *text);
                thread::sleep(Duration::from_millis(2));
            }
        });
        while !stop.load(Ordering::Relaxed) {
            let answer = answer_of(&mut rig, 0);
            assert!(possible.contains(&answer), "features of one model met the other's: {answer:.200}");
        }
    });
    rig.element.set_property("prompts", prompts[1]);
    let last = expected_with(&models[0], prompts[1]);
    let start = Instant::now();
    while answer_of(&mut rig, 0) != last {
        assert!(start.elapsed() < PATIENCE, "the last prompts and the last model never come");
    }
}

fn expected_with(model: &Path, prompts: &str) -> String {
    let mut rig = rig(model, None);
    rig.element.set_property("prompts", prompts);
    rig.until_stat("prompt-generation", 2);
    answer_of(&mut rig, 0)
}

/// What elements of `workshop` ask for with this model.
fn spec(model: &Path) -> ModelSpec {
    ModelSpec {
        model: model.to_str().unwrap().into(),
        device: "cpu".parse().unwrap(),
        precision: PrecisionChoice::F32,
        ..ModelSpec::default()
    }
}

/// A file of embeddings of the workshop's prompts for this model, as `gclip text` writes it.
fn embeddings(workshop: &Workshop, model: &Path) -> Vec<u8> {
    let weights = Engine::private(&spec(model)).unwrap().weights();
    let prompts = Prompts::parse("cat; dog; sky; road", "").unwrap();
    let vocabulary = weights.vocabulary(&prompts, &Templates::None, None).unwrap();
    let path = workshop.folder().join("written");
    Embeddings::new(&weights.info.vision_hash, "none", &prompts, &vocabulary).unwrap().save(&path).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn who_joins_during_a_reload_changes_with_the_others_and_who_leaves_is_left_alone() {
    let workshop = Workshop::new();
    let (old, new) = (workshop.model(1), workshop.model(2));
    let (before, after) = (expected(&old), expected(&new));
    let id = "joined-during-a-reload";
    // The first element's embeddings come through a pipe: a reload reads it, and waits for whoever writes.
    let pipe = workshop.folder().join("embeddings");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let [for_old, for_new] = [&old, &new].map(|model| embeddings(&workshop, model));
    let mut first = thread::scope(|scope| {
        scope.spawn(|| fs::write(&pipe, for_old).unwrap());
        let first = element(&old, Some(id));
        first.set_property("embeddings", pipe.to_str().unwrap());
        Rig::around(first, PICTURE)
    });
    let mut leaving = rig(&old, Some(id));
    assert_eq!([&mut first, &mut leaving].map(|rig| answer_of(rig, 0)), [before.as_str(); 2]);
    let weights = Arc::downgrade(&Engine::shared(id, &spec(&old), "a test").unwrap().weights());
    let mut joined = None;
    thread::scope(|scope| {
        let reloading = scope.spawn(|| reload(&first, Some(&new)));
        // Opens when the reload has loaded the new weights and reads.
        let mut pipe = OpenOptions::new().write(true).open(&pipe).unwrap();
        let mut late = rig(&old, Some(id));
        assert_eq!(answer_of(&mut late, 0), before);
        joined = Some(late);
        leaving.element.set_state(gst::State::Null).unwrap();
        leaving.element.set_property("model-instance-id", None::<String>);
        leaving.element.set_property("model", "./chosen-meanwhile");
        assert!(!reloading.is_finished());
        pipe.write_all(&for_new).unwrap();
        drop(pipe);
        assert!(reloading.join().unwrap());
    });
    let mut joined = joined.unwrap();
    assert_eq!([&mut first, &mut joined].map(|rig| answer_of(rig, 1)), [after.as_str(); 2]);
    for rig in [&first, &joined] {
        assert_eq!(rig.element.property::<String>("model"), new.to_str().unwrap());
    }
    assert_eq!(leaving.element.property::<String>("model"), "./chosen-meanwhile");
    // Nobody holds what was loaded before.
    let start = Instant::now();
    while weights.strong_count() > 0 {
        assert!(start.elapsed() < PATIENCE, "the old weights stay in memory");
        thread::sleep(Duration::from_millis(1));
    }
}
