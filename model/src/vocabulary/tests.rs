// SPDX-License-Identifier: MIT OR Apache-2.0
use anyhow::Result;

use super::imagenet::IMAGENET;
use super::*;

fn names(text: &str) -> Vec<Vec<String>> {
    Prompts::parse(text, "").unwrap().classes.into_iter().map(|class| class.names).collect()
}

fn error(text: &str) -> String {
    format!("{:#}", Prompts::parse(text, "").unwrap_err())
}

#[test]
fn classes_and_synonyms() {
    assert_eq!(names("person, man; car\nsky"), [vec!["person", "man"], vec!["car"], vec!["sky"]]);
    assert_eq!(Prompts::parse("person, man", "").unwrap().classes[0].label, "person");
}

#[test]
fn separators_may_trail() {
    assert_eq!(names("a;b;\n\n  c , d ,\r\n"), [vec!["a"], vec!["b"], vec!["c", "d"]]);
}

#[test]
fn escapes_keep_separators_in_names() {
    assert_eq!(
        names(r"salt\, pepper; a\;b, c\\d; e\f"),
        [vec!["salt, pepper"], vec!["a;b", r"c\d"], vec![r"e\f"]]
    );
}

#[test]
fn comments_only_in_files() {
    let file = "\u{feff}# streets\nroad # asphalt\nC#, c sharp\n\\#1 bus\n";
    let parsed = Prompts::parse_file_text(file, "").unwrap();
    let names: Vec<_> = parsed.classes.iter().map(|class| class.names.clone()).collect();
    assert_eq!(names, [vec!["road"], vec!["C#", "c sharp"], vec!["#1 bus"]]);
    assert_eq!(Prompts::parse("#1 bus", "").unwrap().classes[0].label, "#1 bus");
}

#[test]
fn inner_blanks_shrink_and_repeats_count_once() {
    assert_eq!(names("tv \t monitor,  tv monitor , screen"), [vec!["tv monitor", "screen"]]);
}

#[test]
fn any_script_is_a_name() {
    assert_eq!(names("北京, Zürich; 🚀"), [vec!["北京", "Zürich"], vec!["🚀"]]);
}

#[test]
fn background_is_flat() {
    assert_eq!(Prompts::parse("cat", "sky, wall; floor").unwrap().background, ["sky", "wall", "floor"]);
    assert_eq!(Prompts::parse("cat", "  ").unwrap().background, Vec::<String>::new());
}

#[test]
fn mistakes_say_where() {
    for empty in ["", "  \n ", "\n\n"] {
        assert!(error(empty).contains("no class"), "{}", error(empty));
    }
    assert!(error("a;;b").contains("line 1 column 3"), "{}", error("a;;b"));
    assert!(error("a\n;b").contains("line 2 column 1"), "{}", error("a\n;b"));
    assert!(error("a,,b").contains("empty name"), "{}", error("a,,b"));
    assert!(error(", a").contains("empty name"), "{}", error(", a"));
    assert!(error("a\u{0}b").contains("U+0000"), "{}", error("a\u{0}b"));
    assert!(error(&"x".repeat(1001)).contains("1001 characters"));
    assert!(error(&"x\n".repeat(65_536)).contains("65535"));
    let background = Prompts::parse("a", "b,,c").unwrap_err();
    assert!(format!("{background:#}").contains("background"), "{background:#}");
}

#[test]
fn what_is_shown_parses_to_the_same() {
    let prompts = Prompts::parse(r"a\,b, c\\; d\;e; #f", "").unwrap();
    assert_eq!(Prompts::parse(&prompts.to_string(), "").unwrap(), prompts);
    assert_eq!(Prompts::parse_file_text(&prompts.to_string(), "").unwrap(), prompts);
}

#[test]
fn templates_as_typed() {
    assert_eq!(Templates::parse("imagenet").unwrap(), Templates::Imagenet);
    assert_eq!(Templates::parse(" none ").unwrap(), Templates::None);
    let custom = Templates::parse("a photo of a {}.\nthe {}").unwrap();
    assert_eq!(custom.fill("cat").collect::<Vec<_>>(), ["a photo of a cat.", "the cat"]);
    assert_ne!(custom.id(), Templates::parse("the {}").unwrap().id());
}

#[test]
fn templates_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("templates.txt");
    std::fs::write(&path, "# two\n\na {}\nthe {}\n").unwrap();
    let templates = Templates::parse(path.to_str().unwrap()).unwrap();
    assert_eq!(templates, Templates::Custom(vec!["a {}".into(), "the {}".into()]));
    std::fs::write(&path, "a {}\nno slot\n").unwrap();
    let error = format!("{:#}", Templates::parse(path.to_str().unwrap()).unwrap_err());
    assert!(error.contains("line 2") && error.contains("templates.txt"), "{error}");
}

#[test]
fn template_mistakes() {
    for text in ["", "a photo", "/nowhere/templates.txt"] {
        assert!(Templates::parse(text).is_err(), "{text}");
    }
}

#[test]
fn imagenet_templates_are_the_published_ones() {
    let shared =
        std::env::var("GCLIP_SHARED").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared").into());
    let Ok(text) = std::fs::read_to_string(format!("{shared}/oracle/templates80.json")) else {
        eprintln!("skipped: no oracle in {shared}");
        return;
    };
    let published: Vec<String> = serde_json::from_str(&text).unwrap();
    assert_eq!(published, IMAGENET);
}

/// A stand-in encoder: the feature of a text is a direction that depends on its length and first byte.
fn encode(texts: &[String]) -> Result<Vec<f32>> {
    Ok(texts
        .iter()
        .flat_map(|text| {
            let angle = text.len() as f32 + f32::from(text.as_bytes()[0]);
            [angle.cos(), angle.sin()]
        })
        .collect())
}

#[test]
fn vocabulary_rows_follow_the_prompts() {
    let prompts = Prompts::parse("person, man; car; man", "sky").unwrap();
    let mut seen = Vec::new();
    let vocabulary = Vocabulary::build(&prompts, &Templates::None, 2, &mut |texts| {
        seen.extend_from_slice(texts);
        encode(texts)
    })
    .unwrap();
    assert_eq!(vocabulary.labels, ["person", "car", "man"]);
    assert_eq!(vocabulary.query_value, [1, 1, 2, 3, 0]);
    assert_eq!(seen, ["person", "man", "car", "sky"], "each distinct name is encoded once");
    assert_eq!(vocabulary.features[2..4], vocabulary.features[6..8]);
}

#[test]
fn templates_are_averaged_by_direction() {
    let templates = Templates::Custom(vec!["{}".into(), "the {}".into()]);
    let features =
        name_features(&["cat".into()], &templates, 2, &mut |_| Ok(vec![2.0, 0.0, 0.0, 1.0])).unwrap();
    let half = std::f32::consts::FRAC_1_SQRT_2;
    assert_eq!(features, [half, half]);
}

#[test]
fn synonyms_are_queries_of_their_own_or_their_mean() {
    let mut prompts = Prompts::parse("x, y; y; x, z", "x, y").unwrap();
    let build = |prompts: &Prompts| {
        let directions = [("x", [1.0, 0.0]), ("y", [0.0, 1.0]), ("z", [-1.0, 0.0])];
        Vocabulary::from_names(prompts, 2, |names| {
            let of = |name: &String| directions.iter().find(|(of, _)| of == name).unwrap().1;
            Ok(names.iter().flat_map(of).collect())
        })
    };
    prompts.classes.pop();
    assert_eq!(build(&prompts).unwrap().query_value, [1, 1, 2, 0, 0]);
    prompts.synonyms = Synonyms::Mean;
    let mean = build(&prompts).unwrap();
    let half = std::f32::consts::FRAC_1_SQRT_2;
    assert_eq!(mean.query_value, [1, 2, 0, 0], "background names are no synonyms");
    assert_eq!(mean.features, [half, half, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
    // Opposite features have no mean direction.
    let opposite = Prompts { synonyms: Synonyms::Mean, ..Prompts::parse("x, z", "").unwrap() };
    assert!(build(&opposite).unwrap_err().to_string().contains("\"x\""));
}

#[test]
fn thresholds_go_with_their_labels() {
    let mut prompts = Prompts::parse("person, man; car; person", "").unwrap();
    prompts.thresholds = "person=0.4".parse().unwrap();
    let vocabulary = Vocabulary::build(&prompts, &Templates::None, 2, &mut encode).unwrap();
    assert_eq!(vocabulary.thresholds, [Some(0.4), None, Some(0.4)]);
}

#[test]
fn ten_thousand_prompts() {
    let text: String = (0..10_000).map(|i| format!("thing {i};")).collect();
    let prompts = Prompts::parse(&text, "").unwrap();
    let mut largest = 0;
    let vocabulary = Vocabulary::build(&prompts, &Templates::Imagenet, 2, &mut |texts| {
        largest = largest.max(texts.len());
        encode(texts)
    })
    .unwrap();
    assert_eq!(vocabulary.queries(), 10_000);
    assert!(largest <= 2560, "{largest} texts at once");
}

#[test]
fn a_broken_encoder_is_an_error() {
    let prompts = Prompts::parse("cat", "").unwrap();
    for bad in [vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![1.0]] {
        let result = Vocabulary::build(&prompts, &Templates::None, 2, &mut |_| Ok(bad.clone()));
        assert!(result.is_err(), "{bad:?}");
    }
}
