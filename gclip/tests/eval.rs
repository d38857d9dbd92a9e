// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip eval` from end to end: the truth is made from the program's own masks, so the right numbers are known.

use gclip_testing::tiny;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gst::prelude::*;
use serde_json::Value;

struct Workshop {
    folder: tempfile::TempDir,
}

const MODEL: &str = "--model model --device cpu --precision f32 --template none";

impl Workshop {
    fn new() -> Workshop {
        let workshop = Workshop { folder: tempfile::tempdir().unwrap() };
        tiny::write(&workshop.path("model"), true);
        fs::write(workshop.path("classes.txt"), "sky # the first\ntree, wood\nroad\n").unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn gclip(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gclip"))
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            .env("OMP_NUM_THREADS", "1")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn works(&self, arguments: &str) {
        let output = self.gclip(arguments);
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The report of an evaluation.
    #[track_caller]
    fn report(&self, arguments: &str) -> Value {
        self.works(&format!("eval {arguments} --prompts-file classes.txt {MODEL} --json report.json"));
        serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap()
    }

    #[track_caller]
    fn refuses(&self, arguments: &str, words: &[&str]) {
        let output =
            self.gclip(&format!("eval {arguments} --prompts-file classes.txt {MODEL} --json report.json"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {text}");
        assert_eq!(text.trim().lines().count(), 1, "one sentence: {text}");
        for word in words {
            assert!(text.contains(word), "no `{word}` in: {text}");
        }
        assert!(!self.path("report.json").exists());
    }

    /// Pictures in `images`, and what the model sees in them in `masks` (0 = nothing, n = nth class).
    fn pictures_and_masks(&self) {
        fs::create_dir(self.path("images")).unwrap();
        tiny::write_picture(&self.path("images/a.png"), 60, 40);
        tiny::write_picture(&self.path("images/b.jpg"), 45, 64);
        self.works(&format!("segment images --prompts-file classes.txt {MODEL} --mask masks"));
    }
}

fn read_values(path: &Path) -> (u32, u32, Vec<u8>) {
    let file = std::io::BufReader::new(fs::File::open(path).unwrap());
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut bytes).unwrap();
    (frame.width, frame.height, bytes)
}

fn write_values(path: &Path, width: u32, height: u32, values: &[u8]) {
    image::GrayImage::from_raw(width, height, values.to_vec()).unwrap().save(path).unwrap();
}

#[test]
fn the_model_s_own_masks_are_perfect_labels() {
    let shop = Workshop::new();
    shop.pictures_and_masks();
    // Mask value n is class n: with --reduce-zero-label these are labels. They are palette PNGs, as VOC's.
    let report = shop.report("--images images --labels masks --reduce-zero-label --batch-size 2");
    assert_eq!((&report["mean_iou"], &report["pixel_accuracy"]), (&1.0.into(), &1.0.into()));
    assert_eq!(report["pictures"], 2);
    assert_eq!(report["pixels"], 60 * 40 + 45 * 64);
    assert!(report["frames_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn damaged_labels_give_the_numbers_counted_here() {
    let shop = Workshop::new();
    shop.pictures_and_masks();
    fs::create_dir(shop.path("labels")).unwrap();
    // Truth, TP + FN and TP + FP of every class, counted over both pictures by the definition.
    let (mut hits, mut truth, mut found, mut pixels) = ([0u64; 3], [0u64; 3], [0u64; 3], 0u64);
    for name in ["a.png", "b.png"] {
        let (width, height, mask) = read_values(&shop.path("masks").join(name));
        let labels: Vec<u8> = mask
            .iter()
            .enumerate()
            .map(|(index, &value)| match index % 7 {
                0 => 255,
                1 | 2 => 2,
                _ => value - 1,
            })
            .collect();
        write_values(&shop.path("labels").join(name), width, height, &labels);
        for (label, value) in labels.iter().zip(&mask).filter(|(label, _)| **label != 255) {
            pixels += 1;
            truth[usize::from(*label)] += 1;
            found[usize::from(value - 1)] += 1;
            hits[usize::from(*label)] += u64::from(*label == value - 1);
        }
    }
    let report = shop.report("--images images --labels labels");
    let ious: Vec<f64> = (0..3)
        .filter(|&class| truth[class] + found[class] > 0)
        .map(|class| hits[class] as f64 / (truth[class] + found[class] - hits[class]) as f64)
        .collect();
    let near =
        |value: &Value, expected: f64| assert!((value.as_f64().unwrap() - expected).abs() < 1e-12, "{value}");
    near(&report["mean_iou"], ious.iter().sum::<f64>() / ious.len() as f64);
    near(&report["pixel_accuracy"], hits.iter().sum::<u64>() as f64 / pixels as f64);
    assert_eq!(report["pixels"], pixels);
    let classes = report["classes"].as_array().unwrap();
    assert_eq!(classes[1]["label"], "tree");
    for class in 0..3 {
        assert_eq!(classes[class]["truth_pixels"], truth[class]);
        assert_eq!(classes[class]["predicted_pixels"], found[class]);
    }
    assert_eq!(shop.report("--images images --labels labels --limit 1")["pictures"], 1);
    // Below the threshold nothing is predicted, and the background line takes it.
    assert_eq!(shop.report("--images images --labels labels --threshold 1")["pixel_accuracy"], 0.0);
    let background = shop.report("--images images --labels labels --threshold 1 --background-label 2");
    near(&background["pixel_accuracy"], truth[2] as f64 / pixels as f64);
}

#[test]
fn what_does_not_fit_gets_one_sentence() {
    let shop = Workshop::new();
    shop.pictures_and_masks();
    fs::create_dir(shop.path("labels")).unwrap();
    shop.refuses("--images images --labels labels", &["none of the 2 pictures", "images"]);
    write_values(&shop.path("labels/a.png"), 2, 1, &[0, 7]);
    shop.refuses("--images images --labels labels", &["a.png", "value 7", "3 classes"]);
    fs::write(shop.path("labels/a.png"), b"no picture").unwrap();
    shop.refuses("--images images --labels labels", &["labels/a.png"]);
    shop.refuses("--images nowhere --labels labels", &["nowhere"]);
    shop.refuses("--images images --labels labels --background-label 9", &["--background-label 9"]);
    shop.refuses("--video nowhere.mkv", &["nowhere.mkv"]);
}

/// Writes `frames` frames of a test pattern, 64x48, as raw video in Matroska.
fn write_video(path: &Path, pattern: &str, frames: u32) {
    gst::init().unwrap();
    let description = format!(
        "videotestsrc pattern={pattern} num-buffers={frames} ! video/x-raw,format=I420,width=64,height=48 \
         ! matroskamux ! filesink location={}",
        path.display()
    );
    let pipeline = gst::parse::launch(&description).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(30),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_still_video_does_not_flicker() {
    let shop = Workshop::new();
    write_video(&shop.path("still.mkv"), "checkers-8", 20);
    let report = shop.report("--video still.mkv");
    assert_eq!(report["frames"], 20);
    assert_eq!(
        (&report["flicker"], &report["still_vc8"], &report["still_vc16"]),
        (&0.0.into(), &1.0.into(), &1.0.into())
    );
    assert_eq!((&report["mvc8"], &report["mean_iou"]), (&Value::Null, &Value::Null));
    assert_eq!(report["classes"], Value::Array(Vec::new()), "without labels no class has a number");
    assert_eq!(shop.report("--video still.mkv --limit 5")["frames"], 5);

    // Labels that stand still but for one pixel, which is another class in every frame.
    fs::create_dir(shop.path("labels")).unwrap();
    for frame in 0..20u8 {
        let mut labels = vec![0; 64 * 48];
        labels[17] = frame % 2;
        write_values(&shop.path(&format!("labels/{frame:03}.png")), 64, 48, &labels);
    }
    let report = shop.report("--video still.mkv --labels labels");
    assert_eq!((&report["mvc8"], &report["mvc16"]), (&1.0.into(), &1.0.into()));
    assert!(report["mean_iou"].as_f64().is_some());
    let classes = report["classes"].as_array().unwrap();
    let pixels = |class: usize| classes[class]["truth_pixels"].as_u64().unwrap();
    assert_eq!((pixels(0), pixels(1)), (20 * 64 * 48 - 10, 10));
    let there = [0, 1].map(|class| classes[class]["iou"].as_f64().unwrap());
    assert_eq!(report["mean_iou_of_labelled"].as_f64(), Some((there[0] + there[1]) / 2.0));
    fs::remove_file(shop.path("labels/019.png")).unwrap();
    fs::remove_file(shop.path("report.json")).unwrap();
    shop.refuses("--video still.mkv --labels labels", &["frame 19", "only 19 label pictures"]);
}

#[test]
fn in_noise_nothing_stands_still() {
    let shop = Workshop::new();
    write_video(&shop.path("snow.mkv"), "snow", 10);
    let report = shop.report("--video snow.mkv --still 0");
    assert_eq!(report["still_vc8"], Value::Null);
}

#[test]
fn token_reuse_is_compared_with_the_whole_forward() {
    let shop = Workshop::new();
    let report = |pattern: &str, threshold: &str| {
        write_video(&shop.path("clip.mkv"), pattern, 12);
        let report = shop.report(&format!("--video clip.mkv --against whole --set token-reuse={threshold}"));
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{report}"));
        let whole = &report["against_whole"];
        assert!(number(&whole["masks_per_second"]) > 0.0 && number(&whole["cpu_ms_per_frame"]) > 0.0);
        assert!(number(&whole["worst_frame"]) < 12.0);
        let agreements = (number(&whole["agreement"]), number(&whole["worst_agreement"]));
        (number(&report["tokens_worked_on"]), agreements)
    };
    let (worked, agreements) = report("checkers-8", "0.05");
    assert!((worked - 1.0 / 12.0).abs() < 1e-9, "one frame of twelve was looked at, not {worked}");
    assert_eq!(agreements, (1.0, 1.0));
    let (worked, agreements) = report("snow", "0.001");
    assert!(worked > 0.99, "all of it changes, {worked} was looked at");
    assert_eq!(agreements, (1.0, 1.0));
    // Above all changes: the masks stay those of the first frame.
    let (worked, (mean, worst)) = report("ball", "1");
    assert!((worked - 1.0 / 12.0).abs() < 1e-9, "{worked}");
    assert!(worst <= mean && mean < 1.0, "{mean} {worst}");
}

#[test]
fn ade20k_pictures_and_labels_are_read() {
    let sample = gclip_testing::shared("data/ade20k-sample");
    if !sample.is_dir() {
        println!("skipped: no ADE20K sample at {}", sample.display());
        return;
    }
    let shop = Workshop::new();
    let table = fs::read_to_string(sample.join("objectInfo150.csv")).unwrap();
    let names = table.lines().skip(1).map(|line| line.splitn(6, ',').last().unwrap());
    let names: Vec<&str> =
        names.map(|names| names.trim_matches('"').split([';', ',']).next().unwrap()).collect();
    assert_eq!(names.len(), 150);
    fs::write(shop.path("classes.txt"), names.join("\n")).unwrap();
    let folder = sample.join("sampleData");
    let report = shop.report(&format!(
        "--images {0}/images --labels {0}/annotations --reduce-zero-label --size 64",
        folder.display()
    ));
    assert_eq!(report["pictures"], 3);
    let labels =
        fs::read_dir(folder.join("annotations")).unwrap().map(|entry| read_values(&entry.unwrap().path()).2);
    let labels: Vec<u8> = labels.flatten().collect();
    assert_eq!(report["pixels"], labels.iter().filter(|value| **value != 0).count());
    let walls = labels.iter().filter(|value| **value == 1).count();
    assert_eq!(
        (&report["classes"][0]["label"], &report["classes"][0]["truth_pixels"]),
        (&"wall".into(), &walls.into())
    );
}

#[test]
fn a_class_file_with_semicolons_in_its_lines_is_refused_before_it_shifts_the_labels() {
    let shop = Workshop::new();
    shop.pictures_and_masks();
    fs::write(shop.path("classes.txt"), "sky; heaven\ntree, wood\nroad\n").unwrap();
    shop.refuses("--images images --labels masks --reduce-zero-label", &["classes.txt", "line 1", "commas"]);
    // In `segment`, a line may hold several classes; that they are more than lines is said.
    let output = shop.gclip(&format!("segment images/a.png --prompts-file classes.txt {MODEL}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success() && text.contains("line 1 of classes.txt") && text.contains("4 classes"),
        "{text}"
    );
}

#[test]
fn lists_in_other_languages_are_no_prompts() {
    let shop = Workshop::new();
    shop.pictures_and_masks();
    for list in ["[\"sky\", \"tree\", \"road\"]", "- sky\n- tree\n- road\n", "names:\n  0: sky\n  1: tree\n"]
    {
        fs::write(shop.path("classes.txt"), list).unwrap();
        shop.refuses("--images images --labels masks", &["classes.txt", "line 1", "one class a line"]);
    }
}
