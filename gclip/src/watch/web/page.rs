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

/// The page of cameras, and that of recorded results: each has "/".
const CAMERAS: (&str, &str, &str) = files! { "/" "index.html" "text/html", }[0];
const RESULTS: (&str, &str, &str) = files! { "/" "player.html" "text/html", }[0];

const FILES: [(&str, &str, &str); 20] = files! {
    "/style.css" "style.css" "text/css",
    "/app.js" "app.js" "text/javascript",
    "/camera.js" "camera.js" "text/javascript",
    "/classes.js" "classes.js" "text/javascript",
    "/dom.js" "dom.js" "text/javascript",
    "/drawing.js" "drawing.js" "text/javascript",
    "/events.js" "events.js" "text/javascript",
    "/health.js" "health.js" "text/javascript",
    "/history.js" "history.js" "text/javascript",
    "/interface.js" "interface.js" "text/javascript",
    "/looking.js" "looking.js" "text/javascript",
    "/masks.js" "masks.js" "text/javascript",
    "/player.js" "player.js" "text/javascript",
    "/plots.js" "plots.js" "text/javascript",
    "/recorded.js" "recorded.js" "text/javascript",
    "/stage.js" "stage.js" "text/javascript",
    "/text.js" "text.js" "text/javascript",
    "/wall.js" "wall.js" "text/javascript",
    "/words.js" "words.js" "text/javascript",
    "/zones.js" "zones.js" "text/javascript",
};

/// Of cameras.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    served(CAMERAS)
}

/// Of recorded results.
pub fn player<S: Clone + Send + Sync + 'static>() -> Router<S> {
    served(RESULTS)
}

fn served<S: Clone + Send + Sync + 'static>(first: (&'static str, &'static str, &'static str)) -> Router<S> {
    FILES.into_iter().chain([first]).fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(CONTENT_TYPE, kind)], text) }))
    })
}
