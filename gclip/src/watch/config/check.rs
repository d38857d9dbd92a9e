// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what is written to what it means: defaults filled in, paths resolved, and every mistake found that can be
//! found without a camera and without the model.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::camera::Written;
use super::nats;
use super::output::{BUFFER, output};
use super::raw::{self, File, Mistake, What};
use super::values::properties;
use super::{Camera, Config, History, Login, Output, Target, Web};
use crate::redact::Secrets;
use crate::watch::password;
use crate::watch::tls::Files;

/// Characters of a token, at least.
const TOKEN: usize = 16;
/// Of the history, where nothing is said: days, and mebibytes.
const DAYS: u32 = 30;
const MEGABYTES: u32 = 500;
const SNAPSHOT_DAYS: u32 = 7;
const SNAPSHOT_MEGABYTES: u32 = 1000;
const DAY: u64 = 86_400;

/// With a fleet a file names no camera; `with_camera`: but one of the fleet's was put in.
pub fn config(file: File, folder: &Path, with_camera: bool) -> Result<Config, Mistake> {
    let mut secrets = Secrets::default();
    let fleet = file.fleet.as_ref().map(|fleet| nats::fleet(fleet, folder, &mut secrets)).transpose()?;
    if let (Some(_), Some(camera), false) = (&fleet, file.camera.first(), with_camera) {
        let what = "with [fleet] the cameras are kept by the servers: `gclip fleet import` takes them there";
        return Err(Mistake::new(camera.span(), "camera[0]", what));
    }
    let of_fleet = fleet.as_ref().map(|fleet| &fleet.servers);
    let mut outputs: Vec<Output> = Vec::new();
    for (name, written) in &file.output {
        let checked = output(name, written, folder, of_fleet, &mut secrets)?;
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
    if cameras.is_empty() && file.web.is_none() && fleet.is_none() {
        let what = "there is no [[camera]]: write at least one, with name, url and prompts, or [web] to add them later";
        return Err(Mistake { at: None, key: String::new(), what: what.into() });
    }
    let web = file.web.as_ref().map(|written| web(written, folder, &mut secrets)).transpose()?;
    let history = file.history.as_ref().map(|written| history(written, folder)).transpose()?;
    let model = model(&file.model, folder)?;
    Ok(Config {
        model,
        metrics: file.metrics,
        web,
        history,
        fleet,
        segment: shared,
        outputs,
        cameras,
        secrets,
    })
}

fn history(written: &raw::History, folder: &Path) -> Result<History, Mistake> {
    let number =
        |key: &str, value: &Option<Spanned<u32>>, default: u32, allowed: RangeInclusive<u32>| match value {
            None => Ok(u64::from(default)),
            Some(value) if allowed.contains(value.get_ref()) => Ok(u64::from(*value.get_ref())),
            Some(value) => {
                let what = format!("it must be from {} to {}", allowed.start(), allowed.end());
                Err(Mistake::new(value.span(), format!("history.{key}"), what))
            }
        };
    let (days, sizes) = (1..=3650, 1..=10_000_000);
    let place = match &written.folder {
        Some(empty) if empty.get_ref().is_empty() => {
            return Err(Mistake::new(
                empty.span(),
                "history.folder",
                "it is empty: write the name of a folder",
            ));
        }
        place => place.as_ref().map_or("history", |place| place.get_ref()),
    };
    let age = number("days", &written.days, DAYS, days.clone())?;
    let snapshot_age = number("snapshot-days", &written.snapshot_days, SNAPSHOT_DAYS, days)?;
    let bytes = number("megabytes", &written.megabytes, MEGABYTES, sizes.clone())?;
    let of_snapshots = 0..=*sizes.end();
    let snapshot_bytes =
        number("snapshot-megabytes", &written.snapshot_megabytes, SNAPSHOT_MEGABYTES, of_snapshots)?;
    Ok(History {
        folder: folder.join(place),
        age: Duration::from_secs(DAY * age),
        bytes: bytes << 20,
        snapshot_age: Duration::from_secs(DAY * snapshot_age),
        snapshot_bytes: snapshot_bytes << 20,
    })
}

/// The same for each way to write the path of a file, whether it is there already or not.
fn resolved(file: &Path) -> PathBuf {
    let beside = || Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?));
    file.canonicalize().ok().or_else(beside).unwrap_or_else(|| file.into())
}

/// Who can reach the page can see the cameras and change them.
fn web(written: &Spanned<raw::Web>, folder: &Path, secrets: &mut Secrets) -> Result<Web, Mistake> {
    let raw::Web { listen, token, user, password, certificate, key, behind_proxy } = written.get_ref();
    if let Some(short) = token.as_ref().filter(|token| token.get_ref().chars().count() < TOKEN) {
        let what = format!("it is easily guessed: write {TOKEN} characters or more");
        return Err(Mistake::new(short.span(), "web.token", what));
    }
    let login = login(user.as_ref(), password.as_ref())?;
    let tls = tls(certificate.as_ref(), key.as_ref(), folder)?;
    let is_guarded = token.is_some() || login.is_some();
    let missing = match (listen.ip().is_loopback(), is_guarded, tls.is_some() || *behind_proxy) {
        (true, ..) | (false, true, true) => None,
        (false, false, _) => Some((
            "token",
            "whoever reaches this address could see and change the cameras: set a token, or user and password",
        )),
        (false, true, false) => Some((
            "certificate",
            "what is said would not be encrypted: listen on 127.0.0.1, set certificate and key, or put a proxy that speaks \
             TLS before it and write behind-proxy = true",
        )),
    };
    if let Some((key, what)) = missing {
        return Err(Mistake::new(written.span(), format!("web.{key}"), what));
    }
    secrets.add(token.iter().map(|token| token.get_ref().clone()));
    secrets.add(login.iter().map(|login| login.hash.clone()));
    let token = token.as_ref().map(|token| token.get_ref().clone());
    Ok(Web { listen: *listen, token, login, tls, behind_proxy: *behind_proxy })
}

type Found<'a> = Option<&'a Spanned<String>>;

fn login(user: Found, password: Found) -> Result<Option<Login>, Mistake> {
    let missing = |there: &Spanned<String>, key: &str| {
        Mistake::new(there.span(), format!("web.{key}"), "user and password belong together: it is missing")
    };
    match (user, password) {
        (None, None) => Ok(None),
        (Some(user), None) => Err(missing(user, "password")),
        (None, Some(password)) => Err(missing(password, "user")),
        (Some(user), Some(hash)) if password::is_hash(hash.get_ref()) => {
            Ok(Some(Login { user: user.get_ref().clone(), hash: hash.get_ref().clone() }))
        }
        (_, Some(other)) => {
            let what = "it is not a password's hash by Argon2id: `gclip watch --hash-password` makes one";
            Err(Mistake::new(other.span(), "web.password", what))
        }
    }
}

fn tls(certificate: Found, key: Found, folder: &Path) -> Result<Option<Files>, Mistake> {
    let missing = |there: &Spanned<String>, key: &str| {
        Mistake::new(there.span(), format!("web.{key}"), "certificate and key belong together: it is missing")
    };
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), None) => Err(missing(certificate, "key")),
        (None, Some(key)) => Err(missing(key, "certificate")),
        (Some(certificate), Some(key)) => {
            let files =
                Files { certificate: folder.join(certificate.get_ref()), key: folder.join(key.get_ref()) };
            let tried = files.load();
            tried
                .map_err(|error| Mistake::new(certificate.span(), "web.certificate", format!("{error:#}")))?;
            Ok(Some(files))
        }
    }
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
