// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is written to what it means: defaults filled in, paths resolved, and every mistake found that can be
//! found without a camera and without the model.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::camera::Written;
use super::output::{BUFFER, output};
use super::raw::{self, File, Mistake, What};
use super::values::properties;
use super::{Camera, Config, Output, Target, Web};
use crate::redact::Secrets;

/// Characters of a token, at least.
const TOKEN: usize = 16;

pub fn config(file: File, folder: &Path) -> Result<Config, Mistake> {
    let mut secrets = Secrets::default();
    let mut outputs: Vec<Output> = Vec::new();
    for (name, written) in &file.output {
        let checked = output(name, written, folder, &mut secrets)?;
        let same = |other: &&Output| match (&other.target, &checked.target) {
            (Target::Stdout, Target::Stdout) => true,
            (Target::File(one), Target::File(other)) => resolved(one) == resolved(other),
            _ => false,
        };
        if let Some(other) = outputs.iter().find(same) {
            let what =
                format!("it goes to the same place as output.{}; the cameras can share that one", other.name);
            return Err(Mistake::new(written.span(), format!("output.{name}"), what));
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
        let tables = [&file.segment, &file.defaults.segment, &camera.segment];
        let has_pictures = tables.iter().any(|table| table.keys().any(|name| name.starts_with("exemplars")));
        let written =
            Written { name: &name, own: camera, at: written.span(), defaults: &file.defaults, has_pictures };
        let mut checked = written.check(&outputs, folder, &mut secrets)?;
        let own = properties(&camera.segment, &format!("camera.{name}.segment"), false)?;
        checked.segment = shared.iter().chain(&of_defaults).cloned().chain(own).collect();
        cameras.push(checked);
    }
    if cameras.is_empty() {
        let what = "there is no [[camera]]: write at least one, with name, url and prompts";
        return Err(Mistake { at: None, key: String::new(), what: what.into() });
    }
    let web = file.web.as_ref().map(|written| web(written, &mut secrets)).transpose()?;
    Ok(Config { model: model(&file.model, folder)?, metrics: file.metrics, web, outputs, cameras, secrets })
}

/// The same for each way to write the path of a file, whether it is there already or not.
fn resolved(file: &Path) -> PathBuf {
    let beside = || Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?));
    file.canonicalize().ok().or_else(beside).unwrap_or_else(|| file.into())
}

/// Who can reach the page can see the cameras and change them.
fn web(written: &Spanned<raw::Web>, secrets: &mut Secrets) -> Result<Web, Mistake> {
    let raw::Web { listen, token, behind_proxy } = written.get_ref();
    if let Some(short) = token.as_ref().filter(|token| token.get_ref().chars().count() < TOKEN) {
        let what = format!("it is easily guessed: write {TOKEN} characters or more");
        return Err(Mistake::new(short.span(), "web.token", what));
    }
    let missing = match (listen.ip().is_loopback(), token, behind_proxy) {
        (true, ..) | (false, Some(_), true) => None,
        (false, None, _) => {
            Some(("token", "whoever reaches this address could see and change the cameras: set a token"))
        }
        (false, Some(_), false) => Some((
            "behind-proxy",
            "what is said would not be encrypted: listen on 127.0.0.1, or put a proxy that speaks TLS before it and write \
             behind-proxy = true",
        )),
    };
    if let Some((key, what)) = missing {
        return Err(Mistake::new(written.span(), format!("web.{key}"), what));
    }
    secrets.add(token.iter().map(|token| token.get_ref().clone()));
    Ok(Web { listen: *listen, token: token.as_ref().map(|token| token.get_ref().clone()) })
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
