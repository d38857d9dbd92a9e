// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single values: URLs, and properties of gclipsegment, each tried on an element.

use gst::prelude::*;
use toml::Spanned;

use super::raw::{Mistake, Properties};
use super::source::Source;
use crate::address::Address;
use crate::property;
use crate::redact::Secrets;

/// Properties of gclipsegment that `segment` may not set, and what to write instead.
const ELSEWHERE: [(&str, &str); 12] = [
    ("model", "write `model` at the top of the file"),
    ("model-instance-id", "all cameras share one model anyway"),
    ("prompts", "write it as a key of [[camera]] or [defaults]"),
    ("prompts-file", "write prompts = \"@FILE\" in [[camera]] or [defaults]"),
    ("background", "write it as a key of [[camera]] or [defaults]"),
    ("prompt-thresholds", "write it as a key of [[camera]] or [defaults]"),
    ("zones", "write it as a key of [[camera]] or [defaults]"),
    ("messages", "an output's `what` says what it gets"),
    ("meta", "the results are JSON lines"),
    ("stats", "it can only be read; `metrics` shows it"),
    ("name", "a camera has its own `name`"),
    ("parent", "it is set by the program"),
];
/// Properties that belong to the model, which all cameras share.
const OF_THE_MODEL: [&str; 6] =
    ["method", "method-options", "helper-model", "positions", "device", "precision"];

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

/// Where a camera's pictures come from.
pub fn source(text: &Spanned<String>, key: &str, secrets: &mut Secrets) -> Result<Source, Mistake> {
    let source = Source::parse(text.get_ref());
    let source = source.map_err(|error| Mistake::new(text.span(), key, format!("{error:#}")))?;
    secrets.add(source.address().iter().flat_map(|address| address.secrets.iter().cloned()));
    Ok(source)
}

/// Properties of gclipsegment as `name=value`, each tried on an element.
pub fn properties(written: &Properties, place: &str, for_all: bool) -> Result<Vec<String>, Mistake> {
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
