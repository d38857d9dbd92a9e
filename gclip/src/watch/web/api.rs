// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface: JSON over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::asked::{Asked, Named};
use super::{House, refuse};
use crate::usage;
use crate::watch::config::Camera;
use crate::watch::desk::{Refusal, Wish};
use crate::watch::history;
use crate::watch::line;
use crate::watch::metrics::{OutputStatus, Snapshot};
use crate::watch::state::{COUNTERS, Phase, Status};
use crate::watch::view::View;

/// A picture that does not come is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn routes() -> Router<House> {
    Router::new()
        .route("/api/cameras", get(cameras).post(add))
        .route("/api/cameras/{name}", get(camera).patch(change).delete(remove))
        .route("/api/cameras/{name}/start", post(start))
        .route("/api/cameras/{name}/stop", post(stop))
        .route("/api/cameras/{name}/picture", get(picture))
        .route("/api/cameras/{name}/snapshot", get(snapshot))
        .route("/api/cameras/{name}/view", get(view))
        .route("/api/health", get(health))
        .route("/api/config/save", post(save))
        .route("/api/config/reload", post(reload))
}

pub fn probed(outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => "yes\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

// Cameras.

async fn cameras(State(house): State<House>) -> Json<Value> {
    let snapshot = house.board.snapshot();
    let cameras: Vec<Value> = snapshot.cameras.iter().map(status).collect();
    let outputs: Vec<Value> = snapshot.outputs.iter().map(output).collect();
    let history = snapshot.history.as_ref().map(history);
    Json(json!({
        "cameras": cameras, "outputs": outputs, "model": model(&snapshot), "history": history, "tried": house.is_tried,
    }))
}

/// What the metrics show, from the same counters, and why cameras were lost.
async fn health(State(house): State<House>) -> Json<Value> {
    let snapshot = house.board.snapshot();
    let cameras = snapshot.cameras.iter().map(|camera| {
        let failures =
            camera.failures.iter().map(|(at, why)| json!({ "time": line::utc_of(*at), "why": &**why }));
        json!({
            "name": &*camera.name, "state": state(&camera.phase), "counts": counts(camera),
            "failures": failures.collect::<Vec<_>>(),
        })
    });
    let outputs: Vec<Value> = snapshot.outputs.iter().map(output).collect();
    let number = |field| snapshot.model.as_ref().and_then(|stats| stats.get::<u64>(field).ok());
    let texts = json!({
        "hits": number("cache-hits"), "misses": number("cache-misses"), "encoded": number("texts-encoded"),
    });
    let process = json!({
        "started": line::utc_of(snapshot.started), "resident_bytes": usage::memory("VmRSS:"),
        "cpu_seconds": usage::threads().map(|(_, seconds)| seconds).sum::<f64>(),
    });
    Json(json!({
        "cameras": cameras.collect::<Vec<_>>(), "outputs": outputs, "model": model(&snapshot), "texts": texts,
        "history": snapshot.history.as_ref().map(history), "process": process,
    }))
}

fn output(output: &OutputStatus) -> Value {
    json!({
        "name": output.name, "delivered": output.delivered, "dropped": output.dropped, "waiting": output.waiting,
    })
}

fn model(snapshot: &Snapshot) -> Value {
    let number = |field| snapshot.model.as_ref().and_then(|stats| stats.get::<u64>(field).ok());
    let millis = |field| number(field).map(|time| time as f64 / 1e6);
    let fill = snapshot.model.as_ref().and_then(|stats| stats.get::<f64>("mean-batch-fill").ok());
    json!({
        "forwards": number("batches"), "frames": number("batched-frames"), "fill": fill,
        "queue": number("queue-level"), "queue_ms": millis("queue-wait-p50"),
        "preprocess_ms": millis("preprocess-p50"), "forward_ms": millis("forward-p50"),
        "forward_p95_ms": millis("forward-p95"), "decode_ms": millis("decode-p50"),
    })
}

fn state(phase: &Phase) -> &'static str {
    match phase {
        Phase::Connecting => "connecting",
        Phase::Playing => "playing",
        Phase::Waiting { .. } => "waiting",
        Phase::Stopped => "stopped",
    }
}

/// By the names of the metrics, without what they have in common.
fn counts(status: &Status) -> Map<String, Value> {
    let count = |((name, _), count): (&(&str, &str), &u64)| {
        (name.trim_start_matches("gclip_camera_").to_string(), Value::from(*count))
    };
    COUNTERS.iter().zip(&status.counts).map(count).collect()
}

fn history(status: &history::Status) -> Value {
    json!({
        "events": status.events, "lost_events": status.lost_events,
        "snapshots": status.snapshots, "lost_snapshots": status.lost_snapshots, "lost_minutes": status.lost_minutes,
        "database_bytes": status.database_bytes, "snapshot_bytes": status.snapshot_bytes, "trouble": status.trouble,
    })
}

fn status(status: &Status) -> Value {
    let now = Instant::now();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (why, next) = match &status.phase {
        Phase::Waiting { until, why } => (Some(why), Some(millis(until.saturating_duration_since(now)))),
        Phase::Connecting | Phase::Playing | Phase::Stopped => (None, None),
    };
    json!({
        "name": &*status.name, "state": state(&status.phase), "why": why, "next_try_ms": next,
        "width": status.size.0, "height": status.size.1,
        "silence_ms": millis(status.silence), "mask_age_ms": status.mask_age.map(millis),
        "frames_per_second": status.source_rate, "masks_per_second": status.mask_rate,
        "last_failure": status.last_failure.as_ref().map(|(why, ago)| json!({ "why": why, "ms_ago": millis(*ago) })),
        "counts": counts(status),
    })
}

async fn camera(State(house): State<House>, Named(name): Named<String>) -> Response {
    let now = house.board.snapshot().cameras.iter().find(|camera| *camera.name == *name).map(status);
    let answered = house.bell.ring(Wish::Describe(name.clone()), None).await;
    // After that: what has been changed before is in it.
    let watched = house.directory.find(&name).map(|(camera, _)| camera);
    answer(answered.map(|mut described| {
        described["address"] = watched.as_ref().map(|camera| camera.source.to_string()).into();
        described["in_force"] = watched.as_deref().map_or(Value::Null, in_force);
        described["now"] = now.unwrap_or(Value::Null);
        described
    }))
}

/// What is looked for, and where, whether the camera's own keys say so, the defaults or a file.
fn in_force(camera: &Camera) -> Value {
    json!({
        "prompts": camera.prompts, "background": camera.background, "zones": camera.zones, "labels": camera.labels,
        "prompt-thresholds": camera.prompt_thresholds.to_string(), "doubts": camera.doubts,
    })
}

type Keys = Result<Json<Map<String, Value>>, JsonRejection>;

async fn add(State(house): State<House>, headers: HeaderMap, keys: Keys) -> Response {
    wish(&house, &headers, keys, Wish::Add).await
}

async fn change(
    State(house): State<House>,
    Named(name): Named<String>,
    headers: HeaderMap,
    keys: Keys,
) -> Response {
    wish(&house, &headers, keys, |keys| Wish::Change(name, keys)).await
}

async fn wish(
    house: &House,
    headers: &HeaderMap,
    keys: Keys,
    of: impl FnOnce(Map<String, Value>) -> Wish,
) -> Response {
    match keys {
        Ok(Json(keys)) => ring(house, headers, of(keys)).await,
        Err(why) => refuse(why.status(), why.body_text()),
    }
}

async fn remove(State(house): State<House>, Named(name): Named<String>, headers: HeaderMap) -> Response {
    ring(&house, &headers, Wish::Remove(name)).await
}

async fn start(State(house): State<House>, Named(name): Named<String>, headers: HeaderMap) -> Response {
    ring(&house, &headers, Wish::Change(name, enabled(true))).await
}

async fn stop(State(house): State<House>, Named(name): Named<String>, headers: HeaderMap) -> Response {
    ring(&house, &headers, Wish::Change(name, enabled(false))).await
}

fn enabled(yes: bool) -> Map<String, Value> {
    Map::from_iter([("enabled".to_string(), yes.into())])
}

async fn save(State(house): State<House>, headers: HeaderMap) -> Response {
    ring(&house, &headers, Wish::Save).await
}

async fn reload(State(house): State<House>, headers: HeaderMap) -> Response {
    ring(&house, &headers, Wish::Reload).await
}

async fn ring(house: &House, headers: &HeaderMap, wish: Wish) -> Response {
    let version =
        match headers.get(IF_MATCH).map(|text| text.to_str().map(|text| text.trim_matches('"').parse())) {
            None => None,
            Some(Ok(Ok(version))) => Some(version),
            Some(_) => return refuse(StatusCode::BAD_REQUEST, "If-Match: this is no version"),
        };
    answer(house.bell.ring(wish, version).await)
}

fn answer(answer: Result<Value, Refusal>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(Refusal::Unknown(why)) => refuse(StatusCode::NOT_FOUND, why),
        Err(Refusal::Wrong(why)) => refuse(StatusCode::UNPROCESSABLE_ENTITY, why),
        Err(Refusal::Conflict(why)) => refuse(StatusCode::CONFLICT, why),
        Err(Refusal::Failed(why)) => refuse(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

// What they show.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    #[serde(default)]
    after: u64,
}

/// Waits for a picture that is newer, and tells of it what is `made`, if nobody has made it yet.
async fn shown(house: &House, name: &str, after: u64, kind: &'static str, made: Made) -> Response {
    let Some((_, reporter)) = house.directory.find(name) else {
        return refuse(StatusCode::NOT_FOUND, format!("there is no camera \"{name}\""));
    };
    let view = tokio::time::timeout(PATIENCE, reporter.view.after(after)).await;
    let Some(view) = view.ok().flatten() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, format!("no picture of {name} has come"));
    };
    match tokio::task::spawn_blocking(move || made(&view)).await {
        Ok(Ok(bytes)) => ([(CONTENT_TYPE, kind)], bytes.to_vec()).into_response(),
        Ok(Err(error)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

type Made = fn(&View) -> anyhow::Result<Arc<[u8]>>;

async fn picture(
    State(house): State<House>,
    Named(name): Named<String>,
    Asked(After { after }): Asked<After>,
) -> Response {
    shown(&house, &name, after, "image/jpeg", View::picture).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    #[serde(default = "yes")]
    masks: bool,
}

fn yes() -> bool {
    true
}

/// One picture of now, to be kept.
async fn snapshot(
    State(house): State<House>,
    Named(name): Named<String>,
    Asked(Shown { masks }): Asked<Shown>,
) -> Response {
    let made = if masks { View::drawn } else { View::picture };
    shown(&house, &name, 0, "image/jpeg", made).await
}

async fn view(
    State(house): State<House>,
    Named(name): Named<String>,
    Asked(After { after }): Asked<After>,
) -> Response {
    shown(&house, &name, after, "application/json", View::json).await
}
