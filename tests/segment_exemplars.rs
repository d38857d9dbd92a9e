// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes by pictures on `gclipsegment`, changed while frames pass, on a real checkpoint of random weights.

use std::path::{Path, PathBuf};

use gclip_testing::fake::*;
use gclip_testing::tiny;
use gclip_testing::workshop::{Workshop, element, picture, rig};
use gst::prelude::*;
use gstgclip::gallery::Gallery;
use gstgclip::meta::Masks;
use gstgclip::model::{InputSize, Model, ModelSpec, PrecisionChoice};

fn example(workshop: &Workshop) -> PathBuf {
    let path = workshop.folder().join("example.png");
    tiny::write_picture(&path, 64, 48);
    path
}

/// Pushes pictures until one comes out of this generation.
fn until_generation(rig: &mut Rig, wanted: u64) -> Masks {
    for number in 0..5000 {
        rig.harness.push(picture(number)).unwrap();
        let masks = Masks::from_buffer(&rig.pull()).unwrap();
        if masks.generation == wanted {
            return masks;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("no frame of generation {wanted}");
}

fn labels(masks: &Masks) -> Vec<&str> {
    masks.regions.iter().map(|region| region.label.as_str()).collect()
}

#[test]
fn pictures_change_as_prompts_do() {
    let workshop = Workshop::new();
    let example = example(&workshop);
    let mut rig = rig(&workshop.model(1), None);
    until_generation(&mut rig, 1);
    rig.element
        .set_property("exemplars", format!("cup={}#0,0,0.5,0.5; pen={0}#0.5,0,0.5,0.5", example.display()));
    until_generation(&mut rig, 2);
    rig.element.set_property_from_str("exemplar-score", "contrast");
    until_generation(&mut rig, 3);
    // Only pictures: one of them is everywhere that nothing around them is.
    rig.element.set_property("prompts", None::<&str>);
    let masks = until_generation(&mut rig, 4);
    assert!(labels(&masks).iter().all(|label| ["cup", "pen"].contains(label)), "{masks:?}");
    rig.element.set_property("prompt-thresholds", "cup=1, pen=1");
    assert!(labels(&until_generation(&mut rig, 5)).is_empty());
    rig.element.set_property("exemplars", None::<&str>);
    assert!(rig.warning_text().contains("no prompts"), "neither words nor pictures");
    assert_eq!(rig.stat::<u64>("errors"), 0);
}

#[test]
fn what_is_wrong_with_pictures_is_told_and_the_old_classes_stay() {
    let workshop = Workshop::new();
    let example = example(&workshop);
    let empty = workshop.folder().join("empty.png");
    image::GrayImage::new(64, 48).save(&empty).unwrap();
    let mut rig = rig(&workshop.model(1), None);
    until_generation(&mut rig, 1);
    let path = example.display();
    for (exemplars, words) in [
        ("cup".to_string(), "label=picture.png"),
        (format!("cup={path}#0.5,0.5,0.6,0.1"), "not inside"),
        (format!("cup={path}@{}", empty.display()), "empty"),
        ("cup=/no/such.png".to_string(), "/no/such.png"),
        (format!("cup={}", vec![path.to_string(); 10_000].join(",")), "10000 pictures"),
    ] {
        rig.element.set_property("exemplars", &exemplars);
        let warning = rig.warning_text();
        assert!(warning.contains(words) && !warning.contains('\n'), "{warning}");
        rig.harness.push(picture(0)).unwrap();
        assert!(Masks::from_buffer(&rig.pull()).unwrap().regions.iter().all(|region| region.label != "cup"));
    }
}

fn make_file(model: &Path, method: &str, example: &Path, out: &Path) {
    let mut spec = ModelSpec {
        model: model.to_str().unwrap().into(),
        precision: PrecisionChoice::F32,
        ..ModelSpec::default()
    };
    spec.method.name = method.into();
    let model = Model::load(&spec).unwrap();
    let examples = format!("cup={}", example.display()).parse().unwrap();
    let mut look = |picture: &gstgclip::model::Picture, size| model.vision.describe(picture, size);
    let exemplars =
        Gallery::default().gather(&examples, InputSize::default(), &model.info, &mut look).unwrap();
    exemplars.save(out).unwrap();
}

#[test]
fn a_file_takes_the_place_of_the_pictures_for_its_own_model_and_method() {
    let workshop = Workshop::new();
    let (mine, other, example) = (workshop.model(1), workshop.model(2), example(&workshop));
    let file = |name: &str| workshop.folder().join(name);
    make_file(&mine, "clip", &example, &file("clip.safetensors"));
    make_file(&other, "gclip", &example, &file("other.safetensors"));
    make_file(&mine, "gclip", &example, &file("mine.safetensors"));

    let answer = |set: &dyn Fn(&gst::Element)| {
        let element = element(&mine, None);
        element.set_property("prompts", None::<&str>);
        set(&element);
        let mut rig = Rig::around(element, gclip_testing::workshop::PICTURE);
        gclip_testing::workshop::answer_of(&mut rig, 0)
    };
    let of_pictures =
        answer(&|element| element.set_property("exemplars", format!("cup={}", example.display())));
    let of_file =
        answer(&|element| element.set_property("exemplars-file", file("mine.safetensors").to_str().unwrap()));
    assert_eq!(of_pictures, of_file);
    assert!(of_file.contains("cup"), "{of_file}");

    let rig = rig(&mine, None);
    for (name, words) in
        [("clip.safetensors", "method"), ("other.safetensors", "other weights"), ("none", "none")]
    {
        rig.element.set_property("exemplars-file", file(name).to_str().unwrap());
        let warning = rig.warning_text();
        assert!(warning.contains(words) && warning.contains(name), "{warning}");
    }
}
