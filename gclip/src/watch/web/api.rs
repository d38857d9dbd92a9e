// SPDX-License-Identifier: MIT OR Apache-2.0
//! The interface: JSON over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, IF_MATCH, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;

use super::guard::{Guard, SESSION};
use super::{COOKIE_NAME, House, refuse};
use crate::watch::config::Camera;
use crate::watch::desk::{Refusal, Wish};
use crate::watch::feed::Happening;
use crate::watch::state::{COUNTERS, Phase, Status};
use crate::watch::view::View;

/// A picture that does not come is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the next token may be tried, after a wrong one.
const PENALTY: Duration = Duration::from_secs(1);
/// Events that one question brings, at most.
const EVENTS: usize = 1000;

pub fn routes() -> Router<House> {
    Router::new()
        .route("/api/cameras", get(cameras).post(add))
        .route("/api/cameras/{name}", get(camera).patch(change).delete(remove))
        .route("/api/cameras/{name}/picture", get(picture))
        .route("/api/cameras/{name}/view", get(view))
        .route("/api/config/save", post(save))
        .route("/api/config/reload", post(reload))
        .route("/api/events", get(events))
        .route("/api/events/live", get(live_events))
}

pub fn probed(outcome: Result<(), String>) -> Response {
    match outcome {
        Ok(()) => "yes\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}

// Who may ask.

#[derive(Deserialize)]
struct Login {
    token: String,
}

/// Shows the token once and is known from then on, by a cookie.
pub fn session(guard: Arc<Guard>, is_secure: bool) -> Router<House> {
    // One at a time: a token is not found by trying.
    let door = Arc::new(Mutex::new(()));
    let asked = guard.clone();
    let login = move |login: Result<Json<Login>, JsonRejection>| async move {
        let Json(Login { token }) = match login {
            Ok(login) => login,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, why.body_text()),
        };
        let _alone = door.lock().await;
        if !guard.is_token(&token) {
            tokio::time::sleep(PENALTY).await;
            return refuse(StatusCode::UNAUTHORIZED, "the token is wrong");
        }
        match guard.let_in() {
            Ok(session) => {
                let secure = if is_secure { "; Secure" } else { "" };
                let age = SESSION.as_secs();
                let cookie = format!(
                    "{COOKIE_NAME}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}"
                );
                ([(SET_COOKIE, cookie)], Json(json!({}))).into_response()
            }
            Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    };
    let needed = move || async move { Json(json!({ "token": asked.needs_token() })) };
    Router::new().route("/api/session", get(needed).post(login))
}

// Cameras.

async fn cameras(State(house): State<House>) -> Json<Value> {
    let snapshot = house.board.snapshot();
    let cameras: Vec<Value> = snapshot.cameras.iter().map(status).collect();
    let outputs: Vec<Value> = snapshot
        .outputs
        .iter()
        .map(|output| {
            json!({
                "name": output.name, "delivered": output.delivered, "dropped": output.dropped, "waiting": output.waiting,
            })
        })
        .collect();
    let number = |field| snapshot.model.as_ref().and_then(|stats| stats.get::<u64>(field).ok());
    let model = json!({
        "forwards": number("batches"), "frames": number("batched-frames"), "queue": number("queue-level"),
        "forward_ms": number("forward-p50").map(|time| time as f64 / 1e6),
    });
    Json(json!({ "cameras": cameras, "outputs": outputs, "model": model, "tried": house.is_tried }))
}

fn status(status: &Status) -> Value {
    let now = Instant::now();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (state, why, next) = match &status.phase {
        Phase::Connecting => ("connecting", None, None),
        Phase::Playing => ("playing", None, None),
        Phase::Waiting { until, why } => {
            ("waiting", Some(why), Some(millis(until.saturating_duration_since(now))))
        }
        Phase::Stopped => ("stopped", None, None),
    };
    let count = |((name, _), count): (&(&str, &str), &u64)| {
        (name.trim_start_matches("gclip_camera_").to_string(), Value::from(*count))
    };
    let counts: Map<String, Value> = COUNTERS.iter().zip(&status.counts).map(count).collect();
    json!({
        "name": &*status.name, "state": state, "why": why, "next_try_ms": next,
        "width": status.size.0, "height": status.size.1,
        "silence_ms": millis(status.silence), "mask_age_ms": status.mask_age.map(millis),
        "frames_per_second": status.source_rate, "masks_per_second": status.mask_rate,
        "last_failure": status.last_failure.as_ref().map(|(why, ago)| json!({ "why": why, "ms_ago": millis(*ago) })),
        "counts": counts,
    })
}

async fn camera(State(house): State<House>, Path(name): Path<String>) -> Response {
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
    Path(name): Path<String>,
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

async fn remove(State(house): State<House>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    ring(&house, &headers, Wish::Remove(name)).await
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
    Path(name): Path<String>,
    Query(After { after }): Query<After>,
) -> Response {
    shown(&house, &name, after, "image/jpeg", View::picture).await
}

async fn view(
    State(house): State<House>,
    Path(name): Path<String>,
    Query(After { after }): Query<After>,
) -> Response {
    shown(&house, &name, after, "application/json", View::json).await
}

// What has happened.

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: u64,
    camera: Option<String>,
    limit: Option<usize>,
}

async fn events(State(house): State<House>, Query(query): Query<Since>) -> Json<Value> {
    let limit = query.limit.unwrap_or(100).min(EVENTS);
    let (events, _) = house.feed.since(query.since, query.camera.as_deref(), limit);
    Json(json!({ "events": events.iter().map(event).collect::<Vec<_>>() }))
}

fn event(happening: &Happening) -> Value {
    let line: Value = serde_json::from_str(&happening.line).unwrap_or_default();
    json!({ "number": happening.number, "line": line })
}

/// Server-sent events: those after `since`, then each as it comes.
async fn live_events(
    State(house): State<House>,
    Query(query): Query<Since>,
    headers: HeaderMap,
) -> impl IntoResponse {
    // A browser that was cut off says what it had last.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let limit = query.limit.unwrap_or(100).min(EVENTS);
    let (mut past, live) = house.feed.since(last.unwrap_or(query.since), query.camera.as_deref(), limit);
    past.reverse();
    let next = move |(mut past, mut live, camera): (Vec<Happening>, _, Option<String>)| async move {
        let happening = loop {
            if let Some(happening) = past.pop() {
                break happening;
            }
            let received: Result<Happening, RecvError> =
                tokio::sync::broadcast::Receiver::recv(&mut live).await;
            match received {
                Ok(happening) if camera.as_ref().is_none_or(|camera| **camera == *happening.camera) => {
                    break happening;
                }
                // Not asked for; or too slow: what is missed can be asked for by its numbers.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        let event = Event::default().id(happening.number.to_string()).data(&*happening.line);
        Some((Ok::<_, Infallible>(event), (past, live, camera)))
    };
    let stream = futures_util::stream::unfold((past, live, query.camera), next);
    Sse::new(stream).keep_alive(KeepAlive::default())
}
