// SPDX-License-Identifier: MIT OR Apache-2.0
//! Classes by pictures, limits found in a video, and classes that are not there, from the command line on the demo model.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// A folder with two pictures of the demo video.
    fn new() -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        for (name, second) in [("first", 0.0), ("later", 5.0)] {
            desk.frame(second, name);
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the demo video shows then.
    fn frame(&self, second: f64, name: &str) {
        let status = Command::new("gst-launch-1.0")
            .args(["-q", "filesrc"])
            .arg(format!("location={}", Path::new(gclip_testing::DEMO).join("demo.mp4").display()))
            .args([
                "!",
                "decodebin",
                "!",
                "videorate",
                "!",
                "video/x-raw,framerate=1/1",
                "!",
                "videoconvert",
                "!",
            ])
            .args(["pngenc", "snapshot=false", "!", "multifilesink"])
            .arg(format!("location={}", self.path("%d.png").display()))
            .status()
            .unwrap();
        assert!(status.success());
        std::fs::copy(self.path(&format!("{second:.0}.png")), self.path(&format!("{name}.png"))).unwrap();
    }

    fn gclip(&self, command: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gclip"))
            .current_dir(self.folder.path())
            .arg(command)
            .args(arguments)
            .args(["--model", gclip_testing::DEMO, "--device", "cpu", "--precision", "f32"])
            .env("OMP_NUM_THREADS", "1")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn works(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.gclip(command, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The sentence that says why not.
    #[track_caller]
    fn refusal(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.gclip(command, arguments);
        assert!(!output.status.success(), "{arguments:?} is accepted");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Share of the first picture by label.
    #[track_caller]
    fn shares(&self, picture: &str, arguments: &[&str]) -> Vec<(String, f64)> {
        let mut all = vec![picture, "--template", "none", "--json", "-"];
        all.extend(arguments);
        let record: Value = serde_json::from_str(&self.works("segment", &all)).unwrap();
        let regions = record["regions"].as_array().unwrap().iter();
        let share =
            |region: &Value| (region["label"].as_str().unwrap().into(), region["area"].as_f64().unwrap());
        regions.map(share).collect()
    }
}

fn share(shares: &[(String, f64)], label: &str) -> f64 {
    shares.iter().find(|(known, _)| known == label).map_or(0.0, |(_, share)| *share)
}

#[test]
fn a_class_by_a_picture_is_found_in_another_one_and_its_file_is_as_good() {
    let desk = Desk::new();
    // The pavement before the street, called by a name that says nothing to the model.
    let words = ["--prompts", "road; building; tree"];
    let by_picture = ["--exemplars", "floor=first.png#0.15,0.87,0.65,0.13"];
    let with = desk.shares("later.png", &[&words[..], &by_picture[..]].concat());
    let word = desk.shares("later.png", &["--prompts", "road; building; tree; sidewalk"]);
    let (found, expected) = (share(&with, "floor"), share(&word, "sidewalk"));
    assert!(found > 0.5 * expected && found < 2.0 * expected, "{with:?} {word:?}");

    let told = desk.works("exemplar", &["floor=first.png#0.15,0.87,0.65,0.13", "--out", "floor.safetensors"]);
    assert!(told.contains("floor:") && told.contains("1 pictures"), "{told}");
    let by_file = ["--exemplars-file", "floor.safetensors"];
    assert_eq!(desk.shares("later.png", &[&words[..], &by_file[..]].concat()), with);

    // Without words, and by the other scores.
    for score in ["prototype", "nearest", "contrast"] {
        let alone =
            desk.shares("later.png", &["--prompts", "", "--exemplar-score", score, by_file[0], by_file[1]]);
        let found = share(&alone, "floor");
        assert!(found > 0.3 * expected && found < 3.0 * expected, "{score}: {alone:?}");
    }

    let words = [&["later.png"][..], &words[..]].concat();
    let refused = desk.refusal("segment", &[&words[..], &by_file[..], &["--method", "clip"]].concat());
    assert!(refused.contains("floor.safetensors") && refused.contains("method"), "{refused}");
    let refused =
        desk.refusal("segment", &[&words[..], &["--exemplars", "floor=first.png#0,0,2,1"]].concat());
    assert!(refused.contains("not inside"), "{refused}");
    let refused = desk.refusal("segment", &[&words[..], &by_picture[..], &["--method", "resclip"]].concat());
    assert!(refused.contains("another method"), "{refused}");
}

#[test]
fn limits_found_in_a_video_keep_absent_classes_away() {
    let desk = Desk::new();
    let video = Path::new(gclip_testing::DEMO).join("demo.mp4");
    let words = [
        "--prompts",
        "helicopter; violin",
        "--background",
        "road, building, sky, tree, car",
        "--template",
        "none",
    ];
    let absent = ["--absent", video.to_str().unwrap(), "--every", "25", "--share", "0"];
    let told = desk.works("calibrate", &[&absent[..], &words[..]].concat());
    let limits = told.lines().find_map(|line| line.strip_prefix("prompt-thresholds=\"")?.strip_suffix('"'));
    let limits = limits.unwrap_or_else(|| panic!("{told}"));
    assert!(limits.contains("helicopter=") && limits.contains("violin="), "{limits}");
    let clean = desk.shares("first.png", &[&words[..4], &["--prompt-thresholds", limits]].concat());
    assert_eq!(share(&clean, "helicopter") + share(&clean, "violin"), 0.0, "{clean:?}");
    assert!(
        desk.refusal("calibrate", &[&["--absent", "/no/such.mp4"][..], &words].concat())
            .contains("/no/such.mp4")
    );
}

#[test]
fn limits_found_in_labels_are_those_that_labels_were_made_with() {
    let desk = Desk::new();
    for name in ["first", "later"] {
        for folder in ["pictures", "labels"] {
            std::fs::create_dir_all(desk.path(folder)).unwrap();
        }
        let picture = format!("{name}.png");
        std::fs::copy(desk.path(&picture), desk.path("pictures").join(&picture)).unwrap();
        // The label 0 is where no class was sure enough.
        let (mask, picture) = (format!("labels/{picture}"), format!("pictures/{picture}"));
        let limits = ["--prompt-thresholds", "road=0.8, sky=0.9"];
        let words = ["--prompts", "road; sky", "--background", "void", "--mask", &mask];
        desk.works("segment", &[&[&*picture], &words[..], &limits[..]].concat());
    }
    std::fs::write(desk.path("classes.txt"), "void\nroad\nsky\n").unwrap();
    let labelled = ["--images", "pictures", "--labels", "labels", "--prompts-file", "classes.txt"];
    let told = desk.works("calibrate", &[&labelled[..], &["--background-label", "0"]].concat());
    let found = |label: &str| -> Vec<f64> {
        let line = told.lines().find(|line| line.starts_with(label)).unwrap_or_else(|| panic!("{told}"));
        line.split_whitespace().skip(1).map(|number| number.parse().unwrap()).collect()
    };
    for (label, limit) in [("road", 0.8), ("sky", 0.9)] {
        let [without, best, with] = found(label)[..] else { panic!("{told}") };
        assert!((best - limit).abs() < 0.03 && with > 97.0 && with > without, "{told}");
    }
    assert!(told.contains("prompt-thresholds=\"road=0."), "{told}");
    let refused = desk.refusal("calibrate", &["--labels", "labels", "--prompts-file", "classes.txt"]);
    assert!(refused.contains("--images"), "{refused}");
}

#[test]
fn classes_that_are_not_there_lose_their_pixels() {
    let desk = Desk::new();
    let words = ["--prompts", "road; building; sky; helicopter; violin"];
    for evidence in ["tags", "global"] {
        let gate = ["--absent", "remove", "--absent-evidence", evidence];
        let none = desk.shares("first.png", &[&words[..], &gate[..], &["--gate-enter", "1"]].concat());
        assert!(none.is_empty(), "{evidence}: {none:?}");
    }
    let gated = desk.shares("first.png", &[&words[..], &["--absent", "remove"]].concat());
    assert!(share(&gated, "helicopter") + share(&gated, "violin") < 0.01, "{gated:?}");
    assert!(share(&gated, "road") > 0.05, "{gated:?}");
}

#[test]
fn damage_is_found_against_a_picture_of_what_is_sound() {
    let desk = Desk::new();
    for folder in ["set/images", "set/labels", "sound"] {
        std::fs::create_dir_all(desk.path(folder)).unwrap();
    }
    let sound = image::open(desk.path("first.png")).unwrap().to_rgb8();
    let (mut broken, mut marks) = (sound.clone(), image::GrayImage::new(sound.width(), sound.height()));
    for (x, y) in (300..420).flat_map(|x| (100..220).map(move |y| (x, y))) {
        broken.put_pixel(x, y, image::Rgb([250, 0, 250]));
        marks.put_pixel(x, y, image::Luma([1]));
    }
    sound.save(desk.path("sound/sound.png")).unwrap();
    sound.save(desk.path("set/images/a.png")).unwrap();
    broken.save(desk.path("set/images/b.png")).unwrap();
    image::GrayImage::new(sound.width(), sound.height()).save(desk.path("set/labels/a.png")).unwrap();
    marks.save(desk.path("set/labels/b.png")).unwrap();
    let set = [
        "--images",
        "set/images",
        "--labels",
        "set/labels",
        "--anomaly",
        "building",
        "--json",
        "report.json",
    ];
    for more in [
        &["--anomaly-normal", "sound", "--anomaly-by", "pictures"][..],
        &[
            "--anomaly-normal",
            "sound",
            "--anomaly-by",
            "pictures",
            "--anomaly-score",
            "windows",
            "--size",
            "112",
        ],
    ] {
        desk.works("eval", &[&set[..], more].concat());
        let report: Value =
            serde_json::from_str(&std::fs::read_to_string(desk.path("report.json")).unwrap()).unwrap();
        assert_eq!(report["picture_auroc"], 1.0, "{report}");
        assert!(report["pixel_auroc"].as_f64().unwrap() > 0.9, "{report}");
        assert!(report["pro"].as_f64().unwrap() > 0.5, "{report}");
    }
    desk.works("eval", &set);
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(desk.path("report.json")).unwrap()).unwrap();
    assert!(report["pixel_auroc"].is_number(), "by words alone: {report}");
    assert!(
        desk.refusal("eval", &[&set[..], &["--anomaly-by", "both"]].concat()).contains("--anomaly-normal")
    );
}

#[test]
fn a_limit_that_what_is_usual_stays_below() {
    let desk = Desk::new();
    let video = Path::new(gclip_testing::DEMO).join("demo.mp4");
    let normal = ["--normal", video.to_str().unwrap(), "--anomaly", "car", "--every", "25", "--size", "112"];
    let told = desk.works("calibrate", &[&normal[..], &["--anomaly-baseline", "4"]].concat());
    assert!(told.contains("0 alarms above"), "ten seconds allow none: {told}");
    let refused = desk.refusal("calibrate", &[&normal[..], &["--anomaly-baseline", "1000"]].concat());
    assert!(refused.contains("--anomaly-baseline"), "{refused}");
}
