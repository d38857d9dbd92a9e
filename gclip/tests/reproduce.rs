// SPDX-License-Identifier: MIT OR Apache-2.0
//! `scripts/reproduce.sh` on one picture in the layout of each data set: which pictures, which labels, and which class
//! each label value is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gclip_testing::tiny;
use serde_json::Value;

const SIZE: (u32, u32) = (70, 50);

struct Shelf {
    folder: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Shelf {
        let shelf = Shelf { folder: tempfile::tempdir().unwrap() };
        tiny::write(&shelf.path("model"), true);
        shelf
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn picture(&self, name: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        tiny::write_picture(&self.path(name), SIZE.0, SIZE.1);
    }

    /// Labels of one value in the upper half and another in the lower.
    fn labels(&self, name: &str, upper: u8, lower: u8) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let half = (SIZE.0 * SIZE.1 / 2) as usize;
        let values = [vec![upper; half], vec![lower; half]].concat();
        let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), SIZE.0, SIZE.1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&values).unwrap();
    }

    fn list(&self, name: &str, stems: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), stems).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        Command::new("bash")
            .arg(Path::new(gclip_testing::ROOT).join("scripts/reproduce.sh"))
            .args(arguments.split_whitespace())
            .args(["--model", "model", "--device", "cpu", "--template", "none", "--json", "report.json"])
            .current_dir(self.folder.path())
            .env("GCLIP", env!("CARGO_BIN_EXE_gclip"))
            .env("OMP_NUM_THREADS", "1")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .output()
            .unwrap()
    }

    /// The classes that are in the labels, with their pixels, and how many classes there are.
    fn truth(&self, arguments: &str) -> (Vec<(String, u64)>, usize) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value =
            serde_json::from_str(&fs::read_to_string(self.path("report.json")).unwrap()).unwrap();
        assert!(report["mean_iou"].as_f64().unwrap().is_finite(), "{arguments}");
        let classes = report["classes"].as_array().unwrap();
        let pixels = |class: &Value| class["truth_pixels"].as_u64().unwrap();
        let there = classes.iter().filter(|class| pixels(class) > 0);
        let there = there.map(|class| (class["label"].as_str().unwrap().to_string(), pixels(class)));
        (there.collect(), classes.len())
    }

    fn refuses(&self, arguments: &str, words: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.trim().lines().count() == 1, "{arguments}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in: {said}");
    }
}

/// Pixels of half the picture.
const HALF: u64 = (SIZE.0 * SIZE.1 / 2) as u64;

#[test]
fn each_set_has_its_classes_and_its_way_to_count() {
    let shelf = Shelf::new();
    for set in ["voc/SegmentationClass", "voc/SegmentationClassContext"] {
        shelf.picture("voc/JPEGImages/a.png");
        shelf.picture("voc/JPEGImages/not-of-the-split.png");
        shelf.labels(&format!("{set}/a.png"), 2, 0);
        shelf.labels(&format!("{set}/not-of-the-split.png"), 5, 5);
    }
    shelf.list("voc/ImageSets/Segmentation/val.txt", "a\n");
    shelf.list("voc/ImageSets/SegmentationContext/val.txt", "a\n");
    shelf.picture("coco/images/val2017/000000000001.png");
    shelf.labels("coco/annotations/val2017/000000000001.png", 200, 201); // raw, and for nobody
    shelf.labels("coco/annotations/val2017/000000000001_labelTrainIds.png", 80, 255);
    shelf.labels("coco/annotations/val2017/000000000001_instanceTrainIds.png", 1, 0);
    shelf.picture("city/leftImg8bit/val/ulm/ulm_1_leftImg8bit.png");
    shelf.labels("city/gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png", 2, 255);
    shelf.labels("city/gtFine/val/ulm/ulm_1_gtFine_labelIds.png", 30, 30);
    shelf.picture("ade/images/validation/ADE_val_1.png");
    shelf.labels("ade/annotations/validation/ADE_val_1.png", 3, 0);
    let half = |label: &str| (label.to_string(), HALF);
    for (set, folder, expected, classes) in [
        ("voc21", "voc", vec![half("sky"), half("bicycle")], 21),
        ("voc20", "voc", vec![half("bicycle")], 20),
        ("context60", "voc", vec![half("background"), half("bag")], 60),
        ("context59", "voc", vec![half("bag")], 59),
        ("coco-stuff", "coco", vec![half("banner")], 171),
        ("coco-object", "coco", vec![half("sky"), half("person")], 81),
        ("cityscapes", "city", vec![half("building")], 19),
        ("ade20k", "ade", vec![half("sky")], 150),
    ] {
        assert_eq!(shelf.truth(&format!("{set} sclip --data {folder}")), (expected, classes), "{set}");
    }
    for method in ["clearclip", "naclip", "scclip", "pearl"] {
        let (there, classes) = shelf.truth(&format!("voc21 {method} --data voc"));
        let background = if method == "clearclip" { "background" } else { "sky" };
        assert_eq!((there, classes), (vec![half(background), half("bicycle")], 21), "{method}");
    }
    shelf.refuses("ade20k proxyclip --data ade", &["helper-model"]);
    shelf.refuses("voc21 sclip --data nowhere", &["nowhere/JPEGImages", "voc21"]);
    shelf.refuses("voc21 sclip", &["--data"]);
    shelf.refuses("voc22 sclip --data voc", &["voc22"]);
    shelf.refuses("voc21 nothing --data voc", &["nothing"]);
    fs::remove_file(shelf.path("city/gtFine/val/ulm/ulm_1_gtFine_labelTrainIds.png")).unwrap();
    shelf.refuses("cityscapes sclip --data city", &["createTrainIdLabelImgs"]);
}
