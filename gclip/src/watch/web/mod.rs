// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page in the browser, and the interface behind it (`docs/control.md`), on a thread of its own. The page uses
//! nothing but the interface.

mod api;
mod asked;
mod events;
mod guard;
mod pace;
mod page;
mod results;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::body::{Body, HttpBody};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST,
    HeaderName, ORIGIN, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::config::Web;
use super::console::Console;
use super::desk::Bell;
use super::history::History;
use super::http::{self, Full};
use super::metrics::Board;
use super::roster::{Directory, Roster};
use super::tls::Renewed;
use guard::{Ask, Guard};
use pace::Pace;
pub use results::Results;

/// Browsers keep several conversations each; more are told so.
const CLIENTS: usize = 256;
/// A client that has begun a question has so long to finish it.
const QUESTION: Duration = Duration::from_secs(10);
/// Questions a second from one address, and at once after a pause: those that look, and those that change something. A page
/// needs a few; behind a proxy all have one address.
const QUESTIONS: (f64, f64) = (50.0, 200.0);
const CHANGES: (f64, f64) = (10.0, 60.0);
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
    history: Arc<History>,
    /// What is watched is only tried: words are looked for as they are typed.
    is_tried: bool,
}

impl House {
    pub fn new(bell: Bell, board: &Board, roster: &Roster, history: &Arc<History>, is_tried: bool) -> House {
        let (board, history) = (board.clone(), history.clone());
        House { bell, board, directory: roster.directory(), history, is_tried }
    }
}

/// Serves from now on, where is returned.
///
/// # Errors
/// The address is not free, or the certificate cannot be used.
pub fn serve(web: &Web, house: House, console: &Arc<Console>) -> Result<SocketAddr> {
    let guard = Arc::new(Guard::new(web.token.as_deref(), web.login.clone()));
    let tls = web.tls.as_ref().map(Renewed::new).transpose()?.map(Arc::new);
    let is_secure = web.tls.is_some() || web.behind_proxy;
    let console = console.clone();
    let told = move |what: String| console.log("web", &what);
    listen(web.listen, router(house, guard, is_secure), tls, told)
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
    let guard = Arc::new(Guard::new(None, None));
    listen(address, guarded(page::player().merge(results::routes(results)), guard), None, |_| {})
}

fn listen(
    address: SocketAddr,
    router: Router,
    tls: Option<Arc<Renewed>>,
    told: impl Fn(String) + Send + 'static,
) -> Result<SocketAddr> {
    // Who is refused would have to be greeted in TLS first, which costs more than a place.
    let full = if tls.is_some() { Full::Close } else { Full::Answer };
    http::serve("web", address, (CLIENTS, full), move |stream, from| {
        let service = TowerToHyperService::new(router.clone().layer(Extension(Asker(from.ip()))));
        let config = tls.as_ref().map(|tls| tls.now(&told));
        async move {
            match config {
                None => converse(stream, service).await,
                Some(config) => {
                    let greeting = tokio::time::timeout(QUESTION, TlsAcceptor::from(config).accept(stream));
                    // Who does not speak TLS has no answer.
                    if let Ok(Ok(stream)) = greeting.await {
                        converse(stream, service).await;
                    }
                }
            }
        }
    })
    .with_context(|| format!("web: cannot listen on {address}"))
}

/// Where a question comes from.
#[derive(Clone, Copy)]
struct Asker(IpAddr);

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, service: TowerToHyperService<Router>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(QUESTION);
    // A client that leaves in the middle, or says nothing, has no answer.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

fn router(house: House, guard: Arc<Guard>, is_secure: bool) -> Router {
    let probe = |probe: fn(&Board) -> Result<(), String>| {
        get(move |State(house): State<House>| async move { api::probed(probe(&house.board)) })
    };
    let routes = page::routes()
        .route("/healthz", probe(Board::health))
        .route("/readyz", probe(Board::readiness))
        .merge(api::routes())
        .merge(events::routes())
        .merge(session::routes(guard.clone(), is_secure));
    guarded(routes.with_state(house), guard)
}

/// With an answer to everything else, and nothing for who may not ask.
fn guarded(routes: Router, guard: Arc<Guard>) -> Router {
    routes
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "that cannot be done with it")
        })
        // The whole of a question is there before it is answered, and no larger.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(Arc::new(Porter::new(guard)), admit))
}

/// Who lets questions in.
struct Porter {
    guard: Arc<Guard>,
    questions: Pace,
    changes: Pace,
}

impl Porter {
    fn new(guard: Arc<Guard>) -> Porter {
        let [questions, changes] = [QUESTIONS, CHANGES].map(|(rate, burst)| Pace::new(rate, burst));
        Porter { guard, questions, changes }
    }

    /// # Errors
    /// Why it is not let in.
    fn check(&self, ask: &Ask, from: IpAddr) -> Result<(), (StatusCode, &'static str)> {
        self.guard.check(ask)?;
        let now = Instant::now();
        let takes = match (ask.changes, is_paced(ask.path)) {
            (true, _) => self.changes.takes(from, now),
            (false, true) => self.questions.takes(from, now),
            (false, false) => true,
        };
        if takes {
            Ok(())
        } else {
            Err((StatusCode::TOO_MANY_REQUESTS, "that is asked too often: wait a moment"))
        }
    }
}

/// Pictures are waited for, ten a second of each camera at most, and the page itself costs nothing.
fn is_paced(path: &str) -> bool {
    path.starts_with("/api/") && !path.ends_with("/view") && !path.ends_with("/picture")
}

/// The question with all that belongs to it.
///
/// # Errors
/// It is too large, or does not end in time.
async fn whole(request: Request) -> Result<Request, (StatusCode, &'static str)> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, body));
    }
    match tokio::time::timeout(QUESTION, axum::body::to_bytes(body, LARGEST)).await {
        Ok(Ok(bytes)) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "that is too much: 256 KiB at most")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "it has not come to an end within 10 seconds")),
    }
}

async fn admit(
    State(porter): State<Arc<Porter>>,
    Extension(Asker(from)): Extension<Asker>,
    request: Request,
    next: Next,
) -> Response {
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
    let checked = porter.check(&ask, from);
    let admitted = match checked {
        Ok(()) => whole(request).await,
        Err(why) => Err(why),
    };
    let mut response = match admitted {
        Ok(request) => next.run(request).await,
        Err((status, why)) => refuse(status, why),
    };
    let status = response.status();
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(RETRY_AFTER, fixed("1"));
    }
    if status == StatusCode::REQUEST_TIMEOUT {
        // What is left of the question is not waited for.
        headers.insert(CONNECTION, fixed("close"));
    }
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
