// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a camera, in words for whoever has to mend it.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use gst::ResourceError;

use super::config::Address;
use super::console::Console;

/// RTSP's port where the URL has none.
const PORT: u16 = 554;
/// For finding out why there is no connection.
const TRY: Duration = Duration::from_secs(2);

/// An error of the pipeline as one sentence. GStreamer's own words pass `console` first: they may hold secrets.
pub fn explain(error: &gst::message::Error, address: &Address, console: &Console) -> String {
    let (sentence, cause) = (console.hide(&error.error().to_string()), console.hide(&cause(error)));
    match error.error().kind::<ResourceError>() {
        Some(ResourceError::NotFound) => format!("{address} is not there (404): the path is wrong"),
        Some(ResourceError::NotAuthorized) => format!("{address} refuses user or password (401)"),
        Some(ResourceError::OpenRead | ResourceError::OpenReadWrite) => match connect(address) {
            Err(why) => why,
            Ok(()) => format!("{address} does not answer as RTSP: {cause}"),
        },
        Some(ResourceError::Read) if cause.contains("imeout") => format!("{address} does not answer"),
        _ if cause.is_empty() => sentence,
        _ => format!("{} {cause}", sentence.trim_end()),
    }
}

/// The last line of the text for developers, which names the cause that the sentence leaves out.
fn cause(error: &gst::message::Error) -> String {
    let debug = error.debug().unwrap_or_default();
    let last = debug.lines().last().unwrap_or_default().trim();
    // A text of one line holds nothing but the place in the source.
    if last.contains(".c(") || *last == error.error().to_string() { String::new() } else { last.to_string() }
}

/// GStreamer says only that there is no connection; trying it again says why.
fn connect(address: &Address) -> Result<(), String> {
    let port = address.port.unwrap_or(PORT);
    // An address of IPv6 stands in brackets in a URL.
    let host = address.host.trim_matches(['[', ']']);
    let found = (host, port).to_socket_addrs().map_err(|_| format!("there is no host called {host}"))?;
    let mut why = format!("there is no host called {host}");
    for place in found {
        match TcpStream::connect_timeout(&place, TRY) {
            Ok(_) => return Ok(()),
            Err(error) => why = format!("no connection to {place}: {error}"),
        }
    }
    Err(why)
}
