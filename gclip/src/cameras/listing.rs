// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was found, as lines of a config or as JSON. Names come from strangers, who must not write lines of their own.

use anyhow::{Context, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use url::Url;

use super::device::{Role, Stream};
use super::probe::Device;
use super::soap::Login;
use crate::say::say;

pub enum Form {
    /// TOML for `gclip watch`.
    Config,
    /// An object per line.
    Json,
}

pub struct Camera {
    pub device: Device,
    /// The address that was asked, and what it told.
    pub streams: Result<(Url, Vec<Stream>)>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware: Option<&'a str>,
    endpoint: &'a str,
    address: String,
    streams: &'a [Stream],
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub fn print(cameras: &[Camera], login: Option<&Login>, form: Form) -> Result<()> {
    let hide = |text: &str| without_password(text, login);
    let mut names = Vec::new();
    if matches!(form, Form::Config) {
        say!("# For gclip watch, which also wants `prompts`, of each camera or in [defaults].");
        if login.is_some() {
            say!("# Passwords are left out: write rtsp://user:password@host/...");
        }
    }
    for camera in cameras {
        let name = own_name(&camera.device, &mut names);
        match form {
            Form::Config => say!("{}", hide(&table(&name, camera, login))),
            Form::Json => {
                let line = Line {
                    name: &name,
                    hardware: camera.device.hardware.as_deref(),
                    endpoint: &camera.device.endpoint,
                    address: address(camera),
                    streams: camera.streams.as_ref().map_or(&[], |(_, streams)| streams),
                    error: camera.streams.as_ref().err().map(|error| format!("{error:#}")),
                };
                say!("{}", hide(&serde_json::to_string(&line).context("JSON")?));
            }
        }
    }
    Ok(())
}

/// What is wrong with a camera, with its address.
pub fn failure(camera: &Camera) -> Option<String> {
    let error = camera.streams.as_ref().err()?;
    Some(visible(&format!("{}: {error:#}", address(camera))))
}

/// One camera's table: the smallest stream is enough for the model, the others are there to choose.
fn table(name: &str, camera: &Camera, login: Option<&Login>) -> String {
    let device = &camera.device;
    let called = device.name.as_deref().unwrap_or("unnamed");
    let hardware = device.hardware.as_deref().map_or(String::new(), |hardware| format!(" ({hardware})"));
    let mut lines = vec![String::new(), visible(&format!("# {called}{hardware} at {}", address(camera)))];
    match &camera.streams {
        Err(error) => lines.push(visible(&format!("# its streams are not known: {error:#}"))),
        Ok((_, streams)) => {
            lines.push("[[camera]]".into());
            lines.push(format!("name = \"{name}\""));
            // A sub stream is the last one.
            for (index, stream) in streams.iter().rev().enumerate() {
                let hash = if index == 0 { "" } else { "# " };
                lines.push(format!(
                    "{hash}url = \"{}\"  # {}",
                    url_of(stream, login),
                    visible(&described(stream))
                ));
            }
        }
    }
    lines.join("\n")
}

/// `sub: H264 640x360, 15 frames/s`
fn described(stream: &Stream) -> String {
    let role = match stream.role {
        Role::Main => "main",
        Role::Sub => "sub",
        Role::Other => "another",
    };
    let size = stream.width.zip(stream.height).map(|(width, height)| format!(" {width}x{height}"));
    let rate = stream.fps.map(|fps| format!(", {fps} frames/s"));
    let encoding = stream.encoding.as_deref().unwrap_or("video");
    format!("{role}: {encoding}{}{}", size.unwrap_or_default(), rate.unwrap_or_default())
}

/// With the user, for whoever adds the password. A URL that was read holds no quotes and no control characters.
fn url_of(stream: &Stream, login: Option<&Login>) -> String {
    let with_user = login.and_then(|login| {
        let mut url = Url::parse(&stream.url).ok()?;
        url.set_username(&login.user).ok()?;
        Some(url.to_string())
    });
    with_user.unwrap_or_else(|| stream.url.clone()).replace('\\', "%5C").replace('"', "%22")
}

/// The address that was asked, or would be first.
fn address(camera: &Camera) -> String {
    let asked = camera.streams.as_ref().ok().map(|(address, _)| address);
    asked.or(camera.device.addresses.first()).map(Url::to_string).unwrap_or_default()
}

/// A name that `gclip watch` takes, and that no other camera has.
fn own_name(device: &Device, taken: &mut Vec<String>) -> String {
    let host = || device.addresses.first().and_then(Url::host_str).map(|host| format!("camera-{host}"));
    let called = device.name.clone().or_else(host).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = called.chars().take(40).map(fits).collect();
    let name = name.trim_matches(['-', '.']);
    let name = if name.is_empty() { "camera" } else { name };
    let mut own = name.to_string();
    for number in 2.. {
        if !taken.contains(&own) {
            break;
        }
        own = format!("{name}-{number}");
    }
    taken.push(own.clone());
    own
}

/// A text without what moves a terminal's cursor or begins a new line.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Some cameras put the password into the path of their streams.
fn without_password(text: &str, login: Option<&Login>) -> String {
    let Some(login) = login.filter(|login| !login.password.is_empty()) else { return text.to_string() };
    let encoded = utf8_percent_encode(&login.password, NON_ALPHANUMERIC).to_string();
    text.replace(&login.password, "PASSWORD").replace(&encoded, "PASSWORD")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: Option<&str>, host: &str) -> Device {
        let addresses = vec![Url::parse(&format!("http://{host}/onvif/device_service")).unwrap()];
        Device { endpoint: "urn:uuid:1".into(), addresses, name: name.map(str::to_string), hardware: None }
    }

    #[test]
    fn names_are_what_the_config_takes() {
        let mut taken = vec![];
        let mut name = |name, host| own_name(&device(name, host), &mut taken);
        assert_eq!(name(Some("Front door"), "10.0.0.7"), "Front-door");
        assert_eq!(name(Some("Front/door"), "10.0.0.8"), "Front-door-2");
        assert_eq!(name(None, "10.0.0.9"), "camera-10.0.0.9");
        assert_eq!(name(Some("犬\n[[camera]]"), "10.0.0.9"), "camera");
    }

    #[test]
    fn a_camera_cannot_write_lines_nor_show_the_password() {
        let login = Login { user: "a@b".into(), password: "s3cr+t".into() };
        let stream = |role, width, url: &str| Stream {
            role,
            profile: "p".into(),
            encoding: Some("H264\nmodel = 1".into()),
            width: Some(width),
            height: Some(360),
            fps: Some(12.5),
            url: url.into(),
        };
        let streams = vec![
            stream(Role::Main, 1920, "rtsp://10.0.0.7/main"),
            stream(Role::Sub, 640, "rtsp://10.0.0.7/user=a_password=s3cr%2Bt?x=s3cr+t\"&y=1"),
        ];
        let found = device(Some("x\nurl = 1\u{1b}[2J"), "10.0.0.7");
        let asked = found.addresses[0].clone();
        let camera = Camera { device: found, streams: Ok((asked, streams)) };
        let text = without_password(&table("x", &camera, Some(&login)), Some(&login));
        let expected = "\n# x url = 1 [2J at http://10.0.0.7/onvif/device_service\n[[camera]]\nname = \"x\"\n\
            url = \"rtsp://a%40b@10.0.0.7/user=a_password=PASSWORD?x=PASSWORD%22&y=1\"  # sub: H264 model = 1 640x360, 12.5 frames/s\n\
            # url = \"rtsp://a%40b@10.0.0.7/main\"  # main: H264 model = 1 1920x360, 12.5 frames/s";
        assert_eq!(text, expected);
    }
}
