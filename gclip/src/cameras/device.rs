// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device tells of its streams: where its media service is, which profiles it has, and the URL of each.

use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use quick_xml::escape::escape;
use serde::Serialize;
use url::Url;

use super::probe::Device;
use super::soap::{Client, Login, Refused};
use super::xml::Node;
use crate::address::Address;

/// Profiles whose URL is asked for.
const MOST_PROFILES: usize = 12;
/// A device may take this many times the time for one answer.
const ANSWERS: u32 = 4;

const DEVICE: &str = "http://www.onvif.org/ver10/device/wsdl";
const MEDIA: &str = "http://www.onvif.org/ver10/media/wsdl";
const SCHEMA: &str = "http://www.onvif.org/ver10/schema";

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The largest picture.
    Main,
    /// The smallest, where there are two.
    Sub,
    Other,
}

#[derive(Debug, Serialize)]
pub struct Stream {
    pub role: Role,
    pub profile: String,
    pub encoding: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// Frames a second, at most.
    pub fps: Option<f64>,
    /// Without user and password.
    pub url: String,
}

struct Profile {
    token: String,
    name: String,
    encoding: Option<String>,
    size: Option<(u32, u32)>,
    fps: Option<f64>,
}

/// The device's streams, main first, and the address at which it told them.
///
/// # Errors
/// None of its addresses leads to a stream: what is wrong with the first.
pub fn streams(device: &Device, login: Option<&Login>, one: Duration) -> Result<(Url, Vec<Stream>)> {
    let mut why = None;
    for address in &device.addresses {
        match ask(address, login, one) {
            Ok(streams) => return Ok((address.clone(), streams)),
            // A wrong password once more is one step nearer to being locked out.
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.unwrap_or_else(|| Error::msg("it names no address")))
}

fn ask(address: &Url, login: Option<&Login>, one: Duration) -> Result<Vec<Stream>> {
    let mut client = Client::new(login, one, one * ANSWERS);
    if client.has_login()
        && let Some(seconds) = clock(&client, address)
    {
        client.set_clock(seconds);
    }
    let capabilities =
        format!("<GetCapabilities xmlns=\"{DEVICE}\"><Category>Media</Category></GetCapabilities>");
    let capabilities = client.ask(address, &capabilities)?;
    let service = capabilities.find("Media").and_then(|media| media.text_of("XAddr"));
    let service = media_service(service.context("it has no media service")?, address)?;
    let profiles = client.ask(&service, &format!("<GetProfiles xmlns=\"{MEDIA}\"/>"))?;
    let profiles: Vec<Profile> = profiles.all("Profiles").into_iter().filter_map(profile).collect();
    ensure!(!profiles.is_empty(), "it has no profile with video");
    let mut found: Vec<(Profile, String)> = Vec::new();
    let mut why = None;
    for profile in profiles.into_iter().take(MOST_PROFILES) {
        match stream_url(&client, &service, &profile.token) {
            // Two profiles may be one stream.
            Ok(url) if found.iter().all(|(_, known)| *known != url) => found.push((profile, url)),
            Ok(_) => {}
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => why = why.or(Some(error)),
        }
    }
    match why {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(sorted(found)),
    }
}

/// The service that a device names. One that does not know its own address, as behind a forwarded port, is asked
/// where it was found.
fn media_service(written: &str, device: &Url) -> Result<Url> {
    let mut service = Url::parse(written).context("it names no address of its media service")?;
    ensure!(matches!(service.scheme(), "http" | "https"), "it names no address of its media service");
    if service.host_str() != device.host_str() && service.scheme() == device.scheme() {
        // A URL of HTTP takes any host, and the port of another one.
        let _ = service.set_host(device.host_str());
        let _ = service.set_port(device.port());
    }
    Ok(service)
}

/// What the device's clock shows, in seconds since 1970. Anybody may ask.
fn clock(client: &Client, device: &Url) -> Option<i64> {
    let answer = client.ask_openly(device, &format!("<GetSystemDateAndTime xmlns=\"{DEVICE}\"/>")).ok()?;
    let utc = answer.find("UTCDateTime")?;
    let number = |name: &str| utc.text_of(name)?.parse::<i32>().ok();
    let (hour, minute, second) = (number("Hour")?, number("Minute")?, number("Second")?);
    let time = glib::DateTime::from_utc(
        number("Year")?,
        number("Month")?,
        number("Day")?,
        hour,
        minute,
        f64::from(second),
    );
    Some(time.ok()?.to_unix())
}

/// `None`: one without video.
fn profile(node: &Node) -> Option<Profile> {
    let token = node.attribute("token")?.to_string();
    let video = node.find("VideoEncoderConfiguration")?;
    let size = video.find("Resolution").and_then(|resolution| {
        let number = |name| resolution.text_of(name)?.parse::<u32>().ok();
        Some((number("Width")?, number("Height")?))
    });
    let name = node.children().find(|child| child.name == "Name").map_or("", Node::text);
    Some(Profile {
        name: if name.is_empty() { token.clone() } else { name.to_string() },
        token,
        encoding: video.text_of("Encoding").map(str::to_string),
        size,
        fps: video.text_of("FrameRateLimit").and_then(|text| text.parse().ok()),
    })
}

fn stream_url(client: &Client, service: &Url, token: &str) -> Result<String> {
    let token = escape(token);
    let question = format!(
        "<GetStreamUri xmlns=\"{MEDIA}\"><StreamSetup><Stream xmlns=\"{SCHEMA}\">RTP-Unicast</Stream>\
         <Transport xmlns=\"{SCHEMA}\"><Protocol>RTSP</Protocol></Transport></StreamSetup>\
         <ProfileToken>{token}</ProfileToken></GetStreamUri>"
    );
    let answer = client.ask(service, &question)?;
    let url = answer.text_of("Uri").context("it gives no URL of its stream")?;
    match Address::parse(url, &["rtsp", "rtsps"]) {
        Ok(address) => Ok(address.location),
        Err(_) => bail!("it gives a URL of its stream that is not one of RTSP"),
    }
}

/// By size, with the part that each plays.
fn sorted(mut found: Vec<(Profile, String)>) -> Vec<Stream> {
    let pixels =
        |profile: &Profile| profile.size.map_or(0, |(width, height)| u64::from(width) * u64::from(height));
    found.sort_by_key(|(profile, _)| std::cmp::Reverse(pixels(profile)));
    let last = found.len().saturating_sub(1);
    let role = |index| match index {
        0 => Role::Main,
        _ if index == last => Role::Sub,
        _ => Role::Other,
    };
    let stream = |(index, (profile, url)): (usize, (Profile, String))| Stream {
        role: role(index),
        profile: profile.name,
        encoding: profile.encoding,
        width: profile.size.map(|size| size.0),
        height: profile.size.map(|size| size.1),
        fps: profile.fps,
        url,
    };
    found.into_iter().enumerate().map(stream).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_service_is_asked_where_the_device_is() {
        let device = Url::parse("http://10.0.0.7:8080/onvif/device_service").unwrap();
        let at = |written| media_service(written, &device).map(String::from);
        assert_eq!(at("http://192.168.1.64/onvif/Media").unwrap(), "http://10.0.0.7:8080/onvif/Media");
        assert_eq!(at("http://10.0.0.7/onvif/Media").unwrap(), "http://10.0.0.7/onvif/Media");
        assert!(at("file:///etc/passwd").is_err() && at("no").is_err());
    }

    #[test]
    fn the_largest_is_main_and_the_smallest_sub() {
        let found = |sizes: &[(u32, u32)]| {
            let profile = |&size| {
                let profile = Profile {
                    token: "t".into(),
                    name: "n".into(),
                    encoding: None,
                    size: Some(size),
                    fps: None,
                };
                (profile, String::new())
            };
            let streams = sorted(sizes.iter().map(profile).collect());
            streams.iter().map(|stream| (stream.role, stream.width)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[(640, 360)]), [(Role::Main, Some(640))]);
        assert_eq!(
            found(&[(640, 360), (2560, 1440), (1280, 720)]),
            [(Role::Main, Some(2560)), (Role::Other, Some(1280)), (Role::Sub, Some(640))]
        );
    }
}
