// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in a path or behind its `?`, refused in the interface's own way where it is wrong.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error};

use super::refuse;
use crate::watch::line;

/// Behind the `?`.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Response> {
        let asked = Query::from_request_parts(parts, state).await;
        asked.map(|Query(asked)| Asked(asked)).map_err(|why| refuse(StatusCode::BAD_REQUEST, why.body_text()))
    }
}

/// In the path.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named<T>, Response> {
        let named = Path::from_request_parts(parts, state).await;
        named.map(|Path(named)| Named(named)).map_err(|why| refuse(StatusCode::BAD_REQUEST, why.body_text()))
    }
}

/// Microseconds since 1970 of what is written as in the lines.
pub fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let text = String::deserialize(from)?;
    let what = || D::Error::custom(format!("`{text}` is no time: write it as 2025-11-29T07:00:00Z"));
    line::micros(&text).map(Some).ok_or_else(what)
}
