// SPDX-License-Identifier: MIT OR Apache-2.0
//! The plugin's public interface, as text in `docs/interface.txt`: every change to it shows in a diff.
//! After a change that is meant: `UPDATE_INTERFACE=1 cargo test --test interface`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use gst::prelude::*;

/// Flags of `meta` that are there with the cargo feature only; the text names them in every build.
const WITH_V1_26: [&str; 2] = ["analytics", "analytics-objects"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn init() {
    gst::init().unwrap();
    gstgclip::plugin_register_static().unwrap();
}

fn factories() -> Vec<gst::ElementFactory> {
    let mut factories: Vec<_> = gst::Registry::get()
        .features_by_plugin("gclip")
        .into_iter()
        .filter_map(|feature| feature.downcast::<gst::ElementFactory>().ok())
        .map(|factory| factory.load().unwrap().downcast::<gst::ElementFactory>().unwrap())
        .collect();
    factories.sort_by_key(|factory| factory.name());
    factories
}

/// Properties that the element adds to those of its GStreamer base classes.
fn own_properties(element: &gst::Element) -> Vec<glib::ParamSpec> {
    let own = element
        .list_properties()
        .into_iter()
        .filter(|property| property.owner_type().name().starts_with("GstGclip"));
    own.collect()
}

fn describe(factory: &gst::ElementFactory) -> String {
    let element = factory.create().build().unwrap();
    let mut text = String::new();
    writeln!(text, "element {}", factory.name()).unwrap();
    writeln!(text, "  name   {}", factory.metadata("long-name").unwrap_or_default()).unwrap();
    writeln!(text, "  klass  {}", factory.metadata("klass").unwrap_or_default()).unwrap();
    writeln!(text, "  about  {}", factory.metadata("description").unwrap_or_default()).unwrap();
    writeln!(text, "  rank   {}", i32::from(factory.rank())).unwrap();
    for template in factory.static_pad_templates() {
        let direction = format!("{:?}", template.direction()).to_lowercase();
        writeln!(text, "  pad    {} ({direction}, {:?})", template.name_template(), template.presence())
            .unwrap();
        for structure in template.caps().iter() {
            writeln!(text, "           {structure}").unwrap();
        }
    }
    for property in own_properties(&element) {
        writeln!(text, "  property {}: {} [{}]", property.name(), kind(&property), access(&property))
            .unwrap();
        writeln!(text, "           {}", property.blurb().unwrap_or_default()).unwrap();
    }
    // GObject lists no signals to Rust: those of the elements are looked up by name.
    if let Some(signal) = glib::subclass::SignalId::lookup("reload-model", element.type_()) {
        let query = signal.query();
        let takes: Vec<_> = query.param_types().iter().map(|kind| kind.type_().name()).collect();
        let gives = query.return_type().type_().name();
        writeln!(text, "  action {} ({}) -> {gives}", query.signal_name(), takes.join(", ")).unwrap();
    }
    text
}

/// The default as a user would type it.
fn default_text(property: &glib::ParamSpec) -> String {
    let value = property.default_value();
    if property.value_type() == gst::Structure::static_type() {
        return "NULL".into();
    }
    // GStreamer writes 0.1 as 0.10000000000000001.
    if let Ok(number) = value.get::<f64>() {
        return number.to_string();
    }
    let text = value.serialize().map(|value| value.to_string()).unwrap_or("NULL".into());
    // GStreamer writes flags by name, users by nick.
    match glib::FlagsClass::with_type(property.value_type()) {
        Some(class) => class.value_by_name(&text).map(|flag| flag.nick().to_string()).unwrap_or(text),
        None => text,
    }
}

/// Type with its nicks and its default.
fn kind(property: &glib::ParamSpec) -> String {
    let kind = property.value_type();
    let default = default_text(property);
    if let Some(class) = glib::EnumClass::with_type(kind) {
        let nicks: Vec<_> = class.values().iter().map(|value| value.nick().to_string()).collect();
        return format!("one of {} = {default}", nicks.join(" | "));
    }
    if let Some(class) = glib::FlagsClass::with_type(kind) {
        let mut nicks: Vec<_> = class.values().iter().map(|value| value.nick().to_string()).collect();
        if kind.name() == "GstGclipMetaFlags" {
            nicks.retain(|nick| !WITH_V1_26.contains(&nick.as_str()));
            assert_eq!(class.values().len() - nicks.len(), if cfg!(feature = "v1_26") { 2 } else { 0 });
            nicks.extend(WITH_V1_26.map(|nick| format!("{nick} (feature v1_26)")));
        }
        return format!("any of {} = {default}", nicks.join(" + "));
    }
    format!("{} = {default}", kind.name())
}

fn access(property: &glib::ParamSpec) -> String {
    let flags = property.flags();
    let mut words = Vec::new();
    if !flags.contains(glib::ParamFlags::WRITABLE) {
        words.push("read only");
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        words.push("changeable while playing");
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) {
        words.push("changeable in PAUSED or lower");
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) {
        words.push("changeable in NULL or READY");
    } else {
        words.push("mutability not stated");
    }
    words.join(", ")
}

#[test]
fn the_interface_is_the_committed_one() {
    init();
    let text: Vec<_> = factories().iter().map(describe).collect();
    let text = text.join("\n");
    let path = root().join("docs/interface.txt");
    if std::env::var_os("UPDATE_INTERFACE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (now, then)) in text.lines().zip(committed.lines()).enumerate() {
        assert_eq!(
            now,
            then,
            "docs/interface.txt line {}: run UPDATE_INTERFACE=1 cargo test --test interface",
            number + 1
        );
    }
    assert_eq!(text.lines().count(), committed.lines().count(), "docs/interface.txt has another length");
}

#[test]
fn every_property_states_its_mutability_and_its_purpose() {
    init();
    for factory in factories() {
        for property in own_properties(&factory.create().build().unwrap()) {
            let name = format!("{}.{}", factory.name(), property.name());
            assert_ne!(access(&property), "mutability not stated", "{name}");
            assert!(property.blurb().is_some_and(|blurb| blurb.len() > 10), "{name} has no blurb");
        }
    }
}

/// The table of `gclipsegment`'s properties in docs/properties.md names each one with its true default, and no other.
#[test]
fn the_document_lists_the_properties() {
    init();
    let document = std::fs::read_to_string(root().join("docs/properties.md")).unwrap();
    let rows: Vec<(&str, &str)> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter_map(|(name, rest)| Some((name, rest.split_once(" |")?.0.trim_matches('`'))))
        .collect();
    for name in ["gclipsegment", "gclipoverlay"] {
        let element = gst::ElementFactory::make(name).build().unwrap();
        for property in own_properties(&element) {
            let default = default_text(&property);
            let row = rows.iter().find(|(row, _)| *row == property.name());
            let (_, written) = row.unwrap_or_else(|| {
                panic!("docs/properties.md does not list {name}'s property {}", property.name())
            });
            let default = default.trim_matches('"');
            assert_eq!(
                *written,
                if default == "NULL" { "" } else { default },
                "docs/properties.md, {}",
                property.name()
            );
        }
    }
}

/// The built library, loaded by GStreamer's own tool: no GPU, no model, nothing but the file.
#[test]
fn gst_inspect_shows_the_plugin() {
    let library = gclip_testing::plugin();
    let folder = tempfile::tempdir().unwrap();
    let link: PathBuf = folder.path().join("libgstgclip.so");
    std::os::unix::fs::symlink(&library, &link).unwrap();
    let output = Command::new("gst-inspect-1.0")
        .arg("gclip")
        .env("GST_PLUGIN_PATH", folder.path())
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        .output()
        .expect("gst-inspect-1.0 (package gstreamer1.0-tools)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for element in ["gclipsegment", "gclipoverlay", "gclipmeta2json"] {
        assert!(text.contains(element), "{text}");
    }
}
