// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `gclip video` and `gclip segment` have left in a folder, on a page of its own: pictures with their masks from
//! the JSON lines. Only what the lines name is told, to this machine alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Path as Part, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::refuse;
use crate::eval::files_below;
use crate::video::PLAIN;

pub struct Results {
    folder: PathBuf,
    all: Vec<Recording>,
}

/// A file of lines, and what they are about.
struct Recording {
    /// Of the file, without its ending.
    name: String,
    lines: PathBuf,
    shown: Shown,
}

enum Shown {
    Video(PathBuf),
    /// One a line.
    Pictures(Vec<PathBuf>),
}

impl Results {
    /// Those of a folder; `None` if it holds no lines of results.
    ///
    /// # Errors
    /// Lines that cannot be read.
    pub fn find(folder: &Path) -> Result<Option<Results>> {
        let files = files_below(folder, &["jsonl"])?;
        let read = |file: &PathBuf| Recording::read(folder, file).transpose();
        let all = files.iter().filter_map(read).collect::<Result<Vec<Recording>>>()?;
        let folder = folder.into();
        Ok(Some(Results { folder, all }).filter(|results| !results.all.is_empty()))
    }

    fn recording(&self, name: &str) -> Option<&Recording> {
        self.all.iter().find(|recording| recording.name == name)
    }
}

impl Recording {
    /// `None`: these are no lines of results.
    fn read(folder: &Path, file: &Path) -> Result<Option<Recording>> {
        let lines = folder.join(file);
        let text = fs::read_to_string(&lines).with_context(|| format!("cannot read {}", lines.display()))?;
        let parsed = |line: &str| serde_json::from_str::<Value>(line).ok();
        let Some(first) = text.lines().next().and_then(parsed).filter(|line| line["regions"].is_array())
        else {
            return Ok(None);
        };
        let shown = if first["picture"].is_string() {
            // As they were named then, or, if they have come along, beside the lines.
            let place = |line: Value| {
                let path = PathBuf::from(line["picture"].as_str().unwrap_or_default());
                let beside = path.file_name().map(|name| folder.join(name)).filter(|path| path.exists());
                if path.exists() { path } else { beside.unwrap_or(path) }
            };
            Shown::Pictures(text.lines().filter_map(parsed).map(place).collect())
        } else {
            let plain = lines.with_extension(PLAIN);
            Shown::Video(if plain.exists() { plain } else { lines.with_extension("mp4") })
        };
        let name = file.with_extension("").display().to_string();
        Ok(Some(Recording { name, lines, shown }))
    }
}

type Shared = State<Arc<Results>>;

pub fn routes(results: Results) -> Router {
    Router::new()
        .route("/api/results", get(list))
        .route("/api/results/{name}/lines", get(lines))
        .route("/api/results/{name}/video", get(video))
        .route("/api/results/{name}/picture/{number}", get(picture))
        .with_state(Arc::new(results))
}

async fn list(State(results): Shared) -> Json<Value> {
    let entry = |recording: &Recording| {
        let kind = if matches!(recording.shown, Shown::Video(_)) { "video" } else { "pictures" };
        json!({ "name": recording.name, "kind": kind })
    };
    let all: Vec<Value> = results.all.iter().map(entry).collect();
    Json(json!({ "folder": results.folder.display().to_string(), "results": all }))
}

async fn lines(State(results): Shared, Part(name): Part<String>) -> Response {
    let found = results.recording(&name).map(|recording| recording.lines.clone());
    file(found, "application/x-ndjson").await
}

async fn video(State(results): Shared, Part(name): Part<String>) -> Response {
    let found = results.recording(&name).and_then(|recording| match &recording.shown {
        Shown::Video(path) => Some(path.clone()),
        Shown::Pictures(_) => None,
    });
    file(found, "video/mp4").await
}

async fn picture(State(results): Shared, Part((name, number)): Part<(String, usize)>) -> Response {
    let found = results.recording(&name).and_then(|recording| match &recording.shown {
        Shown::Pictures(all) => all.get(number).cloned(),
        Shown::Video(_) => None,
    });
    // What it is, a browser sees by itself.
    file(found, "image/*").await
}

async fn file(path: Option<PathBuf>, kind: &'static str) -> Response {
    let Some(path) = path else { return refuse(StatusCode::NOT_FOUND, "there is nothing here") };
    let name = path.display().to_string();
    match tokio::task::spawn_blocking(move || fs::read(path)).await {
        Ok(Ok(bytes)) => ([(CONTENT_TYPE, kind)], bytes).into_response(),
        Ok(Err(error)) => refuse(StatusCode::NOT_FOUND, format!("cannot read {name}: {error}")),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_results_is_known_by_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("notes.jsonl", "{\"x\": 1}\n");
        put("empty.jsonl", "");
        assert!(Results::find(folder.path()).unwrap().is_none());
        put("street.jsonl", "{\"pts\": 0, \"regions\": []}\n");
        put("seen.jsonl", "{\"picture\": \"/gone/a.png\", \"regions\": []}\n");
        put("a.png", "");
        let results = Results::find(folder.path()).unwrap().unwrap();
        let names: Vec<&str> = results.all.iter().map(|recording| recording.name.as_str()).collect();
        assert_eq!(names, ["seen", "street"]);
        assert!(
            matches!(&results.all[0].shown, Shown::Pictures(all) if all[0] == folder.path().join("a.png"))
        );
        let video = |name: &str| folder.path().join(name);
        assert!(matches!(&results.all[1].shown, Shown::Video(path) if *path == video("street.mp4")));
        put("street.plain.mp4", "");
        let results = Results::find(folder.path()).unwrap().unwrap();
        assert!(matches!(&results.all[1].shown, Shown::Video(path) if *path == video("street.plain.mp4")));
    }
}
