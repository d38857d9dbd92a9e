// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is written to what it means: defaults filled in, paths resolved, and every mistake found that can be
//! found without a camera and without the model.

use std::path::Path;

use gst::prelude::*;
use toml::Spanned;

use super::camera::Written;
use super::raw::{self, File, Kind, Mistake, Properties, What};
use super::{Address, Camera, Config, Output, Target};
use crate::property;
use crate::redact::Secrets;

/// Lines that wait in front of an output that does not take them, unless its `buffer` says otherwise.
const BUFFER: usize = 10_000;

/// Where Debian and most others keep the certificates that programs trust, in PEM.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// Properties of gclipsegment that `segment` may not set, and what to write instead.
const ELSEWHERE: [(&str, &str); 11] = [
    ("model", "write `model` at the top of the file"),
    ("model-instance-id", "all cameras share one model anyway"),
    ("prompts", "write it as a key of [[camera]] or [defaults]"),
    ("prompts-file", "write prompts = \"@FILE\" in [[camera]] or [defaults]"),
    ("background", "write it as a key of [[camera]] or [defaults]"),
    ("zones", "write it as a key of [[camera]] or [defaults]"),
    ("messages", "an output's `what` says what it gets"),
    ("meta", "the results are JSON lines"),
    ("stats", "it can only be read; `metrics` shows it"),
    ("name", "a camera has its own `name`"),
    ("parent", "it is set by the program"),
];
/// Properties that belong to the model, which all cameras share.
const OF_THE_MODEL: [&str; 5] = ["method", "method-options", "positions", "device", "precision"];

pub fn config(file: File, folder: &Path) -> Result<Config, Mistake> {
    let mut secrets = Secrets::default();
    let mut outputs: Vec<Output> = Vec::new();
    for (name, output) in &file.output {
        let checked = self::output(name, output, folder, &mut secrets)?;
        let same = |other: &&Output| match (&other.target, &checked.target) {
            (Target::Stdout, Target::Stdout) => true,
            (Target::File(one), Target::File(other)) => one == other,
            _ => false,
        };
        if let Some(other) = outputs.iter().find(same) {
            let what =
                format!("it goes to the same place as output.{}; the cameras can share that one", other.name);
            return Err(Mistake::new(output.span(), format!("output.{name}"), what));
        }
        outputs.push(checked);
    }
    if outputs.is_empty() {
        let target = Target::Stdout;
        outputs.push(Output { name: "stdout".into(), what: What::Changes, buffer: BUFFER, target });
    }

    if let Some(name) = &file.defaults.name {
        return Err(Mistake::new(name.span(), "defaults.name", "every camera needs a name of its own"));
    }
    if let Some(url) = &file.defaults.url {
        return Err(Mistake::new(url.span(), "defaults.url", "every camera needs a URL of its own"));
    }
    let shared = properties(&file.segment, "segment", true)?;
    let of_defaults = properties(&file.defaults.segment, "defaults.segment", false)?;
    let mut cameras: Vec<Camera> = Vec::new();
    for (index, written) in file.camera.iter().enumerate() {
        let (camera, place) = (written.get_ref(), format!("camera[{index}]"));
        let name = name_of(camera, &place, written)?;
        if cameras.iter().any(|other| other.name == name) {
            let span = camera.name.as_ref().map_or(written.span(), Spanned::span);
            return Err(Mistake::new(
                span,
                format!("{place}.name"),
                format!("two cameras are called \"{name}\""),
            ));
        }
        let written = Written { name: &name, own: camera, at: written.span(), defaults: &file.defaults };
        let mut checked = written.check(&outputs, folder, &mut secrets)?;
        let own = properties(&camera.segment, &format!("camera.{name}.segment"), false)?;
        checked.segment = shared.iter().chain(&of_defaults).cloned().chain(own).collect();
        cameras.push(checked);
    }
    if cameras.is_empty() {
        let what = "there is no [[camera]]: write at least one, with name, url and prompts";
        return Err(Mistake { at: None, key: String::new(), what: what.into() });
    }
    Ok(Config { model: model(&file.model, folder)?, metrics: file.metrics, outputs, cameras, secrets })
}

/// A path that exists beside the config file, or else what it says: an absolute path or a hub id.
fn model(model: &Spanned<String>, folder: &Path) -> Result<String, Mistake> {
    let text = model.get_ref();
    if text.is_empty() {
        return Err(Mistake::new(
            model.span(),
            "model",
            "it is empty: write a checkpoint's folder, file or id",
        ));
    }
    let beside = folder.join(text);
    Ok(if beside.exists() { beside.to_string_lossy().into_owned() } else { text.clone() })
}

fn output(
    name: &str,
    output: &Spanned<raw::Output>,
    folder: &Path,
    secrets: &mut Secrets,
) -> Result<Output, Mistake> {
    let (span, output) = (output.span(), output.get_ref());
    let key = |key: &str| format!("output.{name}.{key}");
    let for_kind = |kind: Kind, key_name: &str, value: &Option<Spanned<String>>| match value {
        Some(value) if output.kind != kind => {
            let what =
                format!("it only means something with type = \"{}\"", format!("{kind:?}").to_lowercase());
            Err(Mistake::new(value.span(), key(key_name), what))
        }
        _ => Ok(()),
    };
    for_kind(Kind::File, "path", &output.path)?;
    for_kind(Kind::Mqtt, "broker", &output.broker)?;
    for_kind(Kind::Mqtt, "topic", &output.topic)?;
    for_kind(Kind::Mqtt, "ca", &output.ca)?;
    let missing = |name: &str, example: &str| {
        Mistake::new(span.clone(), key(name), format!("it is missing: write {example}"))
    };
    let target = match output.kind {
        Kind::Stdout => Target::Stdout,
        Kind::File => {
            let path = output.path.as_ref().ok_or_else(|| missing("path", "path = \"results.jsonl\""))?;
            Target::File(folder.join(path.get_ref()))
        }
        Kind::Mqtt => {
            let broker = output.broker.as_ref();
            let broker = broker.ok_or_else(|| missing("broker", "broker = \"mqtt://localhost\""))?;
            let address = address(broker, &["mqtt", "mqtts"], &key("broker"), secrets)?;
            let trusted = trusted(broker, &address, output.ca.as_ref(), folder, name)?;
            let topic = match &output.topic {
                Some(topic) if topic.get_ref().is_empty() || topic.get_ref().contains(['#', '+', '\0']) => {
                    let what = "a topic to publish on is not empty and has no # and +";
                    return Err(Mistake::new(topic.span(), key("topic"), what));
                }
                Some(topic) => topic.get_ref().clone(),
                None => "gclip/{camera}".into(),
            };
            Target::Mqtt { broker: address, topic, trusted }
        }
    };
    let buffer = output.buffer.as_ref().map_or(BUFFER, |buffer| *buffer.get_ref());
    if let Some(written) =
        output.buffer.as_ref().filter(|written| !(1..=10_000_000).contains(written.get_ref()))
    {
        return Err(Mistake::new(written.span(), key("buffer"), "it must be from 1 to 10000000 lines"));
    }
    Ok(Output { name: name.into(), what: output.what, buffer, target })
}

/// The certificates that a broker's own is checked against: those of the file `ca`, or the system's.
fn trusted(
    broker: &Spanned<String>,
    address: &Address,
    ca: Option<&Spanned<String>>,
    folder: &Path,
    name: &str,
) -> Result<Option<Vec<u8>>, Mistake> {
    let key = |key: &str| format!("output.{name}.{key}");
    let (file, span, key) = match (address.is_encrypted(), ca) {
        (false, None) => return Ok(None),
        (false, Some(ca)) => {
            let what = "it only means something with a broker that is reached by mqtts://";
            return Err(Mistake::new(ca.span(), key("ca"), what));
        }
        (true, Some(ca)) => (folder.join(ca.get_ref()), ca.span(), key("ca")),
        (true, None) => (SYSTEM_CERTIFICATES.into(), broker.span(), key("broker")),
    };
    let certificates = std::fs::read(&file).map_err(|error| error.to_string());
    let certificates = certificates.and_then(|text| match text.windows(BEGIN.len()).any(|at| at == BEGIN) {
        true => Ok(text),
        false => Err("it holds no certificate in PEM".into()),
    });
    certificates.map(Some).map_err(|error| {
        let what = format!(
            "the certificates in {} cannot be used: {error}; write ca = \"broker-ca.pem\"",
            file.display()
        );
        Mistake::new(span, key, what)
    })
}

pub fn address(
    text: &Spanned<String>,
    schemes: &[&str],
    key: &str,
    secrets: &mut Secrets,
) -> Result<Address, Mistake> {
    let address = Address::parse(text.get_ref(), schemes);
    let address = address.map_err(|error| Mistake::new(text.span(), key, format!("{error:#}")))?;
    secrets.add(address.secrets.iter().cloned());
    Ok(address)
}

fn name_of(camera: &raw::Camera, place: &str, written: &Spanned<raw::Camera>) -> Result<String, Mistake> {
    let Some(name) = &camera.name else {
        return Err(Mistake::new(
            written.span(),
            format!("{place}.name"),
            "it is missing: write name = \"gate\"",
        ));
    };
    let allowed = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if name.get_ref().is_empty() || !name.get_ref().chars().all(allowed) {
        let what = "a name has letters, digits, `-`, `_` and `.` only: it becomes part of topics and metrics";
        return Err(Mistake::new(name.span(), format!("{place}.name"), what));
    }
    Ok(name.get_ref().clone())
}

/// Properties of gclipsegment as `name=value`, each tried on an element.
fn properties(written: &Properties, place: &str, for_all: bool) -> Result<Vec<String>, Mistake> {
    let mut assignments = Vec::new();
    let element = scratch()?;
    // The step between windows says nothing before the window's size is known.
    let (first, rest): (Vec<_>, Vec<_>) = written.iter().partition(|(name, _)| *name == "window");
    for (name, value) in first.into_iter().chain(rest) {
        let mistake = |what: String| Mistake::new(value.span(), format!("{place}.{name}"), what);
        if let Some((_, instead)) = ELSEWHERE.iter().find(|(property, _)| property == name) {
            return Err(mistake(format!("it is not set here: {instead}")));
        }
        if !for_all && OF_THE_MODEL.contains(&name.as_str()) {
            return Err(mistake("all cameras share one model: write it in the [segment] of the file".into()));
        }
        let text = match value.get_ref() {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            _ => return Err(mistake("a property has one value: a text, a number, true or false".into())),
        };
        let assignment = format!("{name}={text}");
        element.try_set(&assignment).map_err(mistake)?;
        assignments.push(assignment);
    }
    Ok(assignments)
}

/// An element to try properties on.
pub struct Scratch {
    element: gst::Element,
    bus: gst::Bus,
}

pub fn scratch() -> Result<Scratch, Mistake> {
    let element = gst::ElementFactory::make("gclipsegment").build();
    let element =
        element.map_err(|error| Mistake { at: None, key: String::new(), what: error.to_string() })?;
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    Ok(Scratch { element, bus })
}

impl Scratch {
    /// The element refuses a value by a warning.
    pub fn try_set(&self, assignment: &str) -> Result<(), String> {
        property::set_all(&self.element, &[assignment.to_string()]).map_err(|error| format!("{error:#}"))?;
        match self.bus.pop_filtered(&[gst::MessageType::Warning]).as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Warning(warning)) => Err(warning.error().to_string()),
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.bus.set_flushing(true);
    }
}
