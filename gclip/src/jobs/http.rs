// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program's HTTP client for the object store, which else would bring one of its own.

use std::time::Duration;

use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use ureq::Agent;
use ureq::http::request::Parts;
use ureq::http::{Method, Request};

/// To connect, and for the whole of one request.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(300);
/// The answers to what is asked here are short, bytes.
const LONGEST: u64 = 16 << 20;

#[derive(Debug)]
pub struct Connector;

#[derive(Debug)]
struct Service(Agent);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(REQUEST))
            .build();
        Ok(HttpClient::new(Service(config.into())))
    }
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let agent = self.0.clone();
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let asked = tokio::task::spawn_blocking(move || ask(&agent, parts, &body)).await;
        asked.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?
    }
}

fn ask(agent: &Agent, parts: Parts, body: &[u8]) -> Result<HttpResponse, HttpError> {
    // What asks only is asked without a body, and not with one of no bytes.
    let answer = match parts.method {
        Method::GET | Method::HEAD | Method::DELETE => agent.run(Request::from_parts(parts, ())),
        _ => agent.run(Request::from_parts(parts, body)),
    };
    let (parts, mut body) = answer.map_err(explain)?.into_parts();
    let bytes = body.with_config().limit(LONGEST).read_to_vec().map_err(explain)?;
    Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(bytes)))
}

/// The kind decides whether it is tried again.
fn explain(error: ureq::Error) -> HttpError {
    let kind = match &error {
        ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            HttpErrorKind::Connect
        }
        ureq::Error::Io(_) => HttpErrorKind::Interrupted,
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
