// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line on a checkpoint made by the test: what it writes, and what it says when something is wrong.

use gclip_testing::{python, tiny};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    /// A folder with a checkpoint `model` and a picture `picture.png` of 70x50 pixels.
    fn new() -> Workshop {
        let workshop = Workshop { folder: tempfile::tempdir().unwrap() };
        tiny::write(&workshop.path("model"), true);
        tiny::write_picture(&workshop.path("picture.png"), 70, 50);
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs in the folder, with a cache of its own.
    fn gclip(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gclip"))
            .current_dir(self.folder.path())
            .args(arguments.split_whitespace())
            // Tests run beside each other: two torch threads each would only wait for one another.
            .env("OMP_NUM_THREADS", "1")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("HF_HOME", self.path("hub"))
            .env_remove("HF_HUB_CACHE")
            .output()
            .unwrap()
    }

    #[track_caller]
    fn works(&self, arguments: &str) -> String {
        let output = self.gclip(arguments);
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Exit code 1 and one sentence with these words.
    #[track_caller]
    fn refuses(&self, arguments: &str, words: &[&str]) {
        let output = self.gclip(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {text}");
        assert_eq!(text.trim().lines().count(), 1, "one sentence for {arguments}: {text}");
        assert!(!text.contains("panicked") && !text.contains("stack backtrace"), "{text}");
        for word in words {
            assert!(text.contains(word), "{arguments}: no `{word}` in: {text}");
        }
    }

    /// Files of a folder, sub-folders too, sorted.
    fn files(&self, name: &str) -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.path(name), &mut found);
        let folder = self.path(name);
        let mut names: Vec<String> =
            found.iter().map(|path| path.strip_prefix(&folder).unwrap().display().to_string()).collect();
        names.sort();
        names
    }

    fn mask(&self, name: &str) -> (u32, u32, Vec<u8>) {
        let file = fs::File::open(self.path(name)).unwrap();
        let mut decoder = png::Decoder::new(std::io::BufReader::new(file));
        decoder.set_transformations(png::Transformations::IDENTITY);
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut bytes).unwrap();
        (frame.width, frame.height, bytes)
    }
}

const SEGMENT: &str = "segment picture.png --model model --device cpu --precision f32 --template none";

/// As pycocotools loads it; other readers of COCO build on the same.
#[test]
fn a_coco_data_set_has_every_pixel_of_the_masks() {
    let shop = Workshop::new();
    fs::create_dir_all(shop.path("in/sub")).unwrap();
    fs::copy(shop.path("picture.png"), shop.path("in/sub/one.png")).unwrap();
    fs::copy(shop.path("picture.png"), shop.path("in/two.png")).unwrap();
    let options = "--model model --device cpu --precision f32 --template none --prompts sky;tree;road";
    shop.works(&format!("segment in {options} --mask masks --coco set.json"));
    let file = shop.path("set.json");
    let Some(read) = python::run("coco.py", &[file.to_str().unwrap()], "") else { return };
    let pictures: Value = serde_json::from_str(&read).unwrap();
    let pictures = pictures.as_array().unwrap();
    assert_eq!(pictures.len(), 2);
    for picture in pictures {
        let name = picture["file"].as_str().unwrap();
        assert!(["sub/one.png", "two.png"].contains(&name), "{name}");
        let (_, _, mask) = shop.mask(&format!("masks/{name}"));
        let hex: String = mask.iter().map(|id| format!("{id:02x}")).collect();
        assert_eq!(picture["ids"], hex, "{name}");
        assert_eq!(picture["names"], serde_json::json!({ "1": "sky", "2": "tree", "3": "road" }));
        assert!(picture["found"].as_u64().unwrap() > 0);
    }
    shop.refuses(
        &format!("segment in {options} --coco nowhere/set.json"),
        &["nowhere/set.json", "does not exist"],
    );
}

#[test]
fn one_picture_every_result() {
    let shop = Workshop::new();
    fs::create_dir(shop.path("out")).unwrap();
    let table = shop.works(&format!(
        "{SEGMENT} --prompts sky;tree,wood;road --mask out/m.png --overlay out/o.png --json out/j.json --rle --logits out/l.safetensors --tags"
    ));
    assert_eq!(shop.files("out"), ["j.json", "l.safetensors", "m.png", "o.png"], "and no part files");

    let record: Value = serde_json::from_str(&fs::read_to_string(shop.path("out/j.json")).unwrap()).unwrap();
    assert_eq!((&record["width"], &record["height"]), (&70.into(), &50.into()));
    assert_eq!(record["prompts"], "sky; tree, wood; road");
    assert!(record["time"]["forward_ms"].as_f64().unwrap() > 0.0);

    let tags = record["tags"].as_array().unwrap();
    let labels: Vec<&Value> = tags.iter().map(|tag| &tag["label"]).collect();
    assert_eq!(labels, ["sky", "tree", "road"]);
    assert!(tags.iter().all(|tag| (0.0..=1.0).contains(&tag["score"].as_f64().unwrap())), "{tags:?}");
    assert!(table.contains("tag sky"), "{table}");

    // Regions and mask are the same thing: value, area and box, worked out from the pixels.
    let (width, height, mask) = shop.mask("out/m.png");
    assert_eq!((width, height), (70, 50));
    let regions = record["regions"].as_array().unwrap();
    assert!(!regions.is_empty());
    // In the form of gclipmeta2json, so that one reader serves both.
    let schema: Value = serde_json::from_str(include_str!("../../src/meta2json/schema.json")).unwrap();
    let schema = serde_json::json!({ "$defs": schema["$defs"], "items": { "$ref": "#/$defs/region" } });
    jsonschema::validate(&schema, &record["regions"]).unwrap();
    let mut covered = 0;
    for region in regions {
        let value = region["value"].as_u64().unwrap() as u8;
        let label = region["label"].as_str().unwrap();
        assert_eq!(label, ["sky", "tree", "road"][usize::from(value) - 1]);
        assert!(table.contains(label), "{table}");
        let pixels: Vec<(usize, usize)> =
            (0..mask.len()).filter(|&i| mask[i] == value).map(|i| (i % 70, i / 70)).collect();
        covered += pixels.len();
        assert!((region["area"].as_f64().unwrap() - pixels.len() as f64 / 3500.0).abs() < 1e-9);
        let left = pixels.iter().map(|pixel| pixel.0).min().unwrap();
        let bottom = pixels.iter().map(|pixel| pixel.1).max().unwrap();
        assert!((region["x"].as_f64().unwrap() - left as f64 / 70.0).abs() < 1e-9);
        let end = region["y"].as_f64().unwrap() + region["h"].as_f64().unwrap();
        assert!((end - (bottom + 1) as f64 / 50.0).abs() < 1e-9);
        let score = region["score"].as_f64().unwrap();
        assert!(score > 0.0 && score <= 1.0, "{score}");
        assert_eq!(region["mask"]["size"], serde_json::json!([50, 70]));
        assert!(!region["mask"]["counts"].as_str().unwrap().is_empty());
    }
    assert_eq!(covered, mask.len(), "without threshold and background every pixel has a class");

    let bytes = fs::read(shop.path("out/l.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("logits").unwrap().shape()[0], 4);
    let classes: Vec<i64> = tensors
        .tensor("query_class")
        .unwrap()
        .data()
        .chunks(8)
        .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(classes, [1, 2, 2, 3]);
}

#[test]
fn a_folder_of_pictures_in_windows() {
    let shop = Workshop::new();
    fs::create_dir_all(shop.path("in/deep")).unwrap();
    for (name, width, height) in [("in/a.png", 70, 50), ("in/deep/b.jpg", 33, 90), ("in/one.png", 1, 1)] {
        tiny::write_picture(&shop.path(name), width, height);
    }
    let options = "--model model --device cpu --prompts a;b --template none";
    let lines = shop.works(&format!(
        "segment in {options} --mask masks --json - --size 48 --window 32 --stride 16 --logits logits"
    ));
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pictures: Vec<&str> = records.iter().map(|record| record["picture"].as_str().unwrap()).collect();
    assert_eq!(pictures, ["in/a.png", "in/deep/b.jpg", "in/one.png"]);
    assert_eq!(shop.files("masks"), ["a.png", "deep/b.png", "one.png"]);
    let (width, height, _) = shop.mask("masks/deep/b.png");
    assert_eq!((width, height), (33, 90));
    let bytes = fs::read(shop.path("logits/deep/b.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("logits").unwrap().shape(), [2, 90, 33], "windows give a value a pixel");
}

#[test]
fn one_bad_picture_does_not_stop_the_others() {
    let shop = Workshop::new();
    fs::create_dir(shop.path("in")).unwrap();
    tiny::write_picture(&shop.path("in/a.png"), 20, 20);
    tiny::write_picture(&shop.path("in/z.png"), 20, 20);
    fs::write(shop.path("in/broken.png"), b"not a picture").unwrap();
    let output = shop.gclip("segment in --model model --device cpu --prompts a;b --template none --mask out");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("in/broken.png") && text.contains("1 of 3 pictures failed"), "{text}");
    assert_eq!(shop.files("out"), ["a.png", "z.png"]);
}

#[test]
fn what_is_not_sure_enough_comes_out_as_nothing() {
    let shop = Workshop::new();
    for limit in ["--prompt-thresholds a=1,b=1", "--unknown-cosine 1", "--unknown-margin 2"] {
        shop.works(&format!("{SEGMENT} --prompts a;b {limit} --mask none.png"));
        assert!(shop.mask("none.png").2.iter().all(|&value| value == 0), "{limit}");
    }
    shop.works(&format!("{SEGMENT} --prompts a;b --prompt-thresholds a=1 --mask b.png"));
    assert!(!shop.mask("b.png").2.contains(&1));
    shop.works(&format!("{SEGMENT} --prompts a,c;b --synonyms mean --logits l.safetensors"));
    let bytes = fs::read(shop.path("l.safetensors")).unwrap();
    assert_eq!(
        safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor("logits").unwrap().shape()[0],
        2
    );
    shop.refuses(
        &format!("{SEGMENT} --prompts a;b --prompt-thresholds c=0.5"),
        &["\"c\"", "--prompt-thresholds"],
    );
    shop.refuses(&format!("{SEGMENT} --prompts a;b --unknown-cosine 7"), &["--unknown-cosine", "-1 to 1"]);
}

#[test]
fn what_clip_cannot_do_is_said_beside_the_results() {
    let shop = Workshop::new();
    fs::write(shop.path("words.txt"), "person\nno person\n").unwrap();
    for arguments in [format!("{SEGMENT} --prompts-file words.txt"), TEXT.to_string()] {
        let output = shop.gclip(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("note: \"no person\""), "{text}");
    }
}

const TEXT: &str =
    "text --model model --device cpu --template none --prompts-file words.txt --out words.safetensors";

#[test]
fn background_and_threshold_come_out_as_nothing() {
    let shop = Workshop::new();
    shop.works(&format!("{SEGMENT} --prompts a;b --mask all.png"));
    shop.works(&format!("{SEGMENT} --prompts a;b --threshold 1 --mask none.png"));
    assert!(shop.mask("all.png").2.iter().all(|value| [1, 2].contains(value)));
    assert!(shop.mask("none.png").2.iter().all(|value| *value == 0));
    // A background of the same name as a class ties with it, and classes come first; another one takes pixels.
    shop.works(&format!("{SEGMENT} --prompts a --background b --mask background.png"));
    let (all, background) = (shop.mask("all.png").2, shop.mask("background.png").2);
    let expected: Vec<u8> = all.iter().map(|value| value % 2).collect();
    assert_eq!(background, expected);
}

#[test]
fn text_embeddings_are_cached_and_can_come_from_a_file() {
    let shop = Workshop::new();
    assert!(shop.works(&format!("{SEGMENT} --prompts a;b --mask m1.png")).contains("2 prompt names encoded"));
    assert!(shop.works(&format!("{SEGMENT} --prompts a;b --mask m2.png")).contains("0 prompt names encoded"));
    let text = "text --model model --device cpu --template none --prompts a;b;c --out e.safetensors";
    assert!(shop.works(text).contains("1 encoded"));
    shop.works(&format!("{SEGMENT} --prompts a;b --embeddings e.safetensors --mask m3.png"));
    assert_eq!(shop.mask("m1.png"), shop.mask("m2.png"));
    assert_eq!(shop.mask("m1.png"), shop.mask("m3.png"));
    shop.refuses(
        &format!("{SEGMENT} --prompts a;zebra --embeddings e.safetensors"),
        &["e.safetensors", "zebra"],
    );
    // A checkpoint without its text tower is enough then.
    tiny::write(&shop.path("vision"), false);
    let vision = SEGMENT.replace("--model model", "--model vision");
    shop.works(&format!("{vision} --prompts a;b --embeddings e.safetensors --mask m4.png"));
    assert_eq!(shop.mask("m1.png"), shop.mask("m4.png"));
    shop.refuses(&format!("{vision} --prompts a;b"), &["no text tower", "--embeddings"]);
    assert!(shop.works("info vision").contains("missing      text tower"));
    // Embeddings made with other weights.
    let mut other = tiny::tensors(true);
    other[0].2[0] += 0.5;
    tiny::write(&shop.path("other"), true);
    tiny::write_weights(&shop.path("other/model.safetensors"), &other);
    let other = SEGMENT.replace("--model model", "--model other");
    shop.refuses(
        &format!("{other} --prompts a;b --embeddings e.safetensors"),
        &["e.safetensors", "other weights"],
    );
}

#[test]
fn what_goes_with_every_method_is_read_or_refused() {
    let shop = Workshop::new();
    let sentences = r#"{"a": ["it is red", "it is round"], "b": ["it is blue"]}"#;
    std::fs::write(shop.path("sentences.json"), sentences).unwrap();
    for further in [
        "--refine tlp",
        "--refine tlp --refine-options grid=20,iterations=5,scaled=on",
        "--context-prior 0.3 --context-options nudge=0.1,cut=0.5",
        "--purify full",
        "--method pearl --absent remove --absent-evidence purify",
        "--descriptions sentences.json",
    ] {
        shop.works(&format!("{SEGMENT} --prompts a;b {further} --mask m.png"));
    }
    for (further, said) in [
        ("--refine tlp --refine-options gird=20", ["\"gird\"", "grid, iterations, scaled"]),
        ("--context-options cut=-1", ["cut=-1", "must be a number"]),
        ("--context-prior 2", ["--context-prior is 2", "from 0 to 1"]),
        ("--method proxyclip", ["proxyclip needs a helper model", "helper-model"]),
        ("--helper-model model", ["gclip reads no helper model", "proxyclip"]),
        ("--method proxyclip --helper-model model", ["cannot use the helper model model", "\"clip\""]),
    ] {
        shop.refuses(&format!("{SEGMENT} --prompts a;b {further}"), &said);
    }
    let of_others = format!("{SEGMENT} --prompts a;c --descriptions sentences.json");
    shop.refuses(&of_others, &["descriptions of \"b\"", "no prompt names"]);
}

#[test]
fn info_describes_the_checkpoint() {
    let shop = Workshop::new();
    let report: Value =
        serde_json::from_str(&shop.works("info model --json --device cpu --precision f32")).unwrap();
    assert_eq!(report["vision"]["layers"], 2);
    assert_eq!(report["text"]["context_length"], 77);
    assert_eq!((&report["embed_dim"], &report["patch_size"]), (&32.into(), &16.into()));
    assert_eq!(report["hash"].as_str().unwrap().len(), 64);
    assert_eq!(report["precision"], "f32");
    assert!(report["stored"]["f32"].as_u64().unwrap() > 790_528);
    let missing = report["missing"].to_string();
    assert!(missing.contains("preprocessor_config.json") && missing.contains("tokenizer"), "{missing}");
    assert!(report["method"].as_str().unwrap().starts_with("gclip(fuse="), "{}", report["method"]);
    assert!(shop.works("info model").contains("patches of 16 px"));
}

#[test]
fn usage_errors_exit_with_2() {
    let shop = Workshop::new();
    for arguments in [
        "",
        "nonsense",
        "segment",
        "segment picture.png --model model",
        "segment picture.png --model model --prompts a --prompts-file b",
        "segment picture.png --model model --prompts a --device gpu",
        "segment picture.png --model model --prompts a --precision f8",
        "segment picture.png --model model --prompts a --rle",
        "eval --images a",
    ] {
        let output = shop.gclip(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{arguments}");
    }
}

#[test]
fn what_the_user_asks_for_is_checked() {
    let shop = Workshop::new();
    fs::write(shop.path("empty.txt"), "# nothing\n\n").unwrap();
    fs::write(shop.path("file"), "").unwrap();
    let with = |rest: &str| format!("{SEGMENT} {rest}");
    shop.refuses(&with("--prompts-file empty.txt"), &["empty.txt", "no class"]);
    shop.refuses(&with("--prompts-file nowhere.txt"), &["nowhere.txt"]);
    shop.refuses(&with("--prompts @nowhere.txt"), &["nowhere.txt"]);
    shop.refuses(&with("--prompts a;;b"), &["empty class", "column 3"]);
    shop.refuses(&with("--prompts a --threshold 2"), &["--threshold", "2"]);
    shop.refuses(&with("--prompts a --window 32 --stride 40"), &["stride 40"]);
    shop.refuses(&with("--prompts a --method magic"), &["magic", "gclip"]);
    shop.refuses(&with("--prompts a --method-options fuse=9+9"), &["fuse"]);
    shop.refuses("segment picture.png --model model --prompts a --device cuda:99", &["cuda:99"]);
    shop.refuses(&with("--prompts a --mask no/such/folder/m.png"), &["no/such/folder"]);
    shop.refuses(&with("--prompts a --json no/such/folder/j.json"), &["no/such/folder"]);
    shop.refuses(&with("--prompts a --mask file/m.png"), &["file"]);
    shop.refuses("segment nowhere.png --model model --prompts a", &["nowhere.png"]);
    shop.refuses("segment picture.png --model nowhere --prompts a", &["nowhere"]);
    shop.refuses(
        "segment picture.png --model owner/name --prompts a",
        &["owner/name", "gclip pull owner/name"],
    );
    fs::create_dir(shop.path("nothing")).unwrap();
    shop.refuses("segment nothing --model model --prompts a", &["nothing", "no PNG or JPEG"]);
}

#[test]
fn bad_pictures() {
    let shop = Workshop::new();
    let good = fs::read(shop.path("picture.png")).unwrap();
    fs::write(shop.path("zero.png"), b"").unwrap();
    fs::write(shop.path("cut.png"), &good[..good.len() / 2]).unwrap();
    fs::write(shop.path("text.png"), "hello").unwrap();
    // A header that promises 4 billion by 4 billion pixels.
    let mut bomb = good.clone();
    bomb[16..24].fill(0x7f);
    fs::write(shop.path("bomb.png"), bomb).unwrap();
    for name in ["zero.png", "cut.png", "text.png", "bomb.png"] {
        let arguments = format!("{} --prompts a --mask out.png", SEGMENT.replace("picture.png", name));
        shop.refuses(&arguments, &[name]);
        assert!(!shop.path("out.png").exists());
    }
    // The contents count, not the name.
    fs::write(shop.path("png.jpg"), good).unwrap();
    shop.works(&format!("{} --prompts a", SEGMENT.replace("picture.png", "png.jpg")));
}

#[test]
fn ten_thousand_prompts() {
    let shop = Workshop::new();
    let names: Vec<String> = (0..10_000).map(|n| format!("thing {n}")).collect();
    fs::write(shop.path("many.txt"), names.join("\n")).unwrap();
    // Features from a file keep this test about ids, not about the speed of the text tower.
    shop.works("text --model model --device cpu --template none --prompts-file many.txt --out e.safetensors");
    shop.works(&format!(
        "{SEGMENT} --prompts-file many.txt --embeddings e.safetensors --mask m.png --json j.json"
    ));
    let (_, _, bytes) = shop.mask("m.png");
    assert_eq!(bytes.len(), 70 * 50 * 2, "16-bit mask");
    let record: Value = serde_json::from_str(&fs::read_to_string(shop.path("j.json")).unwrap()).unwrap();
    for region in record["regions"].as_array().unwrap() {
        let value = region["value"].as_u64().unwrap() as usize;
        assert_eq!(region["label"], names[value - 1]);
    }
}
