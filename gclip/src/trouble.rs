// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong with a source of pictures, in words for whoever has to mend it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Error, anyhow};
use gst::prelude::*;
use gst::{ResourceError, StreamError};

use crate::address::Address;

/// RTSP's port where the URL has none.
const PORT: u16 = 554;
/// For finding out why there is no connection.
const TRY: Duration = Duration::from_secs(2);
/// Of an answer, as much as is read to find out what the camera wants.
const ANSWER: u64 = 16 << 10;

/// The camera does not accept user and password.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// An error of a pipeline that reads a camera, as one sentence. GStreamer's own words pass `hide` first: they may hold
/// secrets.
pub fn explain(error: &gst::message::Error, address: &Address, hide: &dyn Fn(&str) -> String) -> Error {
    let (sentence, cause) = (hide(&error.error().to_string()), hide(&cause(error)));
    if let Some(what) = without_video(error) {
        return anyhow!("{address}: {what}");
    }
    if sends_nothing(error) {
        return anyhow!("{address} sends no stream, neither by UDP nor by TCP");
    }
    if let Some(answer) = answer(&cause) {
        return anyhow!("{address} answers {answer}");
    }
    match error.error().kind::<ResourceError>() {
        Some(ResourceError::NotFound) => anyhow!("{address} is not there (404): the path is wrong"),
        Some(ResourceError::NotAuthorized) => Error::new(Refused(refusal(address))),
        Some(ResourceError::OpenRead | ResourceError::OpenReadWrite) => match connect(address) {
            Err(why) => anyhow!("{why}"),
            Ok(_) => anyhow!("{address} does not answer as RTSP: {cause}"),
        },
        Some(ResourceError::Read) if cause.contains("imeout") => anyhow!("{address} does not answer"),
        // GStreamer has no sentence for it, but what the camera says.
        _ if sentence.starts_with("Unhandled error") && !cause.is_empty() => {
            anyhow!("{address} answers {cause}")
        }
        _ if cause.is_empty() => anyhow!("{sentence}"),
        _ => anyhow!("{} {cause}", sentence.trim_end()),
    }
}

/// GStreamer's message in one sentence, without its source.
pub fn sentence(error: &gst::message::Error) -> String {
    without_video(error).map_or_else(|| error.error().to_string(), str::to_string)
}

/// GStreamer's message in one sentence with its source; the debug text only helps developers.
pub fn readable(error: &gst::message::Error) -> Error {
    if let Some(what) = without_video(error) {
        return anyhow!("{what}");
    }
    let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
    if source.is_empty() { anyhow!("{}", error.error()) } else { anyhow!("{source}: {}", error.error()) }
}

/// The error because of which a pipeline does not start.
pub fn first_error(bus: &gst::Bus) -> Error {
    let error = bus.timed_pop_filtered(gst::ClockTime::from_seconds(2), &[gst::MessageType::Error]);
    match error.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => readable(error),
        _ => anyhow!("the pipeline does not start"),
    }
}

/// What decoder is missing, if that is what a message is about.
pub fn missing_decoder(structure: &gst::StructureRef) -> Option<String> {
    if structure.name() != "missing-plugin" || structure.get::<&str>("type") != Ok("decoder") {
        return None;
    }
    let caps = structure.get::<gst::Caps>("detail").ok()?;
    let media = caps.structure(0)?.name();
    // Sound is not looked at.
    if media.starts_with("audio/") {
        return None;
    }
    let name = structure.get::<String>("name").unwrap_or_else(|_| media.to_string());
    Some(format!("no decoder for {name} is installed (Debian: gstreamer1.0-libav, gstreamer1.0-plugins-bad)"))
}

/// An error that says in many words that nothing could be decoded.
fn without_video(error: &gst::message::Error) -> Option<&'static str> {
    let debug = error.debug().unwrap_or_default();
    let nothing = "it holds no video that can be decoded";
    match error.error().kind::<StreamError>() {
        Some(StreamError::CodecNotFound | StreamError::WrongType | StreamError::TypeNotFound) => {
            Some(nothing)
        }
        // What is not linked flows nowhere.
        Some(StreamError::Failed) if debug.contains("not-linked") || is_unknown_type(error) => Some(nothing),
        _ => None,
    }
}

/// Whether it is `rtspsrc` that got no stream, in the words of what it is part of: those of a missing plugin.
fn sends_nothing(error: &gst::message::Error) -> bool {
    let debug = error.debug().unwrap_or_default();
    error.error().matches(gst::CoreError::MissingPlugin) && debug.contains("gst_rtspsrc_setup_streams")
}

/// Whether it says that the camera sends, but by none of the protocols that were allowed. `rtspsrc` says the same of a camera
/// of which nothing is fetched.
pub fn is_other_transport(error: &gst::message::Error) -> bool {
    let text = format!("{} {}", error.error(), error.debug().unwrap_or_default());
    ["transport protocols", "no protocols left"].iter().any(|words| text.contains(words))
}

/// Whether it is who looks for the type of the data that gives up.
fn is_unknown_type(error: &gst::message::Error) -> bool {
    let element = error.src().and_then(|source| source.downcast_ref::<gst::Element>());
    element.and_then(|element| element.factory()).is_some_and(|factory| factory.name() == "typefind")
}

/// The last line of the text for developers, which names the cause that the sentence leaves out.
fn cause(error: &gst::message::Error) -> String {
    let debug = error.debug().unwrap_or_default();
    let last = debug.lines().last().unwrap_or_default().trim();
    // A text of one line holds nothing but the place in the source.
    if last.contains(".c(") || *last == error.error().to_string() { String::new() } else { last.to_string() }
}

/// What a camera has answered to a question in the middle, as GStreamer writes it: `Error (403): Forbidden`.
fn answer(cause: &str) -> Option<String> {
    let (code, words) = cause.strip_prefix("Error (")?.split_once("): ")?;
    Some(format!("{words} ({code})"))
}

/// GStreamer says only that there is no connection; trying it again says why.
pub fn connect(address: &Address) -> Result<TcpStream, String> {
    let port = address.port.unwrap_or(PORT);
    // An address of IPv6 stands in brackets in a URL.
    let host = address.host.trim_matches(['[', ']']);
    let found = (host, port).to_socket_addrs().map_err(|_| format!("there is no host called {host}"))?;
    let mut why = format!("there is no host called {host}");
    for place in found {
        match TcpStream::connect_timeout(&place, TRY) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("no connection to {place}: {error}"),
        }
    }
    Err(why)
}

/// Why a camera says 401: it may want a way of proving the password that GStreamer does not know.
fn refusal(address: &Address) -> String {
    let wanted = ask(address).unwrap_or_default();
    if address.user.is_none() {
        return format!(
            "{address} wants user and password (401): write them as user:password@ before the host in its URL"
        );
    }
    if only_sha256(&wanted) {
        return format!(
            "{address} wants the password by SHA-256 digest, which GStreamer's rtspsrc does not speak: allow MD5 digest \
             beside it in the camera's settings, or basic authentication over rtsps://"
        );
    }
    format!("{address} refuses user or password (401)")
}

/// What a camera answers to a DESCRIBE without a password. It is not a try that counts: it holds no wrong one.
fn ask(address: &Address) -> Option<String> {
    if address.location.starts_with("rtsps:") {
        return None;
    }
    let mut stream = connect(address).ok()?;
    stream.set_read_timeout(Some(TRY)).ok()?;
    let request =
        format!("DESCRIBE {} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n", address.location);
    stream.write_all(request.as_bytes()).ok()?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    let mut stream = stream.take(ANSWER);
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(length @ 1..) => answer.extend_from_slice(&piece[..length]),
            _ => break,
        }
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether every offer in an answer is a digest by SHA-256.
fn only_sha256(answer: &str) -> bool {
    let lower = answer.to_ascii_lowercase();
    let mut offers = lower.lines().filter_map(|line| line.strip_prefix("www-authenticate:")).peekable();
    offers.peek().is_some()
        && offers.all(|offer| offer.trim_start().starts_with("digest") && offer.contains("sha-256"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_camera_answers_is_told_with_its_number() {
        assert_eq!(answer("Error (403): Forbidden").as_deref(), Some("Forbidden (403)"));
        assert_eq!(answer("Could not receive message. (Parse error)"), None);
    }

    #[test]
    fn who_sends_but_not_in_this_way_is_told_from_who_has_nothing() {
        gst::init().unwrap();
        let address = Address::parse("rtsp://camera/1", &["rtsp"]).unwrap();
        let told = |error: &gst::message::Error| explain(error, &address, &str::to_string).to_string();
        let of =
            |kind: StreamError, debug: &str| gst::message::Error::builder(kind, "x").debug(debug).build();
        let refused = of(
            StreamError::CodecNotFound,
            "You might need to allow more transport protocols or may otherwise",
        );
        let message = gst::message::Error::builder(
            gst::CoreError::MissingPlugin,
            "Your installation is missing a plug-in.",
        );
        let inside = message.debug("no suitable plugins found:\n../gst/rtsp/gstrtspsrc.c(7894): gst_rtspsrc_setup_streams_start ()").build();
        for (message, other, words) in [
            (refused, true, "rtsp://camera/1: it holds no video that can be decoded"),
            (
                of(StreamError::CodecNotFound, "no decoder"),
                false,
                "rtsp://camera/1: it holds no video that can be decoded",
            ),
            (inside, false, "rtsp://camera/1 sends no stream, neither by UDP nor by TCP"),
        ] {
            let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
            assert_eq!((is_other_transport(error), told(error).as_str()), (other, words));
        }
    }

    #[test]
    fn what_a_camera_wants() {
        let sha = "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"c\", nonce=\"a\", algorithm=SHA-256\r\n";
        assert!(only_sha256(sha));
        assert!(!only_sha256(&format!("{sha}WWW-Authenticate: Digest realm=\"c\", nonce=\"a\"\r\n")));
        assert!(
            !only_sha256(&format!("{sha}WWW-Authenticate: Basic realm=\"c\"\r\n"))
                && !only_sha256("RTSP/1.0 200 OK")
        );
    }
}
