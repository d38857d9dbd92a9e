// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows the token, or user and password, once and is known from then on, by a cookie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::guard::{Guard, SESSION};
use super::{COOKIE_NAME, House, refuse};

/// Before the next try, after a wrong one.
const PENALTY: Duration = Duration::from_secs(1);
/// Tries that may wait for their turn.
const WAITING: usize = 8;

#[derive(Deserialize)]
#[serde(untagged)]
enum Login {
    Token { token: String },
    Password { user: String, password: String },
}

/// One at a time: neither token nor password is found by trying.
#[derive(Default)]
struct Door {
    turn: Mutex<()>,
    waiting: AtomicUsize,
}

pub fn routes(guard: Arc<Guard>, is_secure: bool) -> Router<House> {
    let door = Arc::<Door>::default();
    let asked = guard.clone();
    let login = move |login: Result<Json<Login>, JsonRejection>| async move {
        let login = match login {
            Ok(Json(login)) => login,
            Err(why) => return refuse(why.status(), why.body_text()),
        };
        let response = if door.waiting.fetch_add(1, Ordering::Relaxed) < WAITING {
            let _alone = door.turn.lock().await;
            try_once(&guard, login, is_secure).await
        } else {
            refuse(StatusCode::TOO_MANY_REQUESTS, "too many try at once: try again in a moment")
        };
        door.waiting.fetch_sub(1, Ordering::Relaxed);
        response
    };
    let needed = move || async move {
        Json(json!({ "token": asked.needs_token(), "password": asked.needs_password() }))
    };
    Router::new().route("/api/session", get(needed).post(login))
}

async fn try_once(guard: &Arc<Guard>, login: Login, is_secure: bool) -> Response {
    let (is_right, wrong) = match login {
        Login::Token { token } => (guard.is_token(&token), "the token is wrong"),
        Login::Password { user, password } => {
            let guard = guard.clone();
            let tried = tokio::task::spawn_blocking(move || guard.is_password(&user, &password)).await;
            (tried.unwrap_or(false), "user or password is wrong")
        }
    };
    if !is_right {
        tokio::time::sleep(PENALTY).await;
        return refuse(StatusCode::UNAUTHORIZED, wrong);
    }
    match guard.let_in() {
        Ok(session) => {
            let secure = if is_secure { "; Secure" } else { "" };
            let age = SESSION.as_secs();
            let cookie =
                format!("{COOKIE_NAME}={session}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}{secure}");
            ([(SET_COOKIE, cookie)], Json(json!({}))).into_response()
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
