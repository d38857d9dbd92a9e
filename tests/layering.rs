// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules of the house that a compiler does not check: who may use whom within the plugin, where `unsafe` is, that
//! errors are handled. That the model knows no GStreamer, and the plugin nothing of the program, the crates see to.

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/source.rs"]
mod source;

use circles::circles;
use source::{Source, bare, read_all};

/// A layer: top-level modules it may use, and foreign crates it must not name.
struct Layer {
    modules: &'static [&'static str],
    may_use: &'static [&'static str],
    must_not_name: &'static [&'static [&'static str]],
}

const GSTREAMER: [&str; 10] = [
    "gst",
    "gst_analytics",
    "gst_base",
    "gst_video",
    "gst_app",
    "gst_check",
    "glib",
    "cairo",
    "pango",
    "pangocairo",
];
const TORCH: [&str; 2] = ["tch", "torch_sys"];

const LAYERS: [Layer; 7] = [
    Layer { modules: &["batch", "registry", "presence"], may_use: &[], must_not_name: &[&GSTREAMER, &TORCH] },
    Layer { modules: &["picture"], may_use: &["model"], must_not_name: &[&GSTREAMER] },
    Layer { modules: &["gallery"], may_use: &["model", "picture"], must_not_name: &[&GSTREAMER, &TORCH] },
    Layer {
        modules: &["engine"],
        may_use: &["model", "batch", "registry", "gallery"],
        must_not_name: &[&GSTREAMER, &TORCH],
    },
    // The one bridge between frames and tensors.
    Layer { modules: &["frame"], may_use: &["model"], must_not_name: &[&["cairo", "pango", "torch_sys"]] },
    Layer { modules: &["meta"], may_use: &[], must_not_name: &[&TORCH] },
    Layer {
        modules: &["segment", "overlay", "mask", "meta2json", "meta2onvif", "sidecar", "pads"],
        may_use: &[
            "batch", "registry", "engine", "frame", "gallery", "meta", "model", "presence", "sidecar", "pads",
        ],
        must_not_name: &[&TORCH],
    },
];

/// Files and folders in which `unsafe` may stand: pixels of frames, calls into C, and vector instructions.
const MAY_BE_UNSAFE: [&str; 11] = [
    "src/frame.rs",
    "src/frame/mapped.rs",
    "src/frame/cuda/",
    "model/src/device.rs",
    "model/src/libtorch.rs",
    "model/src/cpu/",
    "model/src/cuda/",
    "src/meta/analytics/ffi.rs",
    "gclip/src/watch/heap.rs",
    "gclip/src/rtsp/message.rs",
    "gclip/src/rtsp/sockets.rs",
];

const NOT_OUTSIDE_TESTS: [&str; 5] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];

/// The folders of what is shipped: the plugin, the model, the program.
const SHIPPED: [&str; 3] = ["src", "model/src", "gclip/src"];

fn shipped() -> Vec<Source> {
    let sources: Vec<Source> = SHIPPED.into_iter().flat_map(read_all).collect();
    assert!(sources.len() > 100, "these are not the sources");
    sources
}

/// Fails with all offences at once.
fn assert_none(offences: Vec<String>) {
    assert!(offences.is_empty(), "\n  {}\n", offences.join("\n  "));
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let mut offences = Vec::new();
    for source in read_all("src") {
        let module = source.module();
        // The library's root sees everything.
        if source.is_test() || module[0] == "lib" {
            continue;
        }
        let path = source.path.display();
        let Some(layer) = LAYERS.iter().find(|layer| layer.modules.contains(&module[0].as_str())) else {
            offences.push(format!("{path}: module {} has no layer; add it to LAYERS", module[0]));
            continue;
        };
        for used in source.uses() {
            if used != module[0] && !layer.may_use.contains(&used.as_str()) {
                offences.push(format!("{path}: {} must not use {used}", module[0]));
            }
        }
        for foreign in layer.must_not_name.iter().copied().flatten() {
            if source.names_word(foreign) {
                offences.push(format!("{path}: {} must not name {foreign}", module[0]));
            }
        }
    }
    assert_none(offences);
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut offences = Vec::new();
    for root in SHIPPED {
        offences.extend(circles(root, &read_all(root)).into_iter().map(|circle| circle.join(", ")));
    }
    assert_none(offences);
}

#[test]
fn circles_are_found_through_what_hands_names_on() {
    let source =
        |path: &str, code: &str| Source { path: path.into(), text: String::new(), code: code.into() };
    let mut sources = vec![
        source("src/lib.rs", "mod a; mod b; mod c; pub use b::far::Thing as Other;"),
        source("src/a.rs", "use crate::{Other, c};"),
        source("src/b/mod.rs", "mod far; use far::Thing; fn g() { far::f() }"),
        source("src/b/far.rs", "pub use super::super::c::Z; fn f() { super::g() }"),
        source("src/c.rs", "use std::fmt; fn h() -> crate::a::A { crate::d::x() }"),
    ];
    assert_eq!(circles("src", &sources), [["src/a.rs", "src/b/far.rs", "src/c.rs"]]);
    sources[4].code = "fn h() {}".into();
    assert!(circles("src", &sources).is_empty());
}

#[test]
fn unsafe_code_is_where_it_is_expected() {
    let expected = |path: &str| {
        MAY_BE_UNSAFE.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
    };
    let offenders = shipped().into_iter().filter(|source| source.names_word("unsafe"));
    let offenders = offenders.map(|source| source.path.display().to_string());
    assert_none(offenders.filter(|path| !expected(path)).collect());
}

#[test]
fn errors_are_handled_outside_tests() {
    let mut offences = Vec::new();
    for source in shipped().into_iter().filter(|source| !source.is_test()) {
        for (number, line) in (1..).zip(source.code.lines()) {
            if let Some(found) = NOT_OUTSIDE_TESTS.iter().find(|&&call| line.contains(call)) {
                offences.push(format!("{}:{number}: {found}", source.path.display()));
            }
        }
    }
    assert_none(offences);
}

#[test]
fn files_carry_their_licence() {
    let mut offences = Vec::new();
    let others = ["tests", "benches", "examples", "model/tests", "gclip/tests", "testing/src", "fuzz"];
    for source in SHIPPED.into_iter().chain(others).flat_map(read_all) {
        let path = source.path.display();
        if source.text.lines().next() != Some("// SPDX-License-Identifier: MIT OR Apache-2.0") {
            offences.push(format!("{path}: the first line is not the licence"));
        }
    }
    assert_none(offences);
}

#[test]
fn the_reader_sees_code_and_only_code() {
    let text = r##"let a = "crate::x // \" y"; // unsafe
        /* unsafe */ fn f<'a>(c: char) { if c == '"' || c == '\'' { g(r#"un"safe"#) } } use crate::{a::B, c, d::{e, f}};"##;
    let code = bare(text);
    assert!(!code.contains("unsafe") && !code.contains('"') && code.contains("fn f<'a>"), "{code}");
    let source =
        |path: &str, code: &str| Source { path: path.into(), text: String::new(), code: code.to_owned() };
    assert_eq!(source("src/m/n.rs", &code).uses(), ["a", "c", "d"]);
    assert_eq!(source("src/m/n.rs", "super::super::engine::x; super::near::y").uses(), ["engine"]);
    assert_eq!(source("src/m/mod.rs", "use super::batch::Batcher;").uses(), ["batch"]);
}
