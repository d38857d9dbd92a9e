// SPDX-License-Identifier: MIT OR Apache-2.0
//! The files of the page: plain ES modules, in the program.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

/// A file by its name, with the path and the kind that it has for a browser.
macro_rules! files {
    ($($path:literal $name:literal $kind:literal,)*) => {
        [$(($path, concat!($kind, "; charset=utf-8"), include_str!(concat!("page/", $name)))),*]
    };
}

const FILES: [(&str, &str, &str); 16] = files! {
    "/" "index.html" "text/html",
    "/style.css" "style.css" "text/css",
    "/app.js" "app.js" "text/javascript",
    "/camera.js" "camera.js" "text/javascript",
    "/classes.js" "classes.js" "text/javascript",
    "/dom.js" "dom.js" "text/javascript",
    "/events.js" "events.js" "text/javascript",
    "/health.js" "health.js" "text/javascript",
    "/interface.js" "interface.js" "text/javascript",
    "/looking.js" "looking.js" "text/javascript",
    "/masks.js" "masks.js" "text/javascript",
    "/stage.js" "stage.js" "text/javascript",
    "/text.js" "text.js" "text/javascript",
    "/wall.js" "wall.js" "text/javascript",
    "/words.js" "words.js" "text/javascript",
    "/zones.js" "zones.js" "text/javascript",
};

pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(CONTENT_TYPE, kind)], text) }))
    })
}
