// SPDX-License-Identifier: MIT OR Apache-2.0
//! One output's keys.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::nats::{self, is_of_bucket};
use super::raw::{self, Kind, Mistake};
use super::values::address;
use super::{MqttTarget, NatsTarget, Output, Target, WebhookTarget};
use crate::address::Address;
use crate::nats::Servers;
use crate::redact::Secrets;

/// Lines that wait in front of an output that does not take them, unless its `buffer` says otherwise.
pub const BUFFER: usize = 10_000;

/// Where Debian and most others keep the certificates that programs trust, in PEM.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const CAMERA: &str = "{camera}";
/// Where Home Assistant looks, unless it was told otherwise.
const HOME_ASSISTANT: &str = "homeassistant";

type Found<'a> = Option<&'a Spanned<String>>;

struct Written<'a> {
    name: &'a str,
    at: std::ops::Range<usize>,
    own: &'a raw::Output,
    folder: &'a Path,
}

/// `fleet` are the servers that are named already, for an output that names none.
pub fn output(
    name: &str,
    output: &Spanned<raw::Output>,
    folder: &Path,
    fleet: Option<&Servers>,
    secrets: &mut Secrets,
) -> Result<Output, Mistake> {
    let written = Written { name, at: output.span(), own: output.get_ref(), folder };
    let own = written.own;
    written.only_means_something()?;
    let target = match own.kind {
        Kind::Stdout => Target::Stdout,
        Kind::File => {
            let path =
                own.path.as_ref().ok_or_else(|| written.missing("path", "path = \"results.jsonl\""))?;
            Target::File(written.file(path)?)
        }
        Kind::Mqtt => Target::Mqtt(written.mqtt(secrets)?),
        Kind::Nats => Target::Nats(written.nats(fleet, secrets)?),
        Kind::Webhook => Target::Webhook(written.webhook(secrets)?),
    };
    let buffer = own.buffer.as_ref().map_or(BUFFER, |buffer| *buffer.get_ref());
    if let Some(written_buffer) =
        own.buffer.as_ref().filter(|written| !(1..=10_000_000).contains(written.get_ref()))
    {
        let what = "it must be from 1 to 10000000 lines";
        return Err(Mistake::new(written_buffer.span(), written.key("buffer"), what));
    }
    Ok(Output { name: name.into(), what: own.what, buffer, target })
}

impl Written<'_> {
    fn key(&self, key: &str) -> String {
        format!("output.{}.{key}", self.name)
    }

    fn missing(&self, key: &str, example: &str) -> Mistake {
        Mistake::new(self.at.clone(), self.key(key), format!("it is missing: write {example}"))
    }

    /// The file to write to. That its folder is missing is no mistake of the config: a disk may be mounted later.
    fn file(&self, path: &Spanned<String>) -> Result<PathBuf, Mistake> {
        let file = self.folder.join(path.get_ref());
        match path.get_ref().is_empty() || file.is_dir() {
            false => Ok(file),
            true => {
                let what = "it is a folder: write the name of a file in it";
                Err(Mistake::new(path.span(), self.key("path"), what))
            }
        }
    }

    /// Keys of another type of output are a mistake.
    fn only_means_something(&self) -> Result<(), Mistake> {
        let own = self.own;
        let of_nats = own.servers.as_ref().map(|servers| (&[Kind::Nats][..], "servers", servers.span()));
        let texts: [(&[Kind], &str, Found); 12] = [
            (&[Kind::File], "path", own.path.as_ref()),
            (&[Kind::Mqtt], "broker", own.broker.as_ref()),
            (&[Kind::Mqtt], "topic", own.topic.as_ref()),
            (&[Kind::Mqtt, Kind::Nats], "ca", own.ca.as_ref()),
            (&[Kind::Mqtt], "availability", own.availability.as_ref()),
            (&[Kind::Mqtt], "discovery", own.discovery.as_ref()),
            (&[Kind::Nats], "credentials", own.credentials.as_ref()),
            (&[Kind::Nats], "nkey", own.nkey.as_ref()),
            (&[Kind::Nats], "stream", own.stream.as_ref()),
            (&[Kind::Webhook], "url", own.url.as_ref()),
            (&[Kind::Webhook], "secret", own.secret.as_ref()),
            (&[Kind::Webhook], "authorization", own.authorization.as_ref()),
        ];
        let flags =
            own.retain_presence.as_ref().map(|flag| (&[Kind::Mqtt][..], "retain-presence", flag.span()));
        let texts = texts.into_iter().filter_map(|(kinds, key, text)| Some((kinds, key, text?.span())));
        match texts.chain(flags).chain(of_nats).find(|(kinds, ..)| !kinds.contains(&own.kind)) {
            None => Ok(()),
            Some((kinds, key, span)) => {
                let kinds = kinds.iter().map(|kind| format!("\"{}\"", format!("{kind:?}").to_lowercase()));
                let kinds = kinds.collect::<Vec<_>>().join(" or ");
                let what = format!("it only means something with type = {kinds}");
                Err(Mistake::new(span, self.key(key), what))
            }
        }
    }

    fn mqtt(&self, secrets: &mut Secrets) -> Result<MqttTarget, Mistake> {
        let own = self.own;
        let broker = own.broker.as_ref();
        let broker = broker.ok_or_else(|| self.missing("broker", "broker = \"mqtt://localhost\""))?;
        let address = address(broker, &["mqtt", "mqtts"], &self.key("broker"), secrets)?;
        let trusted = trusted(broker, &address, own.ca.as_ref(), self.folder, self.name)?;
        let topic = self.topic("topic", own.topic.as_ref())?.unwrap_or_else(|| format!("gclip/{CAMERA}"));
        if let Some(written) =
            own.topic.as_ref().filter(|topic| topic.get_ref().replace(CAMERA, "").contains(['{', '}']))
        {
            let what = "in braces there can only be {camera}, which becomes the camera's name";
            return Err(Mistake::new(written.span(), self.key("topic"), what));
        }
        let before_camera = topic.split_once(CAMERA).map_or(topic.as_str(), |(before, _)| before);
        let usual = format!("{}/availability", before_camera.trim_end_matches('/'));
        let availability = match &own.availability {
            Some(none) if none.get_ref().is_empty() => None,
            written => Some(self.topic("availability", written.as_ref())?.unwrap_or(usual)),
        };
        let discovery = match &own.discovery {
            None => None,
            Some(text) if text.get_ref() == HOME_ASSISTANT => Some(HOME_ASSISTANT.to_string()),
            Some(text) => {
                let prefix =
                    text.get_ref().strip_prefix(HOME_ASSISTANT).and_then(|rest| rest.strip_prefix(':'));
                let what = "only Home Assistant is known: write \"homeassistant\", or \"homeassistant:PREFIX\" for \
                            another discovery prefix than that";
                let known = prefix.filter(|prefix| !prefix.is_empty() && !prefix.contains(['#', '+', '\0']));
                Some(known.ok_or_else(|| Mistake::new(text.span(), self.key("discovery"), what))?.to_string())
            }
        };
        let retain = own.retain_presence.as_ref().map(|flag| *flag.get_ref());
        if let (Some(flag), Some(_), Some(false)) = (&own.retain_presence, &discovery, retain) {
            let what = "Home Assistant's sensors need it: leave it out";
            return Err(Mistake::new(flag.span(), self.key("retain-presence"), what));
        }
        let retain_presence = retain.unwrap_or(discovery.is_some());
        Ok(MqttTarget { broker: address, topic, trusted, availability, retain_presence, discovery })
    }

    fn topic(&self, key: &str, written: Found) -> Result<Option<String>, Mistake> {
        match written {
            Some(topic) if topic.get_ref().is_empty() || topic.get_ref().contains(['#', '+', '\0']) => {
                let what = "a topic to publish on is not empty and has no # and +";
                Err(Mistake::new(topic.span(), self.key(key), what))
            }
            topic => Ok(topic.map(|topic| topic.get_ref().clone())),
        }
    }

    fn nats(&self, fleet: Option<&Servers>, secrets: &mut Secrets) -> Result<NatsTarget, Mistake> {
        let own = self.own;
        let stream = own.stream.as_ref().map_or("gclip", |stream| stream.get_ref().as_str());
        if let Some(written) = own.stream.as_ref().filter(|_| !is_of_bucket(stream)) {
            let what = "it has letters, digits, `-` and `_` of ASCII only";
            return Err(Mistake::new(written.span(), self.key("stream"), what));
        }
        let servers = match (&own.servers, fleet) {
            (Some(named), _) => {
                let written = nats::Written {
                    servers: named,
                    credentials: own.credentials.as_ref(),
                    nkey: own.nkey.as_ref(),
                    ca: own.ca.as_ref(),
                };
                nats::servers(&written, &format!("output.{}", self.name), self.folder, secrets)?
            }
            (None, Some(fleet)) => fleet.clone(),
            (None, None) => return Err(self.missing("servers", "servers = \"nats://localhost:4222\"")),
        };
        Ok(NatsTarget { servers, stream: stream.into(), subject: stream.into() })
    }

    fn webhook(&self, secrets: &mut Secrets) -> Result<WebhookTarget, Mistake> {
        let own = self.own;
        let url = own.url.as_ref().ok_or_else(|| self.missing("url", "url = \"https://host/path\""))?;
        let address = address(url, &["http", "https"], &self.key("url"), secrets)?;
        if address.user.is_some() || address.password.is_some() {
            let what = "user and password do not belong into it: write authorization = \"Bearer ...\" or \"Basic ...\"";
            return Err(Mistake::new(url.span(), self.key("url"), what));
        }
        let text = |written: Found| written.map(|text| text.get_ref().clone());
        let (secret, authorization) = (text(own.secret.as_ref()), text(own.authorization.as_ref()));
        if let Some(written) =
            own.authorization.as_ref().filter(|text| !text.get_ref().bytes().all(is_of_header))
        {
            let what = "it is the value of a header: one line of ASCII";
            return Err(Mistake::new(written.span(), self.key("authorization"), what));
        }
        secrets.add(secret.iter().chain(&authorization).cloned());
        Ok(WebhookTarget { address, secret, authorization })
    }
}

fn is_of_header(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte == b' '
}

/// The certificates that a broker's own is checked against: those of the file `ca`, or the system's.
fn trusted(
    broker: &Spanned<String>,
    address: &Address,
    ca: Option<&Spanned<String>>,
    folder: &Path,
    name: &str,
) -> Result<Option<Vec<u8>>, Mistake> {
    let key = |key: &str| format!("output.{name}.{key}");
    let (file, span, key) = match (address.is_encrypted(), ca) {
        (false, None) => return Ok(None),
        (false, Some(ca)) => {
            let what = "it only means something with a broker that is reached by mqtts://";
            return Err(Mistake::new(ca.span(), key("ca"), what));
        }
        (true, Some(ca)) => (folder.join(ca.get_ref()), ca.span(), key("ca")),
        (true, None) => (SYSTEM_CERTIFICATES.into(), broker.span(), key("broker")),
    };
    let certificates = std::fs::read(&file).map_err(|error| error.to_string());
    let certificates = certificates.and_then(|text| match text.windows(BEGIN.len()).any(|at| at == BEGIN) {
        true => Ok(text),
        false => Err("it holds no certificate in PEM".into()),
    });
    certificates.map(Some).map_err(|error| {
        let what = format!(
            "the certificates in {} cannot be used: {error}; write ca = \"broker-ca.pem\"",
            file.display()
        );
        Mistake::new(span, key, what)
    })
}
