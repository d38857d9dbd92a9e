// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has happened: events with their snapshots, and how much of the pictures each label took.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::asked::{Asked, Named, time};
use super::{House, refuse};
use crate::watch::history::{Happening, Kept, StepSum, Wanted};
use crate::watch::line;

/// Events that one question brings, and at most.
const EVENTS: usize = 100;
const EVENTS_AT_MOST: usize = 1000;
/// Points of a series, unless a step is asked for, and at most.
const POINTS: i64 = 400;
const POINTS_AT_MOST: i64 = 5000;
/// Numbers that one answer holds, at most.
const VALUES: usize = 100_000;
const MINUTE: i64 = 60_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

pub fn routes() -> Router<House> {
    Router::new()
        .route("/api/events", get(events))
        .route("/api/events/live", get(live))
        .route("/api/events/{number}", get(event))
        .route("/api/events/{number}/snapshot", get(snapshot))
        .route("/api/stats", get(stats))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    camera: Option<String>,
    label: Option<String>,
    zone: Option<String>,
    #[serde(default, deserialize_with = "time")]
    from: Option<i64>,
    #[serde(default, deserialize_with = "time")]
    to: Option<i64>,
    #[serde(default)]
    since: u64,
    before: Option<u64>,
    limit: Option<usize>,
}

impl Question {
    fn split(self) -> (Wanted, usize) {
        let Question { camera, label, zone, from, to, since, before, limit } = self;
        let limit = limit.unwrap_or(EVENTS).min(EVENTS_AT_MOST);
        (Wanted { camera, label, zone, from, to, since, before }, limit)
    }
}

fn told(kept: &Kept) -> Value {
    let line: Value = serde_json::from_str(&kept.line).unwrap_or_default();
    json!({ "number": kept.number, "line": line, "snapshot": kept.picture.is_some() })
}

async fn events(State(house): State<House>, Asked(question): Asked<Question>) -> Json<Value> {
    let (wanted, limit) = question.split();
    let events = house.history.find(&wanted, limit).await;
    Json(json!({ "events": events.iter().map(told).collect::<Vec<_>>() }))
}

async fn event(State(house): State<House>, Named(number): Named<u64>) -> Response {
    match house.history.event(number).await {
        Some(event) => Json(told(&event)).into_response(),
        None => refuse(StatusCode::NOT_FOUND, format!("there is no event {number}, or none any more")),
    }
}

async fn snapshot(State(house): State<House>, Named(number): Named<u64>) -> Response {
    match house.history.snapshot(number).await {
        Ok(Some(jpeg)) => ([(CONTENT_TYPE, "image/jpeg")], jpeg).into_response(),
        Ok(None) => {
            refuse(StatusCode::NOT_FOUND, format!("there is no snapshot of event {number}, or none any more"))
        }
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")),
    }
}

/// Server-sent events: those after `since`, then each as it comes.
async fn live(
    State(house): State<House>,
    Asked(question): Asked<Question>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let (mut wanted, limit) = question.split();
    // A browser that was cut off says what it had last.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    wanted.since = last.unwrap_or(wanted.since);
    let (mut past, live) = house.history.listen(&wanted, limit);
    past.reverse();
    let next = move |(mut past, mut live, wanted): (Vec<Happening>, _, Wanted)| async move {
        let happening = loop {
            if let Some(happening) = past.pop() {
                break happening;
            }
            let received: Result<Happening, RecvError> =
                tokio::sync::broadcast::Receiver::recv(&mut live).await;
            match received {
                Ok(happening) if wanted.takes(&happening) => break happening,
                // Not asked for; or too slow: what is missed can be asked for by its numbers.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        let event = Event::default().id(happening.number.to_string()).data(&*happening.line);
        Some((Ok::<_, Infallible>(event), (past, live, wanted)))
    };
    let stream = futures_util::stream::unfold((past, live, wanted), next);
    Sse::new(stream).keep_alive(KeepAlive::default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    camera: Option<String>,
    label: Option<String>,
    #[serde(default, deserialize_with = "time")]
    from: Option<i64>,
    #[serde(default, deserialize_with = "time")]
    to: Option<i64>,
    /// Minutes.
    step: Option<i64>,
}

async fn stats(State(house): State<House>, Asked(span): Asked<Span>) -> Response {
    let to = span.to.unwrap_or_else(|| i64::try_from(line::now() / 1000).unwrap_or(i64::MAX));
    let from = span.from.unwrap_or(to.saturating_sub(DAY));
    let (first, last) = (from.div_euclid(MINUTE), to.div_euclid(MINUTE));
    let count = last - first + 1;
    let step = span.step.unwrap_or((count + POINTS - 1) / POINTS);
    if from > to || step < 1 || count / step > POINTS_AT_MOST {
        let what = format!(
            "`from` is before `to`, `step` 1 minute or more, and no more than {POINTS_AT_MOST} steps"
        );
        return refuse(StatusCode::BAD_REQUEST, what);
    }
    let sums = match house.history.sums(span.camera, span.label, (first, last), step).await {
        Ok(Ok(sums)) => sums,
        Ok(Err(error)) => return refuse(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")),
        Err(_) => {
            return refuse(
                StatusCode::NOT_FOUND,
                "no statistics are kept: write [history] in the config file",
            );
        }
    };
    let Some(series) = series(&sums, first, step) else {
        let what = "that is too much at once: ask for one camera or label, or for a longer `step`";
        return refuse(StatusCode::BAD_REQUEST, what);
    };
    let millis = |minute: i64| minute * (MINUTE / 1000);
    let body = json!({
        "from": millis(first), "to": millis(last + 1), "step": step, "series": series,
    });
    Json(body).into_response()
}

/// By step: sums of shares and of numbers of areas.
type Steps = BTreeMap<i64, (f64, f64)>;

/// A series for each camera and label: points of time in milliseconds since 1970, mean share of the picture, mean number of
/// areas. Times at which the camera was not looked at are left out; where it was and the label was not there, it is 0. `None`
/// if that is too much.
fn series(sums: &[StepSum], first: i64, step: i64) -> Option<Vec<Value>> {
    let mut looks: BTreeMap<&str, BTreeMap<i64, i64>> = BTreeMap::new();
    let mut labels: BTreeMap<(&str, &str), Steps> = BTreeMap::new();
    for StepSum { camera, label, step, looks: count, share, areas } in sums {
        if label.is_empty() {
            looks.entry(camera).or_default().insert(*step, *count);
        } else {
            labels.entry((camera, label)).or_default().insert(*step, (*share, *areas));
        }
    }
    let steps = |camera: &str| looks.get(camera).into_iter().flatten();
    let values: usize = labels.keys().map(|(camera, _)| looks.get(camera).map_or(0, BTreeMap::len)).sum();
    let point = |at: i64, looks: i64, (share, areas): (f64, f64)| {
        let mean = |sum: f64| (sum / looks.max(1) as f64 * 1e6).round() / 1e6;
        json!([(first + at * step) * (MINUTE / 1000), mean(share), mean(areas)])
    };
    (values <= VALUES).then(|| {
        let of = |(&(camera, label), sums): (&(&str, &str), &Steps)| {
            let sum = |at| sums.get(at).copied().unwrap_or_default();
            let points: Vec<Value> = steps(camera).map(|(at, looks)| point(*at, *looks, sum(at))).collect();
            json!({ "camera": camera, "label": label, "points": points })
        };
        labels.iter().map(of).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_is_not_there_is_zero_and_a_camera_that_is_not_there_is_nothing() {
        let sum = |label: &str, step, looks, share| StepSum {
            camera: "gate".into(),
            label: label.into(),
            step,
            looks,
            share,
            areas: 2.0 * share,
        };
        let sums =
            [sum("", 0, 60, 0.0), sum("", 2, 30, 0.0), sum("cat", 0, 60, 6.0), sum("dog", 2, 10, 15.0)];
        let minute = |minutes: i64| minutes * 60_000;
        let expected = json!([
            { "camera": "gate", "label": "cat", "points": [[minute(100), 0.1, 0.2], [minute(120), 0.0, 0.0]] },
            { "camera": "gate", "label": "dog", "points": [[minute(100), 0.0, 0.0], [minute(120), 0.5, 1.0]] },
        ]);
        assert_eq!(json!(series(&sums, 100, 10)), expected);
    }
}
