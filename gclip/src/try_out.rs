// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gclip try`: words are tried on a source while looking at it. It is `gclip watch` with one camera and a page, by a config that is in
//! no file before it is saved.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, value};

use crate::failure::Failure;
use crate::say::{complain, say};
use crate::watch;

/// Wider pictures are scaled down: they are for looking at, on one page.
const WIDTH: i64 = 1280;
/// What is looked for at first by a model that comes without a list.
const WORDS: &str = "person; car; tree; building; road; sky";

#[derive(clap::Args)]
pub struct Args {
    /// A video, a picture, a folder of pictures, a camera (rtsp://user:password@host/path, /dev/video0), or a folder of
    /// results of `gclip video --player` or `gclip segment --json --rle`.
    source: String,
    /// Checkpoint folder or file, or a Hugging Face id that is in the local cache. Without it the demo model, which knows
    /// generated street scenes only.
    #[arg(long)]
    model: Option<String>,
    /// What to look for at first: classes separated by `;`, synonyms by `,`. Or `@FILE`, one class a line.
    #[arg(long)]
    prompts: Option<String>,
    /// Names that compete for pixels and stay undrawn, separated by `,`.
    #[arg(long, default_value = "")]
    background: String,
    /// Address and port of the page; with port 0 a free one.
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Also start a browser.
    #[arg(long)]
    open: bool,
    /// Where the page saves what was tried, as a config for `gclip watch`.
    #[arg(long, default_value = "gclip-try.toml", value_name = "FILE")]
    config: PathBuf,
    /// Any other property of gclipsegment, such as `threshold=0.3`; may be repeated.
    #[arg(long = "set", value_name = "PROPERTY=VALUE")]
    settings: Vec<String>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let folder = Path::new(&args.source);
    let recorded = if folder.is_dir() { watch::Results::find(folder)? } else { None };
    let outcome = match recorded {
        Some(results) => {
            let shown = |address: SocketAddr| args.tell(&format!("http://{address}/"));
            watch::show_results(args.listen, results, shown).map_err(Failure::from)
        }
        None => {
            let (text, path) = (config(args)?, std::path::absolute(&args.config));
            let name = name_of(&args.source);
            let shown = |address: SocketAddr| args.tell(&format!("http://{address}/#/camera/{name}"));
            watch::try_out(text, &path.context("there is no current folder")?, shown)
        }
    };
    outcome.map_err(|Failure { error, code }| {
        let why = error.root_cause().downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let hint = "choose another port, such as --listen 127.0.0.1:0";
        let error = if why == Some(ErrorKind::AddrInUse) { anyhow!("{error:#}: {hint}") } else { error };
        Failure { error, code }
    })
}

impl Args {
    /// Says where the page is.
    fn tell(&self, url: &str) {
        say!("{url}    (Ctrl-C ends it)");
        if self.open {
            open(url);
        }
    }
}

/// The text of a config that has just this source.
fn config(args: &Args) -> Result<String> {
    let model = match &args.model {
        Some(model) => model.clone(),
        None => demo_model()?.display().to_string(),
    };
    // Where the config is saved, relative paths would lead elsewhere.
    let absolute = |path: &str| -> Result<String> {
        Ok(std::path::absolute(path).context("there is no current folder")?.display().to_string())
    };
    let list = Path::new(&model).join("prompts.txt");
    let prompts = match &args.prompts {
        Some(prompts) => match prompts.strip_prefix('@') {
            Some(file) => format!("@{}", absolute(file)?),
            None => prompts.clone(),
        },
        None if list.is_file() => format!("@{}", absolute(&list.display().to_string())?),
        None => WORDS.into(),
    };
    let model = if Path::new(&model).exists() { absolute(&model)? } else { model };

    let mut camera = Table::new();
    camera["name"] = value(name_of(&args.source));
    camera["url"] = value(url_of(&args.source)?);
    camera["prompts"] = value(prompts);
    if !args.background.is_empty() {
        camera["background"] = value(&args.background);
    }
    camera["width"] = value(WIDTH);
    camera["retry-max"] = value(5);
    camera["outputs"] = value(Array::new());
    let mut web = Table::new();
    web["listen"] = value(args.listen.to_string());
    let mut segment = Table::new();
    for setting in &args.settings {
        let (name, text) = setting
            .split_once('=')
            .with_context(|| format!("--set {setting} is not of the form PROPERTY=VALUE"))?;
        segment[name] = value(text);
    }
    let mut document = DocumentMut::new();
    document["model"] = value(model);
    document["web"] = Item::Table(web);
    if !segment.is_empty() {
        document["segment"] = Item::Table(segment);
    }
    document["camera"] = Item::ArrayOfTables(ArrayOfTables::from_iter([camera]));
    Ok(document.to_string())
}

/// The demo model of a checkout or of an installation.
fn demo_model() -> Result<PathBuf> {
    let program = std::env::current_exe().and_then(|program| program.canonicalize()).unwrap_or_default();
    let checkout = program.ancestors().nth(3).map(|folder| folder.join("models/demo"));
    let installed =
        program.ancestors().nth(2).map(|folder| folder.join("share/gst-plugin-gclip/models/demo"));
    let places = [Some(PathBuf::from("models/demo")), checkout, installed];
    let found = places.into_iter().flatten().find(|folder| folder.join("config.json").is_file());
    let found =
        found.context("say which model: --model FOLDER, or the id of one that `gclip pull` has fetched")?;
    complain!("gclip: the demo model looks, which knows generated street scenes only; --model takes another");
    Ok(found)
}

fn url_of(source: &str) -> Result<String> {
    if source.contains("://") {
        return Ok(source.into());
    }
    if source.starts_with("/dev/video") {
        ensure!(Path::new(source).exists(), "there is no camera {source}");
        return Ok(format!("v4l2://{source}"));
    }
    let path = std::fs::canonicalize(source).with_context(|| format!("cannot read {source}"))?;
    Ok(glib::filename_to_uri(&path, None)?.to_string())
}

/// What the source is called on the page: the last part of its path, in the letters that a camera's name may have.
fn name_of(source: &str) -> String {
    let path = source.split_once("://").map_or(source, |(_, rest)| rest.split('?').next().unwrap_or(rest));
    let last =
        Path::new(path).file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Of rtsp://user:password@host alone nothing is shown.
    let last = if source.contains("://") && !path.contains('/') { String::new() } else { last };
    let kept = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = last.chars().map(kept).collect();
    if name.is_empty() { "camera".into() } else { name }
}

/// Starts the user's browser, which goes its own way.
fn open(url: &str) {
    let started = Command::new("xdg-open")
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        complain!(
            "gclip: --open: no browser can be started by xdg-open ({error}); open the address yourself"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_name_that_a_camera_may_have() {
        for (source, name) in [
            ("models/demo/demo.mp4", "demo"),
            ("/tmp/my street (1).mp4", "my-street--1-"),
            ("/dev/video0", "video0"),
            ("rtsp://me:secret@host:554/live/one?token=x", "one"),
            ("rtsp://me:secret@host", "camera"),
            ("pictures/", "pictures"),
        ] {
            assert_eq!(name_of(source), name, "{source}");
        }
    }
}
