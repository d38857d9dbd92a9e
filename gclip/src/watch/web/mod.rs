// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page in the browser, and the interface behind it (`docs/control.md`), on a thread of its own. The page uses
//! nothing but the interface.

mod api;
mod guard;
mod page;
mod results;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;

use super::config::Web;
use super::desk::Bell;
use super::feed::Feed;
use super::fleet::{Directory, Fleet};
use super::http;
use super::metrics::Board;
use guard::{Ask, Guard};
pub use results::Results;

/// Browsers keep several conversations each; more wait.
const CLIENTS: usize = 256;
/// A client that has begun a question has so long to finish it.
const QUESTION: Duration = Duration::from_secs(10);
/// Bytes of a question.
const LARGEST: usize = 256 << 10;
const COOKIE_NAME: &str = "gclip_session";
/// Everything comes from here, and pictures from the interface.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src blob:; \
                      connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// What the interface shows and changes.
#[derive(Clone)]
pub struct House {
    bell: Bell,
    board: Board,
    directory: Arc<Directory>,
    feed: Arc<Feed>,
    /// What is watched is only tried: words are looked for as they are typed.
    is_tried: bool,
}

impl House {
    pub fn new(bell: Bell, board: &Board, fleet: &Fleet, is_tried: bool) -> House {
        House { bell, board: board.clone(), directory: fleet.directory(), feed: fleet.feed(), is_tried }
    }
}

/// Serves from now on, where is returned.
///
/// # Errors
/// The address is not free.
pub fn serve(web: &Web, house: House) -> Result<SocketAddr> {
    let guard = Arc::new(Guard::new(web.token.as_deref()));
    listen(web.listen, router(house, guard, !web.listen.ip().is_loopback()))
}

/// Serves recorded results from now on, to this machine alone; returns where.
///
/// # Errors
/// The address is not free.
pub fn serve_results(address: SocketAddr, results: Results) -> Result<SocketAddr> {
    ensure!(
        address.ip().is_loopback(),
        "recorded results are shown on this machine alone: --listen 127.0.0.1:8090"
    );
    listen(address, guarded(page::player().merge(results::routes(results)), Arc::new(Guard::new(None))))
}

fn listen(address: SocketAddr, router: Router) -> Result<SocketAddr> {
    http::serve("web", address, CLIENTS, move |stream| {
        let service = TowerToHyperService::new(router.clone());
        async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(QUESTION);
            // A client that leaves in the middle, or says nothing, has no answer.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .with_context(|| format!("web: cannot listen on {address}"))
}

fn router(house: House, guard: Arc<Guard>, is_secure: bool) -> Router {
    let probe = |probe: fn(&Board) -> Result<(), String>| {
        get(move |State(house): State<House>| async move { api::probed(probe(&house.board)) })
    };
    let routes = page::routes()
        .route("/healthz", probe(Board::health))
        .route("/readyz", probe(Board::readiness))
        .merge(api::routes())
        .merge(api::session(guard.clone(), is_secure));
    guarded(routes.with_state(house), guard)
}

/// With an answer to everything else, and nothing for who may not ask.
fn guarded(routes: Router, guard: Arc<Guard>) -> Router {
    routes
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "that cannot be done with it")
        })
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(from_fn_with_state(guard, admit))
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let session = text(COOKIE).and_then(|cookies| {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
    });
    let ask = Ask {
        path: request.uri().path(),
        changes: !matches!(*request.method(), Method::GET | Method::HEAD),
        is_json: text(CONTENT_TYPE).is_some_and(|kind| kind.split(';').next() == Some("application/json")),
        host: text(HOST),
        origin: text(ORIGIN),
        bearer: text(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")),
        session,
    };
    let is_page = !ask.path.starts_with("/api/");
    let mut response = match guard.check(&ask) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => refuse(status, why),
    };
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(CONTENT_SECURITY_POLICY, fixed(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(REFERRER_POLICY, fixed("no-referrer"));
    // The page belongs to the program of this version.
    headers.insert(CACHE_CONTROL, fixed(if is_page { "no-cache" } else { "no-store" }));
    response
}

/// An answer that says why not.
fn refuse(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(json!({ "error": why.into() }))).into_response()
}
